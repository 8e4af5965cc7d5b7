//! Images with the same bytes: the first of them is looked at for all, and its pairs are passed on to the others.

use super::Pair;
use crate::input::Image;
use lapidary_schemas::CopyKind;
use std::collections::BTreeMap;

/// Images with the same bytes that pairs are passed on to.
pub(super) const CLASS_MAX: usize = 16;

/// Gives the pairs of an image that stands for its exact copies to each of them.
pub(super) fn pass_on_to_exact_copies(found: &mut BTreeMap<(usize, usize), Pair>, first_of: &[usize]) {
    let mut classes: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (image, first) in first_of.iter().enumerate() {
        classes.entry(*first).or_default().push(image);
    }
    let class = |image: usize| classes.get(&image).filter(|class| class.len() <= CLASS_MAX).map_or(&[][..], |c| c);
    let mut passed_on = Vec::new();
    for pair in found.values().filter(|pair| pair.kind != CopyKind::Exact) {
        for a in class(pair.a) {
            for b in class(pair.b).iter().filter(|b| *b != a) {
                let swapped = a > b;
                // Transform and map lead from the smaller index to the larger: a pair the other way around keeps its score alone.
                let copy = if swapped {
                    Pair { a: *b, b: *a, dihedral: None, fit: None, overlap: None, ..*pair }
                } else {
                    Pair { a: *a, b: *b, ..*pair }
                };
                passed_on.push(copy);
            }
        }
    }
    for class in classes.values().filter(|class| (3..=CLASS_MAX).contains(&class.len())) {
        for (i, b) in class.iter().enumerate() {
            passed_on
                .extend(class[1..i.max(1)].iter().map(|a| Pair { score: 1.0, ..Pair::new(*a, *b, CopyKind::Exact) }));
        }
    }
    for pair in passed_on {
        found.entry((pair.a, pair.b)).or_insert(pair);
    }
}

/// For each image the first with the same bytes, those that are not new before the others: itself, when it is that one.
pub(super) fn first_of_each_digest(images: &[Image], is_new: &[bool]) -> Vec<usize> {
    let mut first: BTreeMap<&str, usize> = BTreeMap::new();
    for image in old_first(is_new) {
        first.entry(images[image].digest.as_str()).or_insert(image);
    }
    images.iter().map(|image| first[image.digest.as_str()]).collect()
}

/// All images, those that are not new before the others.
pub(super) fn old_first(is_new: &[bool]) -> Vec<usize> {
    let mut images: Vec<usize> = (0..is_new.len()).collect();
    images.sort_by_key(|image| is_new[*image]);
    images
}
