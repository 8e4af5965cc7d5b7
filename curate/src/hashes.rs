//! Pairs of 64-bit hashes within a Hamming radius, by multi-index hashing (Norouzi et al. 2012).
//!
//! A hash is cut into four words of 16 bits. Two hashes within `r` bits have a word that differs in at most `r / 4` of
//! them, so looking up every word's neighbours within that radius finds all pairs, exactly, without comparing all.

use std::collections::HashMap;

const WORDS: u32 = 4;
const WORD_BITS: u32 = 16;

/// All pairs `(a, b, distance)` of indices with `a < b` and distance at most `max_bits`, sorted.
pub fn pairs_within(hashes: &[u64], max_bits: u32) -> Vec<(usize, usize, u32)> {
    let probes = masks_within(max_bits / WORDS);
    let word = |hash: u64, index: u32| (hash >> (index * WORD_BITS)) as u16;
    let mut pairs = Vec::new();
    for index in 0..WORDS {
        // Filled in order and only looked up by key.
        let mut unsorted: HashMap<u16, Vec<u32>> = HashMap::new();
        for (b, hash) in hashes.iter().enumerate() {
            for mask in &probes {
                let Some(bucket) = unsorted.get(&(word(*hash, index) ^ mask)) else { continue };
                for a in bucket {
                    let distance = (hashes[*a as usize] ^ hash).count_ones();
                    if distance <= max_bits {
                        pairs.push((*a as usize, b, distance));
                    }
                }
            }
            unsorted.entry(word(*hash, index)).or_default().push(b as u32);
        }
    }
    pairs.sort_unstable();
    pairs.dedup();
    pairs
}

/// All 16-bit masks with at most `bits` bits set.
fn masks_within(bits: u32) -> Vec<u16> {
    (0..=u16::MAX).filter(|mask| mask.count_ones() <= bits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All pairs, compared one by one.
    fn pairs_within_reference(hashes: &[u64], max_bits: u32) -> Vec<(usize, usize, u32)> {
        let mut pairs = Vec::new();
        for b in 0..hashes.len() {
            for a in 0..b {
                let distance = (hashes[a] ^ hashes[b]).count_ones();
                if distance <= max_bits {
                    pairs.push((a, b, distance));
                }
            }
        }
        pairs.sort_unstable();
        pairs
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn multi_index_hashing_finds_what_comparing_all_finds(
            bases in prop::collection::vec(any::<u64>(), 1..6),
            flips in prop::collection::vec((any::<u8>(), prop::collection::vec(0u32..64, 0..16)), 1..40),
            max_bits in 0u32..20,
        ) {
            let near = |(base, bits): &(u8, Vec<u32>)| {
                bits.iter().fold(bases[usize::from(*base) % bases.len()], |hash, bit| hash ^ (1 << bit))
            };
            let hashes: Vec<u64> = flips.iter().map(near).collect();
            prop_assert_eq!(pairs_within(&hashes, max_bits), pairs_within_reference(&hashes, max_bits));
        }
    }
}
