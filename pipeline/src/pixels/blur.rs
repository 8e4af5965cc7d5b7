//! Gaussian blur, as Pillow approximates it and as torchvision computes it.
//!
//! Pillow's filters columns, a vector of them at a time: rows are blurred by transposing the image, filtering its columns and
//! transposing it back.

use super::raster::Raster;
use multiversion::multiversion;

/// Buffers that blurs work in, kept from view to view.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    transposed: Vec<u32>,
    out: Vec<u32>,
    sums: Vec<u32>,
    rows: Vec<f32>,
}

/// Passes of the box filter.
const PASSES: f32 = 3.0;

/// Blurs by a Gaussian of standard deviation `radius_px` as Pillow does: three passes of an extended box filter along
/// rows, then along columns.
///
/// The box's fractional radius is chosen so that three passes have the Gaussian's variance (Gwosdek et al. 2011, eq. 7);
/// beyond the edge the edge's value goes on; every pass rounds to 8 bits.
pub(super) fn box_gaussian(image: &mut Raster, radius_px: f32, scratch: &mut Scratch) {
    let radius = box_radius(radius_px);
    if radius <= 0.0 {
        return;
    }
    let filter = BoxFilter::new(radius);
    let (width, height) = (image.width() as usize, image.height() as usize);
    let Scratch { transposed, out, sums, .. } = scratch;
    transposed.resize(width * height, 0);
    out.resize(width * height, 0);
    transpose(image.pixels(), width, transposed);
    // Three passes end in the other buffer.
    filter.pass(transposed, height, out, sums);
    filter.pass(out, height, transposed, sums);
    filter.pass(transposed, height, out, sums);
    transpose(out, height, transposed);
    filter.pass(transposed, width, out, sums);
    filter.pass(out, width, transposed, sums);
    filter.pass(transposed, width, image.pixels_mut(), sums);
}

/// Writes the columns of an image as rows.
fn transpose(pixels: &[u32], width: usize, out: &mut [u32]) {
    const TILE: usize = 8;
    let height = pixels.len() / width;
    let (tiled_width, tiled_height) = (width / TILE * TILE, height / TILE * TILE);
    for top in (0..tiled_height).step_by(TILE) {
        for left in (0..tiled_width).step_by(TILE) {
            let mut tile = [[0u32; TILE]; TILE];
            for (y, row) in tile.iter_mut().enumerate() {
                row.copy_from_slice(&pixels[(top + y) * width + left..][..TILE]);
            }
            for x in 0..TILE {
                let column: [u32; TILE] = std::array::from_fn(|y| tile[y][x]);
                out[(left + x) * height + top..][..TILE].copy_from_slice(&column);
            }
        }
    }
    // What no tile covers, right and below.
    for y in 0..height {
        for x in (if y < tiled_height { tiled_width } else { 0 })..width {
            out[x * height + y] = pixels[y * width + x];
        }
    }
}

/// Radius of the extended box whose three passes have variance `sigma^2`.
fn box_radius(sigma: f32) -> f32 {
    let variance = sigma * sigma / PASSES;
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

    /// Filters every column of `pixels` into `out`.
    fn pass(&self, pixels: &[u32], width: usize, out: &mut [u32], sums: &mut Vec<u32>) {
        let last = pixels.len() / width - 1;
        let row = |y: isize| {
            let y = y.clamp(0, last as isize) as usize;
            bytemuck::cast_slice::<u32, u8>(&pixels[y * width..(y + 1) * width])
        };
        sums.clear();
        sums.resize(4 * width, 0);
        let reach = self.whole as isize;
        for y in -reach..=reach {
            sums.iter_mut().zip(row(y)).for_each(|(sum, value)| *sum += u32::from(*value));
        }
        for (y, out) in out.chunks_exact_mut(width).enumerate() {
            let y = y as isize;
            let around = [row(y - reach - 1), row(y - reach), row(y + reach + 1)];
            row_of_box(around, sums, bytemuck::cast_slice_mut(out), self.weight, self.edge_weight);
        }
    }
}

/// One row of a pass: `around` are the rows of the left edge weight, of the value that leaves the box next, and of the
/// right edge weight, which is also the value that comes in next.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2"))]
fn row_of_box(around: [&[u8]; 3], sums: &mut [u32], out: &mut [u8], weight: u32, edge_weight: u32) {
    let [before, leaving, after] = around.map(|row| &row[..out.len()]);
    let sums = &mut sums[..out.len()];
    for i in 0..out.len() {
        let edges = u32::from(before[i]) + u32::from(after[i]);
        let exact = sums[i] * weight + edges * edge_weight;
        out[i] = ((exact + (1 << 23)) >> 24) as u8;
        sums[i] = sums[i] + u32::from(after[i]) - u32::from(leaving[i]);
    }
}

