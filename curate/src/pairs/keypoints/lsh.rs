//! Which pairs of images share signatures: hash tables over the keypoints of the whole set.
//!
//! The bits of a signature are random projections, so any run of them is a locality-sensitive hash (Indyk and Motwani
//! 1998). The 256 bits are cut into tables of about log2(keypoints) bits each; two keypoints that agree in a table and
//! differ in at most [`VOTE_MAX_BITS`] in all are a vote for their images. Mirrored pairs are looked up in the same
//! tables with the mirrored signature. No bucket is compared all with all when it is large: members are then compared
//! with the next few only, so that the work stays linear. When only some images are new, only what shares a bucket with
//! one of their keypoints is sorted, and only pairs with a new image are looked at.

use super::Rarity;
use super::slot::Slot;
use crate::fingerprints::{LocalFeatures, Signature};
use rayon::prelude::*;

/// The largest distance of two signatures that is a vote.
pub(super) const VOTE_MAX_BITS: u32 = 44;
/// Members of a bucket that each member is compared with at most.
const WINDOW: usize = 48;
const SIGNATURE_BITS: u32 = 256;

/// A pair of images with the keypoints that speak for it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Proposal {
    pub(crate) a: usize,
    /// Larger than `a`.
    pub(crate) b: usize,
    /// Keypoint of `a`, keypoint of `b`, and whether they match in a mirror; sorted, each once.
    pub(crate) votes: Vec<(u32, u32, bool)>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Vote {
    pub(super) a: u32,
    pub(super) b: u32,
    pub(super) of_a: u32,
    pub(super) of_b: u32,
    mirrored: bool,
}

/// All keypoints of a set, one after the other.
struct Keypoints<'a> {
    signatures: Vec<Signature>,
    /// Image and place within it.
    owners: Vec<(u32, u32)>,
    /// By image.
    is_new: &'a [bool],
}

impl Keypoints<'_> {
    fn is_new(&self, keypoint: usize) -> bool {
        self.is_new[self.owners[keypoint].0 as usize]
    }
}

/// The pairs of images, at least one of them new, that at least `votes_min` pairs of keypoints speak for, sorted, and
/// how rare keypoints are.
///
/// `group_of` names for each image the group of copies that it is known to belong to, `occurrences` how often the
/// keypoints of those that are not new occurred before.
pub(crate) fn propose(
    features: &[&LocalFeatures],
    group_of: &[usize],
    is_new: &[bool],
    occurrences: &[Vec<u8>],
    votes_min: usize,
) -> (Vec<Proposal>, Rarity) {
    let mut all = Keypoints { signatures: Vec::new(), owners: Vec::new(), is_new };
    for (image, features) in features.iter().enumerate() {
        all.signatures.extend_from_slice(&features.signatures);
        all.owners.extend((0..features.signatures.len()).map(|place| (image as u32, place as u32)));
    }
    let bits = (all.signatures.len().max(2).ilog2() + 1).clamp(12, Slot::KEY_BITS);
    let tables: Vec<u32> = (0..SIGNATURE_BITS / bits).map(|table| table * bits).collect();
    let mut votes: Vec<Vote> = tables
        .into_par_iter()
        .with_max_len(1)
        .flat_map_iter(|first_bit| votes_of_table(&all, first_bit, bits))
        .collect();
    votes.par_sort_unstable();
    votes.dedup();
    let rarity = Rarity::of(features, &votes, group_of, occurrences);
    let proposals = votes
        .chunk_by(|x, y| (x.a, x.b) == (y.a, y.b))
        .filter(|of_pair| of_pair.len() >= votes_min)
        .map(|of_pair| Proposal {
            a: of_pair[0].a as usize,
            b: of_pair[0].b as usize,
            votes: of_pair.iter().map(|vote| (vote.of_a, vote.of_b, vote.mirrored)).collect(),
        })
        .collect();
    (proposals, rarity)
}

/// The `bits` bits of a signature from `first_bit` on.
fn key(signature: &Signature, first_bit: u32, bits: u32) -> u32 {
    let (word, shift) = ((first_bit / 64) as usize, first_bit % 64);
    let mut value = signature.0[word] >> shift;
    if shift + bits > 64 {
        value |= signature.0[word + 1] << (64 - shift);
    }
    (value & ((1 << bits) - 1)) as u32
}

