//! Steps taken ahead: several in a row without a wait for the device, whose scalars are then read at once.
//!
//! A step that is not finite must not be taken, which is known only when its scalars are read. So the state before the first
//! of these steps is kept, and their batches; when one of them turns out not to be finite, the state goes back there and they
//! are taken again, each read before it is taken. What comes out is what reading each at once gives, to the bit. The price is
//! one copy of the state and the batches in memory.

use super::scalars::{Readings, Scalars};
use super::{Computed, FixedNetworks, Order, StepReport, Trainer};
use crate::checkpoint::Skipped;
use crate::model::{HostTensor, Network};
use crate::operators::TrainBackend;
use crate::optimise::{Optimiser, StepSchedule};
use crate::upload::Loaded;
use burn::tensor::backend::Backend;
use std::collections::BTreeMap;

/// Steps that were taken and not read.
pub(super) struct Ahead<B: TrainBackend> {
    start: State<B>,
    batches: Vec<Loaded<B::InnerBackend>>,
    unread: Vec<Unread<B::InnerBackend>>,
}

/// What changes from step to step.
struct State<B: TrainBackend> {
    student: Network<B>,
    teacher: Network<B::InnerBackend>,
    fixed: FixedNetworks<B::InnerBackend>,
    optimiser: Optimiser<B::InnerBackend>,
    objective: BTreeMap<String, HostTensor>,
    step: usize,
    skipped: Skipped,
}

/// A step that was taken and not read.
struct Unread<B: Backend> {
    schedule: StepSchedule,
    scalars: Scalars<B>,
    secs: BTreeMap<&'static str, f64>,
}

impl<B: TrainBackend> Trainer<B> {
    /// Trains on a batch, and reports every step that was read: none while steps are taken ahead, up to `pretrain.metrics_steps`
    /// of them when they are read. With `read_now` all of them are. Three skipped steps in a row end the reports: the state
    /// is then that before them.
    pub fn advance(&mut self, batch: impl Into<Loaded<B::InnerBackend>>, read_now: bool) -> Vec<StepReport> {
        let batch = batch.into();
        let _failing = self.tell(|| Order::Advance(batch.clone(), read_now));
        self.advance_share(batch, read_now)
    }

    pub(super) fn advance_share(&mut self, batch: Loaded<B::InnerBackend>, read_now: bool) -> Vec<StepReport> {
        // A look at the run's health and a weight that follows gradients need the step's own scalars.
        if self.metrics_steps < 2 || self.is_look() || self.objective.follows_gradients() {
            let mut reports = self.read_share();
            if reports.is_empty() || self.skipped.in_a_row < SKIPPED_STOP {
                reports.push(self.train_share(batch));
            }
            return reports;
        }
        if self.ahead.is_none() {
            let (batches, unread) = (Vec::new(), Vec::new());
            self.ahead = Some(Ahead { start: self.state(), batches, unread });
        }
        let kept = batch.in_memory();
        self.before_step();
        let Computed { schedule, scalars, gradients, pending, mut clock, .. } = self.compute_share(batch);
        self.step += 1;
        self.skipped = self.skipped.and(false);
        self.take(gradients, &pending, &[], &schedule);
        clock.done("optimiser");
        let Some(ahead) = &mut self.ahead else { return Vec::new() };
        ahead.batches.push(kept);
        ahead.unread.push(Unread { schedule, scalars, secs: clock.secs });
        if read_now || ahead.batches.len() >= self.metrics_steps { self.read_share() } else { Vec::new() }
    }

    /// Reads the steps that were taken ahead.
    pub fn read(&mut self) -> Vec<StepReport> {
        let _failing = self.rank.has_begun().then(|| self.tell(|| Order::Read));
        self.read_share()
    }

    pub(super) fn read_share(&mut self) -> Vec<StepReport> {
        let Some(Ahead { start, batches, unread }) = self.ahead.take() else { return Vec::new() };
        let readings = Scalars::read_all(&unread.iter().map(|unread| &unread.scalars).collect::<Vec<_>>());
        if readings.iter().all(Readings::is_finite) {
            let report = |(unread, readings): (Unread<_>, Readings)| StepReport {
                schedule: unread.schedule,
                loss: readings.loss,
                metrics: readings.metrics,
                skipped: false,
                secs: unread.secs,
            };
            return unread.into_iter().zip(readings).map(report).collect();
        }
        self.go_back(start);
        let mut reports = Vec::new();
        for batch in batches {
            reports.push(self.train_share(batch));
            if self.skipped.in_a_row >= SKIPPED_STOP {
                break;
            }
        }
        reports
    }

