//! A Transformer block: attention and a feed-forward network, each after a LayerNorm, scaled where there is LayerScale, and
//! added to the tokens unless stochastic depth leaves it out (spec/pretraining.md 1.8).

use super::lora::Lora;
use super::norm::LayerNorm;
use super::precision::{linear, stored_as, to};
use super::rope::Rotation;
use super::sequences::Sequences;
use crate::operators::{self, Operators};
use burn::module::{Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::{silu, softmax};
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor};
use lapidary_schemas::config::{FeedForward, ModelConfig, Precision};

/// Attention, then the feed-forward network.
#[derive(Module, Debug)]
pub(super) struct Block<B: Backend> {
    norm1: LayerNorm<B>,
    attn: Attention<B>,
    ls1: Option<LayerScale<B>>,
    norm2: LayerNorm<B>,
    mlp: FeedForwardNetwork<B>,
    ls2: Option<LayerScale<B>>,
    /// What activations are stored in.
    #[module(skip)]
    stored: DType,
}

#[derive(Module, Debug)]
struct Attention<B: Backend> {
    qkv: Linear<B>,
    /// What is added to queries and values, in networks that are adapted by it.
    lora: Option<Lora<B>>,
    proj: Linear<B>,
    heads: usize,
}

#[derive(Module, Debug)]
struct FeedForwardNetwork<B: Backend> {
    /// With SwiGLU the gate's and the values' maps side by side.
    fc1: Linear<B>,
    fc2: Linear<B>,
    #[module(skip)]
    kind: FeedForward,
}

/// A learned factor for each channel of a branch (Touvron et al. 2021).
#[derive(Module, Debug)]
struct LayerScale<B: Backend> {
    gamma: Param<Tensor<B, 1>>,
}

/// What a block's two branches are multiplied by for each image: 0 where stochastic depth leaves it out, else 1 over the
/// probability that it does not. Shape `[batch]` each, or `[rows]`, a factor for each token, where images of several sizes are
/// packed; none where nothing is left out.
pub(crate) type Keep<B> = [Option<Tensor<B, 1>>; 2];

pub(super) fn layer_norm<B: Backend>(config: &ModelConfig, device: &B::Device) -> LayerNorm<B> {
    LayerNorm::new(config.dim, config.norm_epsilon, device)
}

impl<B: Operators> Block<B> {
    /// A block whose weights are yet to be initialised.
    pub(super) fn new(config: &ModelConfig, device: &B::Device) -> Self {
        let (dim, hidden) = (config.dim, config.hidden());
        let kind = config.feed_forward;
        let inner = if kind == FeedForward::Swiglu { 2 * hidden } else { hidden };
        let scale = || {
            let gamma = Param::from_tensor(Tensor::full([dim], config.layer_scale, device));
            (config.layer_scale > 0.0).then_some(LayerScale { gamma })
        };
        Self {
            norm1: layer_norm(config, device),
            attn: Attention {
                qkv: LinearConfig::new(dim, 3 * dim).init(device),
                lora: None,
                proj: LinearConfig::new(dim, dim).init(device),
                heads: config.heads,
            },
            ls1: scale(),
            norm2: layer_norm(config, device),
            mlp: FeedForwardNetwork {
                fc1: LinearConfig::new(dim, inner).init(device),
                fc2: LinearConfig::new(hidden, dim).init(device),
                kind,
            },
            ls2: scale(),
            stored: DType::F32,
        }
    }

    /// The same block with its activations stored in a precision.
    pub(super) fn with_precision(self, precision: Precision) -> Self {
        Self { stored: stored_as(precision), ..self }
    }

    /// The same block with low-rank maps beside queries and values, whose weights are yet to be initialised.
    pub(super) fn with_lora(mut self, rank: usize, scale: f64) -> Self {
        let [dim, _] = self.attn.qkv.weight.val().dims();
        self.attn.lora = Some(Lora::new(dim, rank, scale, &self.attn.qkv.weight.val().device()));
        self
    }

    /// The same block with its low-rank maps added to the weights that they stand beside.
    pub(super) fn merged(mut self) -> Self {
        if let Some(lora) = self.attn.lora.take() {
            self.attn.qkv.weight = self.attn.qkv.weight.map(|weight| weight + lora.delta());
        }
        self
    }

    /// The next tokens.
    ///
    /// # Shapes
    /// - tokens: `[batch, tokens, dim]`, or `[1, rows, dim]` where images of several sizes are packed
    /// - returns: the same
    pub(super) fn forward(
        &self,
        tokens: Tensor<B, 3>,
        sequences: &Sequences<B>,
        keep: Option<&Keep<B>>,
    ) -> Tensor<B, 3> {
        let normed = to(self.norm1.forward(tokens.clone()), self.stored);
        let attended = self.attn.forward(normed, sequences);
        self.after_attention(tokens, attended, keep)
    }

