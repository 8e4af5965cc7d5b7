//! Schedules, each a function of the step alone (spec/pretraining.md 1.7; facebookresearch/dino utils.py).

use lapidary_schemas::config::{ObjectiveConfig, PretrainConfig};
use std::f64::consts::PI;

/// What holds at a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepSchedule {
    /// Learning rate: linear from 0 to its peak, then a cosine to its end.
    pub learning_rate: f64,
    /// Weight decay: a cosine over all steps.
    pub weight_decay: f64,
    /// The teacher's momentum: a cosine to 1 over all steps.
    pub momentum: f64,
    /// The teacher's temperature: linear over its warm-up's epochs, then constant.
    pub teacher_temperature: f64,
    /// The head's last layer stays as it is.
    pub freeze_last_layer: bool,
    /// What Gram anchoring has of its weight: 0 before it starts, then linear to 1.
    pub gram_share: f64,
}

/// The schedules of a run.
#[derive(Debug, Clone)]
pub struct Schedule {
    pretrain: PretrainConfig,
    objective: ObjectiveConfig,
    steps: usize,
    steps_per_epoch: usize,
    /// Steps of warm-up.
    warmup: usize,
    /// As configured, where it was cut.
    warmup_cut_from: Option<usize>,
    /// Steps during which the last layer is frozen.
    freeze: usize,
}

impl Schedule {
    /// The schedules over `steps` steps.
    pub fn new(pretrain: &PretrainConfig, objective: &ObjectiveConfig, steps: usize, steps_per_epoch: usize) -> Self {
        // Epochs, where given, take precedence.
        let either = |epochs: f64, or_steps: usize| {
            if epochs > 0.0 { (epochs * steps_per_epoch as f64).round() as usize } else { or_steps }
        };
        let configured = either(pretrain.warmup_epochs, pretrain.warmup_steps);
        // A run shorter than its warm-up still leaves room for the cosine.
        let warmup = configured.min(steps / 2);
        Self {
            pretrain: pretrain.clone(),
            objective: objective.clone(),
            steps,
            steps_per_epoch,
            warmup,
            warmup_cut_from: (warmup < configured).then_some(configured),
            freeze: either(pretrain.freeze_last_layer_epochs, pretrain.freeze_last_layer_steps),
        }
    }

    /// Steps of warm-up.
    pub fn warmup_steps(&self) -> usize {
        self.warmup
    }

    /// What differs from the configuration, in words.
    pub fn note(&self) -> Option<String> {
        let configured = self.warmup_cut_from?;
        let key = match self.pretrain.warmup_epochs {
            epochs if epochs > 0.0 => format!("pretrain.warmup_epochs = {epochs}, {configured} steps"),
            _ => format!("pretrain.warmup_steps = {configured}"),
        };
        let Self { warmup, steps, .. } = self;
        Some(format!("the warm-up ({key}) is cut to {warmup} steps, half of the run's {steps}"))
    }

    /// What holds at a step, from 0.
    pub fn at(&self, step: usize) -> StepSchedule {
        let config = &self.pretrain;
        let peak = config.base_learning_rate * config.batch as f64 / 256.0;
        let warmup = self.warmup;
        let learning_rate = if step < warmup {
            // As numpy's linspace has it, both ends included.
            peak * step as f64 / (warmup.max(2) - 1) as f64
        } else {
            cosine(peak, config.final_learning_rate, step - warmup, self.steps - warmup)
        };
        StepSchedule {
            learning_rate,
            weight_decay: cosine(config.weight_decay, config.final_weight_decay, step, self.steps),
            momentum: cosine(config.momentum, 1.0, step, self.steps),
            teacher_temperature: self.teacher_temperature(step / self.steps_per_epoch.max(1)),
            freeze_last_layer: step < self.freeze,
            gram_share: self.gram_share(step),
        }
    }

