//! Matching keypoints under a map: each to the nearest signature near where the map carries it.

use super::Affine;
use crate::fingerprints::{Keypoint, LocalFeatures};
use multiversion::multiversion;
use std::f32::consts::TAU;

/// Signatures of matches under a map differ in at most this many bits.
const MATCH_MAX_BITS: u32 = 84;
/// Orientations of matches agree within this, in radians; scales within this factor.
const ANGLE_MAX: f32 = 0.45;
const SCALE_MAX: f32 = 1.7;

/// How a map scales and turns what it carries.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turned {
    pub(super) scale: f32,
    pub(super) angle: f32,
}

/// Whether a place lies on a keypoint, within a tolerance in pixels.
#[inline(always)]
pub(super) fn lies_on((x, y): (f32, f32), to: &Keypoint, tolerance: f32) -> bool {
    (x - to.x).abs().max((y - to.y).abs()) <= tolerance
}

/// Whether a keypoint that a map carried has the scale and direction of another. All is computed, whatever the outcome, so that
/// many can be looked at side by side.
#[inline(always)]
pub(super) fn is_turned_like(turned: Turned, from: &Keypoint, to: &Keypoint) -> bool {
    let ratio = from.sigma * turned.scale / to.sigma;
    let angle = angle_between(from.angle + turned.angle - to.angle);
    (1.0 / SCALE_MAX..=SCALE_MAX).contains(&ratio) & (angle <= ANGLE_MAX)
}

/// What a difference of less than two turns comes to, 0 to pi: that of `rem_euclid`, to the bit, without its division.
#[inline(always)]
fn angle_between(difference: f32) -> f32 {
    let less = if difference >= TAU { difference - TAU } else { difference };
    let within = if less <= -TAU { less + TAU } else { less };
    let off = if within < 0.0 { within + TAU } else { within };
    off.min(TAU - off)
}

/// Keypoints of an image by squares of 16 pixels.
pub(super) struct Grid {
    columns: usize,
    rows: usize,
    /// Where the keypoints of each square begin, row after row, and their end.
    starts: Vec<u32>,
    keypoints: Vec<u32>,
}

const CELL_PX: f32 = 16.0;

impl Grid {
    pub(super) fn new(image: &LocalFeatures) -> Self {
        let side = |length: f32| (length / CELL_PX) as usize + 1;
        let (columns, rows) = (side(image.width), side(image.height));
        let cell_of = |keypoint: &Keypoint| {
            let place = |v: f32, count: usize| ((v / CELL_PX).max(0.0) as usize).min(count - 1);
            place(keypoint.y, rows) * columns + place(keypoint.x, columns)
        };
        let mut starts = vec![0u32; columns * rows + 1];
        image.keypoints.iter().for_each(|keypoint| starts[cell_of(keypoint) + 1] += 1);
        (1..starts.len()).for_each(|cell| starts[cell] += starts[cell - 1]);
        let (mut next, mut keypoints) = (starts.clone(), vec![0; image.keypoints.len()]);
        for (index, keypoint) in (0..).zip(&image.keypoints) {
            let next = &mut next[cell_of(keypoint)];
            keypoints[*next as usize] = index;
            *next += 1;
        }
        Self { columns, rows, starts, keypoints }
    }

    /// Keypoints in the squares that touch the surroundings of a place, a row of squares at a time.
    #[inline(always)]
    fn near(&self, x: f32, y: f32, tolerance: f32) -> impl Iterator<Item = &[u32]> {
        let range = |v: f32, count: usize| {
            // What is below 0 becomes 0.
            let clamp = |v: f32| ((v / CELL_PX) as usize).min(count - 1);
            clamp(v - tolerance)..=clamp(v + tolerance)
        };
        let columns = range(x, self.columns);
        range(y, self.rows).map(move |row| {
            let start = |column: usize| self.starts[row * self.columns + column] as usize;
            &self.keypoints[start(*columns.start())..start(*columns.end() + 1)]
        })
    }
}

