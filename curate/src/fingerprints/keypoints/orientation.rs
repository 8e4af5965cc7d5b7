//! The directions of a keypoint: where the gradients around it point most (Lowe 2004, section 5).

use super::gradient_rows::{ANGLES, LANES, PixelRow, ROOM, weigh};
use super::keypoint::Found;
use super::scale_space::Plane;

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
/// From this radius on every other pixel is looked at: the level is smooth at that distance.
const SPARSE_RADIUS_MIN: usize = 10;

/// How long gradients are in each of the directions, by their distance from a place of `plane`, a Gaussian with the exponent
/// `spread`.
fn direction_histogram(plane: &Plane, (x, y): (f32, f32), radius: usize, spread: f32) -> [f32; ANGLES] {
    if radius >= SPARSE_RADIUS_MIN {
        histogram_by_steps::<2>(plane, (x, y), radius, spread)
    } else {
        histogram_by_steps::<1>(plane, (x, y), radius, spread)
    }
}

/// The same, of every pixel or of every other one.
fn histogram_by_steps<const STEP: usize>(
    plane: &Plane,
    (x, y): (f32, f32),
    radius: usize,
    spread: f32,
) -> [f32; ANGLES] {
    let (width, height, radius) = (plane.width as isize, plane.height as isize, radius as isize);
    let (cx, cy) = (x.round() as isize, y.round() as isize);
    let first = (cx - radius).max(1);
    let places = (((cx + radius + 1).min(width - 1) - first).max(0) as usize).div_ceil(STEP);
    // What lies further away than the radius is left out.
    let (mut squares, mut across) = ([f32::INFINITY; LANES], [0f32; LANES]);
    for place in 0..places {
        squares[place] = ((first + (STEP * place) as isize) as f32 - x).powi(2);
        across[place] = (spread * squares[place]).exp();
    }
    let mut histogram = [0f32; ANGLES];
    let mut spare = [[0f32; ROOM]; 3];
    let (mut bins, mut weights) = ([0u32; LANES], [0f32; LANES]);
    for py in ((cy - radius).max(1)..(cy + radius + 1).min(height - 1)).step_by(STEP) {
        let from_middle = (py as f32 - y).powi(2);
        let down = (spread * from_middle).exp();
        let at = (py * width + first - 1) as usize;
        let [above, here, below] = &mut spare;
        let values = [
            values_from(plane, at - width as usize, above),
            values_from(plane, at, here),
            values_from(plane, at + width as usize, below),
        ];
        let (across, down) = ((&squares, &across), (from_middle, down));
        let row = PixelRow { values, count: places, across, down, square_max: (radius * radius) as f32 };
        weigh::<STEP>(row, &mut bins, &mut weights);
        for place in 0..places {
            histogram[bins[place] as usize % ANGLES] += weights[place];
        }
    }
    histogram
}

/// As many values of a plane from a place on as are looked at; at the plane's end a copy of what there is.
#[inline(always)]
fn values_from<'a>(plane: &'a Plane, at: usize, spare: &'a mut [f32; ROOM]) -> &'a [f32; ROOM] {
    if let Some(values) = plane.values[at..].first_chunk() {
        return values;
    }
    let rest = &plane.values[at..];
    spare[..rest.len()].copy_from_slice(rest);
    spare
}

#[cfg(test)]
mod tests {
    use super::super::gradient_rows::angle_of;
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
}
