//! From pairs to groups: connected components, one representative each, and who goes.
//!
//! Images have a priority: the largest by pixels, then by digest, then by id, collages last; it depends on no order.
//! The first of a group represents it. Three rules say who goes; on a chain A ~ B ~ C without A ~ C, in this order,
//! `components` keeps A, `leader` keeps A and C, `semdedup` keeps A (B is linked to A; C to B, gone or not).
//!
//! References are images of evaluation sets. A group that holds one is dropped whole.

use super::collages::collage_edges;
use super::representatives::{priority, representatives};
use crate::input::Image;
use crate::pairs::{Compared, Pair, UnionFind};
use lapidary_schemas::CopyKind;
use lapidary_schemas::config::{CurateConfig, Removal};
use std::collections::BTreeMap;

/// The connected components of `count` items: for each the smallest item of its component, whatever the order of the
/// pairs.
pub fn components(count: usize, pairs: impl IntoIterator<Item = (usize, usize)>) -> Vec<usize> {
    let mut sets = UnionFind::new(count);
    pairs.into_iter().for_each(|(a, b)| sets.join(a, b));
    (0..count).map(|item| sets.root(item)).collect()
}

/// An image of a duplicate group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Member {
    /// The image's index.
    pub image: usize,
    /// The group's number, from 0 in the order of their smallest image.
    pub group: u32,
    /// The image that stands for it: itself, when it stays.
    pub representative: usize,
    /// The strongest pair that links the image to its group, by its index among the pairs.
    pub pair: usize,
    /// The image at the other end of that pair.
    pub neighbour: usize,
    /// The kind of that pair's evidence.
    pub kind: CopyKind,
    /// An image of an evaluation set that the group holds.
    pub contaminates: Option<usize>,
}

impl Member {
    /// Whether it is kept.
    pub fn stays(&self) -> bool {
        self.representative == self.image && self.contaminates.is_none()
    }
}

/// The groups of what was compared, by the configured scores and rule.
pub(crate) fn members_of(compared: &Compared, pairs: &[Pair], config: &CurateConfig) -> Vec<Member> {
    let references_from = compared.references_from;
    let is_edge = |pair: &Pair| {
        let against_a_reference = pair.b >= references_from && pair.a < references_from;
        pair.score >= if against_a_reference { config.against_score_min } else { config.score_min }
    };
    group(&compared.images, &compared.sizes, pairs, is_edge, config.removal, references_from)
}

