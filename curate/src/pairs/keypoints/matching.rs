//! Matching keypoints under a map: each to the nearest signature near where the map carries it.

use super::Affine;
use crate::fingerprints::{Keypoint, LocalFeatures};
use std::f32::consts::TAU;

/// Signatures of matches under a map differ in at most this many bits.
const MATCH_MAX_BITS: u32 = 84;
/// Orientations of matches agree within this, in radians; scales within this factor.
const ANGLE_MAX: f32 = 0.45;
const SCALE_MAX: f32 = 1.7;

pub(super) fn is_match(map: &Affine, scale: f32, angle: f32, from: &Keypoint, to: &Keypoint, tolerance: f32) -> bool {
    let (x, y) = map.apply(from.x, from.y);
    let off = (x - to.x).abs().max((y - to.y).abs());
    if off > tolerance {
        return false;
    }
    let ratio = from.sigma * scale / to.sigma;
    let off = (from.angle + angle - to.angle).rem_euclid(TAU);
    (1.0 / SCALE_MAX..=SCALE_MAX).contains(&ratio) && off.min(TAU - off) <= ANGLE_MAX
}

/// Keypoints of an image by squares of 16 pixels.
pub(super) struct Grid {
    columns: usize,
    rows: usize,
    cells: Vec<Vec<u32>>,
}

const CELL_PX: f32 = 16.0;

impl Grid {
    pub(super) fn new(image: &LocalFeatures) -> Self {
        let side = |length: f32| (length / CELL_PX) as usize + 1;
        let (columns, rows) = (side(image.width), side(image.height));
        let mut cells = vec![Vec::new(); columns * rows];
        for (index, keypoint) in image.keypoints.iter().enumerate() {
            let place = |v: f32, count: usize| ((v / CELL_PX).max(0.0) as usize).min(count - 1);
            cells[place(keypoint.y, rows) * columns + place(keypoint.x, columns)].push(index as u32);
        }
        Self { columns, rows, cells }
    }

    /// Keypoints in the squares that touch the surroundings of a place.
    fn near(&self, x: f32, y: f32, tolerance: f32) -> impl Iterator<Item = usize> + '_ {
        let range = |v: f32, count: usize| {
            let clamp = |v: f32| ((v / CELL_PX).floor().max(0.0) as usize).min(count - 1);
            clamp(v - tolerance)..=clamp(v + tolerance)
        };
        let columns = range(x, self.columns);
        range(y, self.rows).flat_map(move |row| {
            let columns = columns.clone();
            columns.flat_map(move |column| self.cells[row * self.columns + column].iter().map(|i| *i as usize))
        })
    }
}

/// For each keypoint the nearest signature among those where the map carries it; a target goes to its nearest source.
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
    let angle = (map.0[3] - map.0[1]).atan2(map.0[0] + map.0[4]);
    let mut taken: Vec<Option<(u32, usize)>> = vec![None; b.keypoints.len()];
    for (i, from) in sources.iter().enumerate() {
        let (x, y) = map.apply(from.x, from.y);
        if x < -tolerance || y < -tolerance || x > b.width + tolerance || y > b.height + tolerance {
            continue;
        }
        let signature = if mirrored { a.signatures[i].mirrored() } else { a.signatures[i] };
        let mut nearest: Option<(u32, usize)> = None;
        for j in grid.near(x, y, tolerance) {
            if is_match(map, scale, angle, from, &b.keypoints[j], tolerance) {
                let bits = signature.distance_bits(&b.signatures[j]);
                if bits <= MATCH_MAX_BITS && nearest.is_none_or(|n| (bits, j) < n) {
                    nearest = Some((bits, j));
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
    let mut matches: Vec<(usize, usize)> = Vec::new();
    for (j, taken) in taken.iter().enumerate() {
        let Some((_, i)) = taken else { continue };
        let to = &b.keypoints[j];
        let again = matches.iter().any(|(k, l)| {
            let (other, source) = (&b.keypoints[*l], &sources[*k]);
            (other.x - to.x).abs() + (other.y - to.y).abs() < 1.0
                || (source.x - sources[*i].x).abs() + (source.y - sources[*i].y).abs() < 1.0
        });
        if !again {
            matches.push((*i, j));
        }
    }
    matches
}
