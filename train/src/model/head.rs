//! DINO's head: a three-layer MLP, L2 normalisation, and prototypes with weight normalisation (spec/pretraining.md 1.3;
//! facebookresearch/dino vision_transformer.py).

use super::mlp::{Activation, Layer, Mlp, Norm};
use crate::operators::{self, Operators};
use crate::share::BatchShare;
use burn::module::{Module, Param};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use lapidary_schemas::config::{ObjectiveConfig, Precision};

/// Features to the logits of K prototypes.
#[derive(Module, Debug)]
pub struct DinoHead<B: Backend> {
    mlp: Mlp<B>,
    last_layer: Prototypes<B>,
}

/// K directions; the logit of a feature is its cosine with each, times the direction's norm.
#[derive(Module, Debug)]
struct Prototypes<B: Backend> {
    /// Directions, shape `[bottleneck, K]`; their length does not count.
    weight_v: Param<Tensor<B, 2>>,
    /// Norms, shape `[1, K]`; none when they are fixed at 1.
    weight_g: Option<Param<Tensor<B, 2>>>,
}

impl<B: Operators> DinoHead<B> {
    /// A head whose weights are yet to be initialised.
    pub fn new(dim: usize, config: &ObjectiveConfig, device: &B::Device) -> Self {
        let (hidden, bottleneck, prototypes) = (config.head_hidden, config.head_bottleneck, config.prototypes);
        let norm = if config.head_batch_norm { Norm::Affine } else { Norm::None };
        let inner = Layer { width: hidden, bias: true, norm, activation: Activation::Gelu };
        let last = Layer { width: bottleneck, norm: Norm::None, activation: Activation::None, ..inner };
        let weight_g = || Param::from_tensor(Tensor::ones([1, prototypes], device));
        Self {
            mlp: Mlp::new(dim, &[inner, inner, last], device),
            last_layer: Prototypes {
                weight_v: Param::from_tensor(Tensor::zeros([bottleneck, prototypes], device)),
                weight_g: (!config.norm_last_layer).then(weight_g),
            },
        }
    }

    /// The same head with its MLP in a precision. Logits stay f32: they are divided by temperatures of hundredths.
    pub(super) fn with_precision(self, precision: Precision) -> Self {
        Self { mlp: self.mlp.with_precision(precision), ..self }
    }

    /// Logits of the prototypes.
    ///
    /// # Shapes
    /// - features: `[batch, dim]`
    /// - output: `[batch, prototypes]`, each within -g to g of its prototype
    pub fn forward(&self, features: Tensor<B, 2>) -> Tensor<B, 2> {
        self.logits(self.mlp.forward(features))
    }

    /// The same of a share of a batch, with BatchNorm's statistics over all of it.
    pub fn forward_share(&self, features: Tensor<B, 2>, share: &BatchShare<B::Inner>) -> Tensor<B, 2> {
        self.logits(self.mlp.forward_share(features, share))
    }

    fn logits(&self, hidden: Tensor<B, 2>) -> Tensor<B, 2> {
        let embedding = l2_normalise(hidden, 1);
        let logits = operators::linear(embedding, l2_normalise(self.last_layer.weight_v.val(), 0), None);
        match &self.last_layer.weight_g {
            Some(norms) => logits * norms.val(),
            None => logits,
        }
    }
}

/// Scales to length 1 along a dimension; lengths below 1e-12 count as that, as in PyTorch's `normalize`: zeros stay zeros, and
/// their gradient is finite. The square is clamped, not the length: the root of 0 has no gradient.
pub(crate) fn l2_normalise<B: Operators, const D: usize>(values: Tensor<B, D>, dim: usize) -> Tensor<B, D> {
    let length = (values.clone() * values.clone()).sum_dim(dim).clamp_min(1e-24).sqrt();
    values / length
}
