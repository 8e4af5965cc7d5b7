//! Judging candidates: each kind of evidence is held to a check of its own and scored.
//!
//! What hashes and embeddings propose must agree as thumbnails, what keypoints propose must look alike under their map.
//! Each check has a score from 0 to 1 that is 0.5 at its threshold; a pair's score joins the two as independent
//! evidence.

use super::Pair;
use super::overlap::overlap;
use crate::fingerprints::ImageSet;
use lapidary_schemas::CopyKind;
use lapidary_schemas::config::CurateConfig;
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Below its threshold, the score of thumbnails falls to 0 over this much correlation.
const CORRELATION_SLOPE: f32 = 0.3;

/// Scores all pairs by what has been found so far.
pub(super) fn judge_all(found: &mut BTreeMap<(usize, usize), Pair>, set: ImageSet<'_>, config: &CurateConfig) {
    let pairs: Vec<&mut Pair> = found.values_mut().filter(|pair| pair.kind != CopyKind::Exact).collect();
    pairs.into_par_iter().for_each(|pair| judge(pair, set, config));
}

/// Checks what was proposed and scores it.
fn judge(pair: &mut Pair, set: ImageSet<'_>, config: &CurateConfig) {
    let global = pair.dihedral.map_or(0.0, |dihedral| {
        let correlation = set.prints[pair.a].correlation(dihedral, &set.prints[pair.b]);
        pair.correlation = Some(correlation);
        correlation_score(correlation, config.correlation_min)
    });
    let local = pair.fit.map_or(0.0, |fit| {
        let (a, b) = (&set.prints[pair.a], &set.prints[pair.b]);
        let under_map = overlap((&a.thumbnail, &a.local), (&b.thumbnail, &b.local), &fit.map);
        pair.overlap = under_map;
        let support = fit.support() * under_map.map_or(0.0, |under_map| under_map.likeness());
        support / (support + config.local_support_min)
    });
    pair.score = 1.0 - (1.0 - global) * (1.0 - local);
    // What hash or embedding proposed and the thumbnails do not bear out is not their evidence.
    if local > global {
        pair.kind = CopyKind::Local;
    }
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
}
