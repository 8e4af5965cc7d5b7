//! Attention maps: where the class token of the last block looks, head by head, beside the image
//! (facebookresearch/dino visualize_attention.py; spec/pretraining.md 1.9).

use super::Shown;
use super::attention::{ClassAttention, mass_mask};
use super::canvas::{Canvas, heat, laid_over, masked, scaled};
use crate::Result;
use image::RgbImage;
use lapidary_train::FrozenVit;
use lapidary_train::operators::Operators;

/// Side of each picture of a strip.
const SIDE_PX: u32 = 128;

/// A strip for each view. Above: its picture, the mean of all heads laid over it, then each head. Below: the picture under the mask
/// of what holds `mass` of the mean, then of each head.
///
/// # Errors
/// When the user interrupts.
pub(super) fn strips<B: Operators>(network: &FrozenVit<B>, shown: &[Shown], mass: f64) -> Result<Vec<RgbImage>> {
    let attention = ClassAttention::of(network, shown.iter().map(|shown| &shown.view))?;
    let grid = attention.grid as u32;
    let strips = shown.iter().enumerate().map(|(index, shown)| {
        let picture = scaled(&shown.picture, SIDE_PX);
        let mean = attention.mean(index);
        let mut strip = Canvas::new(attention.heads as u32 + 2, 2, SIDE_PX);
        strip.place(0, 0, &picture);
        strip.place(1, 0, &laid_over(&picture, &heat(&mean, grid, SIDE_PX)));
        strip.place(1, 1, &masked(&picture, &mass_mask(&mean, mass), grid));
        for (column, weights) in (2..).zip(attention.of_view(index)) {
            strip.place(column, 0, &heat(weights, grid, SIDE_PX));
            strip.place(column, 1, &masked(&picture, &mass_mask(weights, mass), grid));
        }
        strip.image
    });
    Ok(strips.collect())
}
