//! DINO's head: a three-layer MLP, L2 normalisation, and prototypes with weight normalisation (spec/pretraining.md 1.3;
//! facebookresearch/dino vision_transformer.py).

use burn::module::{Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::Tensor;
use burn::tensor::activation::gelu;
use burn::tensor::backend::Backend;
use lapidary_schemas::config::ObjectiveConfig;

/// Features to the logits of K prototypes.
#[derive(Module, Debug)]
pub struct DinoHead<B: Backend> {
    mlp: Vec<Linear<B>>,
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

impl<B: Backend> DinoHead<B> {
    /// A head whose weights are yet to be initialised.
    pub fn new(dim: usize, config: &ObjectiveConfig, device: &B::Device) -> Self {
        let (hidden, bottleneck, prototypes) = (config.head_hidden, config.head_bottleneck, config.prototypes);
        let layers = [(dim, hidden), (hidden, hidden), (hidden, bottleneck)];
        let weight_g = || Param::from_tensor(Tensor::ones([1, prototypes], device));
        Self {
            mlp: layers.map(|(from, to)| LinearConfig::new(from, to).init(device)).into(),
            last_layer: Prototypes {
                weight_v: Param::from_tensor(Tensor::zeros([bottleneck, prototypes], device)),
                weight_g: (!config.norm_last_layer).then(weight_g),
            },
        }
    }

    /// Logits of the prototypes.
    ///
    /// # Shapes
    /// - features: `[batch, dim]`
    /// - output: `[batch, prototypes]`, each within -g to g of its prototype
    pub fn forward(&self, features: Tensor<B, 2>) -> Tensor<B, 2> {
        let mut hidden = features;
        for (index, layer) in self.mlp.iter().enumerate() {
            hidden = layer.forward(hidden);
            if index + 1 < self.mlp.len() {
                hidden = gelu(hidden);
            }
        }
        let logits = unit(hidden, 1).matmul(unit(self.last_layer.weight_v.val(), 0));
        match &self.last_layer.weight_g {
            Some(norms) => logits * norms.val(),
            None => logits,
        }
    }
}

/// Scales to unit length along a dimension; lengths below 1e-12 count as that.
fn unit<B: Backend>(values: Tensor<B, 2>, dim: usize) -> Tensor<B, 2> {
    let length = (values.clone() * values.clone()).sum_dim(dim).clamp_min(1e-24).sqrt();
    values / length
}