/// The groups of two or more images that edges link, by group then image. Images from `references_from` on are
/// references: they link, but are no members. `sizes` are those of the working images.
pub(crate) fn group(
    images: &[Image],
    sizes: &[(f32, f32)],
    pairs: &[Pair],
    is_edge: impl Fn(&Pair) -> bool,
    removal: Removal,
    references_from: usize,
) -> Vec<Member> {
    let mut sets = UnionFind::new(images.len());
    let mut edges: Vec<(usize, &Pair)> = pairs.iter().enumerate().filter(|(_, pair)| is_edge(pair)).collect();
    let (left_out, collages) = collage_edges(&edges, sizes);
    edges.retain(|(index, _)| !left_out.contains(index));
    edges.iter().for_each(|(_, pair)| sets.join(pair.a, pair.b));
    // The strongest pair at each image: by score, then kind, then the pair's place.
    let mut strongest: Vec<Option<usize>> = vec![None; images.len()];
    let mut neighbours: Vec<Vec<usize>> = vec![Vec::new(); images.len()];
    for (index, pair) in &edges {
        for (end, other) in [(pair.a, pair.b), (pair.b, pair.a)] {
            neighbours[end].push(other);
            let better = strongest[end].is_none_or(|before| {
                let before = &pairs[before];
                pair.score > before.score || (pair.score == before.score && pair.kind < before.kind)
            });
            if better {
                strongest[end] = Some(*index);
            }
        }
    }
    let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for index in 0..images.len() {
        groups.entry(sets.root(index)).or_default().push(index);
    }
    let mut members = Vec::new();
    let of_several = groups.into_values().filter(|group| group.len() > 1 && group[0] < references_from);
    for (number, group) in of_several.enumerate() {
        let contaminates = group.iter().copied().find(|image| *image >= references_from);
        let mut by_priority: Vec<usize> = group.iter().copied().filter(|image| *image < references_from).collect();
        by_priority.sort_by_key(|image| (collages.contains(image), priority(&images[*image])));
        let representative_of = representatives(&by_priority, &neighbours, removal);
        for image in group.into_iter().filter(|image| *image < references_from) {
            let pair = strongest[image].expect("an image of a group has a pair");
            let neighbour = if pairs[pair].a == image { pairs[pair].b } else { pairs[pair].a };
            let representative = representative_of[&image];
            members.push(Member {
                image,
                group: number as u32,
                representative,
                pair,
                neighbour,
                kind: pairs[pair].kind,
                contaminates,
            });
        }
    }
    members
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapidary_schemas::ImageId;
    use proptest::prelude::*;

    fn image(index: usize, pixels: u64) -> Image {
        Image { id: ImageId(index as u64), digest: format!("{index:064}"), pixels, ..Image::default() }
    }

    fn pair(a: usize, b: usize, kind: CopyKind, score: f32) -> Pair {
        Pair { score, ..Pair::new(a.min(b), a.max(b), kind) }
    }

    fn grouped(images: &[Image], pairs: &[Pair], removal: Removal) -> Vec<Member> {
        group(images, &vec![(1.0, 1.0); images.len()], pairs, |pair| pair.score >= 0.5, removal, images.len())
    }

    #[test]
    fn the_largest_image_represents_a_chain_and_the_strongest_pair_is_named() {
        let images = [image(0, 10), image(1, 30), image(2, 20), image(3, 99)];
        let pairs = [
            pair(0, 1, CopyKind::Copy, 0.6),
            pair(0, 2, CopyKind::Copy, 0.7),
            pair(1, 2, CopyKind::Perceptual, 0.9),
            pair(2, 3, CopyKind::Local, 0.4),
        ];
        let members = grouped(&images, &pairs, Removal::Components);
        assert_eq!(members.len(), 3, "an image without edges is in no group");
        assert!(members.iter().all(|m| m.representative == 1 && m.group == 0));
        assert_eq!((members[0].kind, members[0].neighbour), (CopyKind::Copy, 2));
        assert_eq!((members[2].kind, members[2].neighbour), (CopyKind::Perceptual, 1));
    }

    /// spec/curation.md section 8, test 13.
    #[test]
    fn three_rules_on_a_chain() {
        // A ~ B ~ C, A of the highest priority.
        let images = [image(0, 30), image(1, 20), image(2, 10)];
        let pairs = [pair(0, 1, CopyKind::Copy, 0.9), pair(1, 2, CopyKind::Copy, 0.9)];
        let kept = |removal| -> Vec<usize> {
            grouped(&images, &pairs, removal).iter().filter(|m| m.stays()).map(|m| m.image).collect()
        };
        assert_eq!(kept(Removal::Components), [0]);
        assert_eq!(kept(Removal::Semdedup), [0]);
        assert_eq!(kept(Removal::Leader), [0, 2]);
    }

    #[test]
    fn a_group_that_holds_a_reference_goes_whole() {
        let images = [image(0, 30), image(1, 20), image(2, 10), image(3, 10), image(4, 99), image(5, 99)];
        // 4 and 5 are references, copies of each other; 4 is a copy of 1, which is one of 0.
        let links = [(0, 1), (1, 4), (2, 3), (4, 5)].map(|(a, b)| pair(a, b, CopyKind::Copy, 0.9));
        let members = group(&images, &[(1.0, 1.0); 6], &links, |_| true, Removal::Components, 4);
        assert_eq!(members.iter().map(|m| m.image).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!(members.iter().map(|m| m.contaminates).collect::<Vec<_>>(), [Some(4), Some(4), None, None]);
        assert_eq!(members.iter().filter(|m| m.stays()).map(|m| m.image).collect::<Vec<_>>(), [2]);
    }

    proptest! {
        #[test]
        fn groups_are_the_components_whatever_the_order_of_pairs(
            ends in prop::collection::vec((0usize..30, 0usize..30), 0..40), by in 0usize..40,
        ) {
            let images: Vec<Image> = (0..30).map(|i| image(i, 1)).collect();
            let mut pairs: Vec<Pair> = ends.iter().filter(|(a, b)| a != b)
                .map(|(a, b)| pair(*a, *b, CopyKind::Copy, 0.8)).collect();
            let shape = |pairs: &[Pair], removal| -> Vec<(usize, u32, usize)> {
                grouped(&images, pairs, removal).iter().map(|m| (m.image, m.group, m.representative)).collect()
            };
            let rotated = { let mut rotated = pairs.clone(); rotated.rotate_left(by.min(pairs.len())); rotated };
            for removal in [Removal::Components, Removal::Leader, Removal::Semdedup] {
                prop_assert_eq!(shape(&pairs, removal), shape(&rotated, removal));
            }
            // Components by flooding, without the forest.
            let mut label: Vec<usize> = (0..30).collect();
            for _ in 0..30 {
                for pair in &pairs {
                    let low = label[pair.a].min(label[pair.b]);
                    (label[pair.a], label[pair.b]) = (low, low);
                }
            }
            let members = grouped(&images, &pairs, Removal::Components);
            for a in &members {
                for b in &members {
                    prop_assert_eq!(a.group == b.group, label[a.image] == label[b.image]);
                }
            }
            // By the greedy leader no two that stay are linked, and who goes is linked to one that stays.
            let members = grouped(&images, &pairs, Removal::Leader);
            let stays: Vec<usize> = members.iter().filter(|m| m.stays()).map(|m| m.image).collect();
            pairs.retain(|pair| stays.contains(&pair.a) && stays.contains(&pair.b));
            prop_assert!(pairs.is_empty());
        }
    }
}
