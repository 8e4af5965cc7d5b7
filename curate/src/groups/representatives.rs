//! Who represents a group, and who goes.

use crate::input::Image;
use lapidary_schemas::ImageId;
use lapidary_schemas::config::Removal;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// The order in which images are considered, the first the most worth keeping.
pub(super) fn priority(image: &Image) -> (Reverse<u64>, &str, ImageId) {
    (Reverse(image.pixels), &image.digest, image.id)
}

/// Who represents each image of a group, itself when it stays; `by_priority` is sorted by [`priority`].
pub(super) fn representatives(
    by_priority: &[usize],
    neighbours: &[Vec<usize>],
    removal: Removal,
) -> BTreeMap<usize, usize> {
    let place: BTreeMap<usize, usize> = by_priority.iter().enumerate().map(|(place, image)| (*image, place)).collect();
    let mut representative_of: BTreeMap<usize, usize> = BTreeMap::new();
    for (here, image) in by_priority.iter().enumerate() {
        // Earlier images that are linked to this one, those of the highest priority first.
        let mut before: Vec<usize> =
            neighbours[*image].iter().filter_map(|other| place.get(other)).filter(|p| **p < here).copied().collect();
        before.sort_unstable();
        let found = match removal {
            Removal::Components => (here > 0).then_some(by_priority[0]),
            Removal::Leader => before.iter().map(|p| by_priority[*p]).find(|other| representative_of[other] == *other),
            Removal::Semdedup => before.first().map(|p| representative_of[&by_priority[*p]]),
        };
        representative_of.insert(*image, found.unwrap_or(*image));
    }
    representative_of
}
