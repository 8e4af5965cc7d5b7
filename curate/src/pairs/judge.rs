//! Judging candidates: each kind of evidence is held to a check of its own and scored.
//!
//! What hashes and embeddings propose must agree as thumbnails, what keypoints propose must look alike under their map.
//! Each check has a score from 0 to 1 that is 0.5 at its threshold; a pair's score joins the two as independent
//! evidence. Keypoints speak against a pair as well: where both images have many in sight of each other and few of them fit
//! (two pages on one letterhead), neither thumbnails nor those few count. Images with hardly a keypoint (gradients, blank
//! pages) have thumbnails that are alike whatever their colours, so that they must have one mean colour. What fits may be what many
//! images have: the chrome of an application, a letterhead. It says nothing, unless all the detail of the two agrees ([`detail`]).
//!
//! [`detail`]: super::detail

use super::detail::{DetailAgreement, of_whole, under_map};
use super::inverted::is_complement;
use super::overlap::overlap;
use super::{Fit, Pair};
use crate::fingerprints::{Fingerprint, is_same_colour};
use lapidary_schemas::CopyKind;
use lapidary_schemas::config::{CurateConfig, Evidence};

/// Shares of keypoints that fit: below the first a pair is no copy, from the second on keypoints say nothing against it. Of the
/// keypoints in sight, in the image that has fewer: of 460 planted copies of COCO images the least was 0.247.
const FIT_SHARE: [f32; 2] = [0.16, 0.24];
/// The same of all keypoints, for what hashes and embeddings propose, which are of whole images: copies have 0.35 and more,
/// pages on one letterhead 0.15, receipts of one shop 0.23 (tests/bench/lookalikes.py).
const WHOLE_FIT_SHARE: [f32; 2] = [0.22, 0.34];
/// The mean rarity of keypoints that fit, likewise: below the first all that two images share is a template that many images
/// have. Of 920 copies of COCO images the least was 0.32 and a twentieth below 0.4 to 0.6; images of one template had 0.03 to 0.1 where
/// 30 have it.
const RARITY: [f32; 2] = [0.2, 0.4];
/// Fewer keypoints that fit may be chance: details are then compared as whole images where there is anything else to go by.
const MAPPED_MIN: usize = 6;
/// So many rare keypoints that fit are no chance, whatever share of those in sight they are: below the first they do not count for
/// themselves, from the second on they suffice. Two photographs blended have many that do not fit.
const MANY_RARE: [f32; 2] = [16.0, 32.0];
/// So many keypoints that fit, with such a share of those in sight and of blocks with detail, are those of a copy, whether many other
/// images have them or not: a photograph may have many copies.
const WIDELY_COPIED_INLIERS_MIN: usize = 50;
const WIDELY_COPIED_SHARE_MIN: f32 = 0.6;
const WIDELY_COPIED_DETAIL_MIN: f32 = 0.97;
/// The share of blocks with detail that agree, likewise, for what hashes and embeddings propose; and where no map is known.
const DETAIL_SHARE: [f32; 2] = [0.85, 0.95];
const UNMAPPED_DETAIL_SHARE: [f32; 2] = [0.9, 0.97];
/// What two images are the same from, but for their encoding: however many such images there are, they are copies and no template.
/// Copies at half the size have 1.00 and 0.97 in the median, screens of one application at most 0.98 and 0.95.
const SAME_DETAIL_SHARE_MIN: f32 = 0.99;
const SAME_DETAIL_LOWEST_MIN: f32 = 0.96;
const SAME_BLOCKS_MIN: usize = 60;
/// Where at least so many blocks agree, and nearly all that there are, under the map of at least so many keypoints, these count
/// twice: a map by chance does not lay detail on detail. A small part of an image has few keypoints; of three, slow waves fit as well.
const BORNE_OUT_INLIERS_MIN: usize = 5;
const BORNE_OUT_BLOCKS_MIN: usize = 16;
const BORNE_OUT_SHARE_MIN: f32 = 0.97;
const BORNE_OUT_WEIGHT: f32 = 2.0;
/// Details are looked at where the other evidence comes to this score.
const LOOKED_AT_MIN: f32 = 0.25;
/// Of fewer keypoints no share is taken.
const COUNTED_MIN: usize = 20;
/// With so many keypoints in both images, that no map carries one onto the other speaks against a pair.
const FITLESS_MIN: usize = 16;
/// Of images whose working image has at most so many pixels along a side, which had half as many, [`Detail`](crate::fingerprints::Detail)
/// shows blocks of a few pixels and what encoding left of them: copies differ in it. They have few keypoints, too. So neither
/// rarity nor details speak against them, and these limits hold.
const TINY_MAX_PX: f32 = 128.0;
const TINY_FITLESS_MIN: usize = 40;
const TINY_SMOOTH_MAX: usize = 4;
/// Images with at most so many keypoints are smooth: little but colour and slow changes of light.
const SMOOTH_MAX: usize = 16;

