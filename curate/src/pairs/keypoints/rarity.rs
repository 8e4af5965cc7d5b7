//! How rare each keypoint is: what occurs everywhere says little of any pair, and a pattern that repeats fits many
//! maps.

use super::lsh::{VOTE_MAX_BITS, Vote};
use crate::fingerprints::LocalFeatures;
use rayon::prelude::*;

/// In how many other groups of images, and at how many other places of its own image, each keypoint occurs, up to 255.
#[derive(Debug)]
pub(crate) struct Rarity {
    occurrences: Vec<Vec<u8>>,
}

impl Rarity {
    /// Counts groups, not images: a hundred copies of one image do not make its keypoints common. `known` are the
    /// counts of images whose votes for each other are not among these; it is empty for the others.
    pub(super) fn of(features: &[&LocalFeatures], votes: &[Vote], group_of: &[usize], known: &[Vec<u8>]) -> Self {
        let group = |image: u32| group_of[image as usize] as u32;
        let mut occurs_in: Vec<(u32, u32, u32)> = votes
            .par_iter()
            .filter(|vote| group(vote.a) != group(vote.b))
            .flat_map_iter(|v| [(v.a, v.of_a, group(v.b)), (v.b, v.of_b, group(v.a))])
            .collect();
        occurs_in.par_sort_unstable();
        occurs_in.dedup();
        let count = |(features, known): (&&LocalFeatures, &Vec<u8>)| {
            if known.len() == features.signatures.len() { known.clone() } else { repeats(features) }
        };
        let mut occurrences: Vec<Vec<u8>> = features.par_iter().zip(known).map(count).collect();
        for (image, keypoint, _) in occurs_in {
            let count = &mut occurrences[image as usize][keypoint as usize];
            *count = count.saturating_add(1);
        }
        Self { occurrences }
    }

    /// How much a keypoint of an image says, 0 to 1: 1 when it occurs at most twice elsewhere, then less.
    pub(crate) fn weight(&self, image: usize, keypoint: usize) -> f32 {
        (2.0 / f32::from(self.occurrences[image][keypoint].max(1))).min(1.0)
    }

    /// The counts, for each image that of each of its keypoints.
    pub(crate) fn into_counts(self) -> Vec<Vec<u8>> {
        self.occurrences
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
