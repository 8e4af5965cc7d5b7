//! Objectives: what a step minimises. Each is a value of one trait; the hybrid is a weighted sum of its two parents.

mod barlow;
#[cfg(test)]
mod comparison;
pub mod contrast;
mod dino;
pub mod distill;
pub mod gram;
pub mod ibot;
pub mod koleo;
pub mod masks;
pub mod simclr;
pub mod sinkhorn;
pub mod vicreg;

pub use barlow::BarlowTwins;
pub use dino::Dino;

use crate::model::{HostTensor, Network};
use crate::optimise::StepSchedule;
use burn::tensor::Tensor;
use burn::tensor::backend::AutodiffBackend;
use lapidary_schemas::config::{ObjectiveConfig, ObjectiveKind, ViewKind};
use std::collections::BTreeMap;

/// Features of a step's views.
#[derive(Debug)]
pub struct Features<B: AutodiffBackend> {
    /// Images in the batch.
    pub batch: usize,
    /// The student's features of each kind of view, shape `[views * batch, dim]`, view by view.
    pub student: BTreeMap<ViewKind, Tensor<B, 2>>,
    /// The teacher's features of the global views, shape `[views * batch, dim]`; none when no objective asks for them.
    pub teacher: Option<Tensor<B::InnerBackend, 2>>,
}

/// What an objective will remember once a step is taken, by name.
pub type Pending<B> = BTreeMap<&'static str, Tensor<B, 2>>;

/// A loss and what is to be said of it.
#[derive(Debug)]
pub struct Loss<B: AutodiffBackend> {
    /// What is minimised, shape `[1]`.
    pub total: Tensor<B, 1>,
    /// Named scalars for the metrics, shape `[1]` each.
    pub metrics: Vec<(&'static str, Tensor<B::InnerBackend, 1>)>,
    /// For [`Objective::commit`], when the step is taken.
    pub pending: Pending<B::InnerBackend>,
}

/// What a step minimises.
pub trait Objective<B: AutodiffBackend>: Send + Sync {
    /// Whether it reads views of this kind.
    fn reads(&self, kind: ViewKind) -> bool;
    /// Whether it needs the teacher's features.
    fn needs_teacher(&self) -> bool;
    /// The loss of a step, which changes nothing: what the objective would remember is pending.
    fn loss(
        &self,
        features: &Features<B>,
        student: &Network<B>,
        teacher: &Network<B::InnerBackend>,
        schedule: &StepSchedule,
    ) -> Loss<B>;
    /// Remembers what was pending in a loss whose step is taken (DINO's centre).
    fn commit(&mut self, pending: &Pending<B::InnerBackend>);
    /// What it remembers from step to step, for checkpoints.
    fn state(&self) -> BTreeMap<String, HostTensor>;
    /// Goes on from what [`Objective::state`] gave.
    fn restore(&mut self, state: &BTreeMap<String, HostTensor>);
}

/// A weighted sum of objectives: L = sum of weight * part (the hybrid of Podsiadly and Lay 2025, eq. for L_total).
pub struct Weighted<B: AutodiffBackend> {
    parts: Vec<(f64, Box<dyn Objective<B>>)>,
}

impl<B: AutodiffBackend> Objective<B> for Weighted<B> {
    fn reads(&self, kind: ViewKind) -> bool {
        self.parts.iter().any(|(_, part)| part.reads(kind))
    }

    fn needs_teacher(&self) -> bool {
        self.parts.iter().any(|(_, part)| part.needs_teacher())
    }

    fn loss(
        &self,
        features: &Features<B>,
        student: &Network<B>,
        teacher: &Network<B::InnerBackend>,
        schedule: &StepSchedule,
    ) -> Loss<B> {
        let (mut metrics, mut pending) = (Vec::new(), Pending::new());
        let mut total: Option<Tensor<B, 1>> = None;
        for (weight, part) in &self.parts {
            let loss = part.loss(features, student, teacher, schedule);
            let weighted = loss.total * *weight;
            total = Some(total.map_or(weighted.clone(), |sum| sum + weighted));
            metrics.extend(loss.metrics);
            pending.extend(loss.pending);
        }
        Loss { total: total.expect("an objective has a part: made in build"), metrics, pending }
    }

    fn commit(&mut self, pending: &Pending<B::InnerBackend>) {
        self.parts.iter_mut().for_each(|(_, part)| part.commit(pending));
    }

    fn state(&self) -> BTreeMap<String, HostTensor> {
        self.parts.iter().flat_map(|(_, part)| part.state()).collect()
    }

    fn restore(&mut self, state: &BTreeMap<String, HostTensor>) {
        self.parts.iter_mut().for_each(|(_, part)| part.restore(state));
    }
}

/// The objective of a configuration; `kinds` are those that the plan holds.
pub fn build<B: AutodiffBackend>(config: &ObjectiveConfig, kinds: &[ViewKind], device: &B::Device) -> Weighted<B> {
    let barlow_scale = if config.barlow_scale > 0.0 { config.barlow_scale } else { 1.0 / config.barlow_dim as f64 };
    let dino = || Box::new(Dino::<B::InnerBackend>::new(config, device)) as Box<dyn Objective<B>>;
    let barlow = || {
        let kind = if kinds.contains(&ViewKind::Barlow) { ViewKind::Barlow } else { ViewKind::Global };
        Box::new(BarlowTwins::new(config.barlow_off_diagonal, kind)) as Box<dyn Objective<B>>
    };
    let parts = match config.kind {
        ObjectiveKind::Dino => vec![(config.dino_weight, dino())],
        ObjectiveKind::BarlowTwins => vec![(barlow_scale, barlow())],
        ObjectiveKind::Hybrid => vec![(barlow_scale, barlow()), (config.dino_weight, dino())],
    };
    Weighted { parts }
}
