//! The built-in descriptor: 512 values that say where colours, edges and low frequencies lie. Needs no weights.
//!
//! The image is resized to 64 x 64 (bilinear, antialiased, aspect lost). With Y, Cb, Cr as in JFIF, each over 255:
//! 1. Colour layout, 192 values: the means of Y, Cb and Cr over an 8 x 8 grid, less each channel's mean over the image;
//!    Cb and Cr count double.
//! 2. Gradient layout, 128 values: over a 4 x 4 grid, histograms of the angle of the gradient of Y (8 bins over the full
//!    turn, each pixel shared by its two nearest bins) weighted by its magnitude; square roots.
//! 3. Low frequencies, 192 values: the DCT-II of Y over 64 x 64, coefficients (u, v), u < 16, v < 12, without the constant
//!    one and with (16, 0) in its place, each divided by 1 + sqrt(u^2 + v^2) / 4.
//!
//! Each block is scaled to unit length and weighted by the square root of 0.35, 0.40 and 0.25, so that the cosine of two
//! descriptors is the weighted mean of the blocks' cosines.

use crate::Result;
use crate::embed::Encoder;
use crate::pixels::{Filter, Part, Raster, Resizer};
use crate::stage::digest_of_bytes;
use image::RgbImage;
use lapidary_schemas::Digest;
use multiversion::multiversion;
use rayon::prelude::*;
use std::sync::LazyLock;

const SIDE: usize = 64;
const COLOUR: usize = 192;
const GRADIENT: usize = 128;
const FREQUENCY: usize = 192;
/// Values of a descriptor.
pub const DIM: usize = COLOUR + GRADIENT + FREQUENCY;
const WEIGHTS: [f32; 3] = [0.35, 0.40, 0.25];
const ACROSS: usize = 17;
const DOWN: usize = 12;

/// Columns of the DCT that are computed side by side: [`ACROSS`], rounded up.
const LANES: usize = 32;

/// `COSINES[n][k] = cos(pi / 64 * (n + 1/2) * k)`.
static COSINES: LazyLock<[[f32; LANES]; SIDE]> = LazyLock::new(|| {
    std::array::from_fn(|n| {
        std::array::from_fn(|k| (std::f64::consts::PI / SIDE as f64 * (n as f64 + 0.5) * k as f64).cos() as f32)
    })
});

/// The built-in encoder, `descriptor`.
#[derive(Debug, Default)]
pub struct Descriptor;

impl Encoder for Descriptor {
    fn name(&self) -> &str {
        "descriptor"
    }

    fn digest(&self) -> Digest {
        digest_of_bytes(b"descriptor, version 1")
    }

    fn dim(&self) -> usize {
        DIM
    }

    fn encode(&mut self, images: &[RgbImage]) -> Result<Vec<f32>> {
        let described: Vec<Vec<f32>> = images.par_iter().with_max_len(1).map(describe).collect::<Result<_>>()?;
        Ok(described.concat())
    }
}

/// The descriptor of an image, 512 values, of unit length unless the image is uniform.
///
/// # Errors
/// When the image has no pixels.
pub fn describe(rgb: &RgbImage) -> Result<Vec<f32>> {
    let side = (SIDE as u32, SIDE as u32);
    let small = Resizer::default().rgb(rgb.as_raw(), rgb.dimensions(), side, Filter::Bilinear)?;
    Ok(described(small.as_chunks::<3>().0))
}

/// The same of an image whose pixels are words, with a resizer that is kept.
///
/// # Errors
/// When the image has no pixels.
pub fn describe_raster(image: &Raster, resizer: &mut Resizer) -> Result<Vec<f32>> {
    let (width, height) = (image.width(), image.height());
    let mut small = [0u8; 4 * SIDE * SIDE];
    let whole = Part { left: 0, top: 0, width, height };
    let to = (&mut small[..], (SIDE as u32, SIDE as u32));
    resizer.words((image.bytes(), (width, height)), whole, to, Filter::Bilinear)?;
    Ok(described(small.as_chunks::<4>().0))
}

