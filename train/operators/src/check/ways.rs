//! Attention in both of its ways, by tiles and by products, one beside the other: the same values, and what each takes.

use super::{drawn, on};
use crate::cube::Attention;
use crate::{Gpu, GpuDevice, GpuTensor, Packing, float};
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor};
use std::time::Instant;

/// Sequences of attention, its heads and their width.
#[derive(Debug, Clone)]
pub(super) struct Sizes {
    pub(super) packing: Packing,
    pub(super) heads: usize,
    pub(super) width: usize,
}

/// What forward and backward take.
#[derive(Debug, Clone, Copy)]
pub struct AttentionTimes {
    /// Seconds by tiles in shared memory.
    pub tiles_secs: f64,
    /// Seconds by products of matrices.
    pub products_secs: f64,
}

impl Sizes {
    fn values(&self, device: &GpuDevice, dtype: DType, parts: usize, seed: usize) -> GpuTensor {
        let shape = [self.packing.rows(), parts * self.heads * self.width];
        let values: Tensor<Gpu, 1> = on(drawn(shape.iter().product(), seed), device, dtype);
        float(values.reshape(shape))
    }

    /// Queries, keys and values, and the gradient of what comes out.
    pub(super) fn inputs(&self, device: &GpuDevice, dtype: DType) -> [GpuTensor; 2] {
        [self.values(device, dtype, 3, 1), self.values(device, dtype, 1, 2)]
    }

    /// What comes out, the logs of the softmaxes' sums, and the gradient of queries, keys and values.
    pub(super) fn run(&self, how: Attention, [qkv, gradient]: [GpuTensor; 2]) -> [GpuTensor; 3] {
        let (packing, heads) = (&self.packing, self.heads);
        let [output, log_sums] = Gpu::attention_by(how, qkv.clone(), packing, heads);
        let inputs = [qkv, output.clone(), log_sums.clone(), gradient];
        let of_qkv = Gpu::attention_backward_by(how, (packing, heads), inputs);
        [output, log_sums, of_qkv]
    }
}

/// What the attention of ViT-S/16 at 224 px takes on a device, forward and backward, in the best of some rounds.
pub fn attention_times(device: &GpuDevice, dtype: DType, images: usize, rounds: usize) -> AttentionTimes {
    let sizes = Sizes { packing: Packing::batch(images, 197), heads: 6, width: 64 };
    let best = |how: Attention| {
        let inputs = sizes.inputs(device, dtype);
        let mut least = f64::INFINITY;
        // The first round compiles.
        for round in 0..=rounds {
            Gpu::sync(device).ok();
            let begun = Instant::now();
            let outputs = sizes.run(how, inputs.clone());
            Gpu::sync(device).ok();
            drop(outputs);
            if round > 0 {
                least = least.min(begun.elapsed().as_secs_f64());
            }
        }
        least
    };
    AttentionTimes { tiles_secs: best(Attention::Tiles), products_secs: best(Attention::Products) }
}
