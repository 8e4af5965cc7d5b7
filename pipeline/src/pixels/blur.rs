//! Gaussian blur as Pillow approximates it: three passes of an extended box filter along rows, then along columns.
//!
//! The box's fractional radius is chosen so that three passes have the Gaussian's variance (Gwosdek et al. 2011, eq. 7);
//! beyond the edge the edge's value goes on; every pass rounds to 8 bits.

use image::RgbImage;

const PASSES: usize = 3;

/// Blurs by a Gaussian of standard deviation `radius_px`.
pub(super) fn gaussian(rgb: &mut RgbImage, radius_px: f32) {
    let radius = box_radius(radius_px);
    if radius <= 0.0 {
        return;
    }
    let (width, height) = (rgb.width() as usize, rgb.height() as usize);
    let filter = BoxFilter::new(radius);
    let (mut line, mut out) = (vec![[0u8; 3]; width.max(height)], vec![[0u8; 3]; width.max(height)]);
    let pixels: &mut [u8] = rgb;
    let mut blur_line = |first: usize, stride: usize, len: usize| {
        for (i, pixel) in line[..len].iter_mut().enumerate() {
            let at = (first + i * stride) * 3;
            pixel.copy_from_slice(&pixels[at..at + 3]);
        }
        for _ in 0..PASSES {
            filter.pass(&line[..len], &mut out[..len]);
            std::mem::swap(&mut line, &mut out);
        }
        for (i, pixel) in line[..len].iter().enumerate() {
            let at = (first + i * stride) * 3;
            pixels[at..at + 3].copy_from_slice(pixel);
        }
    };
    (0..height).for_each(|y| blur_line(y * width, 1, width));
    (0..width).for_each(|x| blur_line(x, width, height));
}

/// Radius of the extended box whose three passes have variance `sigma^2`.
fn box_radius(sigma: f32) -> f32 {
    let variance = sigma * sigma / PASSES as f32;
    let whole = (((12.0 * variance + 1.0).sqrt() - 1.0) / 2.0).floor();
    let edge = (2.0 * whole + 1.0) * (whole * (whole + 1.0) - 3.0 * variance);
    whole + edge / (6.0 * (variance - (whole + 1.0) * (whole + 1.0)))
}

/// A box of `2 * whole + 1` values with a lighter one at each end, in 24-bit fixed point.
struct BoxFilter {
    whole: usize,
    weight: u32,
    edge_weight: u32,
}

impl BoxFilter {
    fn new(radius: f32) -> Self {
        const ONE: u32 = 1 << 24;
        let whole = radius as usize;
        let weight = (ONE as f32 / (radius * 2.0 + 1.0)) as u32;
        Self { whole, weight, edge_weight: (ONE - (whole as u32 * 2 + 1) * weight) / 2 }
    }

    fn pass(&self, line: &[[u8; 3]], out: &mut [[u8; 3]]) {
        let last = line.len() as isize - 1;
        let at = |i: isize| line[i.clamp(0, last) as usize].map(u32::from);
        let reach = self.whole as isize;
        let mut sums = [0u32; 3];
        for i in -reach..=reach {
            let value = at(i);
            (0..3).for_each(|c| sums[c] += value[c]);
        }
        for (i, out) in out.iter_mut().enumerate() {
            let i = i as isize;
            let (left, right) = (at(i - reach - 1), at(i + reach + 1));
            *out = std::array::from_fn(|c| {
                let exact = sums[c] * self.weight + (left[c] + right[c]) * self.edge_weight;
                ((exact + (1 << 23)) >> 24) as u8
            });
            let leaving = at(i - reach);
            (0..3).for_each(|c| sums[c] = sums[c] + right[c] - leaving[c]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uniform_image_stays_and_an_impulse_spreads_with_the_right_variance() {
        let mut uniform = RgbImage::from_pixel(9, 7, image::Rgb([10, 200, 77]));
        let before = uniform.clone();
        gaussian(&mut uniform, 1.3);
        assert_eq!(uniform, before);

        let sigma = 2.0f64;
        let mut edge = RgbImage::from_fn(64, 3, |x, _| image::Rgb([if x < 32 { 0 } else { 255 }; 3]));
        gaussian(&mut edge, sigma as f32);
        // The derivative of a blurred edge is the kernel.
        let row: Vec<f64> = (0..64).map(|x| f64::from(edge.get_pixel(x, 1).0[0])).collect();
        let kernel: Vec<f64> = row.windows(2).map(|w| (w[1] - w[0]) / 255.0).collect();
        let mean: f64 = kernel.iter().enumerate().map(|(i, k)| i as f64 * k).sum();
        let variance: f64 = kernel.iter().enumerate().map(|(i, k)| (i as f64 - mean).powi(2) * k).sum();
        assert!((variance - sigma * sigma).abs() < 0.25, "{variance}");
    }
}
