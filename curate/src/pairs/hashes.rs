//! Candidates by perceptual hash: 64 bits as they are, 256 bits in all eight dihedral transforms, uniform images by
//! colour.
//!
//! An image is paired with the [`NEAR_MAX`] nearest after it at most: a thousand images of one template bring pairs in
//! number of the images, not of their square.

use super::candidate::Candidate;
use super::colours::pairs_of_a_colour;
use super::exact::old_first;
use super::multi_index::{nearest_matches, nearest_pairs};
use crate::Result;
use crate::fingerprints::{Dihedral, ImageSet, Pdq};
use crate::memory::SortedRuns;
use lapidary_schemas::config::CurateConfig;
use std::collections::BTreeMap;

/// The nearest hashes that an image is paired with.
pub(super) const NEAR_MAX: usize = 64;

/// Adds the pairs of images whose hashes are near, at least one of them new.
///
/// # Errors
/// When the disk refuses.
pub(super) fn near_hashes(
    set: ImageSet<'_>,
    is_new: &[bool],
    config: &CurateConfig,
    stands_alone: &[bool],
    candidates: &mut SortedRuns<'_, Candidate>,
) -> Result<()> {
    let summaries = set.prints.summaries();
    let upright = set.prints.hashes(Dihedral::None)?;
    let upright_pair =
        |(a, b): (usize, usize)| Candidate::by_hash(a, b, Dihedral::None, upright[a].distance_bits(&upright[b]));
    let in_order: Vec<usize> = old_first(is_new).into_iter().filter(|image| stands_alone[*image]).collect();
    let short: Vec<(usize, [u64; 1])> = in_order.iter().map(|image| (*image, [set.images[*image].phash])).collect();
    candidates.extend(distinct(&short, is_new, config.hash_max_bits).into_iter().map(upright_pair))?;
    drop(short);
    // Of equal hashes only the first is looked at: uniform images have one hash and many colours.
    let uniform = in_order.iter().filter(|image| summaries[**image].is_uniform);
    let uniform: Vec<(usize, [u8; 3])> = uniform.map(|image| (*image, summaries[*image].mean_rgb)).collect();
    candidates.extend(pairs_of_a_colour(&uniform, is_new).into_iter().map(upright_pair))?;
    // The images with enough in them; of those with equal hashes, the first represents all.
    let is_hashable = |image: &usize| summaries[*image].pdq_quality >= config.pdq_quality_min;
    let images: Vec<usize> = in_order.into_iter().filter(is_hashable).collect();
    let of = |images: &[usize], hashes: &[Pdq]| -> Vec<[u64; 4]> { images.iter().map(|i| hashes[*i].0).collect() };
    let fixed = of(&images, &upright);
    let long: Vec<(usize, [u64; 4])> = images.iter().copied().zip(fixed.iter().copied()).collect();
    candidates.extend(distinct(&long, is_new, config.pdq_max_bits).into_iter().map(upright_pair))?;
    drop((long, upright));
    let first_new = images.partition_point(|image| !is_new[*image]);
    for dihedral in Dihedral::ALL.into_iter().skip(1) {
        let transformed = of(&images, &set.prints.hashes(dihedral)?);
        // Each pair comes twice, once with either carried onto the other: the one with the smaller index is transformed.
        for (moving, fixed_from) in [(first_new..images.len(), 0), (0..first_new, first_new)] {
            let found =
                nearest_matches(&transformed[moving.clone()], &fixed[fixed_from..], config.pdq_max_bits, NEAR_MAX);
            let found = found
                .into_iter()
                .map(|(a, b, bits)| (images[moving.start + a as usize], images[fixed_from + b as usize], bits));
            let of_pairs = found.filter(|(a, b, _)| a < b);
            candidates.extend(of_pairs.map(|(a, b, bits)| Candidate::by_hash(a, b, dihedral, bits)))?;
        }
    }
    Ok(())
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
    drop(first);
    let (old, new) = firsts.split_at(firsts.partition_point(|(item, _)| !is_new[*item]));
    let hashes = |items: &[(usize, [u64; W])]| -> Vec<[u64; W]> { items.iter().map(|(_, hash)| *hash).collect() };
    let (old_hashes, new_hashes) = (hashes(old), hashes(new));
    let among_new = nearest_pairs(&new_hashes, max_bits, NEAR_MAX).into_iter();
    pairs.extend(among_new.map(|(a, b, _)| (new[a as usize].0, new[b as usize].0)));
    let with_old = nearest_matches(&new_hashes, &old_hashes, max_bits, NEAR_MAX).into_iter();
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

    #[test]
    fn hashes_that_are_near_without_being_equal_bring_pairs_in_their_number() {
        // 3,000 hashes within 12 bits of each other: 4.5 million pairs.
        let items: Vec<(usize, [u64; 4])> = (0..3000).map(|i| (i, [i as u64, 9, 9, 9])).collect();
        let pairs = distinct(&items, &[true; 3000], 31);
        assert!(pairs.len() <= 3000 * NEAR_MAX && pairs.len() > 3000 * NEAR_MAX / 2, "{}", pairs.len());
        let mut groups = crate::pairs::UnionFind::new(3000);
        pairs.into_iter().for_each(|(a, b)| groups.join(a, b));
        assert!((0..3000).all(|item| groups.root(item) == 0), "and they hang together");
    }
}
