//! The Vision Transformer (Dosovitskiy et al. 2021) as DINO has it: pre-norm blocks, LayerNorm with eps 1e-6, exact GELU,
//! the class token's output after a final norm. Fields carry timm's names, so that parameter paths are its keys.

use super::position::resize_matrix;
use burn::module::{Module, Param};
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::activation::{gelu, softmax};
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use lapidary_schemas::config::{ModelConfig, PositionResize};

/// A Vision Transformer.
#[derive(Module, Debug)]
pub struct Vit<B: Backend> {
    patch_embed: PatchEmbed<B>,
    cls_token: Param<Tensor<B, 3>>,
    pos_embed: Param<Tensor<B, 3>>,
    blocks: Vec<Block<B>>,
    norm: LayerNorm<B>,
    patch_px: usize,
    /// Patches across the images that the position embedding was made for.
    grid: usize,
}

#[derive(Module, Debug)]
struct PatchEmbed<B: Backend> {
    /// A convolution whose kernel is its stride is a linear map of each patch.
    proj: Linear<B>,
}

#[derive(Module, Debug)]
struct Block<B: Backend> {
    norm1: LayerNorm<B>,
    attn: Attention<B>,
    norm2: LayerNorm<B>,
    mlp: Mlp<B>,
}

#[derive(Module, Debug)]
struct Attention<B: Backend> {
    qkv: Linear<B>,
    proj: Linear<B>,
    heads: usize,
}

#[derive(Module, Debug)]
struct Mlp<B: Backend> {
    fc1: Linear<B>,
    fc2: Linear<B>,
}

fn layer_norm<B: Backend>(dim: usize, device: &B::Device) -> LayerNorm<B> {
    LayerNormConfig::new(dim).with_epsilon(1e-6).init(device)
}

impl<B: Backend> Vit<B> {
    /// A network whose weights are yet to be initialised (see [`super::initialise`]).
    pub fn new(config: &ModelConfig, device: &B::Device) -> Self {
        let (dim, patch) = (config.dim, config.patch_px);
        let grid = config.image_px / patch;
        let blocks = (0..config.depth).map(|_| Block {
            norm1: layer_norm(dim, device),
            attn: Attention {
                qkv: LinearConfig::new(dim, 3 * dim).init(device),
                proj: LinearConfig::new(dim, dim).init(device),
                heads: config.heads,
            },
            norm2: layer_norm(dim, device),
            mlp: Mlp {
                fc1: LinearConfig::new(dim, dim * config.mlp_ratio).init(device),
                fc2: LinearConfig::new(dim * config.mlp_ratio, dim).init(device),
            },
        });
        Self {
            patch_embed: PatchEmbed { proj: LinearConfig::new(3 * patch * patch, dim).init(device) },
            cls_token: Param::from_tensor(Tensor::zeros([1, 1, dim], device)),
            pos_embed: Param::from_tensor(Tensor::zeros([1, grid * grid + 1, dim], device)),
            blocks: blocks.collect(),
            norm: layer_norm(dim, device),
            patch_px: patch,
            grid,
        }
    }

    /// The class token's feature after the final norm.
    ///
    /// # Shapes
    /// - images: `[batch, 3, side, side]`, normalised
    /// - output: `[batch, dim]`
    pub fn forward(&self, images: Tensor<B, 4>) -> Tensor<B, 2> {
        let mut tokens = self.embed(images);
        for block in &self.blocks {
            tokens = block.forward(tokens).0;
        }
        self.class_feature(tokens)
    }

    /// The last block's attention of the class token to each patch.
    ///
    /// # Shapes
    /// - images: `[batch, 3, side, side]`, normalised
    /// - output: `[batch, heads, patches]`
    pub fn class_attention(&self, images: Tensor<B, 4>) -> Tensor<B, 3> {
        let mut tokens = self.embed(images);
        let mut weights = None;
        for block in &self.blocks {
            let (next, attention) = block.forward(tokens);
            tokens = next;
            weights = Some(attention);
        }
        let weights = weights.expect("a network has a block: checked in limits::check");
        let [batch, heads, count, _] = weights.dims();
        weights.slice([0..batch, 0..heads, 0..1, 1..count]).reshape([batch, heads, count - 1])
    }

    fn class_feature(&self, tokens: Tensor<B, 3>) -> Tensor<B, 2> {
        let [batch, _, dim] = tokens.dims();
        // LayerNorm acts on each token alone, so only the class token needs it.
        let class = tokens.slice([0..batch, 0..1, 0..dim]).reshape([batch, dim]);
        self.norm.forward(class)
    }

    /// Patches, class token and positions: `[batch, patches + 1, dim]`.
    fn embed(&self, images: Tensor<B, 4>) -> Tensor<B, 3> {
        let [batch, channels, height, width] = images.dims();
        let (patch, down, across) = (self.patch_px, height / self.patch_px, width / self.patch_px);
        let patches = images
            .reshape([batch, channels, down, patch, across, patch])
            .permute([0, 2, 4, 1, 3, 5])
            .reshape([batch, down * across, channels * patch * patch]);
        let patches = self.patch_embed.proj.forward(patches);
        let class = self.cls_token.val().expand([batch as i64, -1, -1]);
        Tensor::cat(vec![class, patches], 1) + self.positions(down)
    }

