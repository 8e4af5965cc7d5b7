//! Candidates by perceptual hash: 64 bits as they are, 256 bits in all eight dihedral transforms, uniform images by
//! colour.

use super::colours::pairs_of_a_colour;
use super::exact::old_first;
use super::multi_index::{matches_within, pairs_within};
use crate::fingerprints::{Dihedral, ImageSet};
use lapidary_schemas::config::CurateConfig;
use std::collections::BTreeMap;

/// Pairs `(a, b, dihedral, bits)` of images whose hashes are near, `a` transformed, at least one of them new.
pub(super) fn near_hashes(
    set: ImageSet<'_>,
    is_new: &[bool],
    config: &CurateConfig,
    stands_alone: &dyn Fn(usize) -> bool,
) -> Vec<(usize, usize, Dihedral, u32)> {
    let bits = |a: usize, b: usize, dihedral: Dihedral| {
        set.prints[a].pdq.by_dihedral[dihedral as usize].distance_bits(&set.prints[b].pdq.by_dihedral[0])
    };
    let in_order: Vec<usize> = old_first(is_new).into_iter().filter(|image| stands_alone(*image)).collect();
    let mut near = Vec::new();
    let short: Vec<(usize, [u64; 1])> = in_order.iter().map(|image| (*image, [set.images[*image].phash])).collect();
    for (a, b) in distinct(&short, is_new, config.hash_max_bits) {
        near.push((a, b, Dihedral::None, bits(a, b, Dihedral::None)));
    }
    // Of equal hashes only the first is looked at: uniform images have one hash and many colours.
    let uniform: Vec<(usize, [u8; 3])> = in_order
        .iter()
        .filter(|image| set.prints[**image].thumbnail.is_uniform())
        .map(|image| (*image, set.prints[*image].mean_rgb))
        .collect();
    for (a, b) in pairs_of_a_colour(&uniform, is_new) {
        near.push((a, b, Dihedral::None, bits(a, b, Dihedral::None)));
    }
    // The images with enough in them; of those with equal hashes, the first represents all.
    let is_hashable = |image: &usize| set.prints[*image].pdq.quality >= config.pdq_quality_min;
    let images: Vec<usize> = in_order.into_iter().filter(is_hashable).collect();
    let transformed = |images: &[usize], dihedral: Dihedral| -> Vec<[u64; 4]> {
        images.iter().map(|image| set.prints[*image].pdq.by_dihedral[dihedral as usize].0).collect()
    };
    let long: Vec<(usize, [u64; 4])> = images.iter().copied().zip(transformed(&images, Dihedral::None)).collect();
    for (a, b) in distinct(&long, is_new, config.pdq_max_bits) {
        near.push((a, b, Dihedral::None, bits(a, b, Dihedral::None)));
    }
    let (old, new) = images.split_at(images.partition_point(|image| !is_new[*image]));
    for dihedral in Dihedral::ALL.into_iter().skip(1) {
        // Each pair comes twice, once with either carried onto the other: the one with the smaller index is transformed.
        for (moving, fixed) in [(new, &images[..]), (old, new)] {
            for (a, b, distance) in
                matches_within(&transformed(moving, dihedral), &transformed(fixed, Dihedral::None), config.pdq_max_bits)
            {
                let (a, b) = (moving[a as usize], fixed[b as usize]);
                if a < b {
                    near.push((a, b, dihedral, distance));
                }
            }
        }
    }
    near
}

/// Pairs of items that are near, at least one of them new, where items of equal hashes are paired with the first of
/// them only, so that a hash that thousands share does not bring millions of pairs. Those that are not new come first.
fn distinct<const W: usize>(items: &[(usize, [u64; W])], is_new: &[bool], max_bits: u32) -> Vec<(usize, usize)> {
    let mut first: BTreeMap<[u64; W], usize> = BTreeMap::new();
    let mut firsts: Vec<(usize, [u64; W])> = Vec::new();
    let mut pairs = Vec::new();
    for (item, hash) in items {
        match first.get(hash) {
            Some(before) if is_new[*item] => pairs.push((*before, *item)),
            Some(_) => {}
            None => {
                first.insert(*hash, *item);
                firsts.push((*item, *hash));
            }
        }
    }
    let (old, new) = firsts.split_at(firsts.partition_point(|(item, _)| !is_new[*item]));
    let hashes = |items: &[(usize, [u64; W])]| -> Vec<[u64; W]> { items.iter().map(|(_, hash)| *hash).collect() };
    let (old_hashes, new_hashes) = (hashes(old), hashes(new));
    let among_new = pairs_within(&new_hashes, max_bits).into_iter();
    pairs.extend(among_new.map(|(a, b, _)| (new[a as usize].0, new[b as usize].0)));
    let with_old = matches_within(&new_hashes, &old_hashes, max_bits).into_iter();
    pairs.extend(with_old.map(|(a, b, _)| (new[a as usize].0, old[b as usize].0)));
    pairs.into_iter().map(|(a, b)| (a.min(b), a.max(b))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_that_many_share_brings_a_pair_for_each_of_them() {
        let items: Vec<(usize, [u64; 1])> = (0..1000).map(|i| (i, [if i < 990 { 7 } else { i as u64 }])).collect();
        let pairs = distinct(&items, &[true; 1000], 0);
        assert_eq!(pairs.len(), 989);
        assert!(pairs.iter().all(|(a, _)| *a == 0));
    }
}