/// The descriptor of the small image, whose pixels begin with red, green and blue.
fn described<const N: usize>(small: &[[u8; N]]) -> Vec<f32> {
    let planes = ycbcr_planes(small);
    let mut descriptor = Vec::with_capacity(DIM);
    let blocks = [colour_layout(&planes), gradient_layout(&planes[0]), low_frequencies(&planes[0])];
    for (block, weight) in blocks.into_iter().zip(WEIGHTS) {
        let norm = block.iter().map(|v| v * v).sum::<f32>().sqrt();
        // What is uniform to within rounding has no layout: its block stays zero instead of amplifying noise.
        let scale = if norm > 1e-3 { weight.sqrt() / norm } else { 0.0 };
        descriptor.extend(block.iter().map(|v| v * scale));
    }
    descriptor
}

/// Y, Cb and Cr of every pixel, 0 to 1.
fn ycbcr_planes<const N: usize>(pixels: &[[u8; N]]) -> [Vec<f32>; 3] {
    let [mut luma, mut blue, mut red] = [0; 3].map(|_| vec![0f32; pixels.len()]);
    let planes = luma.iter_mut().zip(&mut blue).zip(&mut red);
    for (((y, cb), cr), pixel) in planes.zip(pixels) {
        let [r, g, b] = [0, 1, 2].map(|i| f32::from(pixel[i]) / 255.0);
        *y = 0.299 * r + 0.587 * g + 0.114 * b;
        *cb = 0.5 - 0.168_736 * r - 0.331_264 * g + 0.5 * b;
        *cr = 0.5 + 0.5 * r - 0.418_688 * g - 0.081_312 * b;
    }
    [luma, blue, red]
}

fn colour_layout(planes: &[Vec<f32>; 3]) -> Vec<f32> {
    const GRID: usize = 8;
    const CELL: usize = SIDE / GRID;
    let mut layout = vec![0f32; COLOUR];
    for ((plane, cells), gain) in planes.iter().zip(layout.chunks_exact_mut(GRID * GRID)).zip([1.0, 2.0, 2.0]) {
        for (i, value) in plane.iter().enumerate() {
            cells[i / SIDE / CELL * GRID + i % SIDE / CELL] += value / (CELL * CELL) as f32;
        }
        let mean = cells.iter().sum::<f32>() / cells.len() as f32;
        cells.iter_mut().for_each(|cell| *cell = (*cell - mean) * gain);
    }
    layout
}

fn gradient_layout(luma: &[f32]) -> Vec<f32> {
    const GRID: usize = 4;
    const BINS: usize = 8;
    const CELL: usize = SIDE / GRID;
    let mut layout = vec![0f32; GRADIENT];
    for y in 1..SIDE - 1 {
        for x in 1..SIDE - 1 {
            let dx = luma[y * SIDE + x + 1] - luma[y * SIDE + x - 1];
            let dy = luma[(y + 1) * SIDE + x] - luma[(y - 1) * SIDE + x];
            // 0.5 to 1.5, of which the fraction counts.
            let turn = dy.atan2(dx) / std::f32::consts::TAU + 1.0;
            let turn = if turn >= 1.0 { turn - 1.0 } else { turn } * BINS as f32;
            let (low, share) = (turn as usize % BINS, turn.fract());
            let magnitude = dx.hypot(dy);
            let cell = (y / CELL * GRID + x / CELL) * BINS;
            layout[cell + low] += magnitude * (1.0 - share);
            layout[cell + (low + 1) % BINS] += magnitude * share;
        }
    }
    layout.iter_mut().for_each(|v| *v = v.sqrt());
    layout
}

