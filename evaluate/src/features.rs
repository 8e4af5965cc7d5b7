//! Features of a probe's images, computed batch by batch on a frozen backbone.

use crate::Result;
use crate::probe::Labelled;
use lapidary_pipeline::stage::Progress;
use lapidary_pipeline::{Encoder, ImageStore, PipelineError, decode, interrupt};
pub use lapidary_train::knn::Features;
use rayon::prelude::*;

/// Computes the features of labelled images.
///
/// # Errors
/// When an image is gone or the device fails.
pub fn compute(store: &ImageStore, labelled: &[Labelled], encoder: &mut dyn Encoder, batch: usize) -> Result<Features> {
    let progress = Progress::new("features", labelled.len() as u64, "images");
    let mut values = Vec::with_capacity(labelled.len() * encoder.dim());
    for chunk in labelled.chunks(batch.max(1)) {
        interrupt::check()?;
        let ids: Vec<_> = chunk.iter().map(|l| l.id).collect();
        let fetched = store.fetch(&ids)?;
        let images = (0..fetched.len())
            .into_par_iter()
            .map(|i| decode(fetched.get(i), store.rule()).map(|decoded| decoded.rgb))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|(reason, detail)| PipelineError::Usage(format!("{} ({detail}); ingest again", reason.text())))?;
        values.extend(encoder.encode(&images)?);
        progress.add(chunk.len() as u64);
    }
    Ok(Features { dim: encoder.dim(), values, classes: labelled.iter().map(|l| l.class).collect() })
}
