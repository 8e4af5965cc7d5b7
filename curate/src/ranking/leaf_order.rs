//! The order inside a leaf.

use super::Kept;
use crate::input::Vectors;
use lapidary_pipeline::random::{Purpose, Rng, keyed};
use lapidary_schemas::Config;
use lapidary_schemas::config::LeafOrder;

/// Brings a leaf's points, which come in the order of ids, into the configured order; ties stay in the order of ids.
pub(super) fn order_leaf(points: &mut Vec<usize>, distances: &[f32], kept: &Kept<'_>, config: &Config) {
    let distance = |point: &usize| distances[*point];
    match config.curate.leaf_order {
        LeafOrder::Nearest => points.sort_by(|a, b| distance(a).total_cmp(&distance(b))),
        LeafOrder::Farthest => points.sort_by(|a, b| distance(b).total_cmp(&distance(a))),
        LeafOrder::Random => {
            let drawn = |point: &usize| keyed(config.seed, Purpose::LeafOrder, kept.ids[*point], 0).next_u64();
            points.sort_by_cached_key(drawn);
        }
        LeafOrder::FarthestPoint => {
            points.sort_by(|a, b| distance(a).total_cmp(&distance(b)));
            *points = farthest_points(points, kept.vectors.expect("the stage reads them for this order"), CHOSEN_MAX);
        }
    }
}

/// Points of a leaf that are chosen one by one.
const CHOSEN_MAX: usize = 1024;

/// The first point, then always the one whose nearest among those before it is the farthest (Gonzalez 1985), which compares
/// each point with all that were chosen: so [`CHOSEN_MAX`] are chosen, and the others follow by their distance to the
/// nearest of those, the farthest first. A leaf of m points takes m times that many comparisons, not m squared.
fn farthest_points(points: &[usize], vectors: &Vectors, most: usize) -> Vec<usize> {
    let Some(first) = points.first() else { return Vec::new() };
    let mut order = vec![*first];
    let mut left: Vec<(usize, f32)> = points[1..].iter().map(|point| (*point, f32::NEG_INFINITY)).collect();
    // Of unit length: the larger the cosine, the nearer.
    let note = |left: &mut [(usize, f32)], chosen: usize| {
        left.iter_mut().for_each(|(point, nearest)| *nearest = nearest.max(vectors.cosine(*point, chosen)));
    };
    note(&mut left, *first);
    while order.len() < most {
        let Some(farthest) = (0..left.len()).min_by(|a, b| left[*a].1.total_cmp(&left[*b].1)) else { break };
        let (chosen, _) = left.remove(farthest);
        order.push(chosen);
        note(&mut left, chosen);
    }
    // Sorting is stable: of equals, the one nearer to the centroid comes first.
    left.sort_by(|a, b| a.1.total_cmp(&b.1));
    order.extend(left.into_iter().map(|(point, _)| point));
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn farthest_points_spread_before_they_fill() {
        // On a circle at 0, 10, 20, 180 and 90 degrees; the first is given.
        let angles = [0f32, 10.0, 20.0, 180.0, 90.0];
        let values = angles.iter().flat_map(|a| [a.to_radians().cos(), a.to_radians().sin()]).collect();
        let vectors = Vectors { dim: 2, values };
        let points = [0, 1, 2, 3, 4];
        assert_eq!(farthest_points(&points, &vectors, 9), [0, 3, 4, 2, 1]);
        // Of the first two, 90 degrees lie the farthest from both, then 20.
        assert_eq!(farthest_points(&points, &vectors, 2), [0, 3, 4, 2, 1]);
        assert_eq!(farthest_points(&[3, 1, 2, 0, 4], &vectors, 1), [3, 0, 1, 2, 4]);
    }
}
