//! Judging candidates: each kind of evidence is held to a check of its own and scored.
//!
//! What hashes and embeddings propose must agree as thumbnails, what keypoints propose must look alike under their map.
//! Each check has a score from 0 to 1 that is 0.5 at its threshold; a pair's score joins the two as independent
//! evidence. Keypoints speak against a pair as well: where both images have many in sight of each other and few of them fit
//! (two pages on one letterhead), neither thumbnails nor those few count. Images with hardly a keypoint (gradients, blank
//! pages) have thumbnails that are alike whatever their colours, so that they must have one mean colour.

use super::Pair;
use super::inverted::is_complement;
use super::overlap::overlap;
use crate::fingerprints::{Fingerprint, ImageSet};
use lapidary_schemas::CopyKind;
use lapidary_schemas::config::{CurateConfig, Evidence};
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Shares of keypoints that fit: below the first a pair is no copy, from the second on keypoints say nothing against it. Of the
/// keypoints in sight, in the image that has fewer: of 460 planted copies of COCO images the least was 0.247.
const FIT_SHARE: [f32; 2] = [0.16, 0.24];
/// The same of all keypoints, for what hashes and embeddings propose, which are of whole images: copies have 0.35 and more,
/// pages on one letterhead 0.15, receipts of one shop 0.23 (tests/bench/lookalikes.py).
const WHOLE_FIT_SHARE: [f32; 2] = [0.22, 0.34];
/// The mean rarity of keypoints that fit, likewise: below the first all that two images share is a template that many images
/// have. Of 920 copies of COCO images the least was 0.32 and a twentieth below 0.4 to 0.6; images of one template had 0.03 to 0.1 where
/// 30 have it.
const RARITY: [f32; 2] = [0.15, 0.3];
/// Of fewer keypoints that fit no mean is taken.
const RARITY_OF_MIN: usize = 6;
/// The bits and the correlation from which on two images are the same but for their encoding: however many such images there are,
/// they are copies and no template.
const SAME_MAX_BITS: u32 = 6;
const SAME_CORRELATION_MIN: f32 = 0.995;
/// Of fewer keypoints no share is taken.
const COUNTED_MIN: usize = 20;
/// With so many keypoints in both images, that no map carries one onto the other speaks against a pair.
const FITLESS_MIN: usize = 16;
/// Images with at most so many keypoints are smooth: nothing but colour and slow changes of light.
const SMOOTH_MAX: usize = 4;
/// Levels of a channel by which the mean colours of smooth copies differ at most.
const SMOOTH_LEVELS_APART_MAX: u8 = 16;

/// Below its threshold, the score of thumbnails falls to 0 over this much correlation.
const CORRELATION_SLOPE: f32 = 0.3;

/// Scores all pairs by what has been found so far.
pub(super) fn judge_all(found: &mut BTreeMap<(usize, usize), Pair>, set: ImageSet<'_>, config: &CurateConfig) {
    let pairs: Vec<&mut Pair> = found.values_mut().filter(|pair| pair.kind != CopyKind::Exact).collect();
    pairs.into_par_iter().for_each(|pair| judge(pair, &set.prints[pair.a], &set.prints[pair.b], config));
}

/// Checks what was proposed of two images and scores it.
fn judge(pair: &mut Pair, a: &Fingerprint, b: &Fingerprint, config: &CurateConfig) {
    let is_negative = pair.hash_distance_bits.is_some_and(|bits| is_complement(bits, config));
    let global = pair.dihedral.map_or(0.0, |dihedral| {
        let correlation = a.correlation(dihedral, b);
        pair.correlation = Some(correlation);
        correlation_score(if is_negative { -correlation } else { correlation }, config.correlation_min)
    });
    if is_negative {
        // A negative's keypoints have other signatures. A smooth image is the negative of any that runs the other way.
        pair.score = if fewer_keypoints(a, b) >= COUNTED_MIN { global } else { 0.0 };
        return;
    }
    let local = pair.fit.map_or(0.0, |fit| {
        let under_map = overlap((&a.thumbnail, &a.local), (&b.thumbnail, &b.local), &fit.map);
        pair.overlap = under_map;
        let support = fit.support() * under_map.map_or(0.0, |under_map| under_map.likeness());
        support / (support + config.local_support_min)
    });
    let (global, local) = (global * whole_images_agree(pair, a, b, config), local * what_is_in_sight_agrees(pair));
    let distinct = if is_same(pair) { 1.0 } else { is_no_template(pair) };
    let (global, local) = (global * distinct, local * distinct);
    pair.score = 1.0 - (1.0 - global) * (1.0 - local);
    // What hash or embedding proposed and the thumbnails do not bear out is not their evidence.
    if local > global {
        pair.kind = CopyKind::Local;
    }
}

