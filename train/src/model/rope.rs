//! Rotary position embeddings of patches by row and column, as DINOv3 has them (spec/objectives.md section 6): of a head's
//! width h, h / 4 frequencies turn by the row and h / 4 by the column, each with periods 100^(2i / (h / 2)); coordinates are the
//! middles of patches in -1 to 1. Class and register tokens are not rotated.

use crate::operators::Operators;
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};

const BASE: f64 = 100.0;

/// Cosines and sines for a grid of patches.
#[derive(Debug, Clone)]
pub(crate) struct Rotation<B: Backend> {
    /// Shape `[1, 1, side * side, head width]`.
    cos: Tensor<B, 4>,
    sin: Tensor<B, 4>,
    /// Tokens before the first patch.
    prefix: usize,
}

impl<B: Operators> Rotation<B> {
    /// The rotation of `side` squared patches that come after `prefix` tokens; coordinates are multiplied by `rescale`.
    pub(super) fn new(side: usize, head_width: usize, prefix: usize, rescale: f64, device: &B::Device) -> Self {
        let angles = angles(side, head_width, rescale);
        let table = |f: fn(f64) -> f64| {
            let values: Vec<f32> = angles.iter().map(|angle| f(*angle) as f32).collect();
            Tensor::from_data(TensorData::new(values, [1, 1, side * side, head_width]), device)
        };
        Self { cos: table(f64::cos), sin: table(f64::sin), prefix }
    }

    /// Turns queries or keys.
    ///
    /// # Shapes
    /// - tokens: `[batch, heads, prefix + patches, head width]`
    /// - returns: the same
    pub(super) fn apply(&self, tokens: Tensor<B, 4>) -> Tensor<B, 4> {
        let [batch, heads, count, width] = tokens.dims();
        let part = |from: usize, to: usize| tokens.clone().slice([0..batch, 0..heads, from..to, 0..width]);
        let patches = part(self.prefix, count);
        let half =
            |from: usize| patches.clone().slice([0..batch, 0..heads, 0..count - self.prefix, from..from + width / 2]);
        // (x1, x2) to (-x2, x1): with the same angle in both halves that is a rotation.
        let turned = Tensor::cat(vec![half(width / 2).neg(), half(0)], 3);
        let rotated = patches * self.cos.clone() + turned * self.sin.clone();
        if self.prefix == 0 { rotated } else { Tensor::cat(vec![part(0, self.prefix), rotated], 2) }
    }
}

/// The angle of every patch and every place of a head, row-major: by row, by column, and both again for the second half.
fn angles(side: usize, head_width: usize, rescale: f64) -> Vec<f64> {
    let frequencies = head_width / 4;
    let period = |i: usize| BASE.powf(2.0 * i as f64 / (head_width as f64 / 2.0));
    let coordinate = |place: usize| rescale * ((place as f64 + 0.5) / side as f64 * 2.0 - 1.0);
    let angle = |place: usize, i: usize| std::f64::consts::TAU * coordinate(place) / period(i);
    let mut angles = Vec::with_capacity(side * side * head_width);
    for row in 0..side {
        for column in 0..side {
            for _ in 0..2 {
                angles.extend((0..frequencies).map(|i| angle(row, i)));
                angles.extend((0..frequencies).map(|i| angle(column, i)));
            }
        }
    }
    angles
}
