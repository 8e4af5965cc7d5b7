//! A run's optimiser: clips gradients, leaves out what is frozen, and changes each parameter by the rule of its group; and the
//! teacher, the student's moving average, with it.

use super::adamw::AdamW;
use super::clip::Clip;
use super::gradients::Gradients;
use super::groups::Groups;
use super::lars::Lars;
use super::schedule::StepSchedule;
use crate::model::{Seen, map_named, named_tensors};
use crate::operators::{Operators, TrainBackend, moving_average};
use burn::module::{AutodiffModule, Module};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use lapidary_schemas::config::{OptimiserKind, PretrainConfig};
use std::collections::BTreeMap;

/// AdamW or LARS over a run's parameter groups.
#[derive(Debug, Clone)]
pub struct Optimiser<B: Backend> {
    config: PretrainConfig,
    groups: Groups,
    rule: Rule<B>,
}

#[derive(Debug, Clone)]
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
    /// The teacher's.
    pub(crate) average: Option<Tensor<B, 1>>,
    /// What the teacher's keeps.
    pub(crate) momentum: f64,
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

    /// The same with the backbone's rates multiplied by a factor: heads of a fine-tuned network learn faster.
    pub fn with_backbone_rate(mut self, factor: f64) -> Self {
        self.groups = self.groups.with_backbone_rate(factor);
        self
    }

    /// Changes a network by its gradients, and its teacher, of each parameter that it has, by
    /// `momentum * teacher + (1 - momentum) * student`.
    pub fn step<A, M, T>(
        &mut self,
        network: M,
        teacher: Option<T>,
        mut gradients: Gradients<B>,
        schedule: &StepSchedule,
    ) -> (M, Option<T>)
    where
        A: TrainBackend<InnerBackend = B>,
        M: AutodiffModule<A>,
        T: Module<B>,
    {
        let clip = Clip::new(&self.config, &gradients);
        let mut averages = teacher.as_ref().map(named_tensors::<B, T>).unwrap_or_default();
        let network = map_named(network, |(name, shape, value): Seen<'_, A>| {
            let group = self.groups.of(name, shape.len());
            let is_frozen = schedule.freeze_last_layer && group.last_layer;
            let (value, average) = (value.inner(), averages.remove(name));
            let (value, average) = match gradients.take(name).filter(|_| !is_frozen) {
                Some(gradient) => self.update(Update {
                    name,
                    value,
                    divisor: clip.divisor(name, &gradient),
                    gradient: gradient.gradient,
                    rate: schedule.learning_rate * group.rate,
                    decay: if group.decayed { schedule.weight_decay } else { 0.0 },
                    scaled: group.decayed,
                    average,
                    momentum: schedule.momentum,
                }),
                None => {
                    let average = average.map(|old| moving_average(old, value.clone(), schedule.momentum));
                    (value, average)
                }
            };
            averages.extend(average.map(|average| (name.to_owned(), average)));
            Tensor::from_inner(value)
        });
        let teacher = teacher
            .map(|teacher| map_named(teacher, |(name, _, old): Seen<'_, B>| averages.remove(name).unwrap_or(old)));
        (network, teacher)
    }

    fn update(&mut self, update: Update<'_, B>) -> (Tensor<B, 1>, Option<Tensor<B, 1>>) {
        match &mut self.rule {
            Rule::Adamw(adamw) => adamw.update(update),
            Rule::Lars(lars) => lars.update(update),
        }
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
