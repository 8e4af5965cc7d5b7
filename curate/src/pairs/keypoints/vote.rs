//! A vote of two keypoints for their images, and a pair of images that enough of them propose.

use crate::memory::{Fields, Record};

/// Two keypoints with near signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Vote {
    pub(super) a: u32,
    /// Larger than `a`.
    pub(super) b: u32,
    /// Keypoint of `a`.
    pub(super) of_a: u32,
    /// Keypoint of `b`.
    pub(super) of_b: u32,
    pub(super) mirrored: bool,
}

impl Vote {
    /// The keypoints of a proposal.
    pub(super) fn of_pair(self) -> (u32, u32, bool) {
        (self.of_a, self.of_b, self.mirrored)
    }
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
    const BYTES: usize = 17;

    fn put(&self, to: &mut Vec<u8>) {
        [self.a, self.b, self.of_a, self.of_b].iter().for_each(|number| to.extend(number.to_le_bytes()));
        to.push(u8::from(self.mirrored));
    }

    fn get(bytes: &[u8]) -> Self {
        let mut fields = Fields(bytes);
        let [a, b, of_a, of_b] = std::array::from_fn(|_| fields.u32());
        Self { a, b, of_a, of_b, mirrored: fields.u8() != 0 }
    }
}
