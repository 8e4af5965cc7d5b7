//! The linear classifier of facebookresearch/dino `eval_linear.py`: class tokens of the last blocks, stochastic gradient descent
//! on random crops, the learning rate a cosine by epoch.

use super::batches::Batches;
use super::heads::Heads;
use super::inputs::{Average, Input, LastBlocks};
use crate::scores::Accuracy;
use lapidary_schemas::config::DinoLinearConfig;
use lapidary_train::operators::Operators;
use std::f64::consts::PI;

/// Images that the learning rate is given for.
pub(super) const BASE_BATCH: f64 = 256.0;

/// The classifier while it learns.
#[derive(Debug)]
pub(super) struct DinoLinear<B: Operators> {
    pub(super) input: Input,
    pub(super) heads: Heads<B>,
    batches: Batches,
    epochs: usize,
    epoch: usize,
}

impl<B: Operators> DinoLinear<B> {
    /// A classifier of tokens of `width` channels; of a network of fewer blocks than are configured it reads all.
    pub(super) fn new(
        config: &DinoLinearConfig,
        (depth, width): (usize, usize),
        classes: usize,
        seed: u64,
        device: &B::Device,
    ) -> Self {
        let input = input(config, depth);
        let rate = config.base_learning_rate * config.batch as f64 / BASE_BATCH;
        let heads = Heads::new(input.width(width), classes, &[rate], (seed, 0), device);
        Self { input, heads, batches: Batches::new(input.width(width), config.batch), epochs: config.epochs, epoch: 0 }
    }

    /// Whether its epochs are over.
    pub(super) fn is_done(&self) -> bool {
        self.epoch >= self.epochs
    }

    /// Learns from features of crops of the epoch that is under way.
    pub(super) fn learn(&mut self, crops: &LastBlocks) {
        if !self.is_done() {
            for batch in self.batches.push(&crops.read(self.input)) {
                self.heads.step(&batch, share(self.epoch, self.epochs));
            }
        }
    }

    /// Ends an epoch: the last batch is what is left.
    pub(super) fn end_epoch(&mut self) {
        if let Some(batch) = self.batches.rest() {
            self.heads.step(&batch, share(self.epoch, self.epochs));
        }
        self.epoch += 1;
    }

    /// The accuracy on test images.
    pub(super) fn accuracy(&self, test: &LastBlocks) -> Accuracy {
        self.heads.accuracies(&test.read(self.input))[0]
    }
}

/// What it reads of a network of `depth` blocks.
pub(super) fn input(config: &DinoLinearConfig, depth: usize) -> Input {
    let average = if config.average_patches { Average::Interleaved } else { Average::None };
    Input { blocks: config.blocks.min(depth), average }
}

/// The share of the learning rate that a step of so many has: a cosine from 1 towards 0.
pub(super) fn share(step: usize, steps: usize) -> f64 {
    0.5 * (1.0 + (PI * step as f64 / steps as f64).cos())
}
