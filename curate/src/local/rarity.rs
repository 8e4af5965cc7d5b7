//! How rare each keypoint is: what is met everywhere says little of any pair, and a pattern that repeats fits many maps.

use super::LocalFeatures;
use super::tables::{VOTE_MAX_BITS, Vote};
use rayon::prelude::*;

/// In how many other groups of images, and at how many other places of its own image, each keypoint is met, up to 255.
#[derive(Debug)]
pub(crate) struct Rarity {
    met: Vec<Vec<u8>>,
}

impl Rarity {
    /// Counts groups, not images: a hundred copies of one image do not make its keypoints common. `before` are the counts
    /// of images whose votes for each other are not among these; it is empty for the others.
    pub(super) fn of(features: &[&LocalFeatures], votes: &[Vote], group_of: &[usize], before: &[Vec<u8>]) -> Self {
        let group = |image: u32| group_of[image as usize] as u32;
        let mut met_in: Vec<(u32, u32, u32)> = votes
            .par_iter()
            .filter(|vote| group(vote.a) != group(vote.b))
            .flat_map_iter(|v| [(v.a, v.of_a, group(v.b)), (v.b, v.of_b, group(v.a))])
            .collect();
        met_in.par_sort_unstable();
        met_in.dedup();
        let count = |(features, before): (&&LocalFeatures, &Vec<u8>)| {
            if before.len() == features.signatures.len() { before.clone() } else { repeats(features) }
        };
        let mut met: Vec<Vec<u8>> = features.par_iter().zip(before).map(count).collect();
        for (image, keypoint, _) in met_in {
            let count = &mut met[image as usize][keypoint as usize];
            *count = count.saturating_add(1);
        }
        Self { met }
    }

    /// How much a keypoint of an image says, 0 to 1: 1 when it is met at most twice elsewhere, then less.
    pub(crate) fn weight(&self, image: usize, keypoint: usize) -> f32 {
        (2.0 / f32::from(self.met[image][keypoint].max(1))).min(1.0)
    }

    /// The counts, for each image that of each of its keypoints.
    pub(crate) fn into_counts(self) -> Vec<Vec<u8>> {
        self.met
    }
}

/// For each keypoint of an image the others, at other places, that are as near to it as a vote asks for.
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
