//! Images of several sizes shown to a network at once (sequence packing: Oquab et al. 2023, section 5). Their tokens lie one after
//! another as the rows of a batch of one, `[1, rows, dim]`, so that whatever acts on each token alone acts on all of them in
//! one launch; attention and rotary positions alone are told where a sequence ends. Images of one size lie as they do
//! elsewhere, `[batch, tokens, dim]`, and are computed by the same operations to the bit.

use super::rope::Rotation;
use super::vit::{Draws, Tokens, Vit};
use crate::operators::{self, Group, Operators, Packing};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

/// How the tokens of a pass lie.
#[derive(Debug, Clone)]
pub(crate) struct Sequences<B: Backend> {
    /// A group for each size.
    packing: Packing,
    /// One for each size, in networks with rotary positions.
    rotations: Vec<Rotation<B>>,
}

impl<B: Operators> Sequences<B> {
    fn are_packed(&self) -> bool {
        self.packing.groups().len() > 1
    }

    /// The rotation of images of one size, in networks that have it.
    pub(super) fn rotation(&self) -> Option<&Rotation<B>> {
        self.rotations.first()
    }

    /// The tokens of each size.
    ///
    /// # Shapes
    /// - tokens: `[1, rows, width]`, or `[batch, tokens, width]` of one size
    /// - returns: `[images, tokens, width]` of each
    fn split(&self, tokens: Tensor<B, 3>) -> Vec<Tensor<B, 3>> {
        if !self.are_packed() {
            return vec![tokens];
        }
        let width = tokens.dims()[2];
        let of_size = |(rows, Group { sequences, tokens: count })| {
            tokens.clone().slice([0..1, rows, 0..width]).reshape([sequences, count, width])
        };
        self.packing.ranges().map(of_size).collect()
    }

    /// Queries, keys and values with what turns them applied to those of each size; as they are, without rotary positions.
    pub(super) fn rotate(
        &self,
        qkv: Tensor<B, 3>,
        turn: impl Fn(Tensor<B, 3>, &Rotation<B>) -> Tensor<B, 3>,
    ) -> Tensor<B, 3> {
        if self.rotations.is_empty() {
            return qkv;
        }
        let turned = self.split(qkv).into_iter().zip(&self.rotations).map(|(qkv, rotation)| turn(qkv, rotation));
        join(turned.collect())
    }

    /// Attention of each sequence by itself; shapes are those of [`operators::attention`], with all rows in a batch of one where
    /// sequences are packed.
    pub(super) fn attention(&self, qkv: Tensor<B, 3>, heads: usize) -> Tensor<B, 3> {
        if !self.are_packed() {
            return operators::attention(qkv, heads);
        }
        let [_, rows, all] = qkv.dims();
        operators::packed_attention(qkv.reshape([rows, all]), &self.packing, heads).reshape([1, rows, all / 3])
    }
}

/// The tokens of several sizes one after another, `[1, rows, width]`; those of one size as they are.
fn join<B: Operators>(mut sizes: Vec<Tensor<B, 3>>) -> Tensor<B, 3> {
    if sizes.len() == 1 {
        return sizes.swap_remove(0);
    }
    let rows = sizes.into_iter().map(|tokens| {
        let [sequences, count, width] = tokens.dims();
        tokens.reshape([1, sequences * count, width])
    });
    Tensor::cat(rows.collect(), 1)
}

/// Images of several sizes, `[batch, 3, side, side]` each, normalised.
impl<B: Operators> Vit<B> {
    /// How their tokens lie.
    pub(crate) fn sequences(&self, images: &[Tensor<B, 4>], draws: &Draws<B>) -> Sequences<B> {
        let group = |images: &Tensor<B, 4>| Group { sequences: images.dims()[0], tokens: self.tokens_of(images) };
        let rotation = |images: &Tensor<B, 4>| self.rotation(self.side(images), draws, &images.device());
        Sequences {
            packing: Packing::new(images.iter().map(group)),
            rotations: images.iter().filter_map(rotation).collect(),
        }
    }

