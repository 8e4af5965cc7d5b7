//! The geometric fit of two images: the affine map that carries keypoints of one onto keypoints of the other.
//!
//! Each vote brings a whole similarity (turn, scale, shift) with it, since keypoints have an orientation and a scale; the
//! one that most votes agree with is taken up, matches are sought again under it, and an affine map is fitted to them by
//! least squares, three times with a tighter tolerance (locally optimised RANSAC, Chum et al. 2003, without the
//! randomness). Maps that shear or squeeze more than copies do are refused.

use super::{Keypoint, LocalFeatures, Proposal, Rarity};
use std::f32::consts::{PI, TAU};

/// Distance within which votes agree with a similarity, as a share of the target's longer side.
const AGREE_SHARE: f32 = 0.06;
/// Tolerances of the rounds of matching, in pixels of the working image.
const TOLERANCES_PX: [f32; 4] = [14.0, 8.0, 5.0, 3.5];
/// Signatures of matches under a map differ in at most this many bits.
const MATCH_MAX_BITS: u32 = 84;
/// Orientations of matches agree within this, in radians; scales within this factor.
const TURN_MAX: f32 = 0.45;
const SCALE_MAX: f32 = 1.7;
/// The largest ratio of a map's two scales, and the range of either.
const SQUEEZE_MAX: f32 = 2.2;
const SCALE_RANGE: (f32, f32) = (0.12, 8.0);
/// Votes of a pair that are tried as similarities.
const MAX_TRIALS: usize = 120;

/// A map of the plane: `x' = m[0] x + m[1] y + m[2]`, `y' = m[3] x + m[4] y + m[5]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Affine(pub(crate) [f32; 6]);

impl Affine {
    pub(crate) fn apply(&self, x: f32, y: f32) -> (f32, f32) {
        let m = &self.0;
        (m[0] * x + m[1] * y + m[2], m[3] * x + m[4] * y + m[5])
    }

    /// The factor by which areas grow; negative in a mirror.
    pub(crate) fn determinant(&self) -> f32 {
        self.0[0] * self.0[4] - self.0[1] * self.0[3]
    }

    /// The map back.
    pub(crate) fn inverse(&self) -> Self {
        let m = &self.0;
        let d = self.determinant();
        let (a, b, c, e) = (m[4] / d, -m[1] / d, -m[3] / d, m[0] / d);
        Self([a, b, -(a * m[2] + b * m[5]), c, e, -(c * m[2] + e * m[5])])
    }

    /// The larger and the smaller of its two scales.
    fn scales(&self) -> (f32, f32) {
        let m = &self.0;
        let (sum, difference) = ((m[0] + m[4]).hypot(m[3] - m[1]), (m[0] - m[4]).hypot(m[3] + m[1]));
        ((sum + difference) / 2.0, (sum - difference).abs() / 2.0)
    }

    fn is_plausible(&self) -> bool {
        let (large, small) = self.scales();
        large <= SCALE_RANGE.1 && small >= SCALE_RANGE.0 && large <= SQUEEZE_MAX * small
    }
}

/// What a confirmed pair of images shares.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Fit {
    /// Carries working pixels of `a` to those of `b`; with a negative determinant in a mirror.
    pub(crate) map: Affine,
    /// Pairs of keypoints that the map carries onto each other.
    pub(crate) inliers: usize,
    /// Keypoints of `a` that the map carries into `b` at a scale that `b` can show, and the reverse.
    pub(crate) visible: (usize, usize),
    /// The sum over inliers of how rare they are: 1 for what no third image has, less for what many have.
    pub(crate) rare: f32,
}

impl Fit {
    /// `r sqrt(n / v)` for `n` inliers of `v` visible keypoints, the fewer of the two images', `r` being the inliers by
    /// their rarity: many keypoints agree, few that could have do not, and not in every other image as well. A sign or
    /// sticker that two photographs share has many inliers, but they are few of those in sight.
    pub(crate) fn support(&self) -> f32 {
        self.rare * (self.inliers as f32 / self.visible_keypoints().max(1) as f32).sqrt()
    }

    /// Keypoints in sight, of the image that has fewer.
    pub(crate) fn visible_keypoints(&self) -> usize {
        self.visible.0.min(self.visible.1).max(self.inliers)
    }
}

/// The map with the most inliers between the images of a proposal, or none.
pub(crate) fn confirm(features: &[&LocalFeatures], proposal: &Proposal, rarity: &Rarity) -> Option<Fit> {
    let (a, b) = (features[proposal.a], features[proposal.b]);
    let fits = [false, true].map(|mirrored| {
        let votes: Vec<(usize, usize)> = proposal
            .votes
            .iter()
            .filter(|vote| vote.2 == mirrored)
            .map(|vote| (vote.0 as usize, vote.1 as usize))
            .collect();
        let (mut fit, matches) = fit(a, b, &votes, mirrored)?;
        let weight = |m: &(usize, usize)| rarity.weight(proposal.a, m.0).min(rarity.weight(proposal.b, m.1));
        fit.rare = matches.iter().map(weight).sum();
        Some(fit)
    });
    fits.into_iter().flatten().max_by_key(|fit| fit.inliers)
}

