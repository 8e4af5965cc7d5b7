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
            *points = farthest_points(points, kept.vectors.expect("the stage reads them for this order"));
        }
    }
}

/// The first point, then always the one whose nearest among those before it is the farthest (Gonzalez 1985).
fn farthest_points(points: &[usize], vectors: &Vectors) -> Vec<usize> {
    let Some(first) = points.first() else { return Vec::new() };
    let mut order = vec![*first];
    let mut left: Vec<(usize, f32)> = points[1..].iter().map(|point| (*point, f32::NEG_INFINITY)).collect();
    while !left.is_empty() {
        let last = order[order.len() - 1];
        for (point, nearest) in &mut left {
            // Of unit length: the larger the cosine, the nearer.
            *nearest = nearest.max(vectors.cosine(*point, last));
        }
        let farthest = (0..left.len()).min_by(|a, b| left[*a].1.total_cmp(&left[*b].1)).expect("some are left");
        order.push(left.remove(farthest).0);
    }
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
        assert_eq!(farthest_points(&[0, 1, 2, 3, 4], &vectors), [0, 3, 4, 2, 1]);
    }
}
