//! Which of a probe's images are looked at, and their pixels.

use crate::Result;
use image::RgbImage;
use lapidary_pipeline::{ImageStore, PipelineError, decode};
use lapidary_schemas::{ImageId, RejectReason};
use lapidary_train::probe::{Labelled, stratified};
use rayon::prelude::*;

/// Decodes images, in the order of their ids.
///
/// # Errors
/// When an image is gone or is none any more.
pub(crate) fn decoded(store: &ImageStore, ids: &[ImageId]) -> Result<Vec<RgbImage>> {
    let fetched = store.fetch(ids)?;
    let decoded = (0..ids.len())
        .into_par_iter()
        .map(|i| decode(fetched.get(i), store.rule()).map(|decoded| decoded.rgb))
        .collect::<Result<Vec<_>, _>>();
    let fault = |(reason, detail): (RejectReason, String)| {
        PipelineError::Usage(format!("{} ({detail}); ingest again", reason.text()))
    };
    Ok(decoded.map_err(fault)?)
}

/// A seeded, stratified sample of at most `most` images, by id. Where there are more classes than that, not every class has one.
pub(crate) fn sampled(list: &[Labelled], most: usize, seed: u64) -> Vec<Labelled> {
    if most == 0 {
        return Vec::new();
    }
    let sample = stratified(list, 1.0, most, seed);
    // Ids are digests, so that every so manieth is a draw.
    let kept = sample.len().min(most);
    (0..kept).map(|index| sample[index * sample.len() / kept]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_are_taken_than_asked_for_whatever_the_classes() {
        let list: Vec<Labelled> = (0..90).map(|i| Labelled { id: ImageId(i * 7), class: (i % 30) as u32 }).collect();
        for most in [0, 1, 7, 30, 31, 60, 90, 500] {
            let sample = sampled(&list, most, 3);
            assert!(sample.len() <= most && (sample.len() >= 30 || sample.len() == most), "{most}: {}", sample.len());
            assert!(sample.windows(2).all(|pair| pair[0] < pair[1]));
            assert_eq!(sample, sampled(&list, most, 3));
        }
        assert!(sampled(&list, 60, 3) != sampled(&list, 60, 4));
    }
}
