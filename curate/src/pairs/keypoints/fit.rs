//! The geometric fit of two images: the affine map that carries keypoints of one onto keypoints of the other.
//!
//! Each vote brings a whole similarity (rotation, scale, shift) with it, since keypoints have an orientation and a
//! scale; the one that most votes agree with is taken up, matches are sought again under it, and an affine map is
//! fitted to them by least squares, three times with a tighter tolerance (locally optimised RANSAC, Chum et al. 2003,
//! without the randomness). Maps that shear or squeeze more than copies do are refused.

use super::Affine;
use super::affine::{after_reflection, least_squares_affine, least_squares_similarity, similarity_of};
use super::matching::{Grid, Turned, is_turned_like, lies_on, match_under};
use crate::fingerprints::{Keypoint, LocalFeatures};
use multiversion::multiversion;
use std::f32::consts::{PI, TAU};

/// Distance within which votes agree with a similarity, as a share of the target's longer side.
const AGREE_SHARE: f32 = 0.06;
/// Tolerances of the rounds of matching, in pixels of the working image.
const TOLERANCES_PX: [f32; 4] = [14.0, 8.0, 5.0, 3.5];
/// Votes of a pair that are tried as similarities.
const MAX_TRIALS: usize = 120;
/// What a confirmed pair of images shares.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Fit {
    /// Carries working pixels of `a` to those of `b`; with a negative determinant in a mirror.
    pub(crate) map: Affine,
    /// Pairs of keypoints that the map carries onto each other.
    pub(crate) inliers: usize,
    /// Keypoints of `a` that the map carries into `b` at a scale that `b` can show, and the reverse.
    pub(crate) visible: (usize, usize),
    /// The sum over inliers of how rare they are: 1 for what no third image has, less for what many have; 0 among near-identical
    /// images, whose keypoints are not counted.
    pub(crate) rare: f32,
}

impl Fit {
    /// `r sqrt(n / v)` for `n` inliers of `v` visible keypoints, the fewer of the two images', `r` being the inliers by
    /// their rarity: many keypoints agree, few that could have do not, and not in every other image as well. A sign or
    /// sticker that two photographs share has many inliers, but they are few of those in sight.
    pub(crate) fn support(&self) -> f32 {
        self.rare * (self.inliers as f32 / self.visible_keypoints().max(1) as f32).sqrt()
    }

    /// How rare the keypoints that fit are in the mean, 0 to 1. Of two pages of one template all that fits is what the other pages
    /// of it have as well.
    pub(crate) fn mean_rarity(&self) -> f32 {
        self.rare / self.inliers.max(1) as f32
    }

    /// Keypoints in sight, of the image that has fewer.
    pub(crate) fn visible_keypoints(&self) -> usize {
        self.visible.0.min(self.visible.1).max(self.inliers)
    }
}