/// Below its threshold, the score of thumbnails falls to 0 over this much correlation.
const CORRELATION_SLOPE: f32 = 0.3;

/// Checks what was proposed of two images and scores it.
pub(super) fn judge(pair: &mut Pair, a: &Fingerprint, b: &Fingerprint, config: &CurateConfig) {
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
    let detail = if global.max(local) >= LOOKED_AT_MIN { details_agree(pair, a, b) } else { None };
    let is_same = detail.is_some_and(|detail| detail.is_same());
    let fits_enough = |fit: Fit| fit.inliers >= BORNE_OUT_INLIERS_MIN;
    let is_borne_out = pair.fit.is_some_and(fits_enough) && detail.is_some_and(|detail| detail.bears_out_map());
    let local = if is_borne_out { counted(local, BORNE_OUT_WEIGHT) } else { local };
    let (global, local) = if is_same {
        (if colours_differ(pair, a, b) { 0.0 } else { global }, local)
    } else {
        let distinct = if is_tiny(a, b) { 1.0 } else { is_no_template(pair, detail) };
        let whole =
            whole_images_agree(pair, a, b, config) * detail.map_or(1.0, |detail| details_let_pass(pair, detail));
        (global * whole * distinct, local * what_is_in_sight_agrees(pair) * distinct)
    };
    pair.score = 1.0 - (1.0 - global) * (1.0 - local);
    // What hash or embedding proposed and the thumbnails do not bear out is not their evidence.
    if local > global {
        pair.kind = CopyKind::Local;
    }
}

/// How far keypoints and colours let pass what is proposed of whole images: 1 when they say nothing against it, 0 when they say
/// that it is no copy.
fn whole_images_agree(pair: &Pair, a: &Fingerprint, b: &Fingerprint, config: &CurateConfig) -> f32 {
    if colours_differ(pair, a, b) {
        return 0.0;
    }
    let fewer = fewer_keypoints(a, b);
    let fitless_min = if is_tiny(a, b) { TINY_FITLESS_MIN } else { FITLESS_MIN };
    match pair.fit {
        Some(fit) => agrees(fit.inliers, fewer, WHOLE_FIT_SHARE),
        None if config.evidence.contains(&Evidence::Local) && fewer >= fitless_min => 0.0,
        None => 1.0,
    }
}

/// How far the keypoints in sight of each other let local evidence pass.
fn what_is_in_sight_agrees(pair: &Pair) -> f32 {
    let of = |fit: Fit| agrees(fit.inliers, fit.visible.0.min(fit.visible.1), FIT_SHARE);
    pair.fit.map_or(1.0, |fit| of(fit).max(between(fit.rare, MANY_RARE)))
}

/// How far the rarity of what fits lets evidence pass.
fn is_no_template(pair: &Pair, detail: Option<DetailAgreement>) -> f32 {
    let fits_widely = |fit: Fit| {
        fit.inliers >= WIDELY_COPIED_INLIERS_MIN
            && fit.inliers as f32 >= WIDELY_COPIED_SHARE_MIN * fit.visible_keypoints() as f32
    };
    if pair.fit.is_some_and(fits_widely) && detail.is_some_and(|detail| detail.share >= WIDELY_COPIED_DETAIL_MIN) {
        return 1.0;
    }
    mapped(pair).map_or(1.0, |fit| between(fit.mean_rarity(), RARITY))
}

