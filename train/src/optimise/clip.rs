//! Clipping: gradients are scaled by `clip_norm / (norm + 1e-6)` where that is below 1, as PyTorch's `clip_grad_norm_` does,
//! with the norm of each tensor (DINO), of each part of the network (DINOv2) or of all (spec/pretraining.md 1.7). Norms count
//! a frozen last layer too, as in the reference, which clips before it cancels.

use super::gradients::{Gradient, Gradients};
use crate::operators::{Operators, clip_divisor};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use lapidary_schemas::config::{ClipBy, PretrainConfig};
use std::collections::BTreeMap;

/// What a step's gradients are divided by.
pub(crate) struct Clip<B: Backend> {
    /// The greatest norm; 0 means no clipping.
    norm_max: f64,
    by: ClipBy,
    /// Divisors by part, shape `[1]`; none when each tensor has its own.
    divisors: BTreeMap<String, Tensor<B, 1>>,
}

/// The part of the network that a parameter belongs to: `backbone`, `head`, ...
fn part_of(name: &str, by: ClipBy) -> &str {
    match by {
        ClipBy::Global => "",
        ClipBy::Module | ClipBy::Tensor => name.split('.').next().unwrap_or(name),
    }
}

impl<B: Operators> Clip<B> {
    /// How a step's gradients are clipped.
    pub(crate) fn new(config: &PretrainConfig, gradients: &Gradients<B>) -> Self {
        let (norm_max, by) = (config.clip_norm, config.clip_by);
        let mut squares: BTreeMap<String, Tensor<B, 1>> = BTreeMap::new();
        if norm_max > 0.0 && by != ClipBy::Tensor {
            for (name, square) in gradients.squares() {
                let part = part_of(name, by);
                let sum = squares.remove(part).map_or(square.clone(), |sum| sum + square.clone());
                squares.insert(part.to_owned(), sum);
            }
        }
        let divisors = squares.into_iter().map(|(part, square)| (part, clip_divisor(square, norm_max))).collect();
        Self { norm_max, by, divisors }
    }

    /// What a parameter's gradient is divided by, shape `[1]`; none when nothing is clipped.
    pub(crate) fn divisor(&self, name: &str, gradient: &Gradient<B>) -> Option<Tensor<B, 1>> {
        (self.norm_max > 0.0).then(|| match self.by {
            ClipBy::Tensor => clip_divisor(gradient.square.clone(), self.norm_max),
            by => self.divisors[part_of(name, by)].clone(),
        })
    }
}