/// A keypoint as the mirrored image has it.
fn reflected(keypoint: &Keypoint, width: f32) -> Keypoint {
    Keypoint { x: width - 1.0 - keypoint.x, angle: (PI - keypoint.angle).rem_euclid(TAU), ..*keypoint }
}

type Matches = Vec<(usize, usize)>;

fn fit(a: &LocalFeatures, b: &LocalFeatures, votes: &[(usize, usize)], mirrored: bool) -> Option<(Fit, Matches)> {
    if votes.len() < 2 {
        return None;
    }
    let seen: Vec<Keypoint> = a.keypoints.iter().map(|k| if mirrored { reflected(k, a.width) } else { *k }).collect();
    let similarity = best_similarity(&seen, b, votes)?;
    let grid = Grid::new(b);
    let mut map = similarity;
    let mut matches = Vec::new();
    for tolerance in TOLERANCES_PX {
        matches = match_under(&map, &seen, a, b, &grid, tolerance, mirrored);
        if matches.len() < 3 {
            return None;
        }
        // Few matches do not bear six numbers.
        let fitted = if matches.len() >= 6 {
            least_squares_affine(&seen, b, &matches)
        } else {
            least_squares_similarity(&seen, b, &matches)
        };
        map = fitted.filter(Affine::is_plausible)?;
    }
    let visible = (visible(&map, &seen, b), visible(&map.inverse(), &b.keypoints, a));
    let map = if mirrored { after_reflection(&map, a.width) } else { map };
    Some((Fit { map, inliers: matches.len(), visible, rare: 0.0 }, matches))
}

/// A map for the image itself, from one for its mirror image.
fn after_reflection(map: &Affine, width: f32) -> Affine {
    let m = &map.0;
    let shift = width - 1.0;
    Affine([-m[0], m[1], m[0] * shift + m[2], -m[3], m[4], m[3] * shift + m[5]])
}

fn similarity_of(from: &Keypoint, to: &Keypoint) -> Affine {
    let scale = to.sigma / from.sigma;
    let (sin, cos) = (to.angle - from.angle).sin_cos();
    let (p, q) = (scale * cos, scale * sin);
    Affine([p, -q, to.x - (p * from.x - q * from.y), q, p, to.y - (q * from.x + p * from.y)])
}

/// The similarity of the vote that most other votes agree with; at least one must.
fn best_similarity(seen: &[Keypoint], b: &LocalFeatures, votes: &[(usize, usize)]) -> Option<Affine> {
    let tolerance = AGREE_SHARE * b.width.max(b.height);
    let step = votes.len().div_ceil(MAX_TRIALS);
    let mut best: Option<(usize, Affine)> = None;
    for (i, j) in votes.iter().step_by(step) {
        let map = similarity_of(&seen[*i], &b.keypoints[*j]);
        if !map.is_plausible() {
            continue;
        }
        let (scale, turn) = (map.scales().0, map.0[3].atan2(map.0[0]));
        let mut agreeing = 0;
        let mut last = usize::MAX;
        for (k, l) in votes {
            // Votes are sorted: a keypoint counts once.
            if *k != last && is_match(&map, scale, turn, &seen[*k], &b.keypoints[*l], tolerance) {
                agreeing += 1;
                last = *k;
            }
        }
        if agreeing >= 2 && best.as_ref().is_none_or(|(most, _)| agreeing > *most) {
            best = Some((agreeing, map));
        }
    }
    best.map(|(_, map)| map)
}

fn is_match(map: &Affine, scale: f32, turn: f32, from: &Keypoint, to: &Keypoint, tolerance: f32) -> bool {
    let (x, y) = map.apply(from.x, from.y);
    let off = (x - to.x).abs().max((y - to.y).abs());
    if off > tolerance {
        return false;
    }
    let ratio = from.sigma * scale / to.sigma;
    let angle = (from.angle + turn - to.angle).rem_euclid(TAU);
    (1.0 / SCALE_MAX..=SCALE_MAX).contains(&ratio) && angle.min(TAU - angle) <= TURN_MAX
}

/// Keypoints of an image by squares of 16 pixels.
struct Grid {
    columns: usize,
    rows: usize,
    cells: Vec<Vec<u32>>,
}

const CELL_PX: f32 = 16.0;

