//! The scale space of an image: Gaussian levels by octaves, and their differences (Lowe 2004, section 3).
//!
//! Level `l` of an octave is blurred by `BASE_SIGMA * 2^(l / SCALES)` pixels of that octave; the next octave begins
//! with every other pixel of level `SCALES`. All buffers are kept from image to image.

use multiversion::multiversion;

/// Scales an octave at which extrema are looked for.
pub(crate) const SCALES: usize = 3;
/// Gaussian levels an octave.
pub(crate) const LEVELS: usize = SCALES + 3;
/// Blur of an octave's first level, in its pixels.
pub(crate) const BASE_SIGMA: f32 = 1.6;
/// Blur that an image is taken to come with, in its pixels.
const CAMERA_SIGMA: f32 = 0.5;
/// An octave with a shorter side is not made.
const MIN_SIDE_PX: usize = 12;

/// Values over a grid, row after row.
#[derive(Debug, Clone, Default)]
pub(crate) struct Plane {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) values: Vec<f32>,
}

impl Plane {
    pub(crate) fn resize(&mut self, width: usize, height: usize) {
        (self.width, self.height) = (width, height);
        self.values.resize(width * height, 0.0);
    }

    fn row(&self, y: usize) -> &[f32] {
        &self.values[y * self.width..(y + 1) * self.width]
    }
}

/// The levels of one octave and their differences.
#[derive(Debug, Default)]
pub(crate) struct Octave {
    /// Blurred images, [`LEVELS`] of them.
    pub(crate) gaussians: [Plane; LEVELS],
    /// Level `l + 1` less level `l`.
    pub(crate) differences: [Plane; LEVELS - 1],
}

/// The octaves of one image.
#[derive(Debug, Default)]
pub(crate) struct ScaleSpace {
    octaves: Vec<Octave>,
    used: usize,
    scratch: Scratch,
}

/// Values of a row that are summed up at a time: two vectors, so that one is added to while the other waits.
const STRIP: usize = 2 * VECTOR;
const VECTOR: usize = 16;

/// What a blur works in, each with room for a strip more: an image blurred along its rows, and a row with its border.
#[derive(Debug, Default)]
struct Scratch {
    rows: Vec<f32>,
    padded: Vec<f32>,
}

impl ScaleSpace {
    /// The octaves of the image last built, the finest first.
    pub(crate) fn octaves(&self) -> &[Octave] {
        &self.octaves[..self.used]
    }

    /// Builds the scale space of an image with values from 0 to 1.
    pub(crate) fn build(&mut self, image: &Plane) {
        self.used = 0;
        let (mut width, mut height) = (image.width, image.height);
        while self.used == 0 || width.min(height) >= MIN_SIDE_PX {
            if self.octaves.len() == self.used {
                self.octaves.push(Octave::default());
            }
            let (below, rest) = self.octaves.split_at_mut(self.used);
            let octave = &mut rest[0];
            if let Some(below) = below.last() {
                halve(&below.gaussians[SCALES], &mut octave.gaussians[0]);
            } else {
                let sigma = (BASE_SIGMA * BASE_SIGMA - CAMERA_SIGMA * CAMERA_SIGMA).sqrt();
                blur(image, sigma, &mut self.scratch, &mut octave.gaussians[0], None);
            }
            for level in 1..LEVELS {
                let sigma_of = |level: usize| BASE_SIGMA * 2f32.powf(level as f32 / SCALES as f32);
                let sigma = (sigma_of(level).powi(2) - sigma_of(level - 1).powi(2)).sqrt();
                let (lower, upper) = octave.gaussians.split_at_mut(level);
                let difference = (&lower[level - 1], &mut octave.differences[level - 1]);
                blur(&lower[level - 1], sigma, &mut self.scratch, &mut upper[0], Some(difference));
            }
            self.used += 1;
            (width, height) = (width / 2, height / 2);
        }
    }
}

