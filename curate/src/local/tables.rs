//! Which pairs of images share signatures: hash tables over the keypoints of the whole set.
//!
//! The bits of a signature are random projections, so any run of them is a locality-sensitive hash (Indyk and Motwani 1998).
//! The 256 bits are cut into tables of about log2(keypoints) bits each; two keypoints that agree in a table and differ in
//! at most [`VOTE_MAX_BITS`] in all are a vote for their images. Mirrored pairs are looked up in the same tables with the
//! mirrored signature. No bucket is compared all with all when it is large: members then meet the next few only, so that
//! the work stays linear.

use super::{LocalFeatures, Signature};
use rayon::prelude::*;

/// The largest distance of two signatures that is a vote.
const VOTE_MAX_BITS: u32 = 44;
/// Members of a bucket that each member meets at most.
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
struct Vote {
    a: u32,
    b: u32,
    of_a: u32,
    of_b: u32,
    mirrored: bool,
}

/// All keypoints of a set, one after the other.
struct Keypoints {
    signatures: Vec<Signature>,
    /// Image and place within it.
    owners: Vec<(u32, u32)>,
}

/// The pairs of images that at least `votes_min` pairs of keypoints speak for, sorted, and how rare keypoints are.
///
/// `group_of` names for each image the group of copies that it is known to belong to.
pub(crate) fn propose(features: &[&LocalFeatures], group_of: &[usize], votes_min: usize) -> (Vec<Proposal>, Rarity) {
    let mut all = Keypoints { signatures: Vec::new(), owners: Vec::new() };
    for (image, features) in features.iter().enumerate() {
        all.signatures.extend_from_slice(&features.signatures);
        all.owners.extend((0..features.signatures.len()).map(|place| (image as u32, place as u32)));
    }
    let bits = (all.signatures.len().max(2).ilog2() + 1).clamp(12, 26);
    let tables: Vec<u32> = (0..SIGNATURE_BITS / bits).map(|table| table * bits).collect();
    let mut votes: Vec<Vote> = tables
        .into_par_iter()
        .with_max_len(1)
        .flat_map_iter(|first_bit| votes_of_table(&all, first_bit, bits))
        .collect();
    votes.par_sort_unstable();
    votes.dedup();
    let rarity = Rarity::of(features, &votes, group_of);
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

/// In how many other groups of images, and at how many other places of its own image, each keypoint is met: what is met
/// everywhere says little of any pair, and a pattern that repeats fits many maps.
#[derive(Debug)]
pub(crate) struct Rarity {
    /// The first keypoint of each image.
    starts: Vec<usize>,
    met: Vec<u32>,
}

impl Rarity {
    /// Counts groups, not images: a hundred copies of one image do not make its keypoints common.
    fn of(features: &[&LocalFeatures], votes: &[Vote], group_of: &[usize]) -> Self {
        let mut starts = Vec::with_capacity(features.len());
        let mut total = 0usize;
        for features in features {
            starts.push(total);
            total += features.signatures.len();
        }
        let place = |image: u32, keypoint: u32| (starts[image as usize] + keypoint as usize) as u32;
        let group = |image: u32| group_of[image as usize] as u32;
        let mut met: Vec<(u32, u32)> = votes
            .par_iter()
            .filter(|vote| group(vote.a) != group(vote.b))
            .flat_map_iter(|v| [(place(v.a, v.of_a), group(v.b)), (place(v.b, v.of_b), group(v.a))])
            .collect();
        met.par_sort_unstable();
        met.dedup();
        let mut counts: Vec<u32> = features.par_iter().flat_map_iter(|features| repeats(features)).collect();
        met.into_iter().for_each(|(keypoint, _)| counts[keypoint as usize] += 1);
        Self { starts, met: counts }
    }

    /// How much a keypoint of an image says, 0 to 1: 1 when it is met at most twice elsewhere, then less.
    pub(crate) fn weight(&self, image: usize, keypoint: usize) -> f32 {
        (2.0 / self.met[self.starts[image] + keypoint].max(1) as f32).min(1.0)
    }
}

/// For each keypoint of an image the others, at other places, that are as near to it as a vote asks for.
fn repeats(features: &LocalFeatures) -> Vec<u32> {
    let mut counts = vec![0u32; features.signatures.len()];
    for (i, (signature, here)) in features.signatures.iter().zip(&features.keypoints).enumerate() {
        for (j, (other, there)) in features.signatures.iter().zip(&features.keypoints).enumerate().take(i) {
            let apart = (here.x - there.x).abs() + (here.y - there.y).abs() > here.sigma + there.sigma;
            if apart && signature.distance_bits(other) <= VOTE_MAX_BITS {
                counts[i] += 1;
                counts[j] += 1;
            }
        }
    }
    counts
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

fn votes_of_table(all: &Keypoints, first_bit: u32, bits: u32) -> Vec<Vote> {
    let keyed = |mirrored: bool| {
        let mut keyed: Vec<u64> = Vec::with_capacity(all.signatures.len());
        for (index, signature) in all.signatures.iter().enumerate() {
            let signature = if mirrored { signature.mirrored() } else { *signature };
            keyed.push(u64::from(key(&signature, first_bit, bits)) << 32 | index as u64);
        }
        keyed.sort_unstable();
        keyed
    };
    let plain = keyed(false);
    let mut votes = Vec::new();
    for bucket in plain.chunk_by(|x, y| x >> 32 == y >> 32) {
        for (place, first) in bucket.iter().enumerate() {
            for second in bucket[place + 1..].iter().take(WINDOW) {
                vote(all, *first as u32, *second as u32, None, &mut votes);
            }
        }
    }
    // A table of bits that a mirror leaves alone has both kinds of pairs in the same buckets.
    if first_bit + bits <= SIGNATURE_BITS / 2 {
        return votes;
    }
    let mirrored = keyed(true);
    let mut from = 0;
    for bucket in plain.chunk_by(|x, y| x >> 32 == y >> 32) {
        let key = bucket[0] >> 32;
        from += mirrored[from..].partition_point(|other| other >> 32 < key);
        let others = &mirrored[from..];
        let others = &others[..others.partition_point(|other| other >> 32 == key)];
        for first in bucket {
            // A pair is met from both sides: the one with the smaller index is enough.
            let after = others.partition_point(|other| *other as u32 <= *first as u32);
            for second in others[after..].iter().take(WINDOW) {
                vote(all, *first as u32, *second as u32, Some(true), &mut votes);
            }
        }
    }
    votes
}

/// Notes two keypoints of different images as a vote when they are near, plainly or in a mirror, or as `mirrored` says.
fn vote(all: &Keypoints, first: u32, second: u32, mirrored: Option<bool>, votes: &mut Vec<Vote>) {
    let (x, y) = (first.min(second) as usize, first.max(second) as usize);
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
