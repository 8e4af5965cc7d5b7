//! LayerNorm with its parameters.

use crate::operators::{self, Operators};
use burn::module::{Module, Param};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

/// LayerNorm over the last dimension.
#[derive(Module, Debug)]
pub(super) struct LayerNorm<B: Backend> {
    weight: Param<Tensor<B, 1>>,
    bias: Param<Tensor<B, 1>>,
    epsilon: f64,
}

impl<B: Backend> LayerNorm<B> {
    /// With a weight of 1 and a bias of 0.
    pub(super) fn new(width: usize, epsilon: f64, device: &B::Device) -> Self {
        Self {
            weight: Param::from_tensor(Tensor::ones([width], device)),
            bias: Param::from_tensor(Tensor::zeros([width], device)),
            epsilon,
        }
    }
}

impl<B: Operators> LayerNorm<B> {
    /// Normalised values.
    ///
    /// # Shapes
    /// - values: `[..., width]`
    /// - returns: the same
    pub(super) fn forward<const D: usize>(&self, values: Tensor<B, D>) -> Tensor<B, D> {
        operators::layer_norm(values, self.weight.val(), self.bias.val(), self.epsilon)
    }
}