fn low_frequencies(luma: &[f32]) -> Vec<f32> {
    let coefficients = coefficients(luma, &COSINES);
    let coefficient = |u: usize, v: usize| coefficients[v][u] / (1.0 + ((u * u + v * v) as f32).sqrt() / 4.0);
    let mut low = Vec::with_capacity(FREQUENCY);
    for v in 0..DOWN {
        for u in 0..ACROSS - 1 {
            low.push(if (u, v) == (0, 0) { coefficient(ACROSS - 1, 0) } else { coefficient(u, v) });
        }
    }
    low
}

/// The DCT of 64 x 64 values, row `v` of column `u`: all columns side by side, each sum in the order of its values.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2+fma"))]
fn coefficients(luma: &[f32], cosines: &[[f32; LANES]; SIDE]) -> [[f32; LANES]; DOWN] {
    let mut coefficients = [[0f32; LANES]; DOWN];
    for (y, row) in luma.chunks_exact(SIDE).enumerate() {
        let mut sums = [0f32; LANES];
        for (value, cosines) in row.iter().zip(cosines) {
            for u in 0..LANES {
                sums[u] += value * cosines[u];
            }
        }
        for (v, coefficients) in coefficients.iter_mut().enumerate() {
            for u in 0..LANES {
                coefficients[u] += sums[u] * cosines[y][v];
            }
        }
    }
    coefficients
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cosine(a: &RgbImage, b: &RgbImage) -> f32 {
        let (a, b) = (describe(a).expect("describes"), describe(b).expect("describes"));
        a.iter().zip(&b).map(|(x, y)| x * y).sum()
    }

    fn scene(width: u32, height: u32, turn: f32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| {
            let (x, y) = (x as f32 / width as f32, y as f32 / height as f32);
            let v = ((x * 9.0 * turn.cos() + y * 7.0 * turn.sin()).sin() * 100.0 + 128.0) as u8;
            image::Rgb([v, 255 - v, (255.0 * y) as u8])
        })
    }

    #[test]
    fn a_resized_copy_is_near_and_another_scene_is_not() {
        let original = scene(300, 200, 0.3);
        assert!((cosine(&original, &original) - 1.0).abs() < 1e-4);
        assert!(cosine(&original, &scene(150, 100, 0.3)) > 0.98);
        assert!(cosine(&original, &scene(300, 200, 1.9)) < 0.7);
    }

    #[test]
    fn pixels_as_words_have_the_descriptor_of_pixels_as_bytes() {
        let mut resizer = Resizer::default();
        for (width, height) in [(300, 200), (64, 64), (31, 90), (1, 1)] {
            let image = scene(width, height, 0.3);
            let of_words = describe_raster(&Raster::from(&image), &mut resizer).expect("describes");
            assert_eq!(of_words, describe(&image).expect("describes"), "{width} x {height}");
        }
    }

    #[test]
    fn columns_side_by_side_have_the_bits_of_each_by_itself() {
        let luma: Vec<f32> = (0..SIDE * SIDE).map(|i| ((i * 7919) % 1013) as f32 / 1013.0).collect();
        let found = coefficients(&luma, &COSINES);
        for (u, v) in (0..ACROSS).flat_map(|u| (0..DOWN).map(move |v| (u, v))) {
            let of_row = |y: usize| (0..SIDE).map(|x| luma[y * SIDE + x] * COSINES[x][u]).sum::<f32>();
            let expected = (0..SIDE).map(|y| of_row(y) * COSINES[y][v]).sum::<f32>();
            assert_eq!(found[v][u].to_bits(), expected.to_bits(), "{u} {v}");
        }
    }

    #[test]
    fn a_uniform_image_has_no_layout() {
        let gray = RgbImage::from_pixel(50, 50, image::Rgb([77; 3]));
        assert!(describe(&gray).expect("describes").iter().all(|v| v.abs() < 0.7));
        assert_eq!(describe(&gray).expect("describes").len(), DIM);
    }
}
