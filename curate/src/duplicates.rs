//! From evidence to groups: edges between images, connected components, one representative each.
//!
//! An edge is the strongest evidence that ties two images: the same bytes, a near hash, a near embedding. The
//! representative is the largest image by pixels, ties by digest, then by id; it depends on no order.

use crate::input::{Image, Vectors};
use crate::{Result, hashes, neighbours};
use lapidary_schemas::CopyKind;
use lapidary_schemas::config::CurateConfig;
use std::collections::BTreeMap;

/// Evidence between two images, by index.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Edge {
    /// The one with the smaller index.
    pub a: usize,
    /// The other.
    pub b: usize,
    /// What ties them.
    pub kind: CopyKind,
    /// Cosine of their embeddings.
    pub similarity: f32,
}

/// An image of a duplicate group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Member {
    /// The image's index.
    pub image: usize,
    /// The group's number, from 0 in the order of their smallest image.
    pub group: u32,
    /// The index of the group's representative.
    pub representative: usize,
    /// The strongest evidence that ties the image in.
    pub kind: CopyKind,
    /// Cosine to the representative.
    pub similarity: f32,
    /// Bits in which the hash differs from the representative's.
    pub hash_distance_bits: u32,
    /// The image at the other end of that evidence.
    pub neighbour: usize,
}

/// All evidence among the images, a pair at most once, sorted.
///
/// # Errors
/// When FAISS refuses.
pub fn find_edges(images: &[Image], vectors: &Vectors, config: &CurateConfig) -> Result<Vec<Edge>> {
    let mut strongest: BTreeMap<(usize, usize), (CopyKind, f32)> = BTreeMap::new();
    let mut tie = |a: usize, b: usize, kind: CopyKind, similarity: f32| {
        let kept = strongest.entry((a, b)).or_insert((kind, similarity));
        kept.0 = kept.0.min(kind);
    };
    let mut by_digest: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, image) in images.iter().enumerate() {
        match by_digest.get(image.digest.as_str()) {
            Some(first) => tie(*first, index, CopyKind::Exact, vectors.cosine(*first, index)),
            None => {
                by_digest.insert(&image.digest, index);
            }
        }
    }
    let phashes: Vec<u64> = images.iter().map(|image| image.phash).collect();
    for (a, b, _) in hashes::pairs_within(&phashes, config.hash_max_bits) {
        let similarity = vectors.cosine(a, b);
        if similarity >= config.hash_similarity_min {
            tie(a, b, CopyKind::Perceptual, similarity);
        }
    }
    let near = neighbours::pairs_above(vectors, config.neighbours, config.copy_similarity_min, config.flat_max_images)?;
    for (a, b, similarity) in near {
        tie(a, b, CopyKind::Copy, similarity);
    }
    Ok(strongest.into_iter().map(|((a, b), (kind, similarity))| Edge { a, b, kind, similarity }).collect())
}

/// The groups of two or more images that edges connect, by group then image.
pub fn group(images: &[Image], vectors: &Vectors, edges: &[Edge]) -> Vec<Member> {
    let mut sets = UnionFind::new(images.len());
    edges.iter().for_each(|edge| sets.join(edge.a, edge.b));
    // The strongest evidence at each image: kind first, then similarity, then the neighbour's index.
    let mut strongest: Vec<Option<(CopyKind, f32, usize)>> = vec![None; images.len()];
    for edge in edges {
        for (end, other) in [(edge.a, edge.b), (edge.b, edge.a)] {
            let found = (edge.kind, edge.similarity, other);
            let better = strongest[end].is_none_or(|(kind, similarity, _)| {
                edge.kind < kind || (edge.kind == kind && edge.similarity > similarity)
            });
            if better {
                strongest[end] = Some(found);
            }
        }
    }
    let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for index in 0..images.len() {
        groups.entry(sets.root(index)).or_default().push(index);
    }
    let mut members = Vec::new();
    let of_several = groups.into_values().filter(|group| group.len() > 1);
    for (number, group) in of_several.enumerate() {
        let best = |index: &&usize| {
            let image = &images[**index];
            (std::cmp::Reverse(image.pixels), &image.digest, image.id)
        };
        let representative = *group.iter().min_by_key(best).expect("a group has members");
        for image in group {
            let (kind, _, neighbour) = strongest[image].expect("an image of a group has an edge");
            members.push(Member {
                image,
                group: number as u32,
                representative,
                kind,
                similarity: vectors.cosine(image, representative),
                hash_distance_bits: (images[image].phash ^ images[representative].phash).count_ones(),
                neighbour,
            });
        }
    }
    members
}

