//! The Vision Transformer (Dosovitskiy et al. 2021) as DINO has it: pre-norm blocks, exact GELU, the class token's output after
//! a final norm; with registers, LayerScale, SwiGLU and rotary positions where DINOv2 and DINOv3 have them. Fields carry
//! timm's names, so that parameter paths are its keys.

use super::block::{Block, Keep, layer_norm};
use super::initial::initialise_those;
use super::lora::is_lora;
use super::norm::LayerNorm;
use super::position::resize_matrix;
use super::precision::{linear, stored_as, to};
use super::rope::Rotation;
use super::sequences::Sequences;
use crate::operators::Operators;
use burn::module::{Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor, TensorData};
use lapidary_schemas::config::{ModelConfig, PositionResize, Positions, Precision};

/// A Vision Transformer.
#[derive(Module, Debug)]
pub struct Vit<B: Backend> {
    patch_embed: PatchEmbed<B>,
    cls_token: Param<Tensor<B, 3>>,
    /// Register tokens, shape `[1, registers, dim]`.
    reg_token: Option<Param<Tensor<B, 3>>>,
    /// What stands for a masked patch, shape `[1, 1, dim]`; in networks that see masked views.
    mask_token: Option<Param<Tensor<B, 3>>>,
    pos_embed: Option<Param<Tensor<B, 3>>>,
    blocks: Vec<Block<B>>,
    norm: LayerNorm<B>,
    patch_px: usize,
    /// Patches across the images that the position embedding was made for.
    grid: usize,
    registers: usize,
    head_width: usize,
    #[module(skip)]
    position_resize: PositionResize,
    /// What activations are stored in.
    #[module(skip)]
    stored: DType,
}

#[derive(Module, Debug)]
struct PatchEmbed<B: Backend> {
    /// A convolution whose kernel is its stride is a linear map of each patch.
    proj: Linear<B>,
}

/// What a forward pass leaves to chance, drawn beforehand; by default nothing is.
#[derive(Debug, Clone)]
pub struct Draws<B: Backend> {
    /// Stochastic depth of each block; empty for none.
    pub(crate) keep: Vec<Keep<B>>,
    /// 1 where a patch is masked, shape `[batch, patches, 1]`, of each size of images; empty where nothing is.
    pub(crate) masks: Vec<Option<Tensor<B, 3>>>,
    /// What RoPE's coordinates are multiplied by.
    pub(crate) rope_rescale: f64,
}

impl<B: Operators> Default for Draws<B> {
    fn default() -> Self {
        Self { keep: Vec::new(), masks: Vec::new(), rope_rescale: 1.0 }
    }
}

/// A network's output after its final norm.
#[derive(Debug, Clone)]
pub struct Tokens<B: Backend> {
    /// The class token's, shape `[batch, dim]`.
    pub class: Tensor<B, 2>,
    /// The patches', row by row, shape `[batch, patches, dim]`; where they were asked for.
    pub patches: Option<Tensor<B, 3>>,
}

impl<B: Operators> Vit<B> {
    /// A network of a resolved configuration whose weights are yet to be initialised (see [`super::initialise`]).
    pub fn new(config: &ModelConfig, masks: bool, device: &B::Device) -> Self {
        let (dim, patch, grid) = (config.dim, config.patch_px, config.grid());
        let token = |count: usize| Param::from_tensor(Tensor::zeros([1, count, dim], device));
        let learned = config.positions == Positions::Learned;
        Self {
            patch_embed: PatchEmbed { proj: LinearConfig::new(3 * patch * patch, dim).init(device) },
            cls_token: token(1),
            reg_token: (config.registers > 0).then(|| token(config.registers)),
            mask_token: masks.then(|| token(1)),
            pos_embed: learned.then(|| token(grid * grid + 1)),
            blocks: (0..config.depth).map(|_| Block::new(config, device)).collect(),
            norm: layer_norm(config, device),
            patch_px: patch,
            grid,
            registers: config.registers,
            head_width: dim / config.heads,
            position_resize: config.position_resize,
            stored: DType::F32,
        }
    }

    /// The same network with the activations of its blocks and of the patch projection in a precision.
    pub fn with_precision(self, precision: Precision) -> Self {
        let blocks = self.blocks.into_iter().map(|block| block.with_precision(precision)).collect();
        Self { blocks, stored: stored_as(precision), ..self }
    }

    /// The same network with low-rank maps (Hu et al. 2021) of this rank beside the queries and values of every block, scaled by
    /// `alpha / rank`. They are drawn from `seed` and change nothing at first.
    pub fn with_lora(self, rank: usize, alpha: f64, seed: u64) -> Self {
        let scale = alpha / rank as f64;
        let blocks = self.blocks.into_iter().map(|block| block.with_lora(rank, scale)).collect();
        initialise_those(Self { blocks, ..self }, seed, is_lora)
    }

    /// The same network with its low-rank maps added to the weights that they stand beside: what it computes stays, to
    /// rounding, and its parameters are those of a network that never had any. On a backend without gradients.
    pub fn merged(self) -> Self {
        let blocks = self.blocks.into_iter().map(Block::merged).collect();
        Self { blocks, ..self }
    }