    /// Their tokens before the first block.
    pub(crate) fn embed_sizes(&self, images: Vec<Tensor<B, 4>>, draws: &Draws<B>) -> Tensor<B, 3> {
        let of_size = |(index, images)| self.embed(images, draws.masks.get(index).and_then(Option::as_ref));
        join(images.into_iter().enumerate().map(of_size).collect())
    }

    /// The final norm: the class tokens of each size, and the patches of those of which they are asked for.
    pub(crate) fn finish_sizes(
        &self,
        tokens: Tensor<B, 3>,
        sequences: &Sequences<B>,
        patches: &[bool],
    ) -> Vec<Tokens<B>> {
        let sizes = sequences.split(tokens).into_iter().zip(patches);
        sizes.map(|(tokens, patches)| self.finish(tokens, *patches)).collect()
    }

    /// The class token and, where they are asked for, the patches after the final norm, of each size.
    pub(crate) fn tokens_of_sizes(
        &self,
        images: Vec<Tensor<B, 4>>,
        draws: &Draws<B>,
        patches: &[bool],
    ) -> Vec<Tokens<B>> {
        let sequences = self.sequences(&images, draws);
        let mut tokens = self.embed_sizes(images, draws);
        for index in 0..self.depth() {
            tokens = self.block(index, tokens, &sequences, draws);
        }
        self.finish_sizes(tokens, &sequences, patches)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::initialise;
    use burn::tensor::TensorData;
    use burn_flex::Flex;
    use lapidary_schemas::config::{FeedForward, ModelConfig, Positions};

    fn images(batch: usize, side: usize) -> Tensor<Flex, 4> {
        let values: Vec<f32> = (0..batch * 3 * side * side).map(|i| (i as f32 * 0.37).sin()).collect();
        Tensor::from_data(TensorData::new(values, [batch, 3, side, side]), &Default::default())
    }

    fn mask(batch: usize, patches: usize) -> Tensor<Flex, 3> {
        let values: Vec<f32> = (0..batch * patches).map(|at| f32::from(u8::from(at % 3 == 0))).collect();
        Tensor::from_data(TensorData::new(values, [batch, patches, 1]), &Default::default())
    }

    #[test]
    fn a_size_among_others_is_what_it_is_alone() {
        let learned = ModelConfig {
            image_px: 16,
            patch_px: 4,
            dim: 24,
            depth: 2,
            heads: 2,
            mlp_ratio: 3,
            registers: 2,
            layer_scale: 0.3,
            ..ModelConfig::default()
        };
        let rotary = ModelConfig { positions: Positions::Rope, feed_forward: FeedForward::Swiglu, ..learned.clone() };
        for config in [learned, rotary] {
            let vit = initialise(Vit::<Flex>::new(&config, true, &Default::default()), 5);
            let shown = || vec![images(3, 8), images(2, 16), images(1, 24)];
            let masks = vec![None, Some(mask(2, 16)), None];
            let draws = Draws { masks: masks.clone(), rope_rescale: 1.2, ..Draws::default() };
            let packed = vit.tokens_of_sizes(shown(), &draws, &[true, true, false]);
            assert_eq!(packed.len(), 3);
            let asked = [true, true, false];
            for (((images, mask), patches), found) in shown().into_iter().zip(masks).zip(asked).zip(packed) {
                let draws = Draws { masks: vec![mask], rope_rescale: 1.2, ..Draws::default() };
                let alone = vit.tokens(images, &draws, patches);
                let near = |found: Tensor<Flex, 1>, alone: Tensor<Flex, 1>| {
                    assert_eq!(found.dims(), alone.dims());
                    let off = (found - alone).abs().max().into_scalar();
                    assert!(off < 1e-5, "{:?}: {off}", config.positions);
                };
                near(found.class.flatten(0, 1), alone.class.flatten(0, 1));
                assert_eq!(found.patches.is_some(), patches);
                if let (Some(found), Some(alone)) = (found.patches, alone.patches) {
                    near(found.flatten(0, 2), alone.flatten(0, 2));
                }
            }
        }
    }
}
