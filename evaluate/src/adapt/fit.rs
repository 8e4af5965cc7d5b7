//! What every rung's training shares: the labelled images, the optimiser, the schedule, and what comes out.

use super::best::Best;
use super::scores::EpochLine;
use crate::{EvaluateError, Result};
use burn::tensor::backend::Backend;
use lapidary_pipeline::ImageStore;
use lapidary_schemas::config::{AdaptConfig, ClipBy, ModelConfig, OptimiserKind, PretrainConfig};
use lapidary_train::operators::Operators;
use lapidary_train::optimise::{Optimiser, StepSchedule};
use lapidary_train::probe::Labelled;
use std::f64::consts::PI;

/// What all rungs learn from and are chosen by.
pub(crate) struct Task<'a> {
    pub(crate) store: &'a ImageStore,
    pub(crate) model: &'a ModelConfig,
    pub(crate) config: &'a AdaptConfig,
    pub(crate) seed: u64,
    /// Classes that are named.
    pub(crate) classes: usize,
    /// What is learned from.
    pub(crate) learned: &'a [Labelled],
    /// What decides when to stop.
    pub(crate) held: &'a [Labelled],
    /// Images a batch when features are computed.
    pub(crate) feature_batch: usize,
}

impl Task<'_> {
    /// Steps of an epoch.
    pub(crate) fn steps_per_epoch(&self) -> usize {
        self.learned.len().div_ceil(self.config.batch)
    }
}

/// What training came to.
#[derive(Debug)]
pub(crate) struct Fit<T> {
    /// The best state.
    pub(crate) best: T,
    /// Steps of the optimiser.
    pub(crate) steps: usize,
    /// The epoch that is kept, from 0.
    pub(crate) best_epoch: usize,
    /// Every epoch.
    pub(crate) history: Vec<EpochLine>,
    /// Values that were trained.
    pub(crate) trainable: usize,
}

impl<T> Fit<T> {
    pub(crate) fn of(best: Best<T>, steps: usize, trainable: usize) -> Self {
        let (best, best_epoch, history) = best.into_best().expect("there is an epoch: checked in limits::check");
        Self { best, steps, best_epoch, history, trainable }
    }

    /// The same after what came before it.
    pub(crate) fn after<U>(mut self, before: Fit<U>) -> Self {
        self.steps += before.steps;
        self.best_epoch += before.history.len();
        self.history.splice(0..0, before.history);
        self
    }
}

/// Peak rates, decay and length of a training.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rates {
    pub(crate) backbone: f64,
    pub(crate) head: f64,
    pub(crate) layer_decay: f64,
    pub(crate) weight_decay: f64,
    pub(crate) warmup_epochs: f64,
}

impl Rates {
    /// A head alone.
    pub(crate) fn of_head(config: &AdaptConfig) -> Self {
        Self {
            backbone: config.head_learning_rate,
            head: config.head_learning_rate,
            layer_decay: 1.0,
            weight_decay: config.weight_decay,
            warmup_epochs: 0.0,
        }
    }

    /// AdamW with these rates for a classifier whose backbone has so many blocks.
    pub(crate) fn optimiser<B: Backend + Operators>(&self, config: &AdaptConfig, blocks: usize) -> Optimiser<B> {
        let pretrain = PretrainConfig {
            optimiser: OptimiserKind::Adamw,
            layer_decay: self.layer_decay,
            patch_embed_rate: 1.0,
            clip_norm: config.clip_norm,
            clip_by: ClipBy::Module,
            ..PretrainConfig::default()
        };
        Optimiser::new(&pretrain, blocks).with_backbone_rate(self.backbone / self.head)
    }

    /// What holds at a step, from 0, of so many: warm-up from 0, then a cosine to 0.
    pub(crate) fn at(&self, step: usize, steps: usize, per_epoch: usize) -> StepSchedule {
        let warmup = ((self.warmup_epochs * per_epoch as f64) as usize).min(steps / 2);
        let share = if step < warmup {
            (step + 1) as f64 / (warmup + 1) as f64
        } else {
            0.5 * (1.0 + (PI * (step - warmup) as f64 / (steps - warmup).max(1) as f64).cos())
        };
        StepSchedule {
            learning_rate: self.head * share,
            weight_decay: self.weight_decay,
            // Of a teacher, which there is not.
            momentum: 0.0,
            teacher_temperature: 1.0,
            freeze_last_layer: false,
            gram_share: 0.0,
        }
    }
}

/// Refuses a loss that is no number.
pub(crate) fn check_loss(loss: f64, step: usize, rung: &'static str) -> Result<()> {
    if loss.is_finite() { Ok(()) } else { Err(EvaluateError::Diverged { rung, step }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_warm_up_and_end_near_zero() {
        let rates = Rates { head: 0.1, warmup_epochs: 2.0, ..Rates::of_head(&AdaptConfig::default()) };
        let at = |step| rates.at(step, 100, 10).learning_rate;
        assert!(at(0) > 0.0 && at(0) < at(10) && at(19) < at(20));
        assert!((at(20) - 0.1).abs() < 1e-12 && (at(60) - 0.05).abs() < 1e-12 && at(99) < 1e-4);
        let short = Rates { warmup_epochs: 50.0, ..rates };
        assert!((short.at(50, 100, 10).learning_rate - 0.1).abs() < 1e-12, "half of the steps at most");
    }
}
