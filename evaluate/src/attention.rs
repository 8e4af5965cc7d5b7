//! Attention maps: where the class token of the last block looks, head by head, beside the image
//! (facebookresearch/dino visualize_attention.py; spec/pretraining.md 1.9).

use crate::Result;
use image::imageops::{FilterType, overlay, resize};
use image::{Rgb, RgbImage};
use lapidary_pipeline::pixels::resize_and_crop;
use lapidary_train::FrozenVit;
use lapidary_train::operators::Operators;

/// Side of each picture of a strip.
const SIDE_PX: u32 = 128;

/// A strip for each image: the image, the mean of all heads laid over it, then each head.
///
/// # Errors
/// When the device fails.
pub fn strips<B: Operators>(network: &FrozenVit<B>, images: &[RgbImage]) -> Result<Vec<RgbImage>> {
    let attention = network.vit.class_attention(network.pixels(images)?);
    let [count, heads, patches] = attention.dims();
    let weights = attention.into_data().convert::<f32>().to_vec::<f32>().expect("converted to f32 just before");
    let grid = (patches as f64).sqrt().round() as u32;
    let mut strips = Vec::with_capacity(count);
    for (image, weights) in images.iter().zip(weights.chunks_exact(heads * patches)) {
        let shown = resize_and_crop(image, SIDE_PX, SIDE_PX)?;
        let mean: Vec<f32> = (0..patches)
            .map(|patch| (0..heads).map(|head| weights[head * patches + patch]).sum::<f32>() / heads as f32)
            .collect();
        let mut strip = RgbImage::from_pixel((heads as u32 + 2) * (SIDE_PX + 2) - 2, SIDE_PX, Rgb([255; 3]));
        let mut place =
            |index: u32, picture: &RgbImage| overlay(&mut strip, picture, i64::from(index * (SIDE_PX + 2)), 0);
        place(0, &shown);
        place(1, &laid_over(&shown, &heat(&mean, grid)));
        for (head, weights) in weights.chunks_exact(patches).enumerate() {
            place(head as u32 + 2, &heat(weights, grid));
        }
        strips.push(strip);
    }
    Ok(strips)
}

/// Weights as colours from dark blue over orange to white, scaled to their own range, each patch a square.
fn heat(weights: &[f32], grid: u32) -> RgbImage {
    let (least, most) = weights.iter().fold((f32::MAX, f32::MIN), |(low, high), w| (low.min(*w), high.max(*w)));
    let small = RgbImage::from_fn(grid, grid, |x, y| {
        let share = (weights[(y * grid + x) as usize] - least) / (most - least).max(1e-12);
        let ramp = |from: f32| ((share - from) * 3.0).clamp(0.0, 1.0);
        Rgb([ramp(0.15), ramp(0.4), ramp(0.7) + 0.3 * (1.0 - share)].map(|c| (c.min(1.0) * 255.0) as u8))
    });
    resize(&small, SIDE_PX, SIDE_PX, FilterType::Nearest)
}

fn laid_over(image: &RgbImage, heat: &RgbImage) -> RgbImage {
    let mut mixed = image.clone();
    for (pixel, heat) in mixed.iter_mut().zip(heat.iter()) {
        *pixel = ((u16::from(*pixel) * 2 + u16::from(*heat) * 3) / 5) as u8;
    }
    mixed
}