/// Disjoint sets; the root of a set is its smallest element, so that roots depend on no order.
struct UnionFind {
    parents: Vec<usize>,
}

impl UnionFind {
    fn new(count: usize) -> Self {
        Self { parents: (0..count).collect() }
    }

    fn root(&mut self, mut element: usize) -> usize {
        while self.parents[element] != element {
            self.parents[element] = self.parents[self.parents[element]];
            element = self.parents[element];
        }
        element
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        self.parents[a.max(b)] = a.min(b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapidary_schemas::ImageId;
    use proptest::prelude::*;

    fn image(index: usize, pixels: u64) -> Image {
        let id = ImageId(index as u64);
        Image { id, digest: format!("{index:064}"), pixels, phash: 0, path: String::new() }
    }

    fn vectors(count: usize) -> Vectors {
        Vectors { dim: 1, values: vec![1.0; count] }
    }

    #[test]
    fn the_largest_image_represents_a_chain_and_the_strongest_edge_is_told() {
        let images = [image(0, 10), image(1, 30), image(2, 20), image(3, 99)];
        let edge = |a, b, kind, similarity| Edge { a, b, kind, similarity };
        let edges =
            [edge(0, 1, CopyKind::Copy, 0.95), edge(1, 2, CopyKind::Perceptual, 0.9), edge(0, 2, CopyKind::Copy, 0.99)];
        let members = group(&images, &vectors(4), &edges);
        assert_eq!(members.len(), 3, "an image without edges is in no group");
        assert!(members.iter().all(|m| m.representative == 1 && m.group == 0));
        assert_eq!((members[0].kind, members[0].neighbour), (CopyKind::Copy, 2));
        assert_eq!((members[2].kind, members[2].neighbour), (CopyKind::Perceptual, 1));
    }

    proptest! {
        #[test]
        fn groups_are_the_components_whatever_the_order_of_edges(
            pairs in prop::collection::vec((0usize..30, 0usize..30), 0..40), turn in 0usize..40,
        ) {
            let images: Vec<Image> = (0..30).map(|i| image(i, 1)).collect();
            let mut edges: Vec<Edge> = pairs.iter().filter(|(a, b)| a != b)
                .map(|(a, b)| Edge { a: *a.min(b), b: *a.max(b), kind: CopyKind::Copy, similarity: 1.0 }).collect();
            let first = group(&images, &vectors(30), &edges);
            let turn = turn.min(edges.len());
            edges.rotate_left(turn);
            let second = group(&images, &vectors(30), &edges);
            let shape = |members: &[Member]| members.iter().map(|m| (m.image, m.group, m.representative)).collect::<Vec<_>>();
            prop_assert_eq!(shape(&first), shape(&second));
            // Labels spread along edges until nothing changes: components, computed another way.
            let mut labels: Vec<usize> = (0..30).collect();
            for _ in 0..30 {
                for edge in &edges {
                    let least = labels[edge.a].min(labels[edge.b]);
                    (labels[edge.a], labels[edge.b]) = (least, least);
                }
            }
            for member in &first {
                for other in &first {
                    prop_assert_eq!(member.group == other.group, labels[member.image] == labels[other.image]);
                }
            }
        }
    }
}
