//! Barlow Twins' projector: Linear, BatchNorm, ReLU twice, then Linear; no biases (spec/pretraining.md 1.4;
//! facebookresearch/barlowtwins main.py). Batch statistics only: the projector is thrown away after training.

use burn::module::{Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use burn::tensor::backend::Backend;

/// Features to embeddings whose correlations are to be the identity.
#[derive(Module, Debug)]
pub struct BarlowProjector<B: Backend> {
    fc1: Linear<B>,
    bn1: BatchNorm<B>,
    fc2: Linear<B>,
    bn2: BatchNorm<B>,
    fc3: Linear<B>,
}

#[derive(Module, Debug)]
struct BatchNorm<B: Backend> {
    gamma: Param<Tensor<B, 1>>,
    beta: Param<Tensor<B, 1>>,
}

impl<B: Backend> BarlowProjector<B> {
    /// A projector whose weights are yet to be initialised.
    pub fn new(dim: usize, width: usize, device: &B::Device) -> Self {
        let linear = |from: usize| LinearConfig::new(from, width).with_bias(false).init(device);
        let norm = || BatchNorm {
            gamma: Param::from_tensor(Tensor::ones([width], device)),
            beta: Param::from_tensor(Tensor::zeros([width], device)),
        };
        Self { fc1: linear(dim), bn1: norm(), fc2: linear(width), bn2: norm(), fc3: linear(width) }
    }

    /// Embeddings, not yet standardised.
    ///
    /// # Shapes
    /// - features: `[batch, dim]`
    /// - output: `[batch, width]`
    pub fn forward(&self, features: Tensor<B, 2>) -> Tensor<B, 2> {
        let hidden = relu(self.bn1.forward(self.fc1.forward(features)));
        let hidden = relu(self.bn2.forward(self.fc2.forward(hidden)));
        self.fc3.forward(hidden)
    }
}

impl<B: Backend> BatchNorm<B> {
    fn forward(&self, values: Tensor<B, 2>) -> Tensor<B, 2> {
        standardise(values) * self.gamma.val().unsqueeze() + self.beta.val().unsqueeze()
    }
}

/// Each column less its mean, over its standard deviation in the batch (biased, eps 1e-5).
pub(crate) fn standardise<B: Backend>(values: Tensor<B, 2>) -> Tensor<B, 2> {
    let centred = values.clone() - values.mean_dim(0);
    let variance = (centred.clone() * centred.clone()).mean_dim(0);
    centred / (variance + 1e-5).sqrt()
}
