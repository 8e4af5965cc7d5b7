//! Candidates among inverted images: negatives. All coefficients of a negative's DCT change sign, so that its PDQ hash is the
//! complement of the image's own, but for the few bits at the median.

use super::candidate::Candidate;
use super::hashes::NEAR_MAX;
use super::multi_index::nearest_matches;
use crate::Result;
use crate::fingerprints::{Dihedral, ImageSet};
use crate::memory::SortedRuns;
use lapidary_schemas::config::CurateConfig;

/// Bits of a PDQ hash.
const BITS: u32 = 256;

/// Whether two hashes that differ in so many bits are those of an image and a negative of it.
pub(super) fn is_complement(distance_bits: u32, config: &CurateConfig) -> bool {
    distance_bits >= BITS - config.pdq_max_bits
}

/// Adds the pairs of images, at least one of them new, one of which is a negative of the other as far as hashes say; the bits
/// are those in which the hashes themselves differ, nearly all.
///
/// # Errors
/// When the disk refuses.
pub(super) fn inverted(
    set: ImageSet<'_>,
    is_new: &[bool],
    config: &CurateConfig,
    stands_alone: &[bool],
    candidates: &mut SortedRuns<'_, Candidate>,
) -> Result<()> {
    let summaries = set.prints.summaries();
    let is_hashable = |image: &usize| stands_alone[*image] && summaries[*image].pdq_quality >= config.pdq_quality_min;
    let images: Vec<usize> = (0..is_new.len()).filter(is_hashable).collect();
    let new: Vec<usize> = images.iter().copied().filter(|image| is_new[*image]).collect();
    let hashes = set.prints.hashes(Dihedral::None)?;
    let complements: Vec<[u64; 4]> = new.iter().map(|image| hashes[*image].0.map(|word| !word)).collect();
    let hashes: Vec<[u64; 4]> = images.iter().map(|image| hashes[*image].0).collect();
    let found = nearest_matches(&complements, &hashes, config.pdq_max_bits, NEAR_MAX).into_iter();
    let pairs = found
        .map(|(a, b, bits)| (new[a as usize], images[b as usize], BITS - bits))
        // Two new ones come up from both sides.
        .filter(|(a, b, _)| a < b || !is_new[*b]);
    candidates.extend(pairs.map(|(a, b, bits)| Candidate::by_hash(a.min(b), a.max(b), Dihedral::None, bits)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fingerprints::pdq;

    #[test]
    fn the_hash_of_a_negative_is_the_complement() {
        let luma: Vec<f32> = (0..96 * 80)
            .map(|i| {
                let (x, y) = ((i % 96) as f32, (i / 96) as f32);
                (120.0 + 60.0 * (0.13 * x + 0.002 * x * y).sin() + 50.0 * (0.21 * y).cos()).round()
            })
            .collect();
        let negative: Vec<f32> = luma.iter().map(|value| 255.0 - value).collect();
        let bits = pdq(&luma, 96).by_dihedral[0].distance_bits(&pdq(&negative, 96).by_dihedral[0]);
        let config = CurateConfig::default();
        assert!(bits >= 250 && is_complement(bits, &config), "{bits}");
        assert!(!is_complement(128, &config));
    }
}