/// The map with the most inliers between two images that keypoints vote for, or none; `weight` says how rare a matched
/// pair of keypoints is.
pub(crate) fn confirm(
    a: &LocalFeatures,
    b: &LocalFeatures,
    proposed: &[(u32, u32, bool)],
    weight: impl Fn(usize, usize) -> f32,
) -> Option<Fit> {
    let fits = [false, true].map(|mirrored| {
        let votes: Vec<(usize, usize)> =
            proposed.iter().filter(|vote| vote.2 == mirrored).map(|vote| (vote.0 as usize, vote.1 as usize)).collect();
        let (mut fit, matches) = fit(a, b, &votes, mirrored)?;
        fit.rare = matches.iter().map(|(of_a, of_b)| weight(*of_a, *of_b)).sum();
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
    let sources: Vec<Keypoint> =
        a.keypoints.iter().map(|k| if mirrored { reflected(k, a.width) } else { *k }).collect();
    let similarity = best_similarity(&sources, b, votes)?;
    let grid = Grid::new(b);
    let mut map = similarity;
    let mut matches = Vec::new();
    for tolerance in TOLERANCES_PX {
        matches = match_under(&map, &sources, a, b, &grid, tolerance, mirrored);
        if matches.len() < 3 {
            return None;
        }
        // Few matches do not bear six numbers.
        let fitted = if matches.len() >= 6 {
            least_squares_affine(&sources, b, &matches)
        } else {
            least_squares_similarity(&sources, b, &matches)
        };
        map = fitted.filter(Affine::is_plausible)?;
    }
    let visible = (visible(&map, &sources, b), visible(&map.inverse(), &b.keypoints, a));
    let map = if mirrored { after_reflection(&map, a.width) } else { map };
    Some((Fit { map, inliers: matches.len(), visible, rare: 0.0 }, matches))
}

/// The similarity of the vote that most other votes agree with; at least one must.
fn best_similarity(sources: &[Keypoint], b: &LocalFeatures, votes: &[(usize, usize)]) -> Option<Affine> {
    let tolerance = AGREE_SHARE * b.width.max(b.height);
    let step = votes.len().div_ceil(MAX_TRIALS);
    let sides: Vec<Voters> = votes.chunks(LANES).map(|votes| Voters::of(votes, sources, b)).collect();
    let mut best: Option<(usize, Affine)> = None;
    for (i, j) in votes.iter().step_by(step) {
        let map = similarity_of(&sources[*i], &b.keypoints[*j]);
        if !map.is_plausible() {
            continue;
        }
        let turned = Turned { scale: map.scales().0, angle: map.0[3].atan2(map.0[0]) };
        let agreeing = count_agreeing(&map, turned, &sides, tolerance);
        if agreeing >= 2 && best.as_ref().is_none_or(|(most, _)| agreeing > *most) {
            best = Some((agreeing, map));
        }
    }
    best.map(|(_, map)| map)
}

/// Votes that are looked at side by side.
const LANES: usize = 16;

/// The keypoints of some votes, field by field, so that each field is a vector.
#[derive(Clone, Copy)]
struct Voters {
    /// x, y, sigma and angle of the source's keypoint, then of the target's.
    fields: [[f32; LANES]; 8],
    /// The source's keypoint.
    source: [u32; LANES],
}

impl Voters {
    fn of(votes: &[(usize, usize)], sources: &[Keypoint], b: &LocalFeatures) -> Self {
        // A lane without a vote has a target that nothing is carried to.
        let mut voters = Self { fields: [[f32::INFINITY; LANES]; 8], source: [u32::MAX; LANES] };
        for (lane, (i, j)) in votes.iter().enumerate() {
            let (from, to) = (&sources[*i], &b.keypoints[*j]);
            let fields = [from.x, from.y, from.sigma, from.angle, to.x, to.y, to.sigma, to.angle];
            voters.fields.iter_mut().zip(fields).for_each(|(to, value)| to[lane] = value);
            voters.source[lane] = *i as u32;
        }
        voters
    }

    #[inline(always)]
    fn pair(&self, lane: usize) -> (Keypoint, Keypoint) {
        let keypoint = |first: usize| {
            let [x, y, sigma, angle] = [0, 1, 2, 3].map(|field| self.fields[first + field][lane]);
            Keypoint { x, y, sigma, angle }
        };
        (keypoint(0), keypoint(4))
    }
}

/// How many keypoints have a vote that agrees with a map. Votes are sorted: a keypoint counts once.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2+fma"))]
fn count_agreeing(map: &Affine, turned: Turned, sides: &[Voters], tolerance: f32) -> usize {
    let (mut agreeing, mut last) = (0, u32::MAX);
    for voters in sides {
        let mut agrees = [0u32; LANES];
        for (lane, agrees) in agrees.iter_mut().enumerate() {
            let (from, to) = voters.pair(lane);
            let is_near = lies_on(map.apply(from.x, from.y), &to, tolerance);
            *agrees = u32::from(is_near & is_turned_like(turned, &from, &to));
        }
        if agrees == [0; LANES] {
            continue;
        }
        for (agrees, source) in agrees.iter().zip(voters.source) {
            if *agrees != 0 && source != last {
                agreeing += 1;
                last = source;
            }
        }
    }
    agreeing
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn votes_side_by_side_agree_as_one_after_the_other() {
        let at = |i: u16, turn: f32| Keypoint {
            x: f32::from(i * 37 % 301),
            y: f32::from(i * 71 % 193),
            sigma: 2.0 + f32::from(i % 5),
            angle: (f32::from(i) * 0.7 + turn).rem_euclid(TAU),
        };
        let sources: Vec<Keypoint> = (0..120).map(|i| at(i, 0.0)).collect();
        // Of three targets one is where the source is, a little off, one has another direction, one lies elsewhere.
        let targets = (0..120).flat_map(|i| [at(i, 0.1), at(i, 1.0), at(i + 3, 0.1)]);
        let b = LocalFeatures { width: 300.0, height: 192.0, keypoints: targets.collect(), ..LocalFeatures::default() };
        let votes: Vec<(usize, usize)> =
            (0..360).map(|j| (j / 3, j)).filter(|(i, j)| i % 7 > 0 || j % 3 == 1).collect();
        let sides: Vec<Voters> = votes.chunks(LANES).map(|votes| Voters::of(votes, &sources, &b)).collect();
        let mut most = 0;
        for (i, j) in votes.iter().step_by(5) {
            let map = similarity_of(&sources[*i], &b.keypoints[*j]);
            let turned = Turned { scale: map.scales().0, angle: map.0[3].atan2(map.0[0]) };
            let agrees = |(k, l): &&(usize, usize)| {
                let (from, to) = (&sources[*k], &b.keypoints[*l]);
                lies_on(map.apply(from.x, from.y), to, 10.0) && is_turned_like(turned, from, to)
            };
            let mut agreeing: Vec<usize> = votes.iter().filter(agrees).map(|(k, _)| *k).collect();
            agreeing.dedup();
            assert_eq!(count_agreeing(&map, turned, &sides, 10.0), agreeing.len(), "{i} {j}");
            most = most.max(agreeing.len());
        }
        assert!(most > 5, "{most}");
    }
}
