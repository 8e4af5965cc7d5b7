//! The scale space of an image: Gaussian levels by octaves, and their differences (Lowe 2004, section 3).
//!
//! Level `l` of an octave is blurred by `BASE_SIGMA * 2^(l / SCALES)` pixels of that octave; the next octave begins
//! with every other pixel of level `SCALES`. All buffers are kept from image to image.

use super::blur::{Made, Scratch, blur};

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

    pub(super) fn row(&self, y: usize) -> &[f32] {
        &self.values[y * self.width..(y + 1) * self.width]
    }

    pub(super) fn row_mut(&mut self, y: usize) -> &mut [f32] {
        &mut self.values[y * self.width..(y + 1) * self.width]
    }
}

/// The levels of one octave and their differences.
#[derive(Debug, Default)]
pub(crate) struct Octave {
    /// Blurred images; of the last level there is but the difference.
    pub(crate) gaussians: [Plane; LEVELS - 1],
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
                let made = Made { blurred: Some(&mut octave.gaussians[0]), difference: None };
                blur(image, sigma, &mut self.scratch, made);
            }
            for level in 1..LEVELS {
                let sigma_of = |level: usize| BASE_SIGMA * 2f32.powf(level as f32 / SCALES as f32);
                let sigma = (sigma_of(level).powi(2) - sigma_of(level - 1).powi(2)).sqrt();
                let (lower, upper) = octave.gaussians.split_at_mut(level);
                let lower = &lower[level - 1];
                let difference = Some((lower, &mut octave.differences[level - 1]));
                blur(lower, sigma, &mut self.scratch, Made { blurred: upper.first_mut(), difference });
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

#[cfg(test)]
mod tests {
    use super::*;

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