/// How far keypoints and colours let pass what is proposed of whole images: 1 when they say nothing against it, 0 when they say
/// that it is no copy.
fn whole_images_agree(pair: &Pair, a: &Fingerprint, b: &Fingerprint, config: &CurateConfig) -> f32 {
    if colours_differ(a, b) {
        return 0.0;
    }
    let fewer = fewer_keypoints(a, b);
    match pair.fit {
        Some(fit) => agrees(fit.inliers, fewer, WHOLE_FIT_SHARE),
        None if config.evidence.contains(&Evidence::Local) && fewer >= FITLESS_MIN && !is_same(pair) => 0.0,
        None => 1.0,
    }
}

/// How far the keypoints in sight of each other let local evidence pass.
fn what_is_in_sight_agrees(pair: &Pair) -> f32 {
    pair.fit.map_or(1.0, |fit| agrees(fit.inliers, fit.visible.0.min(fit.visible.1), FIT_SHARE))
}

/// How far the rarity of what fits lets evidence pass.
fn is_no_template(pair: &Pair) -> f32 {
    let fit = pair.fit.filter(|fit| fit.inliers >= RARITY_OF_MIN);
    fit.map_or(1.0, |fit| between(fit.mean_rarity(), RARITY))
}

/// Whether two images are the same but for their encoding, as far as hash and thumbnail show it.
fn is_same(pair: &Pair) -> bool {
    pair.hash_distance_bits.is_some_and(|bits| bits <= SAME_MAX_BITS)
        && pair.correlation.is_some_and(|correlation| correlation >= SAME_CORRELATION_MIN)
}

fn fewer_keypoints(a: &Fingerprint, b: &Fingerprint) -> usize {
    a.local.keypoints.len().min(b.local.keypoints.len())
}

fn agrees(inliers: usize, of: usize, shares: [f32; 2]) -> f32 {
    if of < COUNTED_MIN { 1.0 } else { between(inliers as f32 / of as f32, shares) }
}

/// 0 up to the first of two values, 1 from the second on.
fn between(value: f32, [none, all]: [f32; 2]) -> f32 {
    ((value - none) / (all - none)).clamp(0.0, 1.0)
}

/// Whether both images are smooth and of other colours.
fn colours_differ(a: &Fingerprint, b: &Fingerprint) -> bool {
    let is_smooth = a.local.keypoints.len().max(b.local.keypoints.len()) <= SMOOTH_MAX;
    is_smooth && a.mean_rgb.iter().zip(b.mean_rgb).any(|(a, b)| a.abs_diff(b) > SMOOTH_LEVELS_APART_MAX)
}

fn correlation_score(correlation: f32, least: f32) -> f32 {
    let score = if correlation >= least {
        0.5 + 0.5 * (correlation - least) / (1.0 - least).max(1e-6)
    } else {
        0.5 * (1.0 - (least - correlation) / CORRELATION_SLOPE)
    };
    score.clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_score_is_a_half_at_its_threshold_and_grows() {
        assert_eq!(correlation_score(0.9, 0.9), 0.5);
        assert_eq!(correlation_score(1.0, 0.9), 1.0);
        assert!(correlation_score(0.89, 0.9) < 0.5 && correlation_score(0.95, 0.9) > 0.5);
        assert_eq!(correlation_score(0.2, 0.9), 0.0);
    }

    #[test]
    fn many_keypoints_in_sight_of_which_few_fit_speak_against_a_pair() {
        assert_eq!(agrees(22, 141, FIT_SHARE), 0.0, "two letters on one letterhead");
        assert_eq!(agrees(24, 97, FIT_SHARE), 1.0, "the least of a planted copy");
        assert!((0.3..0.7).contains(&agrees(20, 100, FIT_SHARE)));
        assert_eq!(agrees(32, 147, WHOLE_FIT_SHARE), 0.0, "two receipts of one shop");
        assert_eq!(agrees(50, 141, WHOLE_FIT_SHARE), 1.0, "a copy that was blurred");
        assert_eq!(agrees(0, 19, WHOLE_FIT_SHARE), 1.0, "few keypoints say nothing");
    }
}
