//! Candidates among uniform images, whose hashes are all alike: pairs of one colour, linear in the images.

use crate::fingerprints::{LEVELS_APART_MAX, is_same_colour};
use std::collections::BTreeMap;

/// Levels across a cell of colours: those of one cell are alike.
const CELL: u8 = LEVELS_APART_MAX / 2;
/// Pairs of uniform images of like colours, at least one of them new, that join all of a colour: each with the first of
/// its cell of colours, and the firsts of near cells with each other. Linear in the images. Those that are not new come
/// first.
pub(crate) fn pairs_of_a_colour(images: &[(usize, [u8; 3])], is_new: &[bool]) -> Vec<(usize, usize)> {
    let mut first_of: BTreeMap<[u8; 3], (usize, [u8; 3])> = BTreeMap::new();
    let mut pairs = Vec::new();
    for (image, colour) in images {
        let (first, _) = *first_of.entry(colour.map(|level| level / CELL)).or_insert((*image, *colour));
        pairs.push((first, *image));
    }
    // Colours within the limit lie at most two cells apart.
    let near = |cell: u8| cell.saturating_sub(2)..=cell.saturating_add(2);
    for ([r, g, b], (first, colour)) in &first_of {
        for cell in near(*r).flat_map(|r| near(*g).flat_map(move |g| near(*b).map(move |b| [r, g, b]))) {
            let other = first_of.get(&cell).filter(|(_, other)| is_same_colour(*colour, *other));
            pairs.extend(other.map(|(other, _)| (*first, *other)));
        }
    }
    pairs.retain(|(a, b)| a != b && (is_new[*a] || is_new[*b]));
    let mut pairs: Vec<(usize, usize)> = pairs.into_iter().map(|(a, b)| (a.min(b), a.max(b))).collect();
    pairs.sort_unstable();
    pairs.dedup();
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pairs::UnionFind;
    use proptest::prelude::*;

    #[test]
    fn many_images_of_few_colours_bring_few_pairs() {
        let images: Vec<(usize, [u8; 3])> =
            (0..10_000).map(|i| (i, [[0; 3], [0, 0, 90], [250, 0, 7]][i % 3])).collect();
        assert_eq!(pairs_of_a_colour(&images, &[true; 10_000]).len(), 10_000 - 3);
        let only_new: Vec<bool> = (0..10_000).map(|i| i >= 9_990).collect();
        assert_eq!(pairs_of_a_colour(&images, &only_new).len(), 10);
    }

    proptest! {
        #[test]
        fn they_join_what_lies_within_a_cell_and_nothing_that_differs(
            colours in prop::collection::vec([0u8..40, 0u8..40, 0u8..9], 1..60)
        ) {
            let images: Vec<(usize, [u8; 3])> = colours.iter().copied().enumerate().collect();
            let pairs = pairs_of_a_colour(&images, &vec![true; images.len()]);
            let mut groups = UnionFind::new(images.len());
            for (a, b) in pairs {
                prop_assert!(a < b && is_same_colour(colours[a], colours[b]));
                groups.join(a, b);
            }
            for (a, x) in colours.iter().enumerate() {
                for (b, y) in colours.iter().enumerate() {
                    let nearly_equal = x.map(|level| level / CELL) == y.map(|level| level / CELL);
                    prop_assert!(!nearly_equal || groups.root(a) == groups.root(b));
                }
            }
        }
    }
}
