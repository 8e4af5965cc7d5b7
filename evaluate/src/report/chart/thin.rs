//! Fewer points of a long curve, with its extremes.

/// Points of a curve that are drawn at most.
pub(super) const THINNED_POINTS: usize = 360;

/// At most `points` of a curve's: of each stretch the lowest and the highest, so that no peak is lost; the ends stay.
pub(super) fn thinned(curve: &[(f64, f64)], points: usize) -> Vec<(f64, f64)> {
    if curve.len() <= points || points < 4 {
        return curve.to_vec();
    }
    let (first, last) = (curve[0], curve[curve.len() - 1]);
    let inner = &curve[1..curve.len() - 1];
    let stretches = (points - 2) / 2;
    let mut kept = vec![first];
    for stretch in 0..stretches {
        let part = &inner[stretch * inner.len() / stretches..(stretch + 1) * inner.len() / stretches];
        let by_value = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
        let (Some(low), Some(high)) = (part.iter().min_by(by_value), part.iter().max_by(by_value)) else { continue };
        if low.0 == high.0 {
            kept.push(*low);
        } else if low.0 < high.0 {
            kept.extend([*low, *high]);
        } else {
            kept.extend([*high, *low]);
        }
    }
    kept.push(last);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_and_the_ends_stay() {
        let mut curve: Vec<(f64, f64)> = (0..10_000).map(|x| (f64::from(x), 1.0)).collect();
        curve[7777].1 = 99.0;
        let few = thinned(&curve, 100);
        assert!(few.len() <= 100 && few.is_sorted_by(|a, b| a.0 < b.0));
        assert!(few.contains(&(7777.0, 99.0)) && few[0] == curve[0] && few[few.len() - 1] == curve[9999]);
        assert_eq!(thinned(&curve[..50], 100), curve[..50]);
    }
}