    fn state(&self) -> State<B> {
        State {
            student: self.student.clone(),
            teacher: self.teacher.clone(),
            fixed: self.fixed.clone(),
            optimiser: self.optimiser.clone(),
            objective: self.objective.state(),
            step: self.step,
            skipped: self.skipped,
        }
    }

    fn go_back(&mut self, state: State<B>) {
        let State { student, teacher, fixed, optimiser, objective, step, skipped } = state;
        (self.student, self.teacher, self.fixed, self.optimiser) = (student, teacher, fixed, optimiser);
        self.objective.restore(&objective);
        (self.step, self.skipped) = (step, skipped);
    }
}

/// So many skipped steps in a row stop a run.
pub(crate) const SKIPPED_STOP: usize = 3;

#[cfg(test)]
mod tests {
    use super::super::tests::{batch_with, config};
    use super::*;
    use crate::backend::Cpu;
    use crate::optimise::Schedule;
    use lapidary_schemas::config::ObjectiveKind;

    fn trainer(kind: ObjectiveKind, metrics_steps: usize) -> Trainer<Cpu> {
        let mut config = config(kind, 2);
        config.pretrain.health_steps = 5;
        let schedule = Schedule::new(&config.pretrain, &config.objective, 12, 4);
        let mut trainer = Trainer::<Cpu>::new(&config, schedule, &Default::default());
        trainer.set_metrics_steps(metrics_steps);
        trainer
    }

    #[test]
    fn reading_once_in_several_steps_gives_the_bits_of_reading_each() {
        let good = [0.5; 12];
        let mut two_broken = good;
        (two_broken[3], two_broken[7]) = (f32::NAN, f32::INFINITY);
        for kind in [ObjectiveKind::Dino, ObjectiveKind::Hybrid] {
            for values in [good, two_broken] {
                let run = |metrics_steps| {
                    let mut trainer = trainer(kind, metrics_steps);
                    let mut reports = Vec::new();
                    for (step, value) in values.into_iter().enumerate() {
                        reports.extend(trainer.advance(batch_with(value), step == 9));
                    }
                    let unread = 12 - reports.len();
                    reports.extend(trainer.read());
                    // Its text has each number's bits, and NaN is NaN.
                    let text = |report: StepReport| format!("{} {:?} {}", report.loss, report.metrics, report.skipped);
                    (trainer.checkpoint(), reports.into_iter().map(text).collect::<Vec<_>>(), unread)
                };
                let (state, reports, unread) = run(4);
                assert!(reports.len() == 12 && unread > 0, "{unread}");
                let each = run(1);
                assert_eq!((&state, &reports, each.2), (&each.0, &each.1, 0), "{kind:?}");
                assert_eq!(state.skipped.steps, values.iter().filter(|value| !value.is_finite()).count());
            }
        }
    }

    #[test]
    fn three_in_a_row_end_the_reports_with_the_state_before_them() {
        let (mut ahead, mut each) = (trainer(ObjectiveKind::Dino, 8), trainer(ObjectiveKind::Dino, 1));
        let values = [0.5, 0.5, f32::NAN, f32::NAN, f32::NAN, 0.5];
        each.advance(batch_with(0.5), true);
        ahead.advance(batch_with(0.5), true);
        let mut reports = Vec::new();
        for (step, value) in values.into_iter().enumerate().skip(1) {
            reports.extend(ahead.advance(batch_with(value), step == 5));
        }
        assert_eq!(reports.iter().map(|report| report.skipped).collect::<Vec<_>>(), [false, true, true, true]);
        each.advance(batch_with(0.5), true);
        assert_eq!(ahead.checkpoint().tensors, each.checkpoint().tensors);
        assert_eq!((ahead.step(), ahead.skipped().in_a_row), (5, 3));
    }
}
