//! How rare each keypoint is: what occurs everywhere says little of any pair, and a pattern that repeats fits many
//! maps.

use super::lsh::{KeypointSet, VOTE_MAX_BITS};
use super::vote::Vote;
use crate::Result;
use crate::fingerprints::LocalFeatures;
use crate::memory::{Record, Sorted, SortedRuns};
use multiversion::multiversion;
use rayon::prelude::*;

/// Images whose keypoints are compared with each other at a time.
const BLOCK: usize = 4096;
/// Votes that are looked at at a time.
const VOTES: usize = 1 << 16;

/// In how many other groups of images, and at how many other places of its own image, each keypoint occurs, up to 255.
#[derive(Debug, Default)]
pub(crate) struct Rarity {
    /// Of all keypoints that are looked up, by their numbers.
    occurrences: Vec<u8>,
    /// The number of each image's first, and of all.
    starts: Vec<u64>,
}

/// A keypoint of an image, and a group that it occurs in. In one word, which sorts in that order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct OccursIn(u128);

impl OccursIn {
    fn new(image: u32, keypoint: u32, group: u32) -> Self {
        Self(u128::from(image) << 64 | u128::from(keypoint) << 32 | u128::from(group))
    }

    /// The image, and its keypoint.
    fn keypoint(self) -> (usize, usize) {
        ((self.0 >> 64) as usize, (self.0 >> 32) as u32 as usize)
    }
}

impl Record for OccursIn {
    const BYTES: usize = 12;

    fn put(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.0.to_le_bytes()[..Self::BYTES]);
    }

    fn get(bytes: &[u8]) -> Self {
        let mut word = [0; 16];
        word[..Self::BYTES].copy_from_slice(bytes);
        Self(u128::from_le_bytes(word))
    }
}

impl Rarity {
    /// Counts groups, not images: a hundred copies of one image do not make its keypoints common. `known` are the
    /// counts of images whose votes for each other are not among these; it is empty for the others.
    pub(super) fn of(set: &KeypointSet<'_>, votes: &Sorted<Vote>, group_of: &[u32], known: &[Vec<u8>]) -> Result<Self> {
        let occurs_in = SortedRuns::new(set.memory);
        for block in votes.blocks() {
            block?.par_chunks(VOTES).try_for_each(|votes| occurs_in.add(&occurrences_of(votes, group_of)))?;
        }
        let mut occurrences: Vec<u8> = Vec::with_capacity(set.count() as usize);
        let mut starts = vec![0u64];
        for first in (0..set.prints.len()).step_by(BLOCK) {
            let block: Vec<Vec<u8>> = (first..(first + BLOCK).min(set.prints.len()))
                .into_par_iter()
                .map(|image| {
                    let numbers = set.numbers(image);
                    let count = (numbers.end - numbers.start) as usize;
                    match known.get(image) {
                        _ if count == 0 => Ok(Vec::new()),
                        Some(known) if known.len() == count => Ok(known.clone()),
                        _ => set.prints.local(image).map(|local| repeats(&local)),
                    }
                })
                .collect::<Result<_>>()?;
            for counts in block {
                occurrences.extend(counts);
                starts.push(occurrences.len() as u64);
            }
        }
        for block in occurs_in.finish()?.blocks() {
            for (image, keypoint) in block?.iter().copied().map(OccursIn::keypoint) {
                let count = &mut occurrences[starts[image] as usize + keypoint];
                *count = count.saturating_add(1);
            }
        }
        Ok(Self { occurrences, starts })
    }

    /// How much a keypoint of an image says, 0 to 1: 1 when it occurs at most twice elsewhere, then less.
    pub(crate) fn weight(&self, image: usize, keypoint: usize) -> f32 {
        let count = self.occurrences[self.starts[image] as usize + keypoint];
        (2.0 / f32::from(count.max(1))).min(1.0)
    }

    /// The counts of each of an image's keypoints; empty when it was not looked up.
    pub(crate) fn counts(&self, image: usize) -> &[u8] {
        match (self.starts.get(image), self.starts.get(image + 1)) {
            (Some(first), Some(end)) => &self.occurrences[*first as usize..*end as usize],
            _ => &[],
        }
    }
}

/// In which other groups the keypoints of votes occur, each once.
fn occurrences_of(votes: &[Vote], group_of: &[u32]) -> Vec<OccursIn> {
    let mut occurs_in = Vec::with_capacity(2 * votes.len());
    for vote in votes {
        let ((a, b), (of_a, of_b, _)) = (vote.images(), vote.of_pair());
        let (group_a, group_b) = (group_of[a as usize], group_of[b as usize]);
        if group_a != group_b {
            occurs_in.extend([OccursIn::new(a, of_a, group_b), OccursIn::new(b, of_b, group_a)]);
        }
    }
    occurs_in.sort_unstable();
    occurs_in.dedup();
    occurs_in
}

/// For each keypoint of an image the others, at other places, that are as near to it as a vote requires.
#[multiversion(targets("x86_64+avx2+fma+popcnt"))]
fn repeats(features: &LocalFeatures) -> Vec<u8> {
    let mut counts = vec![0u8; features.signatures.len()];
    for (i, (signature, here)) in features.signatures.iter().zip(&features.keypoints).enumerate() {
        for (j, (other, there)) in features.signatures.iter().zip(&features.keypoints).enumerate().take(i) {
            // Hardly any are near.
            if signature.distance_bits(other) > VOTE_MAX_BITS {
                continue;
            }
            if (here.x - there.x).abs() + (here.y - there.y).abs() > here.sigma + there.sigma {
                counts[i] = counts[i].saturating_add(1);
                counts[j] = counts[j].saturating_add(1);
            }
        }
    }
    counts
}
