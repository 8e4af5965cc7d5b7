//! The directions of a keypoint: where the gradients around it point most (Lowe 2004, section 5).

use super::keypoint::Found;
use super::scale_space::Plane;
use multiversion::multiversion;

const ANGLES: usize = 36;
/// A second orientation counts from this share of the strongest.
const SECOND_PEAK: f32 = 0.8;
/// The one or two directions in which an extremum's surroundings have their strongest gradients.
pub(super) fn orientations(plane: &Plane, found: &Found) -> Vec<f32> {
    let (x, y, sigma) = found.in_octave();
    // A level's sigma is at most 3.6 pixels of its octave.
    let radius = ((4.5 * sigma).round() as usize).min(RADIUS_MAX);
    let mut histogram = direction_histogram(plane, (x, y), radius, -1.0 / (2.0 * (1.5 * sigma).powi(2)));
    for _ in 0..2 {
        let mut around = [0f32; ANGLES + 2];
        around[1..=ANGLES].copy_from_slice(&histogram);
        (around[0], around[ANGLES + 1]) = (histogram[ANGLES - 1], histogram[0]);
        for i in 0..ANGLES {
            histogram[i] = 0.25 * around[i] + 0.5 * around[i + 1] + 0.25 * around[i + 2];
        }
    }
    let highest = histogram.iter().copied().fold(0.0, f32::max);
    let mut peaks: Vec<(f32, f32)> = Vec::new();
    for i in 0..ANGLES {
        let (before, here, after) = (histogram[(i + ANGLES - 1) % ANGLES], histogram[i], histogram[(i + 1) % ANGLES]);
        if here > before && here >= after && here >= SECOND_PEAK * highest && here > 0.0 {
            let shift = 0.5 * (before - after) / (before - 2.0 * here + after);
            let angle = (i as f32 + shift) / ANGLES as f32 * std::f32::consts::TAU;
            peaks.push((here, angle.rem_euclid(std::f32::consts::TAU)));
        }
    }
    peaks.sort_by(|a, b| b.0.total_cmp(&a.0));
    peaks.into_iter().take(2).map(|(_, angle)| angle).collect()
}

/// Pixels around an extremum that are looked at, either way.
const RADIUS_MAX: usize = 17;
/// Values side by side, a multiple of a vector's.
const ROOM: usize = 48;

/// How long gradients are in each of the directions, by their distance from a place of `plane`, a Gaussian with the exponent
/// `spread`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2+fma"))]
fn direction_histogram(plane: &Plane, (x, y): (f32, f32), radius: usize, spread: f32) -> [f32; ANGLES] {
    let (width, height, radius) = (plane.width as isize, plane.height as isize, radius as isize);
    let (cx, cy) = (x.round() as isize, y.round() as isize);
    // Every other pixel where the window is large: the level is smooth at that distance.
    let step = if radius > 9 { 2 } else { 1 };
    let first = (cx - radius).max(1);
    let places = ((cx + radius + 1).min(width - 1) - first).max(0) as usize;
    let (mut squares, mut across) = ([0f32; ROOM], [0f32; ROOM]);
    for place in 0..places {
        squares[place] = ((first + place as isize) as f32 - x).powi(2);
        across[place] = (spread * squares[place]).exp();
    }
    let mut histogram = [0f32; ANGLES];
    for py in ((cy - radius).max(1)..(cy + radius + 1).min(height - 1)).step_by(step) {
        let from_middle = (py as f32 - y).powi(2);
        let down = (spread * from_middle).exp();
        let at = (py * width + first) as usize;
        let row = |at: usize, count: usize| &plane.values[at..at + count];
        let [above, below] = [at - width as usize, at + width as usize].map(|at| row(at, places));
        let (mut bins, mut lengths) = ([0u32; ROOM], [0f32; ROOM]);
        gradients_of_row([above, row(at - 1, places + 2), below], &mut bins[..places], &mut lengths[..places]);
        let mut weights = [0f32; ROOM];
        for place in 0..places {
            let is_inside = squares[place] + from_middle <= (radius * radius) as f32;
            weights[place] = if is_inside { down * across[place] * lengths[place] } else { 0.0 };
        }
        for place in (0..places).step_by(step) {
            histogram[bins[place] as usize % ANGLES] += weights[place];
        }
    }
    histogram
}