    /// The class token's feature after the final norm, with nothing left to chance.
    ///
    /// # Shapes
    /// - images: `[batch, 3, side, side]`, normalised
    /// - output: `[batch, dim]`
    pub fn forward(&self, images: Tensor<B, 4>) -> Tensor<B, 2> {
        self.tokens(images, &Draws::default(), false).class
    }

    /// The class token and, where they are asked for, the patches after the final norm.
    ///
    /// # Shapes
    /// - images: `[batch, 3, side, side]`, normalised
    pub fn tokens(&self, images: Tensor<B, 4>, draws: &Draws<B>, patches: bool) -> Tokens<B> {
        self.tokens_of_sizes(vec![images], draws, &[patches]).swap_remove(0)
    }

    /// Every block's output, and the tokens before the first, all before the final norm: class, registers, patches.
    ///
    /// # Shapes
    /// - images: `[batch, 3, side, side]`, normalised
    /// - output: depth + 1 of `[batch, 1 + registers + patches, dim]`
    pub fn block_outputs(&self, images: Tensor<B, 4>) -> Vec<Tensor<B, 3>> {
        let draws = Draws::default();
        let sequences = self.sequences(std::slice::from_ref(&images), &draws);
        let mut outputs = vec![self.embed(images, None)];
        for index in 0..self.depth() {
            outputs.push(self.block(index, outputs[index].clone(), &sequences, &draws));
        }
        outputs
    }

    /// What linear classifiers read: the class tokens of the last `blocks` blocks (of all, where there are fewer), each through
    /// the final norm, the earliest first; then the mean of the last block's patches after that norm.
    ///
    /// # Shapes
    /// - images: `[batch, 3, side, side]`, normalised
    /// - output: `[batch, (blocks + 1) * dim]`
    pub fn last_blocks(&self, images: Tensor<B, 4>, blocks: usize) -> Tensor<B, 2> {
        let draws = Draws::default();
        let sequences = self.sequences(std::slice::from_ref(&images), &draws);
        let mut tokens = self.embed(images, None);
        let (last, mut parts) = (self.depth() - 1, Vec::with_capacity(blocks + 1));
        for index in 0..last {
            tokens = self.block(index, tokens, &sequences, &draws);
            if index + blocks > last {
                parts.push(self.finish(tokens.clone(), false).class);
            }
        }
        tokens = self.block(last, tokens, &sequences, &draws);
        let Tokens { class, patches } = self.finish(tokens, true);
        let [batch, dim] = class.dims();
        parts.push(class);
        parts.extend(patches.map(|patches| patches.mean_dim(1).reshape([batch, dim])));
        Tensor::cat(parts, 1)
    }

    /// The last block's attention of the class token to each patch.
    ///
    /// # Shapes
    /// - images: `[batch, 3, side, side]`, normalised
    /// - output: `[batch, heads, patches]`
    pub fn class_attention(&self, images: Tensor<B, 4>) -> Tensor<B, 3> {
        let draws = Draws::default();
        let sequences = self.sequences(std::slice::from_ref(&images), &draws);
        let mut tokens = self.embed(images, None);
        let mut weights = None;
        for block in &self.blocks {
            let (next, attention) = block.forward_with_weights(tokens, sequences.rotation());
            tokens = next;
            weights = Some(attention);
        }
        let weights = weights.expect("a network has a block: checked in limits::check");
        let [batch, heads, count, _] = weights.dims();
        let patches = count - self.prefix();
        weights.slice([0..batch, 0..heads, 0..1, self.prefix()..count]).reshape([batch, heads, patches])
    }

    /// Blocks.
    pub fn depth(&self) -> usize {
        self.blocks.len()
    }

    /// Tokens of an image.
    pub(crate) fn tokens_of(&self, images: &Tensor<B, 4>) -> usize {
        self.prefix() + self.side(images).pow(2)
    }

    /// Tokens before the first patch.
    fn prefix(&self) -> usize {
        1 + self.registers
    }

    /// Patches along a side of images.
    pub(crate) fn side(&self, images: &Tensor<B, 4>) -> usize {
        images.dims()[2] / self.patch_px
    }

    /// The rotation of a grid's patches, in networks that have it.
    pub(super) fn rotation(&self, side: usize, draws: &Draws<B>, device: &B::Device) -> Option<Rotation<B>> {
        let rotation = || Rotation::new(side, self.head_width, self.prefix(), draws.rope_rescale, device);
        self.pos_embed.is_none().then(rotation)
    }

    /// The tokens after block `index`.
    pub(crate) fn block(
        &self,
        index: usize,
        tokens: Tensor<B, 3>,
        sequences: &Sequences<B>,
        draws: &Draws<B>,
    ) -> Tensor<B, 3> {
        self.blocks[index].forward(tokens, sequences, draws.keep.get(index))
    }

