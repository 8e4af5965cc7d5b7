//! Images with the same bytes: the first of them is looked at for all, and its pairs are passed on to the others.

use super::Pair;
use crate::input::Image;
use lapidary_schemas::CopyKind;
use std::collections::{BTreeMap, HashMap};

/// Images with the same bytes that pairs are passed on to.
pub(super) const CLASS_MAX: usize = 16;

/// Images with the same bytes, of which there are two or more.
pub(super) struct Classes<'a> {
    first_of: &'a [u32],
    /// By their first.
    members: HashMap<u32, Vec<u32>>,
}

impl<'a> Classes<'a> {
    /// From the first of each image's class.
    pub(super) fn of(first_of: &'a [u32]) -> Self {
        let mut members: HashMap<u32, Vec<u32>> = HashMap::new();
        for (image, first) in first_of.iter().enumerate().filter(|(image, first)| *image != **first as usize) {
            members.entry(*first).or_insert_with(|| vec![*first]).push(image as u32);
        }
        members.values_mut().for_each(|class| class.sort_unstable());
        Self { first_of, members }
    }

    /// The pairs that link the images of a class to each other, but for those with its first.
    pub(super) fn pairs(&self) -> impl Iterator<Item = Pair> {
        let small = self.members.iter().filter(|(_, class)| (3..=CLASS_MAX).contains(&class.len()));
        small.flat_map(|(_, class)| {
            class.iter().enumerate().flat_map(|(i, b)| {
                let before = class[1..i.max(1)].iter();
                before.map(|a| Pair { score: 1.0, ..Pair::new(*a as usize, *b as usize, CopyKind::Exact) })
            })
        })
    }

    fn class(&self, image: usize) -> Vec<usize> {
        // Images of a class that is not represented by them have no pairs to pass on.
        if self.first_of[image] as usize != image {
            return Vec::new();
        }
        match self.members.get(&(image as u32)) {
            Some(class) if class.len() > CLASS_MAX => Vec::new(),
            Some(class) => class.iter().map(|image| *image as usize).collect(),
            None => vec![image],
        }
    }

    /// The pair of each two images that have the same bytes as those of a pair, itself among them.
    pub(super) fn passed_on(&self, pair: &Pair) -> Vec<Pair> {
        if pair.kind == CopyKind::Exact {
            return Vec::new();
        }
        let of_b = self.class(pair.b);
        let mut passed_on = Vec::new();
        for a in self.class(pair.a) {
            for b in of_b.iter().copied().filter(|b| *b != a) {
                // Transform and map lead from the smaller index to the larger: a pair the other way around keeps its
                // score alone.
                passed_on.push(if a > b {
                    Pair { a: b, b: a, dihedral: None, fit: None, overlap: None, ..*pair }
                } else {
                    Pair { a, b, ..*pair }
                });
            }
        }
        passed_on
    }
}

/// For each image the first with the same bytes, those that are not new before the others: itself, when it is that one.
pub(super) fn first_of_each_digest(images: &[Image], is_new: &[bool]) -> Vec<u32> {
    let mut first: BTreeMap<&str, usize> = BTreeMap::new();
    for image in old_first(is_new) {
        first.entry(images[image].digest.as_str()).or_insert(image);
    }
    images.iter().map(|image| first[image.digest.as_str()] as u32).collect()
}

/// All images, those that are not new before the others.
pub(super) fn old_first(is_new: &[bool]) -> Vec<usize> {
    let mut images: Vec<usize> = (0..is_new.len()).collect();
    images.sort_by_key(|image| is_new[*image]);
    images
}
