//! A run's optimiser: clips gradients, leaves out what is frozen, and changes each parameter by the rule of its group.

use super::adamw::AdamW;
use super::clip::Clip;
use super::gradients::Gradients;
use super::groups::Groups;
use super::lars::Lars;
use super::schedule::StepSchedule;
use crate::model::{Seen, map_named};
use crate::operators::{Operators, TrainBackend};
use burn::module::AutodiffModule;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use lapidary_schemas::config::{OptimiserKind, PretrainConfig};
use std::collections::BTreeMap;

/// AdamW or LARS over a run's parameter groups.
#[derive(Debug)]
pub struct Optimiser<B: Backend> {
    config: PretrainConfig,
    groups: Groups,
    rule: Rule<B>,
}

#[derive(Debug)]
enum Rule<B: Backend> {
    Adamw(AdamW<B>),
    Lars(Lars<B>),
}

/// A parameter at a step.
pub(crate) struct Update<'a, B: Backend> {
    pub(crate) name: &'a str,
    pub(crate) value: Tensor<B, 1>,
    pub(crate) gradient: Tensor<B, 1>,
    /// What clipping divides the gradient by, shape `[1]`.
    pub(crate) divisor: Option<Tensor<B, 1>>,
    /// Its own learning rate.
    pub(crate) rate: f64,
    /// Its own weight decay.
    pub(crate) decay: f64,
    /// LARS's trust ratio applies.
    pub(crate) scaled: bool,
}

impl<B: Operators> Optimiser<B> {
    /// Without state yet, for a network whose backbone has so many blocks.
    pub fn new(config: &PretrainConfig, blocks: usize) -> Self {
        let rule = match config.optimiser {
            OptimiserKind::Adamw => Rule::Adamw(AdamW::new()),
            OptimiserKind::Lars => Rule::Lars(Lars::new(config)),
        };
        Self { config: config.clone(), groups: Groups::new(config, blocks), rule }
    }

    /// Changes a network by its gradients.
    pub fn step<A, M>(&mut self, network: M, mut gradients: Gradients<B>, schedule: &StepSchedule) -> M
    where
        A: TrainBackend<InnerBackend = B>,
        M: AutodiffModule<A>,
    {
        let clip = Clip::new(&self.config, &gradients);
        map_named(network, |(name, shape, value): Seen<'_, A>| {
            let group = self.groups.of(name, shape.len());
            let is_frozen = schedule.freeze_last_layer && group.last_layer;
            let Some(gradient) = gradients.take(name).filter(|_| !is_frozen) else { return value };
            let update = Update {
                name,
                value: value.inner(),
                divisor: clip.divisor(name, &gradient),
                gradient: gradient.gradient,
                rate: schedule.learning_rate * group.rate,
                decay: if group.decayed { schedule.weight_decay } else { 0.0 },
                scaled: group.decayed,
            };
            Tensor::from_inner(match &mut self.rule {
                Rule::Adamw(adamw) => adamw.update(update),
                Rule::Lars(lars) => lars.update(update),
            })
        })
    }

    /// What its tensors are prefixed with in a checkpoint.
    pub fn name(&self) -> &'static str {
        match self.rule {
            Rule::Adamw(_) => "adamw",
            Rule::Lars(_) => "lars",
        }
    }

    /// The state, each tensor flat, in the order that its parameter has in memory.
    pub fn tensors(&self) -> Vec<(String, Tensor<B, 1>)> {
        match &self.rule {
            Rule::Adamw(adamw) => adamw.tensors(),
            Rule::Lars(lars) => lars.tensors(),
        }
    }

    /// Resumes from the values of what [`Optimiser::tensors`] gave.
    pub fn restore(&mut self, state: &BTreeMap<String, Vec<f32>>, device: &B::Device) {
        match &mut self.rule {
            Rule::Adamw(adamw) => *adamw = AdamW::restore(state, device),
            Rule::Lars(lars) => lars.restore(state, device),
        }
    }
}
