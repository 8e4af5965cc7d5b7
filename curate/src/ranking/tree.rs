//! The tree that is ranked: clusters of clusters of kept images, each leaf in its order.

use super::leaf_order::order_leaf;
use super::water_filling::Node;
use crate::clusters::Level;
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

/// The kept images, in the order of their ids: what orders a leaf's images.
pub(crate) struct Kept<'a> {
    /// Their ids.
    pub(crate) ids: &'a [u64],
    /// How many quality issues each has.
    pub(crate) issues: &'a [usize],
    /// The cosine of each to the nearest seed that retrieved it.
    pub(crate) relevance: &'a [Option<f32>],
    /// Their embeddings; only `curate.leaf_order = "farthest-point"` needs them.
    pub(crate) vectors: Option<&'a Vectors>,
}

/// The tree of kept images (as indices of the kept), each leaf in its order, and each kept image's place in it.
/// `levels` are of the kept images, in their order.
pub(crate) fn tree_of(kept: &Kept<'_>, levels: &[Level], config: &Config) -> (Node, Vec<Option<LeafPlace>>) {
    let mut places = vec![None; kept.ids.len()];
    let Some(finest) = levels.first() else { return (Node::Leaf(Vec::new()), places) };
    let leaves = leaves_of(finest);
    let mut nodes: Vec<Node> = Vec::with_capacity(leaves.len());
    for (leaf, mut points) in leaves.into_iter().enumerate() {
        order_leaf(&mut points, &finest.distances, kept, config);
        // Sorting is stable: among equals the leaf's order stays.
        match config.curate.weight {
            Weight::None => {}
            Weight::Quality => points.sort_by_key(|point| kept.issues[*point]),
            Weight::Relevance => points.sort_by(|a, b| {
                let relevance = |point: usize| kept.relevance[point].unwrap_or(f32::NEG_INFINITY);
                relevance(*b).total_cmp(&relevance(*a))
            }),
        }
        for (position, point) in points.iter().enumerate() {
            places[*point] = Some(LeafPlace { leaf: leaf as u32, position: position as u32 });
        }
        nodes.push(Node::Leaf(points));
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
