//! SSCD's head: tokens to an L2-normalised descriptor (Pizzi et al. 2022; facebookresearch/sscd-copy-detection).
//!
//! The reference pools a convolutional map by its generalised mean. A Vision Transformer's class token is its own pooling, so
//! that both are read, side by side: the class feature, and the generalised mean of the patches.

use super::head::l2_normalise;
use crate::operators::Operators;
use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

/// The exponent of the generalised mean (GeM; Radenovic et al. 2018) ...
const POWER: f64 = 3.0;
/// ... which values count in from here on.
const VALUE_MIN: f64 = 1e-6;

/// Tokens to descriptors.
#[derive(Module, Debug)]
pub struct DescriptorHead<B: Backend> {
    linear: Linear<B>,
}

impl<B: Operators> DescriptorHead<B> {
    /// A head whose weights are yet to be initialised, from features of `dim` values to descriptors of `width`.
    pub fn new(dim: usize, width: usize, device: &B::Device) -> Self {
        Self { linear: LinearConfig::new(2 * dim, width).init(device) }
    }

    /// Descriptors of length 1.
    ///
    /// # Shapes
    /// - class: `[batch, dim]`
    /// - patches: `[batch, patches, dim]`
    /// - output: `[batch, width]`
    pub fn forward(&self, class: Tensor<B, 2>, patches: Tensor<B, 3>) -> Tensor<B, 2> {
        let pooled = Tensor::cat(vec![class, generalised_mean(patches)], 1);
        l2_normalise(self.linear.forward(pooled), 1)
    }
}

/// The generalised mean of each channel over the patches, of values from 1e-6 on.
///
/// # Shapes
/// - patches: `[batch, patches, dim]`
/// - output: `[batch, dim]`
pub(crate) fn generalised_mean<B: Operators>(patches: Tensor<B, 3>) -> Tensor<B, 2> {
    let [batch, _, dim] = patches.dims();
    let values = patches.clamp_min(VALUE_MIN);
    let cubes = values.clone() * values.clone() * values;
    cubes.mean_dim(1).reshape([batch, dim]).powf_scalar(1.0 / POWER)
}