/// For each keypoint the nearest signature among those where the map carries it; a target goes to its nearest source.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq+popcnt", "x86_64+avx2+fma+popcnt"))]
pub(super) fn match_under(
    map: &Affine,
    sources: &[Keypoint],
    a: &LocalFeatures,
    b: &LocalFeatures,
    grid: &Grid,
    tolerance: f32,
    mirrored: bool,
) -> Vec<(usize, usize)> {
    let scale = map.determinant().abs().sqrt();
    let turned = Turned { scale, angle: (map.0[3] - map.0[1]).atan2(map.0[0] + map.0[4]) };
    let mut taken: Vec<Option<(u32, usize)>> = vec![None; b.keypoints.len()];
    for (i, from) in sources.iter().enumerate() {
        let (x, y) = map.apply(from.x, from.y);
        if x < -tolerance || y < -tolerance || x > b.width + tolerance || y > b.height + tolerance {
            continue;
        }
        let signature = if mirrored { a.signatures[i].mirrored() } else { a.signatures[i] };
        let mut nearest: Option<(u32, usize)> = None;
        for squares in grid.near(x, y, tolerance) {
            for j in squares.iter().map(|j| *j as usize) {
                if lies_on((x, y), &b.keypoints[j], tolerance) && is_turned_like(turned, from, &b.keypoints[j]) {
                    let bits = signature.distance_bits(&b.signatures[j]);
                    if bits <= MATCH_MAX_BITS && nearest.is_none_or(|n| (bits, j) < n) {
                        nearest = Some((bits, j));
                    }
                }
            }
        }
        if let Some((bits, j)) = nearest
            && taken[j].is_none_or(|t| (bits, i) < t)
        {
            taken[j] = Some((bits, i));
        }
    }
    // Keypoints that differ in their orientation alone are one place, and one match.
    let mut matches: Vec<(usize, usize)> = Vec::with_capacity(taken.len());
    let mut places: Vec<[f32; 4]> = Vec::with_capacity(taken.len());
    for (j, taken) in taken.iter().enumerate() {
        let Some((_, i)) = taken else { continue };
        let (to, from) = (&b.keypoints[j], &sources[*i]);
        let mut again = false;
        for [x, y, of_x, of_y] in &places {
            again |=
                ((x - to.x).abs() + (y - to.y).abs() < 1.0) | ((of_x - from.x).abs() + (of_y - from.y).abs() < 1.0);
        }
        if !again {
            matches.push((*i, j));
            places.push([to.x, to.y, from.x, from.y]);
        }
    }
    matches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn angles_between_are_those_of_the_remainder() {
        for i in -14_999i16..=14_999 {
            let difference = f32::from(i) / 10_000.0 * TAU;
            let off = difference.rem_euclid(TAU);
            assert_eq!(angle_between(difference), off.min(TAU - off), "{difference}");
        }
        for difference in [-TAU, 0.0, TAU, TAU.next_up(), TAU.next_down(), -1e-12] {
            let off = difference.rem_euclid(TAU);
            assert_eq!(angle_between(difference), off.min(TAU - off), "{difference}");
        }
    }

    #[test]
    fn what_is_near_lies_in_the_squares_around() {
        let at = |i: u16| Keypoint { x: f32::from(i * 37 % 301), y: f32::from(i * 71 % 193), sigma: 2.0, angle: 0.0 };
        let keypoints: Vec<Keypoint> = (0..250).map(at).collect();
        let image = LocalFeatures { width: 300.0, height: 192.0, keypoints, ..LocalFeatures::default() };
        let grid = Grid::new(&image);
        for (x, y, tolerance) in [(150.0, 90.0, 14.0), (0.0, 191.0, 5.0), (-4.0, -4.0, 8.0), (304.0, 100.0, 14.0)] {
            let near: Vec<usize> = grid.near(x, y, tolerance).flatten().map(|i| *i as usize).collect();
            for (i, keypoint) in image.keypoints.iter().enumerate() {
                let off = (keypoint.x - x).abs().max((keypoint.y - y).abs());
                assert!(off > tolerance || near.contains(&i), "{keypoint:?} is near {x}, {y}");
                assert!(off <= tolerance + CELL_PX || !near.contains(&i), "{keypoint:?} is not near {x}, {y}");
            }
        }
    }
}
