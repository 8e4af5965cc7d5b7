//! A Gaussian blur: along rows, then down columns; the border repeats.
//!
//! Of the image blurred along its rows no more are held than one row of the result is made of (21 rows for the widest blur of a
//! scale space, 27 KB at 320 pixels), so that they stay in the processor's nearest cache. All buffers are kept from image to image.

use super::scale_space::Plane;
use super::weighted_rows::{Rows, Taps, Target, sum_up};

/// Weights to one side of the middle, at most.
const TAPS_MAX: usize = 16;
/// Values of a line of the cache, on which rows that are held begin.
const LINE: usize = 16;
const LINE_BYTES: usize = LINE * size_of::<f32>();

/// What a blur works in: rows blurred along themselves, and a row with its border.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    rows: Vec<f32>,
    padded: Vec<f32>,
    /// Where each row of the image lies among those that are held.
    places: Vec<usize>,
}

/// What is made of a blurred image: itself, if it is wanted, and what it is more than another.
#[derive(Debug, Default)]
pub(super) struct Made<'a> {
    pub(super) blurred: Option<&'a mut Plane>,
    /// What is taken off, and where the difference goes.
    pub(super) difference: Option<(&'a Plane, &'a mut Plane)>,
}

/// Half of a Gaussian cut off at three standard deviations, its middle first; the whole sums up to 1.
fn kernel_of(sigma: f32) -> Vec<f32> {
    let radius = (3.0 * sigma).ceil() as usize;
    let mut kernel: Vec<f32> = (0..=radius).map(|i| (-(i as f32).powi(2) / (2.0 * sigma * sigma)).exp()).collect();
    let total = kernel[0] + 2.0 * kernel[1..].iter().sum::<f32>();
    kernel.iter_mut().for_each(|weight| *weight /= total);
    kernel
}

/// Blurs by a Gaussian of at most `TAPS_MAX / 3` pixels.
pub(super) fn blur(from: &Plane, sigma: f32, scratch: &mut Scratch, mut made: Made<'_>) {
    let (kernel, width, height) = (kernel_of(sigma), from.width, from.height);
    let radius = kernel.len() - 1;
    let (held, stride) = (2 * radius + 1, width.next_multiple_of(LINE));
    for plane in made.blurred.iter_mut().chain(made.difference.as_mut().map(|(_, to)| to)) {
        plane.resize(width, height);
    }
    let Scratch { rows, padded, places } = scratch;
    rows.resize((held * stride + LINE).max(rows.len()), 0.0);
    padded.resize((width + 2 * radius).max(padded.len()), 0.0);
    let first = rows.as_ptr().align_offset(LINE_BYTES).min(LINE);
    let rows = &mut rows[first..first + held * stride];
    places.clear();
    places.extend((0..held).map(|row| row * stride).cycle().take(height));
    let mut taps = [Taps::default(); TAPS_MAX];
    let along: [Taps; TAPS_MAX] = std::array::from_fn(|i| {
        let weight = kernel.get(i + 1).copied().unwrap_or(0.0);
        Taps { weight, starts: [radius.saturating_sub(i + 1), radius + i + 1] }
    });
    let mut next = 0;
    for y in 0..height {
        while next < height.min(y + radius + 1) {
            pad(from.row(next), radius, padded);
            let middle = (kernel[0], radius);
            let target = Target { sum: Some(&mut rows[places[next]..][..width]), difference: None };
            sum_up(Rows { values: padded, middle, sides: &along[..radius] }, width, target);
            next += 1;
        }
        for (i, taps) in (1..).zip(&mut taps[..radius]) {
            let starts = [places[y.saturating_sub(i)], places[(y + i).min(height - 1)]];
            *taps = Taps { weight: kernel[i], starts };
        }
        let middle = (kernel[0], places[y]);
        let target = Target {
            sum: made.blurred.as_mut().map(|to| to.row_mut(y)),
            difference: made.difference.as_mut().map(|(less, to)| (less.row(y), to.row_mut(y))),
        };
        sum_up(Rows { values: rows, middle, sides: &taps[..radius] }, width, target);
    }
}

/// A row between repetitions of its ends.
fn pad(row: &[f32], radius: usize, padded: &mut [f32]) {
    let width = row.len();
    padded[..radius].fill(row[0]);
    padded[radius..radius + width].copy_from_slice(row);
    padded[radius + width..2 * radius + width].fill(row[width - 1]);
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
        blur(&spot, 2.0, &mut Scratch::default(), Made { blurred: Some(&mut blurred), difference: None });
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
    fn a_blur_has_the_bits_of_the_plain_one() {
        let mut scratch = Scratch::default();
        // Narrower than a strip, as wide as two, wider than those; lower than the kernel is wide.
        for (width, height) in [(77, 31), (5, 70), (64, 9), (1, 1), (33, 40)] {
            let mut plane = Plane::default();
            plane.resize(width, height);
            let value = |i: usize| ((i * 7919) % 1013) as f32 / 1013.0;
            plane.values.iter_mut().enumerate().for_each(|(i, v)| *v = value(i));
            let [mut blurred, mut difference, mut alone] = [(); 3].map(|()| Plane::default());
            for sigma in [1.2262735, 3.0899] {
                let made = Made { blurred: Some(&mut blurred), difference: Some((&plane, &mut difference)) };
                blur(&plane, sigma, &mut scratch, made);
                blur(&plane, sigma, &mut scratch, Made { blurred: None, difference: Some((&plane, &mut alone)) });
                let expected = blur_reference(&plane, sigma);
                for (i, value) in expected.values.iter().enumerate() {
                    assert_eq!(blurred.values[i].to_bits(), value.to_bits(), "{width} x {height}, {i}");
                    assert_eq!(difference.values[i].to_bits(), (value - plane.values[i]).to_bits());
                    assert_eq!(alone.values[i].to_bits(), difference.values[i].to_bits());
                }
            }
        }
    }
}
