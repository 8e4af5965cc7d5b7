//! Objectives: what a step minimises. Each is a value of one trait that declares what it needs, and the trainer provides it
//! (spec/objectives.md section 12); a run's objective is a weighted list of them.

#[cfg(test)]
mod anchored;
mod balance;
mod barlow;
#[cfg(test)]
mod comparison;
pub mod contrast;
mod dino;
pub mod distill;
#[cfg(test)]
mod distilled;
mod features;
pub mod gram;
pub mod ibot;
pub mod koleo;
#[cfg(test)]
mod learning;
pub mod masks;
pub mod simclr;
pub mod sinkhorn;
pub mod sscd;
mod targets;
pub mod vicreg;

use crate::operators::TrainBackend;
pub use balance::Balance;
pub use barlow::BarlowTwins;
#[cfg(test)]
pub(crate) use barlow::redundancy;
pub use dino::Dino;
use distill::Distillation;
pub use features::{Features, Views};
use gram::Gram;
use ibot::Ibot;
use koleo::KoLeo;
use masks::MaskAmount;
use simclr::SimClr;
use sscd::Sscd;
use vicreg::Vicreg;

use crate::model::{HostTensor, Network};
use crate::optimise::StepSchedule;
use crate::share::BatchShare;
use burn::tensor::Tensor;
use lapidary_schemas::config::{BarlowBalance, ObjectiveConfig, ObjectiveKind, ViewKind};
use std::collections::BTreeMap;

/// What an objective needs of a step.
#[derive(Debug, Clone, Default)]
pub struct Needs {
    /// Kinds of views that it reads the student's features of.
    pub student: Vec<ViewKind>,
    /// Kinds of views that it reads the teacher's features of; where there are some, a teacher follows the student.
    pub teacher: Vec<ViewKind>,
    /// Patch tokens of the global views besides class tokens.
    pub patches: bool,
    /// How much of the student's global views is masked.
    pub masks: Option<MaskAmount>,
    /// A frozen teacher's features of the global views.
    pub frozen: bool,
    /// The features of the global views of an earlier teacher; a teacher follows the student then.
    pub anchor: bool,
}

impl Needs {
    /// What two objectives need together.
    fn and(mut self, other: Self) -> Self {
        for (all, more) in [(&mut self.student, other.student), (&mut self.teacher, other.teacher)] {
            all.extend(more);
            all.sort();
            all.dedup();
        }
        self.patches |= other.patches;
        self.masks = self.masks.or(other.masks);
        self.frozen |= other.frozen;
        self.anchor |= other.anchor;
        self
    }

    /// Whether views of this kind are read.
    pub fn reads(&self, kind: ViewKind) -> bool {
        self.student.contains(&kind) || self.teacher.contains(&kind)
    }

    /// Whether a teacher follows the student.
    pub fn has_teacher(&self) -> bool {
        !self.teacher.is_empty() || self.anchor
    }
}

/// What a step gives to an objective.
#[derive(Debug)]
pub struct StepInput<'a, B: TrainBackend> {
    /// Both networks' features of the images of the share.
    pub features: &'a Features<B>,
    /// Which of the batch's images they are of, and what is taken of all of them.
    pub share: &'a BatchShare<B::InnerBackend>,
    /// The student, for its heads.
    pub student: &'a Network<B>,
    /// The teacher, for its heads.
    pub teacher: &'a Network<B::InnerBackend>,
    /// What holds at the step.
    pub schedule: &'a StepSchedule,
}

/// What an objective will remember once a step is taken, by name.
pub type Pending<B> = BTreeMap<&'static str, Tensor<B, 2>>;

/// A loss and what is to be said of it.
#[derive(Debug)]
pub struct Loss<B: TrainBackend> {
    /// Whose gradient by what this rank holds is that of the whole batch's loss, shape `[1]`: the rank's part of it, or all of it
    /// where every rank computes the same.
    pub total: Tensor<B, 1>,
    /// What is minimised, of the whole batch, shape `[1]`.
    pub value: Tensor<B::InnerBackend, 1>,
    /// Named scalars for the metrics, shape `[1]` each.
    pub metrics: Vec<(&'static str, Tensor<B::InnerBackend, 1>)>,
    /// For [`Objective::commit`], when the step is taken.
    pub pending: Pending<B::InnerBackend>,
    /// What a look at the run's health reads, by the names of [`outputs`], of the images of the share.
    pub outputs: BTreeMap<&'static str, Tensor<B::InnerBackend, 2>>,
}

/// Names in [`Loss::outputs`].
pub mod outputs {
    /// The teacher's distributions over prototypes, `[globals * batch, K]`.
    pub const TEACHER: &str = "teacher_distributions";
    /// The student's logits of its global views, `[globals * batch, K]`.
    pub const STUDENT: &str = "student_logits";
    /// The running centre, `[1, K]`.
    pub const CENTER: &str = "center";
    /// The student's class features of its global views, else of its Barlow Twins views, `[views * batch, dim]`; from the
    /// trainer.
    pub const FEATURES: &str = "student_features";
    /// Embeddings of two views, `[2 * batch, width]`.
    pub const EMBEDDINGS: &str = "embeddings";
}

/// What a step minimises.
pub trait Objective<B: TrainBackend>: Send + Sync {
    /// Its name in metrics: `loss_NAME`, `gradient_norm_NAME`.
    fn name(&self) -> &'static str;
    /// What it needs.
    fn needs(&self) -> Needs;
    /// What it has of its weight at a step; with nothing of it, it is left out.
    fn share(&self, _schedule: &StepSchedule) -> f64 {
        1.0
    }
    /// The loss of a step, which changes nothing: what the objective would remember is pending, the same on all ranks.
    fn loss(&self, step: &StepInput<'_, B>) -> Loss<B>;
    /// Remembers what was pending in a loss whose step is taken (DINO's centre).
    fn commit(&mut self, _pending: &Pending<B::InnerBackend>) {}
    /// What it remembers from step to step, for checkpoints.
    fn state(&self) -> BTreeMap<String, HostTensor> {
        BTreeMap::new()
    }
    /// Resumes from what [`Objective::state`] gave.
    fn restore(&mut self, _state: &BTreeMap<String, HostTensor>) {}
}

/// A weighted sum of objectives: L = sum of weight * part (the hybrid of Podsiadly and Lay 2025, eq. for L_total).
pub struct Weighted<B: TrainBackend> {
    /// Weights as configured, and their objectives.
    parts: Vec<(f64, Box<dyn Objective<B>>)>,
    /// Holds the first part's gradient norm to the second's.
    balance: Option<Balance>,
}

impl<B: TrainBackend> Weighted<B> {
    /// What all parts need.
    pub fn needs(&self) -> Needs {
        self.parts.iter().fold(Needs::default(), |needs, (_, part)| needs.and(part.needs()))
    }

