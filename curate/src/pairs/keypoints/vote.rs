//! A vote of two keypoints for their images, and a pair of images that enough of them propose.

use crate::memory::{Fields, Record};

/// Two keypoints with near signatures: both images, the first the smaller, then their keypoints, and whether they match in a
/// mirror. In one word, which sorts in that order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Vote(u128);

impl Vote {
    /// A vote of two keypoints' owners.
    ///
    /// # Panics
    /// When the first image has 2^31 keypoints.
    pub(super) fn new(first: Owner, second: Owner, mirrored: bool) -> Self {
        assert!(first.keypoint >> 31 == 0, "keypoints of an image are counted in 31 bits");
        let images = u128::from(first.image) << 96 | u128::from(second.image) << 64;
        Self(images | u128::from(first.keypoint) << 33 | u128::from(second.keypoint) << 1 | u128::from(mirrored))
    }

    /// Both images.
    pub(super) fn images(self) -> (u32, u32) {
        ((self.0 >> 96) as u32, (self.0 >> 64) as u32)
    }

    /// The keypoints of a proposal.
    pub(super) fn of_pair(self) -> (u32, u32, bool) {
        ((self.0 >> 33) as u32 & (u32::MAX >> 1), (self.0 >> 1) as u32, self.0 & 1 != 0)
    }
}

/// A keypoint's image, and its place there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Owner {
    pub(super) image: u32,
    pub(super) keypoint: u32,
}

/// A pair of images with the keypoints that speak for it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Proposal {
    pub(crate) a: usize,
    /// Larger than `a`.
    pub(crate) b: usize,
    /// Keypoint of `a`, keypoint of `b`, and whether they match in a mirror; sorted, each once.
    pub(crate) votes: Vec<(u32, u32, bool)>,
}

impl Record for Vote {
    const BYTES: usize = 16;

    fn put(&self, to: &mut Vec<u8>) {
        to.extend(self.0.to_le_bytes());
    }

    fn get(bytes: &[u8]) -> Self {
        Self(u128::from_le_bytes(Fields(bytes).array()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn owner() -> impl Strategy<Value = Owner> {
        (any::<u32>(), 0..1u32 << 31).prop_map(|(image, keypoint)| Owner { image, keypoint })
    }

    proptest! {
        #[test]
        fn a_vote_sorts_by_images_then_keypoints_and_reads_as_it_was_written(
            votes in prop::collection::vec((owner(), owner(), any::<bool>()), 2)
        ) {
            let parts = |(first, second, mirrored): (Owner, Owner, bool)| {
                (first.image, second.image, first.keypoint, second.keypoint, mirrored)
            };
            let [x, y] = [votes[0], votes[1]].map(|(first, second, mirrored)| Vote::new(first, second, mirrored));
            prop_assert_eq!(x.cmp(&y), parts(votes[0]).cmp(&parts(votes[1])));
            let mut bytes = Vec::new();
            x.put(&mut bytes);
            let read = Vote::get(&bytes);
            let ((a, b), (of_a, of_b, mirrored)) = (read.images(), read.of_pair());
            prop_assert_eq!((a, b, of_a, of_b, mirrored), parts(votes[0]));
        }
    }
}
