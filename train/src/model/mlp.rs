//! A head's multi-layer perceptron from a list of layers: Linear, BatchNorm where it has one, activation (spec/objectives.md
//! section 1). BatchNorm uses the batch's own statistics alone: heads are thrown away after training, and no running mean is
//! kept.

use super::precision::{linear, stored_as, to};
use crate::operators::{self, Operators};
use crate::share::BatchShare;
use burn::module::{Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor};
use lapidary_schemas::config::Precision;

/// A layer as it is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Layer {
    /// Its width.
    pub width: usize,
    /// Whether its linear map has a bias.
    pub bias: bool,
    /// BatchNorm after the linear map.
    pub norm: Norm,
    /// What follows.
    pub activation: Activation,
}

/// BatchNorm over the batch, with eps 1e-5.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Norm {
    /// None.
    None,
    /// With a learned scale and shift.
    Affine,
    /// Without.
    Plain,
}

/// What follows a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    None,
    /// The exact GELU.
    Gelu,
    /// ReLU.
    Relu,
}

/// Features to embeddings.
#[derive(Module, Debug)]
pub struct Mlp<B: Backend> {
    layers: Vec<MlpLayer<B>>,
}

#[derive(Module, Debug)]
struct MlpLayer<B: Backend> {
    linear: Linear<B>,
    norm: Option<BatchNorm<B>>,
    #[module(skip)]
    norm_kind: Norm,
    #[module(skip)]
    activation: Activation,
    /// What the linear map reads and writes.
    #[module(skip)]
    stored: DType,
}

#[derive(Module, Debug)]
struct BatchNorm<B: Backend> {
    weight: Param<Tensor<B, 1>>,
    bias: Param<Tensor<B, 1>>,
}

impl<B: Operators> Mlp<B> {
    /// An MLP whose weights are yet to be initialised.
    pub fn new(dim: usize, layers: &[Layer], device: &B::Device) -> Self {
        let mut inputs = dim;
        let layers = layers.iter().map(|layer| {
            let linear = LinearConfig::new(inputs, layer.width).with_bias(layer.bias).init(device);
            inputs = layer.width;
            let norm = || BatchNorm {
                weight: Param::from_tensor(Tensor::ones([layer.width], device)),
                bias: Param::from_tensor(Tensor::zeros([layer.width], device)),
            };
            MlpLayer {
                linear,
                norm: (layer.norm == Norm::Affine).then(norm),
                norm_kind: layer.norm,
                activation: layer.activation,
                stored: DType::F32,
            }
        });
        Self { layers: layers.collect() }
    }

    /// The same MLP with its linear maps in a precision, unless it has BatchNorm, which would divide their rounding by what may be
    /// a small deviation.
    pub(super) fn with_precision(self, precision: Precision) -> Self {
        let has_norm = self.layers.iter().any(|layer| layer.norm_kind != Norm::None);
        let precision = if has_norm { Precision::F32 } else { precision };
        let layers = self.layers.into_iter().map(|layer| MlpLayer { stored: stored_as(precision), ..layer });
        Self { layers: layers.collect() }
    }

    /// The last layer's output.
    ///
    /// # Shapes
    /// - features: `[batch, dim]`; where there is BatchNorm, its statistics are over all of these rows
    /// - output: `[batch, width of the last layer]`
    pub fn forward(&self, features: Tensor<B, 2>) -> Tensor<B, 2> {
        self.layers.iter().fold(features, |hidden, layer| layer.forward(hidden, standardise))
    }

    /// The same of a share of a batch, with BatchNorm's statistics over all of it.
    pub fn forward_share(&self, features: Tensor<B, 2>, share: &BatchShare<B::Inner>) -> Tensor<B, 2> {
        self.layers.iter().fold(features, |hidden, layer| layer.forward(hidden, |rows| share.standardise(rows)))
    }
}

impl<B: Operators> MlpLayer<B> {
    fn forward(&self, features: Tensor<B, 2>, standardise: impl Fn(Tensor<B, 2>) -> Tensor<B, 2>) -> Tensor<B, 2> {
        let mut hidden = to(linear(&self.linear, to(features, self.stored)), DType::F32);
        if let Some(norm) = &self.norm {
            hidden = standardise(hidden) * norm.weight.val().unsqueeze() + norm.bias.val().unsqueeze();
        } else if self.norm_kind == Norm::Plain {
            hidden = standardise(hidden);
        }
        match self.activation {
            Activation::Gelu => operators::gelu(hidden),
            Activation::Relu => relu(hidden),
            Activation::None => hidden,
        }
    }
}

/// Each column less its mean, over its standard deviation in the batch (biased, eps 1e-5).
///
/// # Shapes
/// - values: `[batch, width]`
/// - returns: the same
fn standardise<B: Operators>(values: Tensor<B, 2>) -> Tensor<B, 2> {
    operators::standardise(values, 1e-5)
}