    /// Each part that a step has, with the weight that it has there.
    pub fn parts(&self, schedule: &StepSchedule) -> impl Iterator<Item = (f64, &dyn Objective<B>)> {
        let balanced = self.balance.as_ref().and_then(|balance| balance.scale());
        self.parts.iter().enumerate().filter_map(move |(index, (weight, part))| {
            let (weight, share) = (balanced.filter(|_| index == 0).unwrap_or(*weight), part.share(schedule));
            (share > 0.0).then(|| (weight * share, part.as_ref()))
        })
    }

    /// Remembers what was pending, and the parts' gradient norms before their weights, of a step that is taken.
    pub fn commit(&mut self, pending: &Pending<B::InnerBackend>, gradient_norms: &[f64]) {
        self.parts.iter_mut().for_each(|(_, part)| part.commit(pending));
        if let (Some(balance), [first, second, ..]) = (&mut self.balance, gradient_norms) {
            balance.note(*first, *second * self.parts[1].0);
        }
    }

    /// Whether a weight follows the parts' gradient norms, which must then be known at each step.
    pub fn follows_gradients(&self) -> bool {
        self.balance.is_some()
    }

    /// What is remembered from step to step.
    pub fn state(&self) -> BTreeMap<String, HostTensor> {
        let balance = self.balance.iter().flat_map(Balance::state);
        self.parts.iter().flat_map(|(_, part)| part.state()).chain(balance).collect()
    }

    /// Resumes from what [`Weighted::state`] gave.
    pub fn restore(&mut self, state: &BTreeMap<String, HostTensor>) {
        self.parts.iter_mut().for_each(|(_, part)| part.restore(state));
        self.balance.iter_mut().for_each(|balance| balance.restore(state));
    }
}

/// The scale that the paper's table of final losses comes to: the hybrid's less DINO's over Barlow Twins' (Podsiadly and Lay
/// 2025; the text gives none).
const PAPER_SCALE: f64 = (7.720 - 2.297) / 384.425;

/// The objective of a configuration; `kinds` are those that the plan holds.
pub fn build<B: TrainBackend>(config: &ObjectiveConfig, kinds: &[ViewKind], device: &B::Device) -> Weighted<B> {
    let barlow_scale = match config.barlow_balance {
        _ if config.barlow_scale > 0.0 => config.barlow_scale,
        BarlowBalance::Paper => PAPER_SCALE,
        BarlowBalance::Width | BarlowBalance::Matched => 1.0 / config.barlow_dim as f64,
    };
    let dino = || Box::new(Dino::<B::InnerBackend>::new(config, device)) as Box<dyn Objective<B>>;
    // The views of which two are compared without a teacher.
    let compared = if kinds.contains(&ViewKind::Barlow) { ViewKind::Barlow } else { ViewKind::Global };
    let barlow = || Box::new(BarlowTwins::new(config.barlow_off_diagonal, compared)) as Box<dyn Objective<B>>;
    let mut parts: Vec<(f64, Box<dyn Objective<B>>)> = match config.kind {
        ObjectiveKind::Dino => vec![(config.dino_weight, dino())],
        ObjectiveKind::BarlowTwins => vec![(barlow_scale, barlow())],
        ObjectiveKind::Hybrid => vec![(barlow_scale, barlow()), (config.dino_weight, dino())],
        ObjectiveKind::Vicreg => vec![(1.0, Box::new(Vicreg::new(config.vicreg_weights, compared)))],
        ObjectiveKind::Simclr => vec![(1.0, Box::new(SimClr::new(config.simclr_temperature, compared)))],
        ObjectiveKind::Sscd => vec![(1.0, Box::new(Sscd::new(config)))],
        ObjectiveKind::Distillation => vec![(1.0, Box::new(Distillation::<B::InnerBackend>::new(config, device)))],
    };
    if config.ibot_weight > 0.0 {
        parts.push((config.ibot_weight, Box::new(Ibot::<B::InnerBackend>::new(config, device))));
    }
    if config.koleo_weight > 0.0 {
        parts.push((config.koleo_weight, Box::new(KoLeo)));
    }
    if config.gram_weight > 0.0 {
        parts.push((config.gram_weight, Box::new(Gram)));
    }
    let matched = config.kind == ObjectiveKind::Hybrid
        && config.barlow_scale == 0.0
        && config.barlow_balance == BarlowBalance::Matched;
    Weighted { parts, balance: matched.then(|| Balance::new(config.barlow_gradient_ratio)) }
}
