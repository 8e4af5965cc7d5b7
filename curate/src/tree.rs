//! The tree that is ranked: clusters of clusters of kept images, each leaf in its order.

use crate::clusters::Level;
use crate::input::Image;
use crate::ranking::Node;
use lapidary_pipeline::random::{Purpose, Rng, keyed};
use lapidary_schemas::Config;
use lapidary_schemas::config::LeafOrder;

/// Where an image was kept from: its leaf, and its place in the leaf's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LeafPlace {
    /// The finest cluster.
    pub(crate) leaf: u32,
    /// From 0, the first to be given away.
    pub(crate) position: u32,
}

/// The tree of kept images, each leaf in its order, and each image's place in it (indexed like `images`).
pub(crate) fn tree_of(
    images: &[Image],
    kept: &[usize],
    levels: &[Level],
    config: &Config,
) -> (Node, Vec<Option<LeafPlace>>) {
    let mut places = vec![None; images.len()];
    let Some(finest) = levels.first() else { return (Node::Leaf(Vec::new()), places) };
    let mut leaves: Vec<Vec<usize>> = vec![Vec::new(); finest.centroids.len()];
    for (point, cluster) in finest.assignment.iter().enumerate() {
        leaves[*cluster as usize].push(point);
    }
    let mut nodes: Vec<Node> = Vec::with_capacity(leaves.len());
    for (leaf, mut points) in leaves.into_iter().enumerate() {
        let distance = |point: &usize| finest.distances[*point];
        // Ties by image id: points are in the order of ids, and sorting is stable.
        match config.curate.leaf_order {
            LeafOrder::Nearest => points.sort_by(|a, b| distance(a).total_cmp(&distance(b))),
            LeafOrder::Farthest => points.sort_by(|a, b| distance(b).total_cmp(&distance(a))),
            LeafOrder::Random => points.sort_by_cached_key(|point| {
                keyed(config.seed, Purpose::LeafOrder, images[kept[*point]].id.0, 0).next_u64()
            }),
        }
        for (position, point) in points.iter().enumerate() {
            places[kept[*point]] = Some(LeafPlace { leaf: leaf as u32, position: position as u32 });
        }
        nodes.push(Node::Leaf(points.into_iter().map(|point| kept[point]).collect()));
    }
    for level in &levels[1..] {
        let mut parents: Vec<Vec<Node>> = vec![Vec::new(); level.centroids.len()];
        for (node, parent) in nodes.into_iter().zip(&level.assignment) {
            parents[*parent as usize].push(node);
        }
        nodes = parents.into_iter().map(Node::Inner).collect();
    }
    (Node::Inner(nodes), places)
}
