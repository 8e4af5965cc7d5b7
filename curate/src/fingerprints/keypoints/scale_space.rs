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
    rows: Plane,
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
                blur(image, sigma, &mut self.rows, &mut self.padded, &mut octave.gaussians[0]);
            }
            for level in 1..LEVELS {
                let sigma_of = |level: usize| BASE_SIGMA * 2f32.powf(level as f32 / SCALES as f32);
                let sigma = (sigma_of(level).powi(2) - sigma_of(level - 1).powi(2)).sqrt();
                let (lower, upper) = octave.gaussians.split_at_mut(level);
                blur(&lower[level - 1], sigma, &mut self.rows, &mut self.padded, &mut upper[0]);
                subtract(&upper[0], &lower[level - 1], &mut octave.differences[level - 1]);
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

fn subtract(upper: &Plane, lower: &Plane, to: &mut Plane) {
    to.resize(upper.width, upper.height);
    for ((value, u), l) in to.values.iter_mut().zip(&upper.values).zip(&lower.values) {
        *value = u - l;
    }
}

/// Blurs by a Gaussian cut off at three standard deviations; the border repeats.
fn blur(from: &Plane, sigma: f32, rows: &mut Plane, padded: &mut Vec<f32>, to: &mut Plane) {
    let radius = (3.0 * sigma).ceil() as usize;
    let mut kernel: Vec<f32> = (0..=radius).map(|i| (-(i as f32).powi(2) / (2.0 * sigma * sigma)).exp()).collect();
    let total = kernel[0] + 2.0 * kernel[1..].iter().sum::<f32>();
    kernel.iter_mut().for_each(|weight| *weight /= total);
    let (width, height) = (from.width, from.height);
    rows.resize(width, height);
    padded.resize(width + 2 * radius, 0.0);
    for y in 0..height {
        let row = from.row(y);
        padded[..radius].fill(row[0]);
        padded[radius..radius + width].copy_from_slice(row);
        padded[radius + width..].fill(row[width - 1]);
        blur_row(padded, &kernel, &mut rows.values[y * width..(y + 1) * width]);
    }
    to.resize(width, height);
    for y in 0..height {
        let target = &mut to.values[y * width..(y + 1) * width];
        scale_row(rows.row(y), kernel[0], target);
        for (i, weight) in kernel.iter().enumerate().skip(1) {
            add_rows(rows.row(y.saturating_sub(i)), rows.row((y + i).min(height - 1)), *weight, target);
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2+fma"))]
fn blur_row(padded: &[f32], kernel: &[f32], target: &mut [f32]) {
    let radius = kernel.len() - 1;
    let width = target.len();
    let centre = &padded[radius..radius + width];
    for x in 0..width {
        target[x] = kernel[0] * centre[x];
    }
    for i in 1..kernel.len() {
        let (left, right) = (&padded[radius - i..radius - i + width], &padded[radius + i..radius + i + width]);
        let weight = kernel[i];
        for x in 0..width {
            target[x] += weight * (left[x] + right[x]);
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2+fma"))]
fn scale_row(row: &[f32], weight: f32, target: &mut [f32]) {
    for x in 0..target.len().min(row.len()) {
        target[x] = weight * row[x];
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2+fma"))]
fn add_rows(above: &[f32], below: &[f32], weight: f32, target: &mut [f32]) {
    let width = target.len();
    let (above, below) = (&above[..width], &below[..width]);
    for x in 0..width {
        target[x] += weight * (above[x] + below[x]);
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
        blur(&spot, 2.0, &mut Plane::default(), &mut Vec::new(), &mut blurred);
        assert!((blurred.values.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        let variance: f32 = blurred.values.iter().enumerate().map(|(i, v)| v * ((i % 41) as f32 - 20.0).powi(2)).sum();
        assert!((variance.sqrt() - 2.0).abs() < 0.05, "{variance}");
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
