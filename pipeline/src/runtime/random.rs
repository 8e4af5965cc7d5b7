//! Keyed randomness: the generator of item i is a function of (seed, stage, ids), never of order or threads.
//!
//! ChaCha8 is counter-based: its 32-byte key is exactly four 64-bit words, so that every key names its own stream without
//! hashing. Stages use distinct words for what they draw, listed as constants here.

pub use rand::seq::SliceRandom;
pub use rand::{Rng, RngExt, SeedableRng};
pub use rand_chacha::ChaCha8Rng;

/// What a stream is drawn for; keeps streams of different uses apart.
#[derive(Clone, Copy, Debug)]
#[repr(u64)]
pub enum Purpose {
    /// Augmentation of a view.
    View = 1,
    /// An image's place in an epoch.
    EpochOrder = 2,
    /// A scene of the built-in data set.
    Scene = 3,
    /// Initial weights of a parameter.
    Weights = 4,
    /// A choice of images for a probe.
    ProbeSample = 5,
    /// The order inside a leaf.
    LeafOrder = 6,
    /// The choice of initial centroids.
    Centroids = 7,
    /// Which branches of a network are left out for an image at a training step.
    StochasticDepth = 8,
    /// What a step's rotary coordinates are multiplied by.
    RopeRescale = 9,
    /// Which patches of an image's views are masked at a training step.
    PatchMask = 10,
    /// Which images a tree of clusters is fitted on.
    TreeSample = 11,
    /// Initial weights of a probe's classifier.
    ProbeWeights = 20,
    /// The order in which a probe's classifier sees its labels.
    ProbeOrder = 21,
    /// What a probe's classifier leaves out at a step.
    ProbeDropout = 22,
    /// How a probe's image is copied.
    ProbeCopy = 23,
    /// How an image is transformed to see how its features change.
    Transformation = 24,
    /// Directions that features are projected on.
    Projection = 25,
    /// Which patches a step of a dense probe learns from.
    PatchBatch = 26,
    /// Which values of a hidden layer are left out at a training step.
    Dropout = 27,
}

/// The generator keyed by `seed`, `purpose` and two ids (each use says which).
pub fn keyed(seed: u64, purpose: Purpose, first: u64, second: u64) -> ChaCha8Rng {
    let mut key = [0u8; 32];
    for (slot, word) in key.chunks_exact_mut(8).zip([seed, purpose as u64, first, second]) {
        slot.copy_from_slice(&word.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

/// A uniform value in `[low, high)`; `low` when the interval is empty.
pub fn uniform(rng: &mut impl Rng, low: f32, high: f32) -> f32 {
    low + (high - low) * rng.random::<f32>()
}

/// True with probability `p`. Always consumes one draw, so that changing `p` moves no later draw.
pub fn chance(rng: &mut impl Rng, p: f32) -> bool {
    rng.random::<f32>() < p
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_differ_by_every_part_of_the_key_and_repeat() {
        let first = |seed, purpose, a, b| keyed(seed, purpose, a, b).next_u64();
        let base = first(1, Purpose::View, 2, 3);
        assert_eq!(base, first(1, Purpose::View, 2, 3));
        for other in [
            first(2, Purpose::View, 2, 3),
            first(1, Purpose::Scene, 2, 3),
            first(1, Purpose::View, 4, 3),
            first(1, Purpose::View, 2, 4),
        ] {
            assert_ne!(base, other);
        }
    }
}
