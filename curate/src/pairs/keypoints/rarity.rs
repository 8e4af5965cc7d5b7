//! How rare each keypoint is: what occurs everywhere says little of any pair, and a pattern that repeats fits many
//! maps.

use super::lsh::{KeypointSet, VOTE_MAX_BITS};
use super::vote::Vote;
use crate::Result;
use crate::fingerprints::LocalFeatures;
use crate::memory::{Fields, Record, Sorted, SortedRuns};
use rayon::prelude::*;

/// Images whose keypoints are compared with each other at a time.
const BLOCK: usize = 4096;

/// In how many other groups of images, and at how many other places of its own image, each keypoint occurs, up to 255.
#[derive(Debug, Default)]
pub(crate) struct Rarity {
    /// Of all keypoints that are looked up, by their numbers.
    occurrences: Vec<u8>,
    /// The number of each image's first, and of all.
    starts: Vec<u64>,
}

/// A keypoint of an image, and a group that it occurs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct OccursIn {
    image: u32,
    keypoint: u32,
    group: u32,
}

impl Record for OccursIn {
    const BYTES: usize = 12;

    fn put(&self, to: &mut Vec<u8>) {
        [self.image, self.keypoint, self.group].iter().for_each(|number| to.extend(number.to_le_bytes()));
    }

    fn get(bytes: &[u8]) -> Self {
        let mut fields = Fields(bytes);
        Self { image: fields.u32(), keypoint: fields.u32(), group: fields.u32() }
    }
}

impl Rarity {
    /// Counts groups, not images: a hundred copies of one image do not make its keypoints common. `known` are the
    /// counts of images whose votes for each other are not among these; it is empty for the others.
    pub(super) fn of(set: &KeypointSet<'_>, votes: &Sorted<Vote>, group_of: &[u32], known: &[Vec<u8>]) -> Result<Self> {
        let group = |image: u32| group_of[image as usize];
        let mut occurs_in = SortedRuns::new(set.memory);
        for vote in votes.iter() {
            let v = vote?;
            if group(v.a) != group(v.b) {
                occurs_in.extend([
                    OccursIn { image: v.a, keypoint: v.of_a, group: group(v.b) },
                    OccursIn { image: v.b, keypoint: v.of_b, group: group(v.a) },
                ])?;
            }
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
        for each in occurs_in.finish()?.iter() {
            let OccursIn { image, keypoint, .. } = each?;
            let count = &mut occurrences[(starts[image as usize] + u64::from(keypoint)) as usize];
            *count = count.saturating_add(1);
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

/// For each keypoint of an image the others, at other places, that are as near to it as a vote requires.
fn repeats(features: &LocalFeatures) -> Vec<u8> {
    let mut counts = vec![0u8; features.signatures.len()];
    for (i, (signature, here)) in features.signatures.iter().zip(&features.keypoints).enumerate() {
        for (j, (other, there)) in features.signatures.iter().zip(&features.keypoints).enumerate().take(i) {
            let apart = (here.x - there.x).abs() + (here.y - there.y).abs() > here.sigma + there.sigma;
            if apart && signature.distance_bits(other) <= VOTE_MAX_BITS {
                counts[i] = counts[i].saturating_add(1);
                counts[j] = counts[j].saturating_add(1);
            }
        }
    }
    counts
}