    /// The position embedding for a grid of `side` patches: as it is, or its grid resized bicubically. The class token's is
    /// left alone.
    fn positions(&self, side: usize) -> Tensor<B, 3> {
        let positions = self.pos_embed.val();
        if side == self.grid {
            return positions;
        }
        let [_, count, dim] = positions.dims();
        let matrix = resize_matrix(self.grid, side, PositionResize::Offset);
        let matrix: Tensor<B, 2> =
            Tensor::from_data(TensorData::new(matrix, [side * side, self.grid * self.grid]), &positions.device());
        let class = positions.clone().slice([0..1, 0..1, 0..dim]);
        let grid = positions.slice([0..1, 1..count, 0..dim]).reshape([count - 1, dim]);
        let grid = matrix.matmul(grid).reshape([1, side * side, dim]);
        Tensor::cat(vec![class, grid], 1)
    }
}

impl<B: Backend> Block<B> {
    /// The next tokens and the attention weights, `[batch, heads, tokens, tokens]`.
    fn forward(&self, tokens: Tensor<B, 3>) -> (Tensor<B, 3>, Tensor<B, 4>) {
        let (attended, weights) = self.attn.forward(self.norm1.forward(tokens.clone()));
        let tokens = tokens + attended;
        let tokens = tokens.clone() + self.mlp.forward(self.norm2.forward(tokens));
        (tokens, weights)
    }
}

impl<B: Backend> Attention<B> {
    fn forward(&self, tokens: Tensor<B, 3>) -> (Tensor<B, 3>, Tensor<B, 4>) {
        let [batch, count, dim] = tokens.dims();
        let per_head = dim / self.heads;
        let qkv = self.qkv.forward(tokens);
        let part = |index: usize| -> Tensor<B, 4> {
            qkv.clone()
                .slice([0..batch, 0..count, index * dim..(index + 1) * dim])
                .reshape([batch, count, self.heads, per_head])
                .swap_dims(1, 2)
        };
        // Scaling the queries touches fewer values than scaling the scores.
        let queries = part(0) * (per_head as f64).powf(-0.5);
        let weights = softmax(queries.matmul(part(1).swap_dims(2, 3)), 3);
        let mixed = weights.clone().matmul(part(2)).swap_dims(1, 2).reshape([batch, count, dim]);
        (self.proj.forward(mixed), weights)
    }
}

impl<B: Backend> Mlp<B> {
    fn forward(&self, tokens: Tensor<B, 3>) -> Tensor<B, 3> {
        self.fc2.forward(gelu(self.fc1.forward(tokens)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::initialise;
    use burn_flex::Flex;

    fn tiny() -> Vit<Flex> {
        let config = ModelConfig {
            image_px: 16,
            patch_px: 4,
            dim: 12,
            depth: 2,
            heads: 3,
            mlp_ratio: 2,
            ..ModelConfig::default()
        };
        initialise(Vit::new(&config, &Default::default()), 5)
    }

    fn images(batch: usize, side: usize) -> Tensor<Flex, 4> {
        let values: Vec<f32> = (0..batch * 3 * side * side).map(|i| (i as f32 * 0.37).sin()).collect();
        Tensor::from_data(TensorData::new(values, [batch, 3, side, side]), &Default::default())
    }

    #[test]
    fn features_have_their_shape_at_every_resolution_and_ignore_the_rest_of_the_batch() {
        let vit = tiny();
        for side in [16, 8, 24] {
            let both = vit.forward(images(2, side));
            assert_eq!(both.dims(), [2, 12]);
            let first = vit.forward(images(2, side).slice([0..1, 0..3, 0..side, 0..side]));
            let difference = (both.slice([0..1, 0..12]) - first).abs().max().into_scalar();
            assert!(difference < 1e-5, "{difference}");
        }
    }

    #[test]
    fn attention_of_the_class_token_sums_to_less_than_one() {
        let attention = tiny().class_attention(images(2, 16));
        assert_eq!(attention.dims(), [2, 3, 16]);
        let sums = attention.sum_dim(2);
        assert!(sums.clone().max().into_scalar() < 1.0 && sums.min().into_scalar() > 0.5);
    }

    #[test]
    fn patches_are_cut_as_a_strided_convolution_cuts_them() {
        // A projection that picks the green value of a patch's second row, third column.
        let device = Default::default();
        let config = ModelConfig {
            image_px: 8,
            patch_px: 4,
            dim: 1,
            depth: 1,
            heads: 1,
            mlp_ratio: 1,
            ..ModelConfig::default()
        };
        let mut vit = Vit::<Flex>::new(&config, &device);
        let mut weight = vec![0f32; 48];
        weight[16 + 4 + 2] = 1.0;
        vit.patch_embed.proj.weight = Param::from_tensor(Tensor::from_data(TensorData::new(weight, [48, 1]), &device));
        vit.patch_embed.proj.bias = None;
        let values: Vec<f32> = (0..3 * 64).map(|i| i as f32).collect();
        let image = Tensor::from_data(TensorData::new(values, [1, 3, 8, 8]), &device);
        let tokens = vit.embed(image).into_data().to_vec::<f32>().expect("f32");
        // Row 1 or 5, column 2 or 6, of the green plane that starts at 64.
        assert_eq!(tokens[1..], [64.0 + 10.0, 64.0 + 14.0, 64.0 + 42.0, 64.0 + 46.0]);
    }
}