    fn gram_share(&self, step: usize) -> f64 {
        let config = &self.objective;
        match step.checked_sub(config.gram_from_step) {
            None => 0.0,
            Some(since) if since < config.gram_warmup_steps => since as f64 / config.gram_warmup_steps as f64,
            Some(_) => 1.0,
        }
    }

    /// Whether the teacher before a step becomes Gram anchoring's anchor.
    pub fn takes_anchor(&self, step: usize) -> bool {
        let ObjectiveConfig { gram_from_step, gram_refresh_steps: every, gram_refreshes_max: most, .. } =
            self.objective;
        let Some(since) = step.checked_sub(gram_from_step) else { return false };
        since == 0 || (every > 0 && since.is_multiple_of(every) && (most == 0 || since / every <= most))
    }

    fn teacher_temperature(&self, epoch: usize) -> f64 {
        let config = &self.objective;
        let warmup = config.teacher_temperature_warmup_epochs as usize;
        if epoch >= warmup {
            return config.teacher_temperature;
        }
        let share = epoch as f64 / (warmup.max(2) - 1) as f64;
        config.teacher_temperature_start + share * (config.teacher_temperature - config.teacher_temperature_start)
    }
}

/// A half cosine from `start` towards `end`, which it would reach at `steps`.
fn cosine(start: f64, end: f64, step: usize, steps: usize) -> f64 {
    end + 0.5 * (start - end) * (1.0 + (PI * step as f64 / steps.max(1) as f64).cos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_begin_and_end_where_the_reference_has_them() {
        let pretrain = PretrainConfig { batch: 256, warmup_steps: 10, ..PretrainConfig::default() };
        let objective = ObjectiveConfig {
            teacher_temperature_start: 0.02,
            teacher_temperature: 0.04,
            teacher_temperature_warmup_epochs: 3,
            ..ObjectiveConfig::default()
        };
        let schedule = Schedule::new(&pretrain, &objective, 110, 20);
        assert_eq!(schedule.at(0).learning_rate, 0.0);
        assert!((schedule.at(9).learning_rate - 5e-4).abs() < 1e-12, "linspace includes its end");
        assert!((schedule.at(10).learning_rate - 5e-4).abs() < 1e-12);
        assert!((schedule.at(60).learning_rate - (1e-6 + 0.5 * (5e-4 - 1e-6))).abs() < 1e-12);
        assert!((schedule.at(0).weight_decay - 0.04).abs() < 1e-12 && schedule.at(109).weight_decay < 0.4);
        assert!((schedule.at(0).momentum - 0.996).abs() < 1e-12 && schedule.at(109).momentum < 1.0);
        let temperatures: Vec<f64> = [0, 20, 40, 60].map(|step| schedule.at(step).teacher_temperature).into();
        for (found, expected) in temperatures.iter().zip([0.02, 0.03, 0.04, 0.04]) {
            assert!((found - expected).abs() < 1e-12);
        }
    }

    #[test]
    fn epochs_take_precedence_and_a_cut_is_said() {
        let pretrain =
            PretrainConfig { warmup_epochs: 1.5, freeze_last_layer_epochs: 0.5, ..PretrainConfig::default() };
        let objective = ObjectiveConfig::default();
        let schedule = Schedule::new(&pretrain, &objective, 100, 20);
        assert_eq!((schedule.warmup_steps(), schedule.note()), (30, None));
        assert!(schedule.at(9).freeze_last_layer && !schedule.at(10).freeze_last_layer);
        let cut = Schedule::new(&pretrain, &objective, 40, 20);
        let note = cut.note().expect("it is cut");
        assert_eq!(cut.warmup_steps(), 20);
        assert!(note.contains("pretrain.warmup_epochs = 1.5, 30 steps") && note.contains("cut to 20 steps"), "{note}");
        let by_steps = Schedule::new(&PretrainConfig::default(), &objective, 150, 20);
        assert!(by_steps.note().expect("it is cut").contains("pretrain.warmup_steps = 100"));
    }
}