fn halve(from: &Plane, to: &mut Plane) {
    to.resize((from.width / 2).max(1), (from.height / 2).max(1));
    let width = to.width;
    for (y, row) in to.values.chunks_exact_mut(width).enumerate() {
        let source = from.row(2 * y);
        for (x, value) in row.iter_mut().enumerate() {
            *value = source[2 * x];
        }
    }
}

/// What is subtracted from a blurred image, and where the difference goes.
type Difference<'a> = Option<(&'a Plane, &'a mut Plane)>;

/// Half of a Gaussian cut off at three standard deviations, its middle first; the whole sums up to 1.
fn kernel_of(sigma: f32) -> Vec<f32> {
    let radius = (3.0 * sigma).ceil() as usize;
    let mut kernel: Vec<f32> = (0..=radius).map(|i| (-(i as f32).powi(2) / (2.0 * sigma * sigma)).exp()).collect();
    let total = kernel[0] + 2.0 * kernel[1..].iter().sum::<f32>();
    kernel.iter_mut().for_each(|weight| *weight /= total);
    kernel
}

/// Blurs by a Gaussian; the border repeats. A difference is taken of each row while it is in the cache.
fn blur(from: &Plane, sigma: f32, scratch: &mut Scratch, to: &mut Plane, mut difference: Difference<'_>) {
    let kernel = kernel_of(sigma);
    to.resize(from.width, from.height);
    if let Some((_, difference)) = &mut difference {
        difference.resize(from.width, from.height);
    }
    // What is read beyond the last row's end is not used.
    scratch.rows.resize(from.values.len() + STRIP, 0.0);
    scratch.padded.resize(from.width + 2 * kernel.len() + STRIP, 0.0);
    blur_plane(from, &kernel, scratch, to, difference);
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2+fma"))]
fn blur_plane(from: &Plane, kernel: &[f32], scratch: &mut Scratch, to: &mut Plane, difference: Difference<'_>) {
    let (Scratch { rows, padded }, mut difference) = (scratch, difference);
    let (width, height, radius) = (from.width, from.height, kernel.len() - 1);
    for y in 0..height {
        let row = from.row(y);
        padded[..radius].fill(row[0]);
        padded[radius..radius + width].copy_from_slice(row);
        padded[radius + width..2 * radius + width].fill(row[width - 1]);
        let taps = |i: usize| (radius - i, radius + i);
        blur_row(padded, kernel, taps, &mut rows[y * width..(y + 1) * width]);
    }
    for y in 0..height {
        let taps = |i: usize| (y.saturating_sub(i) * width, (y + i).min(height - 1) * width);
        let target = &mut to.values[y * width..(y + 1) * width];
        blur_row(rows, kernel, taps, target);
        if let Some((lower, difference)) = &mut difference {
            let difference = &mut difference.values[y * width..(y + 1) * width];
            for ((value, upper), lower) in difference.iter_mut().zip(&*target).zip(lower.row(y)) {
                *value = upper - lower;
            }
        }
    }
}

/// One row of a blur: `taps(i)` says where the values of weight `i` begin on either side. A strip of the row is summed up in
/// registers, tap after tap; each value's sum runs in the order of the taps.
#[inline(always)]
fn blur_row(values: &[f32], kernel: &[f32], taps: impl Fn(usize) -> (usize, usize), target: &mut [f32]) {
    for (number, out) in target.chunks_mut(STRIP).enumerate() {
        let vector = |start: usize| -> &[f32; VECTOR] {
            values[start + number * STRIP..][..VECTOR].try_into().expect("a vector's length")
        };
        let centre = taps(0).0;
        let mut first = vector(centre).map(|value| kernel[0] * value);
        let mut second = vector(centre + VECTOR).map(|value| kernel[0] * value);
        for (i, weight) in kernel.iter().enumerate().skip(1) {
            let (one, other) = taps(i);
            add_taps(&mut first, *weight, vector(one), vector(other));
            add_taps(&mut second, *weight, vector(one + VECTOR), vector(other + VECTOR));
        }
        if let Some((to_first, to_second)) = out.split_first_chunk_mut::<VECTOR>()
            && let Ok(to_second) = <&mut [f32; VECTOR]>::try_from(to_second)
        {
            (*to_first, *to_second) = (first, second);
        } else {
            let sums = first.into_iter().chain(second);
            out.iter_mut().zip(sums).for_each(|(to, sum)| *to = sum);
        }
    }
}

/// Adds a weight's two values to the sums of a vector.
#[inline(always)]
fn add_taps(sums: &mut [f32; VECTOR], weight: f32, one: &[f32; VECTOR], other: &[f32; VECTOR]) {
    for x in 0..VECTOR {
        sums[x] += weight * (one[x] + other[x]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blur_keeps_the_sum_and_spreads_by_its_sigma() {
        let mut spot = Plane::default();
        spot.resize(41, 31);
        spot.values[15 * 41 + 20] = 1.0;
        let mut blurred = Plane::default();
        blur(&spot, 2.0, &mut Scratch::default(), &mut blurred, None);
        assert!((blurred.values.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        let variance: f32 = blurred.values.iter().enumerate().map(|(i, v)| v * ((i % 41) as f32 - 20.0).powi(2)).sum();
        assert!((variance.sqrt() - 2.0).abs() < 0.05, "{variance}");
    }

    /// The blur as it is written down: along rows, then down columns, taps from the middle outwards.
    fn blur_reference(from: &Plane, sigma: f32) -> Plane {
        let kernel = kernel_of(sigma);
        let along = |plane: &Plane, dx: usize, dy: usize| {
            let place = |v: usize, step: isize, side: usize| (v as isize + step).clamp(0, side as isize - 1) as usize;
            let mut to = Plane::default();
            to.resize(plane.width, plane.height);
            for (at, value) in to.values.iter_mut().enumerate() {
                let (x, y) = (at % plane.width, at / plane.width);
                let tap = |i: isize| {
                    let (x, y) = (place(x, i * dx as isize, plane.width), place(y, i * dy as isize, plane.height));
                    plane.values[y * plane.width + x]
                };
                *value = kernel[0] * tap(0);
                for (i, weight) in (0..).zip(&kernel).skip(1) {
                    *value += weight * (tap(-i) + tap(i));
                }
            }
            to
        };
        along(&along(from, 1, 0), 0, 1)
    }

    #[test]
    fn strips_in_registers_have_the_bits_of_the_plain_blur() {
        let mut scratch = Scratch::default();
        // Narrower than a strip, as wide as two, wider than those; lower than the kernel is wide.
        for (width, height) in [(5, 70), (64, 9), (77, 31), (1, 1)] {
            let mut plane = Plane::default();
            plane.resize(width, height);
            let value = |i: usize| ((i * 7919) % 1013) as f32 / 1013.0;
            plane.values.iter_mut().enumerate().for_each(|(i, v)| *v = value(i));
            let (mut blurred, mut difference) = (Plane::default(), Plane::default());
            for sigma in [1.2262735, 3.0899] {
                blur(&plane, sigma, &mut scratch, &mut blurred, Some((&plane, &mut difference)));
                let expected = blur_reference(&plane, sigma);
                for (i, value) in expected.values.iter().enumerate() {
                    assert_eq!(blurred.values[i].to_bits(), value.to_bits(), "{width} x {height}, {i}");
                    assert_eq!(difference.values[i].to_bits(), (value - plane.values[i]).to_bits());
                }
            }
        }
    }

    #[test]
    fn octaves_halve_until_they_are_too_small() {
        let mut image = Plane::default();
        image.resize(100, 60);
        let mut space = ScaleSpace::default();
        space.build(&image);
        let sizes: Vec<usize> = space.octaves().iter().map(|o| o.gaussians[0].height).collect();
        assert_eq!(sizes, [60, 30, 15]);
    }
}
