//! The operators that are checked, on any backend: shapes of what a gradient is taken of, and the output as one row.

use super::{Case, Constants};
use crate::{
    Packing, TrainBackend, attention, gelu, layer_norm, linear, packed_attention, residual, soft_cross_entropy,
    standardise,
};
use burn::tensor::Tensor;
use burn::tensor::activation::softmax;

pub(super) struct Gelu(pub(super) usize);

impl Case for Gelu {
    fn shapes(&self) -> Vec<Vec<usize>> {
        vec![vec![self.0]]
    }

    fn run<B: TrainBackend>(&self, x: &[Tensor<B, 1>], _: &Constants<B>) -> Tensor<B, 1> {
        gelu(x[0].clone() * 2.0)
    }
}

pub(super) struct Linear {
    pub(super) rows: usize,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
}

impl Case for Linear {
    fn shapes(&self) -> Vec<Vec<usize>> {
        vec![vec![self.rows, self.inputs], vec![self.inputs, self.outputs], vec![self.outputs]]
    }

    fn run<B: TrainBackend>(&self, x: &[Tensor<B, 1>], _: &Constants<B>) -> Tensor<B, 1> {
        let rows = x[0].clone().reshape([self.rows, self.inputs]);
        let weight = x[1].clone().reshape([self.inputs, self.outputs]);
        linear(rows, weight, Some(x[2].clone())).reshape([self.rows * self.outputs])
    }
}

pub(super) struct LayerNorm {
    pub(super) rows: usize,
    pub(super) width: usize,
}

impl Case for LayerNorm {
    fn shapes(&self) -> Vec<Vec<usize>> {
        vec![vec![self.rows, self.width], vec![self.width], vec![self.width]]
    }

    fn run<B: TrainBackend>(&self, x: &[Tensor<B, 1>], _: &Constants<B>) -> Tensor<B, 1> {
        let rows = x[0].clone().reshape([self.rows, self.width]);
        layer_norm(rows, x[1].clone(), x[2].clone(), 1e-2).reshape([self.rows * self.width])
    }
}

pub(super) struct Attention {
    pub(super) batch: usize,
    pub(super) tokens: usize,
    pub(super) heads: usize,
    pub(super) width: usize,
}

impl Case for Attention {
    fn shapes(&self) -> Vec<Vec<usize>> {
        vec![vec![self.batch, self.tokens, 3 * self.heads * self.width]]
    }

    fn run<B: TrainBackend>(&self, x: &[Tensor<B, 1>], _: &Constants<B>) -> Tensor<B, 1> {
        let qkv = x[0].clone().reshape([self.batch, self.tokens, 3 * self.heads * self.width]);
        attention(qkv, self.heads).reshape([self.batch * self.tokens * self.heads * self.width])
    }
}

/// Attention of sequences of several lengths in one call.
pub(super) struct PackedAttention {
    pub(super) packing: Packing,
    pub(super) heads: usize,
    pub(super) width: usize,
}

impl Case for PackedAttention {
    fn shapes(&self) -> Vec<Vec<usize>> {
        vec![vec![self.packing.rows(), 3 * self.heads * self.width]]
    }

    fn run<B: TrainBackend>(&self, x: &[Tensor<B, 1>], _: &Constants<B>) -> Tensor<B, 1> {
        let (rows, dim) = (self.packing.rows(), self.heads * self.width);
        let qkv = x[0].clone().reshape([rows, 3 * dim]);
        packed_attention(qkv, &self.packing, self.heads).reshape([rows * dim])
    }
}

pub(super) struct Residual {
    pub(super) shape: [usize; 3],
    pub(super) scale: bool,
    pub(super) keep: bool,
}

impl Case for Residual {
    fn shapes(&self) -> Vec<Vec<usize>> {
        let mut shapes = vec![self.shape.to_vec(), self.shape.to_vec()];
        if self.scale {
            shapes.push(vec![self.shape[2]]);
        }
        shapes
    }

    fn run<B: TrainBackend>(&self, x: &[Tensor<B, 1>], constants: &Constants<B>) -> Tensor<B, 1> {
        let keep = self.keep.then(|| constants.drawn(self.shape[0], 5));
        let [tokens, branch] = [0, 1].map(|index| x[index].clone().reshape(self.shape));
        residual(tokens, branch, x.get(2).cloned(), keep).reshape([self.shape.iter().product::<usize>()])
    }
}

pub(super) struct CrossEntropy {
    pub(super) rows: usize,
    pub(super) of_targets: usize,
    pub(super) classes: usize,
}

impl Case for CrossEntropy {
    fn shapes(&self) -> Vec<Vec<usize>> {
        vec![vec![self.rows, self.classes]]
    }

    fn run<B: TrainBackend>(&self, x: &[Tensor<B, 1>], constants: &Constants<B>) -> Tensor<B, 1> {
        let targets = constants.drawn(self.of_targets * self.classes, 8).reshape([self.of_targets, self.classes]);
        let logits = x[0].clone().reshape([self.rows, self.classes]);
        soft_cross_entropy(logits, softmax(targets, 1) * 1.5, 0.3)
    }
}

pub(super) struct Standardise {
    pub(super) rows: usize,
    pub(super) width: usize,
}

impl Case for Standardise {
    fn shapes(&self) -> Vec<Vec<usize>> {
        vec![vec![self.rows, self.width]]
    }

    fn run<B: TrainBackend>(&self, x: &[Tensor<B, 1>], _: &Constants<B>) -> Tensor<B, 1> {
        standardise(x[0].clone().reshape([self.rows, self.width]), 1e-2).reshape([self.rows * self.width])
    }
}
