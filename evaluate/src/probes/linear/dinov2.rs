//! The linear classifiers of facebookresearch/dinov2 `eval/linear.py`: one for each number of blocks, with and without the mean of
//! the patches, and each learning rate, all trained on the same batches; the learning rates are cosines by step.

use super::batches::Batches;
use super::dino::{BASE_BATCH, share};
use super::heads::Heads;
use super::inputs::{Average, Input, LastBlocks};
use crate::scores::Accuracy;
use lapidary_schemas::config::Dinov2LinearConfig;
use lapidary_train::operators::Operators;
use lapidary_train::probe::Features;

/// One classifier of the grid.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Choice {
    pub(super) input: Input,
    /// The learning rate at 256 images a step.
    pub(super) base_learning_rate: f64,
}

/// The classifiers while they learn.
#[derive(Debug)]
pub(super) struct Dinov2Grid<B: Operators> {
    groups: Vec<(Input, Heads<B>)>,
    rates: Vec<f64>,
    batches: Batches,
    blocks: usize,
    iterations: usize,
    batch: usize,
    iteration: usize,
}

impl<B: Operators> Dinov2Grid<B> {
    /// Classifiers of tokens of `width` channels, of which features have those of `blocks` blocks and the patches' mean.
    pub(super) fn new(
        config: &Dinov2LinearConfig,
        (depth, blocks, width): (usize, usize, usize),
        classes: usize,
        seed: u64,
        device: &B::Device,
    ) -> Self {
        let scaled: Vec<f64> =
            config.base_learning_rates.iter().map(|rate| rate * config.batch as f64 / BASE_BATCH).collect();
        // Stream 0 is the other protocol's.
        let groups = inputs(config, depth)
            .into_iter()
            .zip(1..)
            .map(|(input, stream)| (input, Heads::new(input.width(width), classes, &scaled, (seed, stream), device)));
        Self {
            groups: groups.collect(),
            rates: config.base_learning_rates.clone(),
            batches: Batches::new((blocks + 1) * width, config.batch),
            blocks,
            iterations: config.iterations,
            batch: config.batch,
            iteration: 0,
        }
    }

    /// Crops that it still learns from.
    pub(super) fn crops_left(&self) -> usize {
        (self.iterations - self.iteration) * self.batch
    }

    /// Learns from features of crops; batches go on from one epoch to the next.
    pub(super) fn learn(&mut self, crops: &Features) {
        for batch in self.batches.push(crops) {
            if self.iteration == self.iterations {
                return;
            }
            let batch = LastBlocks { features: batch, blocks: self.blocks };
            for (input, heads) in &mut self.groups {
                heads.step(&batch.read(*input), share(self.iteration, self.iterations));
            }
            self.iteration += 1;
        }
    }

    /// Every classifier's accuracy, in the reference's order: by blocks, without and with patches, by learning rate.
    pub(super) fn accuracies(&self, images: &LastBlocks) -> Vec<(Choice, Accuracy)> {
        let of_group = |(input, heads): &(Input, Heads<B>)| {
            let choices = self.rates.iter().map(|rate| Choice { input: *input, base_learning_rate: *rate });
            choices.zip(heads.accuracies(&images.read(*input))).collect::<Vec<_>>()
        };
        self.groups.iter().flat_map(of_group).collect()
    }

    #[cfg(test)]
    pub(super) fn groups_mut(&mut self) -> &mut [(Input, Heads<B>)] {
        &mut self.groups
    }
}

/// What the classifiers read of a network of `depth` blocks, each once.
pub(super) fn inputs(config: &Dinov2LinearConfig, depth: usize) -> Vec<Input> {
    let mut inputs: Vec<Input> = Vec::new();
    for blocks in config.blocks.iter().map(|blocks| *blocks.min(&depth)) {
        for average in [Average::None, Average::Appended] {
            let input = Input { blocks, average };
            if !inputs.contains(&input) {
                inputs.push(input);
            }
        }
    }
    inputs
}
