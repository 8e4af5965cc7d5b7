//! Collages: images put together from others, which link to each of them but must not link them together.
//!
//! An image is taken for a collage when two others, which are not linked to each other, lie in it whole and side by
//! side and together fill most of it. Of its edges only the strongest stays. An original of two crops looks the same if
//! they fill it without overlapping; that is rare, and then no more than a crop too many is kept.

use crate::pairs::{Affine, Pair};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// The part of an image that must lie in a collage of it.
const WHOLE: f32 = 0.85;
/// The part of a collage that one of its images covers at most, and all together at least.
const SHARE_MAX: f32 = 0.75;
const TOGETHER_MIN: f32 = 0.75;
/// The part of the smaller region that two may share.
const SHARED_MAX: f32 = 0.1;

/// A part of a collage: which image it shows, where, and the pair that links the two.
struct Part {
    other: usize,
    covered: f32,
    /// Left, top, right, bottom, 0 to 1.
    region: [f32; 4],
    pair: usize,
}

/// The edges to leave out, by index among the pairs, and the collages they are of. `sizes` are those of working images.
pub(crate) fn collage_edges(edges: &[(usize, &Pair)], sizes: &[(f32, f32)]) -> (HashSet<usize>, BTreeSet<usize>) {
    let mut parts: BTreeMap<usize, Vec<Part>> = BTreeMap::new();
    let mut linked: HashSet<(usize, usize)> = HashSet::new();
    for (index, pair) in edges {
        linked.insert((pair.a, pair.b));
        let (Some(fit), Some(overlap)) = (pair.fit, pair.overlap) else { continue };
        let mut note = |whole: f32, share: f32, of: usize, within: usize, map: Affine| {
            if whole >= WHOLE && share <= SHARE_MAX {
                let region = region(&map, sizes[of], sizes[within]);
                parts.entry(within).or_default().push(Part { other: of, covered: share, region, pair: *index });
            }
        };
        note(overlap.covered_back, overlap.covered, pair.a, pair.b, fit.map);
        note(overlap.covered, overlap.covered_back, pair.b, pair.a, fit.map.inverse());
    }
    let (mut left_out, mut collages) = (HashSet::new(), BTreeSet::new());
    for (image, parts) in parts {
        let are_side_by_side = parts.iter().enumerate().any(|(i, one)| {
            parts[..i].iter().any(|two| {
                let apart = !linked.contains(&(one.other.min(two.other), one.other.max(two.other)));
                apart && shared(&one.region, &two.region) <= SHARED_MAX && one.covered + two.covered >= TOGETHER_MIN
            })
        });
        if are_side_by_side {
            collages.insert(image);
            let strongest = edges
                .iter()
                .filter(|(_, pair)| pair.a == image || pair.b == image)
                .max_by(|(i, x), (j, y)| x.score.total_cmp(&y.score).then(j.cmp(i)))
                .map(|(index, _)| *index);
            // Another copy of the collage itself stays linked: only its parts let go.
            left_out.extend(parts.iter().map(|part| part.pair).filter(|pair| Some(*pair) != strongest));
        }
    }
    (left_out, collages)
}

/// Where an image lies in another, as shares of its sides.
fn region(map: &Affine, of: (f32, f32), within: (f32, f32)) -> [f32; 4] {
    let corners = [(0.0, 0.0), (of.0, 0.0), (0.0, of.1), of].map(|(x, y)| map.apply(x, y));
    let (mut low, mut high) = ((f32::MAX, f32::MAX), (f32::MIN, f32::MIN));
    for (x, y) in corners {
        (low, high) = ((low.0.min(x), low.1.min(y)), (high.0.max(x), high.1.max(y)));
    }
    let share = |v: f32, side: f32| (v / side.max(1.0)).clamp(0.0, 1.0);
    [share(low.0, within.0), share(low.1, within.1), share(high.0, within.0), share(high.1, within.1)]
}

/// The part of the smaller of two regions that lies in the other.
fn shared(a: &[f32; 4], b: &[f32; 4]) -> f32 {
    let area = |r: &[f32; 4]| (r[2] - r[0]).max(0.0) * (r[3] - r[1]).max(0.0);
    let both = [a[0].max(b[0]), a[1].max(b[1]), a[2].min(b[2]), a[3].min(b[3])];
    if both[2] <= both[0] || both[3] <= both[1] { 0.0 } else { area(&both) / area(a).min(area(b)).max(1e-6) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pairs::Fit;
    use crate::pairs::Overlap;
    use lapidary_schemas::CopyKind;

    /// `a` lies in `b` from `left` on, half as wide as it.
    fn half(a: usize, b: usize, left: f32, score: f32) -> Pair {
        let fit = Fit { map: Affine([0.5, 0.0, left, 0.0, 1.0, 0.0]), inliers: 40, visible: (50, 50), rare: 40.0 };
        let overlap = Overlap { covered: 0.5, covered_back: 1.0, agreement: 1.0, correlation: 1.0 };
        Pair { score, fit: Some(fit), overlap: Some(overlap), ..Pair::new(a, b, CopyKind::Local) }
    }

    #[test]
    fn a_collage_keeps_its_strongest_edge_and_two_crops_of_one_place_are_none() {
        let sizes = [(100.0, 100.0); 4];
        let pairs = [half(0, 2, 0.0, 0.8), half(1, 2, 50.0, 0.9)];
        let edges: Vec<(usize, &Pair)> = pairs.iter().enumerate().collect();
        let (left_out, collages) = collage_edges(&edges, &sizes);
        assert_eq!((left_out, collages), (HashSet::from([0]), BTreeSet::from([2])));
        // The same half twice is no collage, nor are two halves that are linked to each other.
        let same = [half(0, 2, 0.0, 0.8), half(1, 2, 0.0, 0.9)];
        let edges: Vec<(usize, &Pair)> = same.iter().enumerate().collect();
        assert!(collage_edges(&edges, &sizes).0.is_empty());
        let friends = [
            half(0, 2, 0.0, 0.8),
            half(1, 2, 50.0, 0.9),
            Pair { a: 0, b: 1, fit: None, overlap: None, ..half(0, 1, 0.0, 0.7) },
        ];
        let edges: Vec<(usize, &Pair)> = friends.iter().enumerate().collect();
        assert!(collage_edges(&edges, &sizes).0.is_empty());
    }
}
