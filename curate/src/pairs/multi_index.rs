//! Pairs of binary hashes within a Hamming radius, by multi-index hashing (Norouzi et al. 2012): exact, without
//! comparing all.
//!
//! A hash of `W` words of 64 bits is cut into `m = 4 W` slots of 16 bits. With a radius of `m q + a`, two hashes within
//! it differ in at most `q` bits in one of the first `a + 1` slots, or in at most `q - 1` in one of the others; looking
//! up every slot's neighbours within that many bits finds all pairs. A pair is reported by the first slot that finds
//! it.

use multiversion::multiversion;
use rayon::prelude::*;

const SLOT_BITS: usize = 16;
const BUCKETS: usize = 1 << SLOT_BITS;
/// Buckets a task.
const TASK: usize = 512;
/// Up to so many pairs, comparing all is faster than filling buckets.
const COMPARED_MAX: usize = 4_000_000;

/// A pair of indices and their distance in bits.
pub type Match = (u32, u32, u32);

/// All pairs `(a, b, distance)` of indices with `a < b` and a distance of at most `max_bits`, sorted.
pub fn pairs_within<const W: usize>(hashes: &[[u64; W]], max_bits: u32) -> Vec<Match> {
    join(hashes, hashes, max_bits, true, Limits::default())
}

/// All pairs `(query, base, distance)` of indices within `max_bits`, sorted.
pub fn matches_within<const W: usize>(queries: &[[u64; W]], base: &[[u64; W]], max_bits: u32) -> Vec<Match> {
    join(queries, base, max_bits, false, Limits::default())
}

/// The same as [`pairs_within`], of each `a` with the `most` nearest after it only.
pub(super) fn nearest_pairs<const W: usize>(hashes: &[[u64; W]], max_bits: u32, most: usize) -> Vec<Match> {
    join(hashes, hashes, max_bits, true, Limits { most, ..Limits::default() })
}

/// The same as [`matches_within`], of each query with the `most` nearest only.
pub(super) fn nearest_matches<const W: usize>(
    queries: &[[u64; W]],
    base: &[[u64; W]],
    max_bits: u32,
    most: usize,
) -> Vec<Match> {
    join(queries, base, max_bits, false, Limits { most, ..Limits::default() })
}

/// What a join keeps to.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Up to so many pairs all are compared.
    compared_max: usize,
    /// The nearest of each query that are kept.
    most: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { compared_max: COMPARED_MAX, most: usize::MAX }
    }
}

/// Keeps the `most` nearest of each query, those of the smallest index among equals.
fn keep_nearest(matches: &mut Vec<Match>, most: usize) {
    matches.par_sort_unstable_by_key(|(query, other, distance)| (*query, *distance, *other));
    let (mut query_before, mut count) = (None, 0);
    matches.retain(|(query, ..)| {
        count = if query_before.replace(*query) == Some(*query) { count + 1 } else { 1 };
        count <= most
    });
}

/// All pairs of the two, compared one by one; of one set with itself, `a < b`.
#[multiversion(targets("x86_64+avx2+fma+popcnt"))]
fn compare_all<const W: usize>(
    queries: &[[u64; W]],
    base: &[[u64; W]],
    max_bits: u32,
    same: bool,
    most: usize,
) -> Vec<Match> {
    let mut matches = Vec::new();
    for (q, query) in queries.iter().enumerate() {
        let before = matches.len();
        for (b, hash) in base.iter().enumerate().skip(if same { q + 1 } else { 0 }) {
            let distance = distance_bits(query, hash);
            if distance <= max_bits {
                matches.push((q as u32, b as u32, distance));
            }
        }
        if matches.len() - before > most {
            matches[before..].sort_unstable_by_key(|(_, other, distance)| (*distance, *other));
            matches.truncate(before + most);
            matches[before..].sort_unstable();
        }
    }
    matches
}

fn join<const W: usize>(
    queries: &[[u64; W]],
    base: &[[u64; W]],
    max_bits: u32,
    same: bool,
    limits: Limits,
) -> Vec<Match> {
    let most = limits.most;
    if queries.len().saturating_mul(base.len()) <= limits.compared_max {
        return compare_all(queries, base, max_bits, same, most);
    }
    let radii = radii::<W>(max_bits);
    let mut matches = Vec::new();
    for (slot, radius) in radii.iter().enumerate() {
        let Some(radius) = *radius else { continue };
        let masks = masks_within(radius);
        let indexed = Buckets::new(base, slot);
        let queried = if same { None } else { Some(Buckets::new(queries, slot)) };
        let queried = queried.as_ref().unwrap_or(&indexed);
        let found: Vec<Vec<Match>> = (0..BUCKETS / TASK)
            .into_par_iter()
            .map(|task| {
                let mut found = Vec::new();
                for key in task * TASK..(task + 1) * TASK {
                    let (querying, hashes) = queried.bucket(key);
                    if querying.is_empty() {
                        continue;
                    }
                    for (query, hash) in querying.iter().zip(hashes) {
                        let first = found.len();
                        for mask in &masks {
                            let (others, their_hashes) = indexed.bucket(key ^ usize::from(*mask));
                            // Buckets are in the order of indices.
                            let from = if same { others.partition_point(|other| other <= query) } else { 0 };
                            for (other, their_hash) in others[from..].iter().zip(&their_hashes[from..]) {
                                let distance = distance_bits(hash, their_hash);
                                if distance <= max_bits && !found_before(hash, their_hash, slot, &radii) {
                                    found.push((*query, *other, distance));
                                }
                            }
                        }
                        if found.len() - first > most {
                            let nearest = |(_, other, distance): &Match| (*distance, *other);
                            found[first..].select_nth_unstable_by_key(most, nearest);
                            found.truncate(first + most);
                        }
                    }
                }
                found
            })
            .collect();
        matches.extend(found.into_iter().flatten());
        if most < usize::MAX {
            keep_nearest(&mut matches, most);
        }
    }
    matches.par_sort_unstable();
    matches
}

