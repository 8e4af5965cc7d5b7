//! Features of a probe's images, computed batch by batch by a frozen encoder.

use super::Labelled;
use crate::Result;
use crate::frozen::FrozenVit;
use crate::operators::Operators;
use lapidary_pipeline::{ImageStore, PipelineError, decode, interrupt};
use rayon::prelude::*;

/// Features and classes, image by image.
#[derive(Debug, Clone)]
pub struct Features {
    /// Values an image.
    pub dim: usize,
    /// The features, shape `[classes.len(), dim]`.
    pub values: Vec<f32>,
    /// The class of each image.
    pub classes: Vec<u32>,
}

impl Features {
    /// Images.
    pub fn len(&self) -> usize {
        self.classes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }

    /// The features of an image.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.dim..(index + 1) * self.dim]
    }

    /// The features of some images.
    pub fn select(&self, indices: &[usize]) -> Self {
        Self {
            dim: self.dim,
            values: indices.iter().flat_map(|index| self.row(*index)).copied().collect(),
            classes: indices.iter().map(|index| self.classes[*index]).collect(),
        }
    }

    /// Each image's features at unit length.
    pub fn normalised(mut self) -> Self {
        for row in self.values.chunks_exact_mut(self.dim) {
            let norm = row.iter().map(|v| v * v).sum::<f32>().sqrt().max(1e-12);
            row.iter_mut().for_each(|v| *v /= norm);
        }
        self
    }
}

/// Computes the features of labelled images, and says of each batch how many images it had.
///
/// # Errors
/// When an image is gone, the user interrupts, or the device fails.
pub fn compute<B: Operators>(
    store: &ImageStore,
    labelled: &[Labelled],
    network: &FrozenVit<B>,
    batch: usize,
    mut done: impl FnMut(u64),
) -> Result<Features> {
    let mut values = Vec::with_capacity(labelled.len() * network.dim());
    for chunk in labelled.chunks(batch.max(1)) {
        interrupt::check()?;
        let ids: Vec<_> = chunk.iter().map(|l| l.id).collect();
        let fetched = store.fetch(&ids)?;
        let images = (0..fetched.len())
            .into_par_iter()
            .map(|i| decode(fetched.get(i), store.rule()).map(|decoded| decoded.rgb))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|(reason, detail)| PipelineError::Usage(format!("{} ({detail}); ingest again", reason.text())))?;
        values.extend(network.class_features(&images)?);
        done(chunk.len() as u64);
    }
    Ok(Features { dim: network.dim(), values, classes: labelled.iter().map(|l| l.class).collect() })
}
