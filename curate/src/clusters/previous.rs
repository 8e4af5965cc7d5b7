//! The tree of an earlier clustering, for a new one to resume from.

use super::table::{read_leaves, read_levels};
use super::{Drift, Level, assign};
use crate::input::{Image, Vectors, read_kept};
use crate::{CurateError, Result};
use lapidary_schemas::Manifest;
use std::collections::HashMap;
use std::path::PathBuf;

/// An earlier clustering of most of the images, or of some that have gone since.
#[derive(Debug)]
pub(crate) struct PreviousTree {
    pub(crate) manifest: Manifest,
    folder: PathBuf,
}

impl PreviousTree {
    pub(crate) fn new(manifest: Manifest, folder: PathBuf) -> Self {
        Self { manifest, folder }
    }

    /// Its tree with the images that are kept now, and which of them it did not hold as they are; those go to the
    /// nearest leaf. `images` and `vectors` are of the kept, in their order.
    ///
    /// # Errors
    /// When a table cannot be read, or is of other embeddings.
    pub(crate) fn tree(&self, images: &[&Image], vectors: &Vectors) -> Result<(Vec<Level>, Vec<bool>)> {
        let mut levels = read_levels(&self.folder)?;
        let Some(finest) = levels.first_mut() else { return Ok((levels, vec![true; images.len()])) };
        if finest.centroids.dim != vectors.dim {
            let (theirs, ours) = (finest.centroids.dim, vectors.dim);
            return Err(CurateError::Mismatch(format!("centroids of {theirs} values, embeddings of {ours}")));
        }
        let leaves = read_leaves(&self.folder)?;
        let mut leaf_of: HashMap<u64, (u32, f32)> =
            leaves.map(|(id, cluster, distance)| (id, (cluster, distance))).collect();
        let mut is_added = self.is_added(images)?;
        is_added.iter_mut().zip(images).for_each(|(is_added, image)| *is_added |= !leaf_of.contains_key(&image.id.0));
        let added: Vec<usize> = (0..images.len()).filter(|image| is_added[*image]).collect();
        let (clusters, distances) = assign(&vectors.select(&added), &finest.centroids)?;
        leaf_of.extend(added.iter().zip(clusters.into_iter().zip(distances)).map(|(i, leaf)| (images[*i].id.0, leaf)));
        (finest.assignment, finest.distances) = images.iter().map(|image| leaf_of[&image.id.0]).unzip();
        Ok((levels, is_added))
    }

    /// Which images its tree did not hold as they are; one that was touched is a new one.
    ///
    /// # Errors
    /// When a table cannot be read.
    pub(crate) fn is_added(&self, images: &[&Image]) -> Result<Vec<bool>> {
        let digests: HashMap<u64, u64> = read_kept(&self.folder)?.into_iter().collect();
        Ok(images.iter().map(|image| digests.get(&image.id.0) != Some(&image.digest_prefix())).collect())
    }

    /// How well its tree fitted.
    pub(crate) fn drift(&self) -> Drift {
        serde_json::from_value(self.manifest.facts["tree"]["drift"].clone()).unwrap_or_default()
    }
}