    /// The next tokens and the attention weights, `[batch, heads, tokens, tokens]`.
    pub(super) fn forward_with_weights(
        &self,
        tokens: Tensor<B, 3>,
        rotation: Option<&Rotation<B>>,
    ) -> (Tensor<B, 3>, Tensor<B, 4>) {
        let normed = self.norm1.forward(tokens.clone());
        let (attended, weights) = self.attn.forward_with_weights(normed, rotation);
        (self.after_attention(tokens, attended, None), weights)
    }

    fn after_attention(&self, tokens: Tensor<B, 3>, attended: Tensor<B, 3>, keep: Option<&Keep<B>>) -> Tensor<B, 3> {
        let keep = |index: usize| keep.and_then(|keep| keep[index].clone());
        let tokens = add_branch(tokens, attended, self.ls1.as_ref(), keep(0));
        let hidden = self.mlp.forward(to(self.norm2.forward(tokens.clone()), self.stored));
        add_branch(tokens, hidden, self.ls2.as_ref(), keep(1))
    }
}

fn add_branch<B: Operators>(
    tokens: Tensor<B, 3>,
    branch: Tensor<B, 3>,
    scale: Option<&LayerScale<B>>,
    keep: Option<Tensor<B, 1>>,
) -> Tensor<B, 3> {
    let (branch, scale) = (to(branch, DType::F32), scale.map(|scale| scale.gamma.val()));
    let [batch, count, dim] = tokens.dims();
    let has_factors_of_tokens = keep.as_ref().is_some_and(|keep| keep.dims()[0] != batch);
    if !has_factors_of_tokens {
        return operators::residual(tokens, branch, scale, keep);
    }
    let [tokens, branch] = [tokens, branch].map(|values| values.reshape([batch * count, 1, dim]));
    operators::residual(tokens, branch, scale, keep).reshape([batch, count, dim])
}

impl<B: Operators> Attention<B> {
    fn forward(&self, tokens: Tensor<B, 3>, sequences: &Sequences<B>) -> Tensor<B, 3> {
        let stored = tokens.dtype();
        let turn = |qkv: Tensor<B, 3>, rotation: &Rotation<B>| {
            let [queries, keys, values] = self.split(&to(qkv, DType::F32));
            let parts = [rotation.apply(queries), rotation.apply(keys), values];
            let joined = parts.map(|part| part.swap_dims(1, 2).flatten::<3>(2, 3));
            to(Tensor::cat(joined.to_vec(), 2), stored)
        };
        let qkv = sequences.rotate(self.qkv(tokens), turn);
        linear(&self.proj, sequences.attention(qkv, self.heads))
    }

    /// Queries, keys and values side by side, `[batch, tokens, 3 * dim]`.
    fn qkv(&self, tokens: Tensor<B, 3>) -> Tensor<B, 3> {
        let mapped = linear(&self.qkv, tokens.clone());
        match &self.lora {
            Some(lora) => mapped + lora.forward(tokens),
            None => mapped,
        }
    }

    /// Queries, keys and values, `[batch, heads, tokens, head width]` each.
    fn split(&self, qkv: &Tensor<B, 3>) -> [Tensor<B, 4>; 3] {
        let [batch, count, all] = qkv.dims();
        let dim = all / 3;
        [0, 1, 2].map(|index| {
            let part = qkv.clone().slice([0..batch, 0..count, index * dim..(index + 1) * dim]);
            part.reshape([batch, count, self.heads, dim / self.heads]).swap_dims(1, 2)
        })
    }

    /// The same in f32, one operation after another, for who asks for the weights.
    fn forward_with_weights(
        &self,
        tokens: Tensor<B, 3>,
        rotation: Option<&Rotation<B>>,
    ) -> (Tensor<B, 3>, Tensor<B, 4>) {
        let [batch, count, dim] = tokens.dims();
        let [queries, keys, values] = self.split(&self.qkv(tokens));
        let rotated = |values: Tensor<B, 4>| match rotation {
            Some(rotation) => rotation.apply(values),
            None => values,
        };
        // Scaling the queries touches fewer values than scaling the scores.
        let queries = rotated(queries) * ((dim / self.heads) as f64).powf(-0.5);
        let weights = softmax(queries.matmul(rotated(keys).swap_dims(2, 3)), 3);
        let mixed = weights.clone().matmul(values).swap_dims(1, 2).reshape([batch, count, dim]);
        (linear(&self.proj, mixed), weights)
    }
}

impl<B: Operators> FeedForwardNetwork<B> {
    fn forward(&self, tokens: Tensor<B, 3>) -> Tensor<B, 3> {
        let hidden = linear(&self.fc1, tokens);
        let hidden = match self.kind {
            FeedForward::Mlp => operators::gelu(hidden),
            FeedForward::Swiglu => {
                let [batch, count, both] = hidden.dims();
                let half = |from: usize| hidden.clone().slice([0..batch, 0..count, from..from + both / 2]);
                silu(half(0)) * half(both / 2)
            }
        };
        linear(&self.fc2, hidden)
    }
}
