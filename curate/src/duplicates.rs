//! From pairs to groups: connected components, one representative each, and who goes.
//!
//! Images are asked in the order of their worth: the largest by pixels, ties by digest, then by id, collages last; it
//! depends on no order.
//! The first of a group represents it. Three rules say who goes; on a chain A ~ B ~ C without A ~ C, asked in this order,
//! `components` keeps A, `leader` keeps A and C, `semdedup` keeps A (B ties to A; C ties to B, gone or not).
//!
//! References are images of evaluation sets. A group that holds one is dropped whole.

use crate::collages::loose_ties;
use crate::evidence::Pair;
use crate::input::Image;
use crate::union_find::UnionFind;
use lapidary_schemas::CopyKind;
use lapidary_schemas::config::Removal;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// An image of a duplicate group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Member {
    /// The image's index.
    pub image: usize,
    /// The group's number, from 0 in the order of their smallest image.
    pub group: u32,
    /// The image that stands for it: itself, when it stays.
    pub representative: usize,
    /// The strongest pair that ties the image in, by its index among the pairs.
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

/// The groups of two or more images that pairs tie, by group then image. Images from `references_from` on are references:
/// they tie, but are no members. `sizes` are those of the working images.
pub(crate) fn group(
    images: &[Image],
    sizes: &[(f32, f32)],
    pairs: &[Pair],
    ties: impl Fn(&Pair) -> bool,
    removal: Removal,
    references_from: usize,
) -> Vec<Member> {
    let mut sets = UnionFind::new(images.len());
    let mut tied: Vec<(usize, &Pair)> = pairs.iter().enumerate().filter(|(_, pair)| ties(pair)).collect();
    let (loose, collages) = loose_ties(&tied, sizes);
    tied.retain(|(index, _)| !loose.contains(index));
    tied.iter().for_each(|(_, pair)| sets.join(pair.a, pair.b));
    // The strongest pair at each image: by score, then kind, then the pair's place.
    let mut strongest: Vec<Option<usize>> = vec![None; images.len()];
    let mut neighbours: Vec<Vec<usize>> = vec![Vec::new(); images.len()];
    for (index, pair) in &tied {
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
        let mut asked: Vec<usize> = group.iter().copied().filter(|image| *image < references_from).collect();
        asked.sort_by_key(|image| (collages.contains(image), worth(&images[*image])));
        let standing = representatives(&asked, &neighbours, removal);
        for image in group.into_iter().filter(|image| *image < references_from) {
            let pair = strongest[image].expect("an image of a group has a pair");
            let neighbour = if pairs[pair].a == image { pairs[pair].b } else { pairs[pair].a };
            let representative = standing[&image];
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

/// The order in which images are asked, the first the most worth keeping.
fn worth(image: &Image) -> (Reverse<u64>, &str, lapidary_schemas::ImageId) {
    (Reverse(image.pixels), &image.digest, image.id)
}

/// Who stands for each image of a group, itself when it stays; `asked` is in the order of worth.
fn representatives(asked: &[usize], neighbours: &[Vec<usize>], removal: Removal) -> BTreeMap<usize, usize> {
    let place: BTreeMap<usize, usize> = asked.iter().enumerate().map(|(place, image)| (*image, place)).collect();
    let mut standing: BTreeMap<usize, usize> = BTreeMap::new();
    for (here, image) in asked.iter().enumerate() {
        // Earlier images that tie to this one, the most worth first.
        let mut before: Vec<usize> =
            neighbours[*image].iter().filter_map(|other| place.get(other)).filter(|p| **p < here).copied().collect();
        before.sort_unstable();
        let found = match removal {
            Removal::Components => (here > 0).then_some(asked[0]),
            Removal::Leader => before.iter().map(|p| asked[*p]).find(|other| standing[other] == *other),
            Removal::Semdedup => before.first().map(|p| standing[&asked[*p]]),
        };
        standing.insert(*image, found.unwrap_or(*image));
    }
    standing
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
    fn the_largest_image_represents_a_chain_and_the_strongest_pair_is_told() {
        let images = [image(0, 10), image(1, 30), image(2, 20), image(3, 99)];
        let pairs = [
            pair(0, 1, CopyKind::Copy, 0.6),
            pair(0, 2, CopyKind::Copy, 0.7),
            pair(1, 2, CopyKind::Perceptual, 0.9),
            pair(2, 3, CopyKind::Local, 0.4),
        ];
        let members = grouped(&images, &pairs, Removal::Components);
        assert_eq!(members.len(), 3, "an image without ties is in no group");
        assert!(members.iter().all(|m| m.representative == 1 && m.group == 0));
        assert_eq!((members[0].kind, members[0].neighbour), (CopyKind::Copy, 2));
        assert_eq!((members[2].kind, members[2].neighbour), (CopyKind::Perceptual, 1));
    }

    /// spec/curation.md section 8, test 13.
    #[test]
    fn three_rules_on_a_chain() {
        // A ~ B ~ C, A asked first.
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
        let ties = [(0, 1), (1, 4), (2, 3), (4, 5)].map(|(a, b)| pair(a, b, CopyKind::Copy, 0.9));
        let members = group(&images, &[(1.0, 1.0); 6], &ties, |_| true, Removal::Components, 4);
        assert_eq!(members.iter().map(|m| m.image).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!(members.iter().map(|m| m.contaminates).collect::<Vec<_>>(), [Some(4), Some(4), None, None]);
        assert_eq!(members.iter().filter(|m| m.stays()).map(|m| m.image).collect::<Vec<_>>(), [2]);
    }

    proptest! {
        #[test]
        fn groups_are_the_components_whatever_the_order_of_pairs(
            ends in prop::collection::vec((0usize..30, 0usize..30), 0..40), turn in 0usize..40,
        ) {
            let images: Vec<Image> = (0..30).map(|i| image(i, 1)).collect();
            let mut pairs: Vec<Pair> = ends.iter().filter(|(a, b)| a != b)
                .map(|(a, b)| pair(*a, *b, CopyKind::Copy, 0.8)).collect();
            let shape = |pairs: &[Pair], removal| -> Vec<(usize, u32, usize)> {
                grouped(&images, pairs, removal).iter().map(|m| (m.image, m.group, m.representative)).collect()
            };
            let turned = { let turn = turn.min(pairs.len()); let mut turned = pairs.clone(); turned.rotate_left(turn); turned };
            for removal in [Removal::Components, Removal::Leader, Removal::Semdedup] {
                prop_assert_eq!(shape(&pairs, removal), shape(&turned, removal));
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
            // By the greedy leader no two that stay tie, and who goes ties to one that stays.
            let members = grouped(&images, &pairs, Removal::Leader);
            let stays: Vec<usize> = members.iter().filter(|m| m.stays()).map(|m| m.image).collect();
            pairs.retain(|pair| stays.contains(&pair.a) && stays.contains(&pair.b));
            prop_assert!(pairs.is_empty());
        }
    }
}
