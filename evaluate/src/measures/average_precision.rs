//! Average precision as scikit-learn's `average_precision_score` has it: the sum over distinct scores, from the highest, of the
//! precision there times what the recall grows by; items of equal score come in together. Nothing is interpolated.

/// The average precision of scored items, which are sorted; none where no item is positive.
pub(crate) fn average_precision(items: &mut [(f32, bool)]) -> Option<f64> {
    items.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    let positives = items.iter().filter(|(_, is_positive)| *is_positive).count();
    let (mut sum, mut found, mut seen) = (0.0, 0usize, 0usize);
    // As numbers: 0 and -0 are equal.
    for group in items.chunk_by(|a, b| a.0 == b.0) {
        let new = group.iter().filter(|(_, is_positive)| *is_positive).count();
        (found, seen) = (found + new, seen + group.len());
        sum += new as f64 * (found as f64 / seen as f64);
    }
    (positives > 0).then(|| sum / positives as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::{measures, numbers};

    #[test]
    fn scikit_learns_with_and_without_ties() {
        let golden = measures();
        for (case, round) in [("distinct", 1e9), ("ties", 4.0), ("many_ties", 1.0)] {
            let expected = numbers(&golden["average_precision"][case]);
            for (shift, expected) in expected.iter().enumerate() {
                let mut items: Vec<(f32, bool)> = (0..200)
                    .map(|i| {
                        let score = (1.7 * i as f64 + shift as f64).sin();
                        ((score * round).round() as f32, (i * i + shift * i) % 7 == 0)
                    })
                    .collect();
                let found = average_precision(&mut items).expect("some are positive");
                assert!((found - expected).abs() < 1e-12, "{case} {shift}: {found} against {expected}");
            }
        }
    }

    #[test]
    fn without_a_positive_there_is_none_and_constant_scores_give_the_share() {
        assert_eq!(average_precision(&mut [(0.5, false), (0.1, false)]), None);
        assert_eq!(average_precision(&mut []), None);
        assert_eq!(average_precision(&mut [(0.0, true), (-0.0, false), (0.0, false), (0.0, false)]), Some(0.25));
        assert_eq!(average_precision(&mut [(0.1, false), (0.9, true)]), Some(1.0));
    }
}