/// The fit, where it is more than chance.
fn mapped(pair: &Pair) -> Option<Fit> {
    pair.fit.filter(|fit| fit.inliers >= MAPPED_MIN)
}

/// Where details agree under what is known of how one image lies over the other; none where that cannot be said.
fn details_agree(pair: &Pair, a: &Fingerprint, b: &Fingerprint) -> Option<DetailAgreement> {
    if a.detail.0.is_empty() || b.detail.0.is_empty() || is_tiny(a, b) {
        return None;
    }
    match (mapped(pair), pair.dihedral) {
        (Some(fit), _) => under_map((&a.detail, &a.local), (&b.detail, &b.local), &fit.map),
        (None, Some(dihedral)) => of_whole(&a.detail.transformed(dihedral), &b.detail),
        (None, None) => {
            let fit = pair.fit?;
            under_map((&a.detail, &a.local), (&b.detail, &b.local), &fit.map)
        }
    }
}

/// How far details let pass what is proposed of whole images.
fn details_let_pass(pair: &Pair, detail: DetailAgreement) -> f32 {
    between(detail.share, if mapped(pair).is_some() { DETAIL_SHARE } else { UNMAPPED_DETAIL_SHARE })
}

impl DetailAgreement {
    fn bears_out_map(&self) -> bool {
        self.blocks >= BORNE_OUT_BLOCKS_MIN && self.share >= BORNE_OUT_SHARE_MIN
    }

    fn is_same(&self) -> bool {
        self.blocks >= SAME_BLOCKS_MIN
            && self.share >= SAME_DETAIL_SHARE_MIN
            && self.lowest_tenth >= SAME_DETAIL_LOWEST_MIN
    }
}

fn is_tiny(a: &Fingerprint, b: &Fingerprint) -> bool {
    [a, b].iter().any(|print| print.local.width.max(print.local.height) <= TINY_MAX_PX)
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

/// Whether images that no map relates have few keypoints or none, and other colours.
fn colours_differ(pair: &Pair, a: &Fingerprint, b: &Fingerprint) -> bool {
    let most = a.local.keypoints.len().max(b.local.keypoints.len());
    let is_smooth = if is_tiny(a, b) {
        most <= TINY_SMOOTH_MAX
    } else {
        mapped(pair).is_none() && fewer_keypoints(a, b) <= SMOOTH_MAX
    };
    is_smooth && !is_same_colour(a.mean_rgb, b.mean_rgb)
}

/// The score `s / (s + c)` of support `s`, the support counted `weight` times.
fn counted(score: f32, weight: f32) -> f32 {
    weight * score / (1.0 + (weight - 1.0) * score)
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
    use crate::pairs::Affine;

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

    #[test]
    fn what_many_images_have_is_no_evidence_unless_all_details_agree() {
        let of = |rare: f32| {
            let map = Affine([1.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
            Pair { fit: Some(Fit { map, inliers: 30, visible: (60, 60), rare }), ..Pair::new(0, 1, CopyKind::Copy) }
        };
        assert_eq!(is_no_template(&of(2.0), None), 0.0, "30 screens of one application");
        assert_eq!(is_no_template(&of(20.0), None), 1.0, "a copy of a photograph");
        let detail = |share, lowest_tenth| DetailAgreement { blocks: 200, share, lowest_tenth };
        assert!(detail(1.0, 0.97).is_same() && !detail(0.98, 0.95).is_same(), "the most alike of screens");
        let widely = Fit { inliers: 60, visible: (90, 90), ..of(4.0).fit.expect("a fit") };
        let widely = Pair { fit: Some(widely), ..of(4.0) };
        assert_eq!(is_no_template(&widely, Some(detail(0.98, 0.9))), 1.0, "one of many copies of a photograph");
        assert_eq!(is_no_template(&widely, Some(detail(0.8, 0.9))), 0.0);
    }

    #[test]
    fn support_that_counts_twice_is_that_of_twice_the_keypoints() {
        let score = |support: f32| support / (support + 3.0);
        assert!((counted(score(2.0), 2.0) - score(4.0)).abs() < 1e-6);
    }
}
