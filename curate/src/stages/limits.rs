//! The ranges of the keys of `fingerprint` and `curate`.

use crate::Result;
use lapidary_pipeline::Ranges;
use lapidary_schemas::Config;

/// Keypoints of an image at most: 1,024 images of so many are read at a time, with signatures of 32 bytes whose sum
/// Arrow counts in 31 bits.
const KEYPOINTS_MAX: usize = 16_384;

/// Checks the keys of `fingerprint` and `curate` that have a range.
///
/// # Errors
/// [`lapidary_pipeline::PipelineError::Usage`] with each key that is out of it.
pub fn check(config: &Config) -> Result<()> {
    let curate = &config.curate;
    let mut ranges = Ranges::default();
    ranges.within("fingerprint.keypoints", config.fingerprint.keypoints, 0..=KEYPOINTS_MAX);
    ranges.within("curate.hash_max_bits", curate.hash_max_bits, 0..=63);
    ranges.within("curate.pdq_max_bits", curate.pdq_max_bits, 0..=63);
    ranges.within("curate.pdq_quality_min", curate.pdq_quality_min, 0..=100);
    ranges.count_at_least("curate.tree_max_images", curate.tree_max_images, 1);
    ranges.within("curate.score_min", curate.score_min, 0.0..=1.0);
    ranges.within("curate.against_score_min", curate.against_score_min, 0.0..=1.0);
    Ok(ranges.check()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapidary_pipeline::cli::resolve;

    #[test]
    fn every_key_is_refused_by_its_name_when_it_is_out_of_range() {
        check(&Config::default()).expect("the default can be");
        for change in [
            "fingerprint.keypoints=16385",
            "curate.hash_max_bits=64",
            "curate.pdq_max_bits=64",
            "curate.pdq_quality_min=101",
            "curate.tree_max_images=0",
            "curate.score_min=1.5",
            "curate.against_score_min=nan",
        ] {
            let config = resolve(None, None, &[change.to_owned()]).expect("resolves");
            let (key, _) = change.split_once('=').expect("a change");
            let error = check(&config).expect_err(change).to_string();
            assert!(error.contains(key), "{change}: {error}");
        }
    }
}
