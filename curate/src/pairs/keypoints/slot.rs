//! A keypoint's place in a hash table: its key and its index, in one word that sorts by key, then by index.
//!
//! A key has at most [`Slot::KEY_BITS`] bits, so that an index has 38: 2^38 keypoints, with signatures of 32 bytes, are
//! 8 TiB, more than a machine holds. 32 bits for the index would mix up images from 2^32 keypoints on (17 million
//! images of 250).

/// Key and index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slot(u64);

impl Slot {
    /// Bits of a key at most.
    pub(super) const KEY_BITS: u32 = 26;
    const INDEX_BITS: u32 = u64::BITS - Self::KEY_BITS;

    /// The keypoint `index` under a key.
    ///
    /// # Panics
    /// When either has too many bits.
    #[inline]
    pub(super) fn new(key: u32, index: usize) -> Self {
        let index = index as u64;
        assert!(key >> Self::KEY_BITS == 0 && index >> Self::INDEX_BITS == 0, "2^38 keypoints need 8 TiB of memory");
        Self(u64::from(key) << Self::INDEX_BITS | index)
    }

    #[inline]
    pub(super) fn key(self) -> u32 {
        (self.0 >> Self::INDEX_BITS) as u32
    }

    #[inline]
    pub(super) fn index(self) -> usize {
        (self.0 & ((1 << Self::INDEX_BITS) - 1)) as usize
    }
}

/// Bits of a key that are sorted by at a time.
const PASS_BITS: u32 = 11;

/// Sorts slots that are in the order of their indices by their keys of `bits` bits: by counting, from the lowest bits of the keys
/// on, each time keeping the order before (Knuth, The Art of Computer Programming 3, 5.2.5).
pub(super) fn sort_by_key(slots: &mut Vec<Slot>, bits: u32) {
    let mut other = slots.clone();
    for shift in (0..bits).step_by(PASS_BITS as usize) {
        let digit = |slot: &Slot| (slot.key() >> shift) as usize % (1 << PASS_BITS);
        let mut starts = [0usize; 1 << PASS_BITS];
        slots.iter().for_each(|slot| starts[digit(slot)] += 1);
        let mut before = 0;
        starts.iter_mut().for_each(|start| before += std::mem::replace(start, before));
        for slot in &*slots {
            let place = &mut starts[digit(slot)];
            other[*place] = *slot;
            *place += 1;
        }
        std::mem::swap(slots, &mut other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Indices around the limits of 16, 32 and 38 bits, and anywhere below.
    fn index() -> impl Strategy<Value = usize> {
        let around = |bits: u32| (1usize << bits) - 3..(1usize << bits) + 3;
        prop_oneof![around(16), around(32), (1usize << 38) - 3..(1usize << 38), 0..1usize << 38]
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out_and_sorts_by_key_then_index(
            a in (0u32..1 << 26, index()), b in (0u32..1 << 26, index())
        ) {
            let (x, y) = (Slot::new(a.0, a.1), Slot::new(b.0, b.1));
            prop_assert_eq!((x.key(), x.index()), a);
            prop_assert_eq!(x.cmp(&y), a.cmp(&b));
            let same_key = Slot::new(a.0, b.1);
            prop_assert_eq!(x.cmp(&same_key), a.1.cmp(&b.1));
        }
    }

    proptest! {
        #[test]
        fn counting_sorts_as_comparing_does(keys in prop::collection::vec(0u32..1 << 26, 0..700), bits in 12u32..=26) {
            let slots = keys.iter().enumerate().map(|(index, key)| Slot::new(key & ((1 << bits) - 1), index));
            let mut sorted: Vec<Slot> = slots.collect();
            let mut expected = sorted.clone();
            expected.sort_unstable();
            sort_by_key(&mut sorted, bits);
            prop_assert_eq!(sorted, expected);
        }
    }

    #[test]
    #[should_panic(expected = "2^38 keypoints")]
    fn an_index_beyond_is_never_taken_for_another() {
        Slot::new(0, 1 << 38);
    }
}