    /// The final norm.
    pub(super) fn finish(&self, tokens: Tensor<B, 3>, patches: bool) -> Tokens<B> {
        let [batch, count, dim] = tokens.dims();
        // LayerNorm acts on each token alone, so only those that are read need it.
        let class = tokens.clone().slice([0..batch, 0..1, 0..dim]).reshape([batch, dim]);
        let of_patches = || self.norm.forward(tokens.slice([0..batch, self.prefix()..count, 0..dim]));
        Tokens { class: self.norm.forward(class), patches: patches.then(of_patches) }
    }

    /// Class token, registers, patches: `[batch, 1 + registers + patches, dim]`. Masked patches become the mask token before
    /// positions are added; registers get no position.
    pub(super) fn embed(&self, images: Tensor<B, 4>, mask: Option<&Tensor<B, 3>>) -> Tensor<B, 3> {
        let [batch, channels, height, width] = images.dims();
        let (patch, down, across) = (self.patch_px, height / self.patch_px, width / self.patch_px);
        let patches = images
            .reshape([batch, channels, down, patch, across, patch])
            .permute([0, 2, 4, 1, 3, 5])
            .reshape([batch, down * across, channels * patch * patch]);
        let mut patches = to(linear(&self.patch_embed.proj, to(patches, self.stored)), DType::F32);
        if let (Some(mask), Some(token)) = (mask, &self.mask_token) {
            patches = patches * (mask.clone() * -1.0 + 1.0) + token.val() * mask.clone();
        }
        let class = self.cls_token.val().expand([batch as i64, -1, -1]);
        let mut tokens = Tensor::cat(vec![class, patches], 1);
        if let Some(positions) = &self.pos_embed {
            tokens = tokens + self.positions(positions.val(), down);
        }
        let Some(registers) = &self.reg_token else { return tokens };
        let [_, count, dim] = tokens.dims();
        let part = |from: usize, to: usize| tokens.clone().slice([0..batch, from..to, 0..dim]);
        let registers = registers.val().expand([batch as i64, -1, -1]);
        Tensor::cat(vec![part(0, 1), registers, part(1, count)], 1)
    }

    /// The position embedding for a grid of `side` patches: as it is, or its grid resized. The class token's is left alone.
    fn positions(&self, positions: Tensor<B, 3>, side: usize) -> Tensor<B, 3> {
        if side == self.grid {
            return positions;
        }
        let [_, count, dim] = positions.dims();
        let matrix = resize_matrix(self.grid, side, self.position_resize);
        let matrix: Tensor<B, 2> =
            Tensor::from_data(TensorData::new(matrix, [side * side, self.grid * self.grid]), &positions.device());
        let class = positions.clone().slice([0..1, 0..1, 0..dim]);
        let grid = positions.slice([0..1, 1..count, 0..dim]).reshape([count - 1, dim]);
        let grid = matrix.matmul(grid).reshape([1, side * side, dim]);
        Tensor::cat(vec![class, grid], 1)
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
        initialise(Vit::new(&config, false, &Default::default()), 5)
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
    fn last_blocks_are_normalised_class_tokens_and_the_mean_of_patches() {
        let vit = tiny();
        let (outputs, read) = (vit.block_outputs(images(2, 16)), vit.last_blocks(images(2, 16), 2));
        let class = |index: usize| vit.finish(outputs[index].clone(), false).class;
        let patches = vit.finish(outputs[2].clone(), true).patches.expect("they were asked for");
        let expected = Tensor::cat(vec![class(1), class(2), patches.mean_dim(1).reshape([2, 12])], 1);
        assert_eq!(read.dims(), [2, 36]);
        assert!((read - expected).abs().max().into_scalar() < 1e-6);
        let one = vit.last_blocks(images(2, 16), 1);
        assert_eq!(one.dims(), [2, 24]);
        assert_eq!(
            one.slice([0..2, 0..12]).into_data().to_vec::<f32>().expect("f32"),
            vit.forward(images(2, 16)).into_data().to_vec::<f32>().expect("f32"),
            "the last class token is the feature, to the bit"
        );
        assert_eq!(vit.last_blocks(images(2, 16), 9).dims(), [2, 36], "there are two blocks");
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
        let mut vit = Vit::<Flex>::new(&config, false, &device);
        let mut weight = vec![0f32; 48];
        weight[16 + 4 + 2] = 1.0;
        vit.patch_embed.proj.weight = Param::from_tensor(Tensor::from_data(TensorData::new(weight, [48, 1]), &device));
        vit.patch_embed.proj.bias = None;
        let values: Vec<f32> = (0..3 * 64).map(|i| i as f32).collect();
        let image = Tensor::from_data(TensorData::new(values, [1, 3, 8, 8]), &device);
        let tokens = vit.embed(image, None).into_data().to_vec::<f32>().expect("f32");
        // Row 1 or 5, column 2 or 6, of the green plane that starts at 64.
        assert_eq!(tokens[1..], [64.0 + 10.0, 64.0 + 14.0, 64.0 + 42.0, 64.0 + 46.0]);
    }
}
