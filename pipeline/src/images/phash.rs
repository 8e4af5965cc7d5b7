//! The 64-bit DCT hash of an image, as `imagehash.phash` defines it.
//!
//! Luma, 32x32 by Lanczos, DCT-II, the 8x8 lowest frequencies (the constant one included), a bit for each that lies above
//! their median; row by row, the first bit the highest. Computed in ingest, where the image is decoded anyway.

use crate::pixels::{Filter, Resizer, luma};
use image::{GrayImage, RgbImage};
use std::sync::LazyLock;

const SIDE: usize = 32;
const KEPT: usize = 8;

/// `COSINES[k][n] = cos(pi / 32 * (n + 1/2) * k)`.
static COSINES: LazyLock<[[f32; SIDE]; KEPT]> = LazyLock::new(|| {
    std::array::from_fn(|k| {
        std::array::from_fn(|n| (std::f64::consts::PI / SIDE as f64 * (n as f64 + 0.5) * k as f64).cos() as f32)
    })
});

/// Luma of every pixel.
pub fn luma_of_image(rgb: &RgbImage) -> GrayImage {
    let luma = rgb.as_raw().chunks_exact(3).map(|p| luma([p[0], p[1], p[2]].map(u32::from)) as u8).collect();
    GrayImage::from_raw(rgb.width(), rgb.height(), luma).expect("luma has a byte a pixel")
}

/// The 64-bit DCT hash of an image's luma.
pub fn phash(luma: &GrayImage) -> u64 {
    phash_with(luma, &mut Resizer::default())
}

/// The same, with a resizer that is kept.
pub fn phash_with(luma: &GrayImage, resizer: &mut Resizer) -> u64 {
    let small = resizer
        .luma(luma.as_raw(), luma.dimensions(), (SIDE as u32, SIDE as u32), Filter::Lanczos3)
        .expect("luma has a byte a pixel");
    phash_of_small(&small)
}

/// The hash of 32x32 luma values.
fn phash_of_small(small: &[u8]) -> u64 {
    // Rows first: KEPT coefficients of each row; then the same down the columns.
    let mut rows = [[0f32; KEPT]; SIDE];
    for (row, pixels) in rows.iter_mut().zip(small.chunks_exact(SIDE)) {
        for (coefficient, cosines) in row.iter_mut().zip(COSINES.iter()) {
            *coefficient = pixels.iter().zip(cosines).map(|(p, c)| f32::from(*p) * c).sum();
        }
    }
    let mut low = [0f32; KEPT * KEPT];
    for (v, cosines) in COSINES.iter().enumerate() {
        for u in 0..KEPT {
            low[v * KEPT + u] = rows.iter().zip(cosines).map(|(row, c)| row[u] * c).sum();
        }
    }
    let mut sorted = low;
    sorted.sort_by(f32::total_cmp);
    let median = (sorted[31] + sorted[32]) / 2.0;
    low.iter().fold(0, |bits, value| bits << 1 | u64::from(*value > median))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gradient(width: u32, height: u32) -> GrayImage {
        GrayImage::from_fn(width, height, |x, y| {
            let (x, y) = (x as f32 / width as f32, y as f32 / height as f32);
            let wave = (x * 7.0).sin() + (y * 11.0 + 1.0).cos() * (x * 3.0).cos() + (x * y * 9.0).sin();
            image::Luma([(128.0 + 40.0 * wave) as u8])
        })
    }

    #[test]
    fn a_resized_copy_hashes_alike_and_another_image_does_not() {
        let distance = |a: u64, b: u64| (a ^ b).count_ones();
        let large = phash(&gradient(300, 200));
        assert!(distance(large, phash(&gradient(150, 100))) <= 4);
        let other = GrayImage::from_fn(300, 200, |x, y| image::Luma([((x / 9 + y / 7) % 2 * 200) as u8]));
        assert!(distance(large, phash(&other)) > 12);
    }

    #[test]
    fn luma_is_pillows() {
        let image = RgbImage::from_raw(3, 1, vec![255, 0, 0, 0, 255, 0, 0, 0, 255]).expect("3 pixels");
        assert_eq!(luma_of_image(&image).into_raw(), [76, 150, 29]);
    }
}