/// Bits to look around in each slot; none where nothing need be looked up.
fn radii<const W: usize>(max_bits: u32) -> Vec<Option<u32>> {
    let slots = (W * 64 / SLOT_BITS) as u32;
    let (quotient, rest) = (max_bits / slots, max_bits % slots);
    (0..slots).map(|slot| if slot <= rest { Some(quotient) } else { quotient.checked_sub(1) }).collect()
}

#[inline]
fn slot_of<const W: usize>(hash: &[u64; W], slot: usize) -> usize {
    let slots_a_word = 64 / SLOT_BITS;
    (hash[slot / slots_a_word] >> (slot % slots_a_word * SLOT_BITS)) as usize & (BUCKETS - 1)
}

#[inline]
fn distance_bits<const W: usize>(a: &[u64; W], b: &[u64; W]) -> u32 {
    a.iter().zip(b).map(|(a, b)| (a ^ b).count_ones()).sum()
}

/// Whether an earlier slot has found the pair already.
fn found_before<const W: usize>(a: &[u64; W], b: &[u64; W], slot: usize, radii: &[Option<u32>]) -> bool {
    let difference: [u64; W] = std::array::from_fn(|i| a[i] ^ b[i]);
    (0..slot).any(|earlier| radii[earlier].is_some_and(|radius| slot_of(&difference, earlier).count_ones() <= radius))
}

/// Hashes by the value of one of their slots, bucket after bucket, each in the order of indices.
struct Buckets<const W: usize> {
    starts: Vec<u32>,
    indices: Vec<u32>,
    hashes: Vec<[u64; W]>,
}

impl<const W: usize> Buckets<W> {
    fn new(hashes: &[[u64; W]], slot: usize) -> Self {
        let mut starts = vec![0u32; BUCKETS + 1];
        hashes.iter().for_each(|hash| starts[slot_of(hash, slot) + 1] += 1);
        (0..BUCKETS).for_each(|key| starts[key + 1] += starts[key]);
        let mut next = starts.clone();
        let mut indices = vec![0u32; hashes.len()];
        for (index, hash) in hashes.iter().enumerate() {
            let place = &mut next[slot_of(hash, slot)];
            indices[*place as usize] = index as u32;
            *place += 1;
        }
        let hashes = indices.iter().map(|index| hashes[*index as usize]).collect();
        Self { starts, indices, hashes }
    }

    fn bucket(&self, key: usize) -> (&[u32], &[[u64; W]]) {
        let range = self.starts[key] as usize..self.starts[key + 1] as usize;
        (&self.indices[range.clone()], &self.hashes[range])
    }
}

/// All masks of a slot with at most `bits` bits set.
fn masks_within(bits: u32) -> Vec<u16> {
    (0..=u16::MAX).filter(|mask| mask.count_ones() <= bits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapidary_pipeline::random::{Purpose, Rng, keyed};
    use proptest::prelude::*;

    /// Hashes around a few centres, some bits flipped.
    fn clustered<const W: usize>(seed: u64, count: usize, flips_max: u64) -> Vec<[u64; W]> {
        let mut rng = keyed(seed, Purpose::Scene, 0, 0);
        let centres: Vec<[u64; W]> = (0..5).map(|_| std::array::from_fn(|_| rng.next_u64())).collect();
        (0..count)
            .map(|i| {
                let mut hash = centres[i % centres.len()];
                for _ in 0..rng.next_u64() % (flips_max + 1) {
                    let bit = rng.next_u64() as usize % (64 * W);
                    hash[bit / 64] ^= 1 << (bit % 64);
                }
                hash
            })
            .collect()
    }

    /// Never compares all.
    const INDEXED: Limits = Limits { compared_max: 0, most: usize::MAX };

    /// spec/curation.md section 8, test 9.
    #[test]
    fn at_every_distance_it_finds_what_comparing_all_finds() {
        let long = clustered::<4>(3, 60, 40);
        let short = clustered::<1>(4, 60, 20);
        // At larger radii the slots' surroundings grow to thousands of probes: the long hashes stop at 63 bits.
        for max_bits in 0..64 {
            let indexed = join(&long, &long, max_bits, true, INDEXED);
            assert_eq!(indexed, compare_all(&long, &long, max_bits, true, usize::MAX), "{max_bits} of 256");
        }
        for max_bits in 0..24 {
            let indexed = join(&short, &short, max_bits, true, INDEXED);
            assert_eq!(indexed, compare_all(&short, &short, max_bits, true, usize::MAX), "{max_bits} of 64");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn two_sets_are_joined_as_by_comparing_all(seed in any::<u64>(), max_bits in 0u32..32) {
            let (queries, base) = (clustered::<4>(seed, 30, 24), clustered::<4>(seed, 50, 24));
            let indexed = join(&queries, &base, max_bits, false, INDEXED);
            prop_assert_eq!(indexed, compare_all(&queries, &base, max_bits, false, usize::MAX));
            for most in [1, 5] {
                let indexed = join(&queries, &base, max_bits, false, Limits { most, ..INDEXED });
                prop_assert_eq!(indexed, compare_all(&queries, &base, max_bits, false, most));
            }
        }
    }
}
