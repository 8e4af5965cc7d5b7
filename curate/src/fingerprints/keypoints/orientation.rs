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
    let radius = (4.5 * sigma).round() as isize;
    let (cx, cy) = (x.round() as isize, y.round() as isize);
    let mut histogram = [0f32; ANGLES];
    let spread = -1.0 / (2.0 * (1.5 * sigma).powi(2));
    let (width, height) = (plane.width as isize, plane.height as isize);
    // Every other pixel where the window is large: the level is smooth at that distance.
    let step = if radius > 9 { 2 } else { 1 };
    let weight = |pixel: isize, centre: f32| (spread * (pixel as f32 - centre).powi(2)).exp();
    let (mut bins, mut lengths) = (vec![0u32; 2 * radius as usize + 1], vec![0f32; 2 * radius as usize + 1]);
    let across: Vec<f32> = (cx - radius..=cx + radius).map(|px| weight(px, x)).collect();
    for py in ((cy - radius).max(1)..(cy + radius + 1).min(height - 1)).step_by(step) {
        let down = weight(py, y);
        let first = (cx - radius).max(1);
        let places = ((cx + radius + 1).min(width - 1) - first).max(0) as usize;
        let at = (py * width + first) as usize;
        let row = |at: usize, count: usize| &plane.values[at..at + count];
        let [above, below] = [at - width as usize, at + width as usize].map(|at| row(at, places));
        gradients_of_row([above, row(at - 1, places + 2), below], &mut bins[..places], &mut lengths[..places]);
        let across = &across[(first - cx + radius) as usize..];
        for place in (0..places).step_by(step) {
            let squared = ((first + place as isize) as f32 - x).powi(2) + (py as f32 - y).powi(2);
            if squared <= (radius * radius) as f32 {
                histogram[bins[place] as usize % ANGLES] += down * across[place] * lengths[place];
            }
        }
    }
    for _ in 0..2 {
        let before = histogram;
        for (i, value) in histogram.iter_mut().enumerate() {
            let at = |j: usize| before[(i + j) % ANGLES];
            *value = 0.25 * at(ANGLES - 1) + 0.5 * at(0) + 0.25 * at(1);
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

/// The histogram's bin and the length of the gradient at each place of a row, from the values above, those of the row with one
/// more on either side, and those below.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2+fma"))]
fn gradients_of_row([above, row, below]: [&[f32]; 3], bins: &mut [u32], lengths: &mut [f32]) {
    let count = bins.len();
    let (above, below, lengths) = (&above[..count], &below[..count], &mut lengths[..count]);
    let (before, after) = (&row[..count], &row[2..count + 2]);
    for place in 0..count {
        let dx = after[place] - before[place];
        let dy = below[place] - above[place];
        bins[place] = (angle_of(dy, dx) * (ANGLES as f32 / std::f32::consts::TAU) + 0.5) as u32;
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
    fn the_polynomial_is_the_angle() {
        for i in 0..1000 {
            let angle = i as f32 / 1000.0 * std::f32::consts::TAU;
            let found = angle_of(angle.sin(), angle.cos());
            let off = (found - angle).abs();
            assert!(off.min(std::f32::consts::TAU - off) < 0.005, "{angle} {found}");
        }
    }
}
