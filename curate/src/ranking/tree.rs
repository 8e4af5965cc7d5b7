//! The tree that is ranked: clusters of clusters of kept images, each leaf in its order.

use super::leaf_order::order_leaf;
use super::water_filling::Node;
use crate::clusters::Level;
use crate::fingerprints::Pool;
use crate::input::Vectors;
use lapidary_schemas::Config;
use lapidary_schemas::config::Weight;

/// Where an image was kept from: its leaf, and its place in the leaf's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LeafPlace {
    /// The finest cluster.
    pub(crate) leaf: u32,
    /// From 0, the first to be taken.
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