/// The histogram's bin and the length of the gradient at each place of a row, from the values above, those of the row with one
/// more on either side, and those below.
#[inline(always)]
fn gradients_of_row([above, row, below]: [&[f32]; 3], bins: &mut [u32], lengths: &mut [f32]) {
    let count = bins.len();
    let (above, below, lengths) = (&above[..count], &below[..count], &mut lengths[..count]);
    let (before, after) = (&row[..count], &row[2..count + 2]);
    for place in 0..count {
        let dx = after[place] - before[place];
        let dy = below[place] - above[place];
        let bin = (angle_of(dy, dx) * (ANGLES as f32 / std::f32::consts::TAU) + 0.5) as i32 as u32;
        bins[place] = if bin == ANGLES as u32 { 0 } else { bin };
        lengths[place] = (dx * dx + dy * dy).sqrt();
    }
}

/// The angle of a vector, 0 to 2 pi, to within 0.005: by a polynomial over an octant.
#[inline(always)]
pub(crate) fn angle_of(y: f32, x: f32) -> f32 {
    use std::f32::consts::{FRAC_PI_2, PI, TAU};
    let (across, up) = (x.abs(), y.abs());
    let (small, large) = (across.min(up), across.max(up));
    let t = small / large.max(1e-20);
    let octant = t * (0.998 + t * t * (-0.302 + t * t * 0.0895));
    let quadrant = if up > across { FRAC_PI_2 - octant } else { octant };
    let half = if x < 0.0 { PI - quadrant } else { quadrant };
    if y < 0.0 { TAU - half } else { half }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_histogram_has_the_bits_of_one_pixel_after_the_other() {
        let mut plane = Plane::default();
        plane.resize(60, 47);
        plane.values.iter_mut().enumerate().for_each(|(i, value)| *value = ((i * 7919) % 1013) as f32 / 1013.0);
        // In the middle, and cut off at the borders.
        for (x, y, radius) in [(30.3f32, 22.8f32, 7), (30.3, 22.8, 16), (4.2, 5.1, 9), (55.6, 42.4, 12)] {
            let spread = -0.01;
            let mut expected = [0f32; ANGLES];
            let (cx, cy, step) = (x.round() as isize, y.round() as isize, if radius > 9 { 2 } else { 1 });
            for py in ((cy - radius).max(1)..(cy + radius + 1).min(46)).step_by(step) {
                for px in ((cx - radius).max(1)..(cx + radius + 1).min(59)).step_by(step) {
                    let at = |dx: isize, dy: isize| plane.values[((py + dy) * 60 + px + dx) as usize];
                    let (dx, dy) = (at(1, 0) - at(-1, 0), at(0, 1) - at(0, -1));
                    let (right, down) = ((px as f32 - x).powi(2), (py as f32 - y).powi(2));
                    if right + down <= (radius * radius) as f32 {
                        let bin = (angle_of(dy, dx) * (ANGLES as f32 / std::f32::consts::TAU) + 0.5) as usize;
                        let weight = (spread * down).exp() * (spread * right).exp();
                        expected[bin % ANGLES] += weight * (dx * dx + dy * dy).sqrt();
                    }
                }
            }
            let found = direction_histogram(&plane, (x, y), radius as usize, spread);
            assert_eq!(found.map(f32::to_bits), expected.map(f32::to_bits), "{x} {y} {radius}");
        }
    }

    #[test]
    fn the_polynomial_is_the_angle() {
        for i in 0..1000 {
            let angle = i as f32 / 1000.0 * std::f32::consts::TAU;
            let found = angle_of(angle.sin(), angle.cos());
            let off = (found - angle).abs();
            assert!(off.min(std::f32::consts::TAU - off) < 0.005, "{angle} {found}");
        }
    }
}