impl Grid {
    fn new(image: &LocalFeatures) -> Self {
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
fn match_under(
    map: &Affine,
    seen: &[Keypoint],
    a: &LocalFeatures,
    b: &LocalFeatures,
    grid: &Grid,
    tolerance: f32,
    mirrored: bool,
) -> Vec<(usize, usize)> {
    let scale = map.determinant().abs().sqrt();
    let turn = (map.0[3] - map.0[1]).atan2(map.0[0] + map.0[4]);
    let mut taken: Vec<Option<(u32, usize)>> = vec![None; b.keypoints.len()];
    for (i, from) in seen.iter().enumerate() {
        let (x, y) = map.apply(from.x, from.y);
        if x < -tolerance || y < -tolerance || x > b.width + tolerance || y > b.height + tolerance {
            continue;
        }
        let signature = if mirrored { a.signatures[i].mirrored() } else { a.signatures[i] };
        let mut nearest: Option<(u32, usize)> = None;
        for j in grid.near(x, y, tolerance) {
            if is_match(map, scale, turn, from, &b.keypoints[j], tolerance) {
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
            let (other, source) = (&b.keypoints[*l], &seen[*k]);
            (other.x - to.x).abs() + (other.y - to.y).abs() < 1.0
                || (source.x - seen[*i].x).abs() + (source.y - seen[*i].y).abs() < 1.0
        });
        if !again {
            matches.push((*i, j));
        }
    }
    matches
}

/// The affine map with the least sum of squared distances.
fn least_squares_affine(seen: &[Keypoint], b: &LocalFeatures, matches: &[(usize, usize)]) -> Option<Affine> {
    let count = matches.len() as f64;
    let point = |k: &Keypoint| [f64::from(k.x), f64::from(k.y)];
    let (mut centre, mut target) = ([0f64; 2], [0f64; 2]);
    for (i, j) in matches {
        let (p, q) = (point(&seen[*i]), point(&b.keypoints[*j]));
        (0..2).for_each(|c| (centre[c] += p[c] / count, target[c] += q[c] / count).0);
    }
    let (mut xx, mut xy, mut yy) = (0f64, 0f64, 0f64);
    let mut sums = [[0f64; 2]; 2];
    for (i, j) in matches {
        let (p, q) = (point(&seen[*i]), point(&b.keypoints[*j]));
        let (dx, dy) = (p[0] - centre[0], p[1] - centre[1]);
        (xx, xy, yy) = (xx + dx * dx, xy + dx * dy, yy + dy * dy);
        for (c, sum) in sums.iter_mut().enumerate() {
            let d = q[c] - target[c];
            (sum[0], sum[1]) = (sum[0] + dx * d, sum[1] + dy * d);
        }
    }
    let determinant = xx * yy - xy * xy;
    // Places on a line say nothing of what lies beside it.
    if determinant < 1e-3 * (xx + yy).powi(2) {
        return least_squares_similarity(seen, b, matches);
    }
    let mut map = [0f32; 6];
    for (c, sum) in sums.iter().enumerate() {
        let (p, q) = ((sum[0] * yy - sum[1] * xy) / determinant, (sum[1] * xx - sum[0] * xy) / determinant);
        map[3 * c] = p as f32;
        map[3 * c + 1] = q as f32;
        map[3 * c + 2] = (target[c] - p * centre[0] - q * centre[1]) as f32;
    }
    Some(Affine(map))
}

/// The turn, scale and shift with the least sum of squared distances.
fn least_squares_similarity(seen: &[Keypoint], b: &LocalFeatures, matches: &[(usize, usize)]) -> Option<Affine> {
    let count = matches.len() as f32;
    let mean = |f: &dyn Fn(&(usize, usize)) -> f32| matches.iter().map(f).sum::<f32>() / count;
    let centre = (mean(&|m| seen[m.0].x), mean(&|m| seen[m.0].y));
    let target = (mean(&|m| b.keypoints[m.1].x), mean(&|m| b.keypoints[m.1].y));
    let (mut along, mut across, mut square) = (0f32, 0f32, 0f32);
    for (i, j) in matches {
        let (px, py) = (seen[*i].x - centre.0, seen[*i].y - centre.1);
        let (qx, qy) = (b.keypoints[*j].x - target.0, b.keypoints[*j].y - target.1);
        along += px * qx + py * qy;
        across += px * qy - py * qx;
        square += px * px + py * py;
    }
    if square < 1.0 {
        return None;
    }
    let (p, q) = (along / square, across / square);
    Some(Affine([p, -q, target.0 - (p * centre.0 - q * centre.1), q, p, target.1 - (q * centre.0 + p * centre.1)]))
}

/// How many keypoints a map carries into an image at a scale that it can show.
fn visible(map: &Affine, keypoints: &[Keypoint], into: &LocalFeatures) -> usize {
    let scale = map.determinant().abs().sqrt();
    let largest = into.width.min(into.height) / 6.0;
    let is_visible = |k: &&Keypoint| {
        let (x, y) = map.apply(k.x, k.y);
        let sigma = k.sigma * scale;
        let margin = 2.0 * sigma;
        (x > margin && y > margin && x < into.width - margin && y < into.height - margin)
            && (1.8..largest).contains(&sigma)
    };
    keypoints.iter().filter(is_visible).count()
}