fn votes_of_table(all: &Keypoints<'_>, first_bit: u32, bits: u32) -> Vec<Vote> {
    let of = |signature: &Signature| key(signature, first_bit, bits);
    let shared = keys_of_new(all, bits, of);
    let keyed = |mirrored: bool| {
        let mut keyed: Vec<Slot> = Vec::with_capacity(all.signatures.len());
        for (index, signature) in all.signatures.iter().enumerate() {
            let key = if mirrored { of(&signature.mirrored()) } else { of(signature) };
            if shared.as_ref().is_none_or(|shared| shared[key as usize]) {
                keyed.push(Slot::new(key, index));
            }
        }
        keyed.sort_unstable();
        keyed
    };
    let plain = keyed(false);
    let mut votes = Vec::new();
    for bucket in plain.chunk_by(|x, y| x.key() == y.key()) {
        let old = old_of(all, bucket);
        for (place, first) in bucket.iter().enumerate().filter(|(_, first)| all.is_new(first.index())) {
            for second in bucket[place + 1..].iter().take(WINDOW).chain(last_before(&old, *first)) {
                vote(all, first.index(), second.index(), None, &mut votes);
            }
        }
    }
    // A table of bits that a mirror leaves alone has both kinds of pairs in the same buckets.
    if first_bit + bits <= SIGNATURE_BITS / 2 {
        return votes;
    }
    let mirrored = keyed(true);
    let mut from = 0;
    for bucket in plain.chunk_by(|x, y| x.key() == y.key()) {
        let key = bucket[0].key();
        from += mirrored[from..].partition_point(|other| other.key() < key);
        let others = &mirrored[from..];
        let others = &others[..others.partition_point(|other| other.key() == key)];
        let old = old_of(all, others);
        for first in bucket.iter().filter(|first| all.is_new(first.index())) {
            // A pair comes up from both sides: the one with the smaller index is enough, or the new one.
            let after = others.partition_point(|other| other.index() <= first.index());
            for second in others[after..].iter().take(WINDOW).chain(last_before(&old, *first)) {
                vote(all, first.index(), second.index(), Some(true), &mut votes);
            }
        }
    }
    votes
}

/// Which keys new keypoints have, plainly or in a mirror; none when all are new, and every key counts.
fn keys_of_new(all: &Keypoints<'_>, bits: u32, key: impl Fn(&Signature) -> u32) -> Option<Vec<bool>> {
    if all.is_new.iter().all(|is_new| *is_new) {
        return None;
    }
    let mut keys = vec![false; 1 << bits];
    for (_, signature) in all.signatures.iter().enumerate().filter(|(index, _)| all.is_new(*index)) {
        keys[key(signature) as usize] = true;
        keys[key(&signature.mirrored()) as usize] = true;
    }
    Some(keys)
}

/// The members of a bucket that are not new, in the order of their indices.
fn old_of(all: &Keypoints<'_>, bucket: &[Slot]) -> Vec<Slot> {
    bucket.iter().copied().filter(|keypoint| !all.is_new(keypoint.index())).collect()
}

/// The last few members before a keypoint.
fn last_before(old: &[Slot], keypoint: Slot) -> impl Iterator<Item = &Slot> {
    let before = old.partition_point(|other| other.index() < keypoint.index());
    old[before.saturating_sub(WINDOW)..before].iter()
}

/// Notes two keypoints of different images as a vote when they are near, plainly or in a mirror, or as `mirrored` says.
fn vote(all: &Keypoints<'_>, first: usize, second: usize, mirrored: Option<bool>, votes: &mut Vec<Vote>) {
    let (x, y) = (first.min(second), first.max(second));
    let ((a, of_a), (b, of_b)) = (all.owners[x], all.owners[y]);
    if a == b {
        return;
    }
    let (one, other) = (&all.signatures[x], &all.signatures[y]);
    if mirrored != Some(true) && one.distance_bits(other) <= VOTE_MAX_BITS {
        votes.push(Vote { a, b, of_a, of_b, mirrored: false });
    }
    if mirrored != Some(false) && one.mirrored().distance_bits(other) <= VOTE_MAX_BITS {
        votes.push(Vote { a, b, of_a, of_b, mirrored: true });
    }
}
