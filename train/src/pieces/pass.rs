//! What the student is shown at once: the views of one size, or those of all sizes packed.

use super::forward::{Inputs, Remembered};
use crate::draws::ShownSize;
use crate::model::{Draws, Tokens, Vit};
use crate::operators::{Operators, TrainBackend};
use burn::module::AutodiffModule;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use std::ops::Range;

/// A pass of the student.
pub(super) struct Pass<B: TrainBackend> {
    /// What it made of each size.
    pub(super) sizes: Vec<Size<B>>,
    /// Each block's input and the last one's output, where they are remembered.
    pub(super) block_inputs: Vec<Tensor<B::InnerBackend, 3>>,
}

/// What the student made of the views of one size.
pub(super) struct Size<B: Backend> {
    /// Groups, as places in the batch's list.
    pub(super) places: Vec<usize>,
    /// Tokens of all their views, in that order.
    pub(super) tokens: Tokens<B>,
}

impl<B: Backend> AsRef<[usize]> for Size<B> {
    fn as_ref(&self) -> &[usize] {
        &self.places
    }
}

impl<B: TrainBackend> Pass<B> {
    /// Shows the student some images' views of some sizes.
    pub(super) fn see(
        student: &Vit<B>,
        inputs: Inputs<'_, B::InnerBackend>,
        sizes: Vec<Vec<usize>>,
        images: &Range<usize>,
        remembered: Remembered,
    ) -> Self {
        let reads_patches: Vec<bool> = sizes.iter().map(|places| inputs.reads_patches(places)).collect();
        let pixels: Vec<_> = sizes.iter().map(|places| inputs.pixels(places, images)).collect();
        if remembered == Remembered::Graph {
            let pixels: Vec<_> = pixels.into_iter().map(Tensor::<B, 4>::from_inner).collect();
            let draws = drawn(student, inputs, &sizes, &pixels, images);
            let tokens = student.tokens_of_sizes(pixels, &draws, &reads_patches);
            return Self::of(sizes, tokens, Vec::new());
        }
        let student = student.valid();
        let draws = drawn(&student, inputs, &sizes, &pixels, images);
        let sequences = student.sequences(&pixels, &draws);
        let mut tokens = student.embed_sizes(pixels, &draws);
        let mut block_inputs = Vec::new();
        for index in 0..student.depth() {
            if remembered == Remembered::BlockInputs {
                block_inputs.push(tokens.clone());
            }
            tokens = student.block(index, tokens, &sequences, &draws);
        }
        if remembered == Remembered::BlockInputs {
            block_inputs.push(tokens.clone());
        }
        let tokens = student.finish_sizes(tokens, &sequences, &reads_patches).into_iter();
        let tokens = tokens.map(|Tokens { class, patches }| Tokens {
            class: Tensor::from_inner(class),
            patches: patches.map(Tensor::from_inner),
        });
        Self::of(sizes, tokens.collect(), block_inputs)
    }

    fn of(sizes: Vec<Vec<usize>>, tokens: Vec<Tokens<B>>, block_inputs: Vec<Tensor<B::InnerBackend, 3>>) -> Self {
        let sizes = sizes.into_iter().zip(tokens).map(|(places, tokens)| Size { places, tokens }).collect();
        Self { sizes, block_inputs }
    }
}

/// What a pass leaves to chance, for some images' views of some sizes, whose pixels are `[views, 3, size_px, size_px]` each.
pub(super) fn drawn<B: Operators>(
    network: &Vit<B>,
    inputs: Inputs<'_, B::Inner>,
    sizes: &[impl AsRef<[usize]>],
    pixels: &[Tensor<B, 4>],
    images: &Range<usize>,
) -> Draws<B> {
    let shown: Vec<ShownSize<'_>> = sizes
        .iter()
        .zip(pixels)
        .map(|(places, pixels)| ShownSize {
            places: places.as_ref(),
            patches: network.side(pixels).pow(2),
            tokens: network.tokens_of(pixels),
        })
        .collect();
    inputs.draws.of(&shown, images, inputs.device)
}