/// The weights of one pass of Pillow's blur at distances of 0, 1, 2, ... pixels; of three passes along rows and three along
/// columns, each rounded.
pub fn box_taps(radius_px: f32) -> Vec<f32> {
    let filter = BoxFilter::new(box_radius(radius_px));
    let share = |weight: u32| weight as f32 / (1 << 24) as f32;
    let mut taps = vec![share(filter.weight); filter.whole + 1];
    taps.push(share(filter.edge_weight));
    taps
}

/// The weights of torchvision's blur at distances of 0 to 4 pixels: one pass along rows, one along columns, rounded at the
/// end.
pub fn kernel_taps(radius_px: f32) -> Vec<f32> {
    kernel(radius_px)[KERNEL / 2..].to_vec()
}

const KERNEL: usize = 9;

/// Blurs by a Gaussian of standard deviation `radius_px` as torchvision's `gaussian_blur` does with a kernel of 9: the
/// kernel is cut at 4 pixels and normalised, pixels beyond the edge are mirrored, and the result is rounded once.
pub(super) fn kernel_gaussian(image: &mut Raster, radius_px: f32, scratch: &mut Scratch) {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let kernel = kernel(radius_px);
    let rows = &mut scratch.rows;
    rows.clear();
    for row in image.bytes().chunks_exact(4 * width) {
        for x in 0..width {
            let taps: [usize; KERNEL] = std::array::from_fn(|k| 4 * mirrored(x + k, width));
            rows.extend((0..4).map(|c| (0..KERNEL).map(|k| kernel[k] * f32::from(row[taps[k] + c])).sum::<f32>()));
        }
    }
    for (y, out) in image.bytes_mut().chunks_exact_mut(4 * width).enumerate() {
        let taps: [&[f32]; KERNEL] = std::array::from_fn(|k| {
            let y = mirrored(y + k, height);
            &rows[4 * width * y..4 * width * (y + 1)]
        });
        for (i, out) in out.iter_mut().enumerate() {
            let value: f32 = (0..KERNEL).map(|k| kernel[k] * taps[k][i]).sum();
            *out = value.round_ties_even().clamp(0.0, 255.0) as u8;
        }
    }
}

/// The index that `at - KERNEL / 2` stands for: mirrored at both ends, which are not repeated.
fn mirrored(at: usize, len: usize) -> usize {
    let period = 2 * (len as isize - 1).max(1);
    let at = (at as isize - (KERNEL / 2) as isize).rem_euclid(period);
    at.min(period - at).min(len as isize - 1) as usize
}

/// Weights at -4 to 4, which sum to 1.
fn kernel(sigma: f32) -> [f32; KERNEL] {
    let weights: [f32; KERNEL] = std::array::from_fn(|i| {
        let x = i as f32 - (KERNEL / 2) as f32;
        (-0.5 * (x / sigma).powi(2)).exp()
    });
    let sum: f32 = weights.iter().sum();
    weights.map(|w| w / sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::RgbImage;

    fn blurred(image: &RgbImage, radius_px: f32, blur: fn(&mut Raster, f32, &mut Scratch)) -> RgbImage {
        let mut raster = Raster::from(image);
        blur(&mut raster, radius_px, &mut Scratch::default());
        raster.to_rgb()
    }

    #[test]
    fn a_uniform_image_stays_and_an_edge_spreads_with_the_right_variance() {
        for blur in [box_gaussian, kernel_gaussian] {
            let uniform = RgbImage::from_pixel(9, 7, image::Rgb([10, 200, 77]));
            assert_eq!(blurred(&uniform, 1.3, blur), uniform);
            let sigma = 1.5f64;
            let edge = RgbImage::from_fn(64, 6, |x, _| image::Rgb([if x < 32 { 0 } else { 255 }; 3]));
            let blurred = blurred(&edge, sigma as f32, blur);
            // The derivative of a blurred edge is the kernel.
            let row: Vec<f64> = (0..64).map(|x| f64::from(blurred.get_pixel(x, 1).0[0])).collect();
            let kernel: Vec<f64> = row.windows(2).map(|w| (w[1] - w[0]) / 255.0).collect();
            let mean: f64 = kernel.iter().enumerate().map(|(i, k)| i as f64 * k).sum();
            let variance: f64 = kernel.iter().enumerate().map(|(i, k)| (i as f64 - mean).powi(2) * k).sum();
            assert!((variance - sigma * sigma).abs() < 0.25, "{variance}");
        }
    }

    #[test]
    fn mirrored_indices_stay_inside() {
        assert_eq!((0..9).map(|at| mirrored(at, 5)).collect::<Vec<_>>(), [4, 3, 2, 1, 0, 1, 2, 3, 4]);
        assert!((0..9).all(|at| mirrored(at, 1) == 0 && mirrored(at, 2) < 2));
    }

    #[test]
    fn transposing_twice_changes_nothing() {
        let pixels: Vec<u32> = (0..37 * 21).collect();
        let (mut once, mut twice) = (vec![0; pixels.len()], vec![0; pixels.len()]);
        transpose(&pixels, 37, &mut once);
        assert_eq!((once[0], once[1], once[21]), (0, 37, 1));
        transpose(&once, 21, &mut twice);
        assert_eq!(twice, pixels);
    }
}
