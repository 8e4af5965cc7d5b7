//! Scoring ranked pairs of images against the pairs that are copies: micro-AP and recall at a precision.
//!
//! As in SSCD's evaluation (`spec/curation.md` section 3): all pairs in one list by descending score, ties with the
//! wrong pairs first, so that ties never help; micro-AP is the sum over the list of the rise in recall times the
//! precision there, and recall counts all true pairs, found or not.

/// What a list of pairs achieves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RankedScore {
    /// Micro-averaged precision, 0 to 1.
    pub micro_ap: f64,
    /// The largest recall at which precision is still at least `precision_min`; 0 when it never is.
    pub recall: f64,
    /// The score from which on pairs are counted at that recall.
    pub threshold: f64,
}

/// Scores pairs, each a score and whether it is true, against `positives` true pairs in all.
pub fn ranked_score(pairs: &[(f64, bool)], positives: usize, precision_min: f64) -> RankedScore {
    let mut sorted = pairs.to_vec();
    sorted.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let positives = positives.max(1) as f64;
    let (mut right, mut micro_ap, mut recall, mut threshold) = (0f64, 0f64, 0f64, f64::INFINITY);
    for (place, (score, is_true)) in sorted.iter().enumerate() {
        let considered = (place + 1) as f64;
        if *is_true {
            right += 1.0;
            micro_ap += right / considered / positives;
        }
        if right / considered >= precision_min && *is_true {
            (recall, threshold) = (right / positives, *score);
        }
    }
    RankedScore { micro_ap, recall, threshold }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// spec/curation.md section 8, test 4.
    #[test]
    fn ties_count_at_their_worst() {
        let list = |scores: &[f64], truth: &[u8]| -> Vec<(f64, bool)> {
            scores.iter().zip(truth).map(|(score, truth)| (*score, *truth == 1)).collect()
        };
        let scored = ranked_score(&list(&[0.9, 0.8, 0.8, 0.7, 0.6], &[1, 0, 1, 1, 0]), 4, 0.9);
        assert!((scored.micro_ap - 0.604_166_666_7).abs() < 1e-9, "{scored:?}");
        let tied = ranked_score(&list(&[0.5; 4], &[1, 0, 1, 0]), 2, 0.9);
        assert!((tied.micro_ap - 0.416_666_666_7).abs() < 1e-9, "{tied:?}");
        assert_eq!((scored.recall, scored.threshold), (0.25, 0.9));
        assert_eq!(tied.recall, 0.0);
    }

    #[test]
    fn what_is_not_found_lowers_recall() {
        let scored = ranked_score(&[(0.9, true), (0.8, true)], 8, 0.99);
        assert_eq!((scored.micro_ap, scored.recall), (0.25, 0.25));
    }
}
