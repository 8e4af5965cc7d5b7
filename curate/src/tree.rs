//! The tree that is ranked: clusters of clusters of kept images, each leaf in its order.

use crate::clusters::Level;
use crate::input::Vectors;
use crate::pool::Pool;
use crate::ranking::Node;
use lapidary_pipeline::random::{Purpose, Rng, keyed};
use lapidary_schemas::Config;
use lapidary_schemas::config::{LeafOrder, Weight};

/// Where an image was kept from: its leaf, and its place in the leaf's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LeafPlace {
    /// The finest cluster.
    pub(crate) leaf: u32,
    /// From 0, the first to be given away.
    pub(crate) position: u32,
}

/// The tree of kept images (indices into `pool`), each leaf in its order, and each image's place in it.
///
/// `vectors` and `levels` are of the kept images, in their order; `relevance` is indexed like the pool's images.
pub(crate) fn tree_of(
    pool: &Pool,
    kept: &[usize],
    vectors: &Vectors,
    levels: &[Level],
    relevance: &[Option<f32>],
    config: &Config,
) -> (Node, Vec<Option<LeafPlace>>) {
    let mut places = vec![None; pool.images.len()];
    let Some(finest) = levels.first() else { return (Node::Leaf(Vec::new()), places) };
    let leaves = leaves_of(finest);
    let mut nodes: Vec<Node> = Vec::with_capacity(leaves.len());
    for (leaf, mut points) in leaves.into_iter().enumerate() {
        let id = |point: usize| pool.images[kept[point]].id.0;
        order_leaf(&mut points, &finest.distances, vectors, id, config);
        // Sorting is stable: among equals the leaf's order stays.
        match config.curate.weight {
            Weight::None => {}
            Weight::Quality => points.sort_by_key(|point| pool.issues[kept[*point]].len()),
            Weight::Relevance => points.sort_by(|a, b| {
                let relevance = |point: usize| relevance[kept[point]].unwrap_or(f32::NEG_INFINITY);
                relevance(*b).total_cmp(&relevance(*a))
            }),
        }
        for (position, point) in points.iter().enumerate() {
            places[kept[*point]] = Some(LeafPlace { leaf: leaf as u32, position: position as u32 });
        }
        nodes.push(Node::Leaf(points.into_iter().map(|point| kept[point]).collect()));
    }
    (inner_nodes(nodes, levels), places)
}

/// The tree of all points of a clustering, each leaf from the nearest to its centroid to the farthest.
pub fn ranking_tree(levels: &[Level]) -> Node {
    let Some(finest) = levels.first() else { return Node::Leaf(Vec::new()) };
    let mut leaves = leaves_of(finest);
    for points in &mut leaves {
        points.sort_by(|a, b| finest.distances[*a].total_cmp(&finest.distances[*b]));
    }
    inner_nodes(leaves.into_iter().map(Node::Leaf).collect(), levels)
}

/// The points of each finest cluster, in their order.
fn leaves_of(finest: &Level) -> Vec<Vec<usize>> {
    let mut leaves: Vec<Vec<usize>> = vec![Vec::new(); finest.centroids.len()];
    for (point, cluster) in finest.assignment.iter().enumerate() {
        leaves[*cluster as usize].push(point);
    }
    leaves
}

/// The tree above its leaves.
fn inner_nodes(mut nodes: Vec<Node>, levels: &[Level]) -> Node {
    for level in &levels[1..] {
        let mut parents: Vec<Vec<Node>> = vec![Vec::new(); level.centroids.len()];
        for (node, parent) in nodes.into_iter().zip(&level.assignment) {
            parents[*parent as usize].push(node);
        }
        nodes = parents.into_iter().map(Node::Inner).collect();
    }
    Node::Inner(nodes)
}

/// Brings a leaf's points, which come in the order of ids, into the configured order; ties stay in the order of ids.
fn order_leaf(
    points: &mut Vec<usize>,
    distances: &[f32],
    vectors: &Vectors,
    id: impl Fn(usize) -> u64,
    config: &Config,
) {
    let distance = |point: &usize| distances[*point];
    match config.curate.leaf_order {
        LeafOrder::Nearest => points.sort_by(|a, b| distance(a).total_cmp(&distance(b))),
        LeafOrder::Farthest => points.sort_by(|a, b| distance(b).total_cmp(&distance(a))),
        LeafOrder::Random => {
            points.sort_by_cached_key(|point| keyed(config.seed, Purpose::LeafOrder, id(*point), 0).next_u64())
        }
        LeafOrder::FarthestPoint => {
            points.sort_by(|a, b| distance(a).total_cmp(&distance(b)));
            *points = farthest_points(points, vectors);
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
