//! The tree of an earlier clustering, for a new one to resume from.

use super::{Drift, Level, assign};
use crate::input::{Image, Vectors};
use crate::{CurateError, Result};
use arrow::array::{Float32Array, UInt32Array, UInt64Array};
use lapidary_pipeline::stage::{column, list_values, read_table};
use lapidary_schemas::Manifest;
use lapidary_schemas::tables::{CLUSTERS_FILE, centroids_file};
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

    /// Its tree with the images that are kept now, and which of them it did not hold before; those go to the nearest
    /// leaf. `images`, whether each `is_new`, and `vectors` are of the kept, in their order.
    ///
    /// # Errors
    /// When a table cannot be read, or is of other embeddings.
    pub(crate) fn tree(
        &self,
        images: &[&Image],
        is_new: &[bool],
        vectors: &Vectors,
    ) -> Result<(Vec<Level>, Vec<bool>)> {
        let mut leaf_of: HashMap<u64, (u32, f32)> = HashMap::new();
        for batch in read_table(&self.folder.join(CLUSTERS_FILE), &["image_id", "cluster_level_1", "distance_level_1"])?
        {
            let ids: &UInt64Array = column(&batch, "image_id")?;
            let (leaves, distances): (&UInt32Array, &Float32Array) =
                (column(&batch, "cluster_level_1")?, column(&batch, "distance_level_1")?);
            let leaf = |row: usize| (ids.value(row), (leaves.value(row), distances.value(row)));
            leaf_of.extend((0..ids.len()).map(leaf));
        }
        let mut levels = self.levels()?;
        let Some(finest) = levels.first_mut() else { return Ok((levels, vec![true; images.len()])) };
        if finest.centroids.dim != vectors.dim {
            let (theirs, ours) = (finest.centroids.dim, vectors.dim);
            return Err(CurateError::Mismatch(format!("centroids of {theirs} values, embeddings of {ours}")));
        }
        let has_no_leaf = |i: &usize| is_new[*i] || !leaf_of.contains_key(&images[*i].id.0);
        let added: Vec<usize> = (0..images.len()).filter(has_no_leaf).collect();
        let (leaves, distances) = assign(&vectors.select(&added), &finest.centroids)?;
        leaf_of.extend(added.iter().zip(leaves.into_iter().zip(distances)).map(|(i, leaf)| (images[*i].id.0, leaf)));
        (finest.assignment, finest.distances) = images.iter().map(|image| leaf_of[&image.id.0]).unzip();
        let mut is_added = vec![false; images.len()];
        added.into_iter().for_each(|image| is_added[image] = true);
        Ok((levels, is_added))
    }

    /// The levels of its tree, the finest without its points.
    fn levels(&self) -> Result<Vec<Level>> {
        let mut levels: Vec<Level> = Vec::new();
        // What the centroids of the level before belong to.
        let mut parents: Vec<u32> = Vec::new();
        let paths = (1..).map(|level| self.folder.join(centroids_file(level)));
        for path in paths.take_while(|path| path.is_file()) {
            let (mut centroids, mut above) = (Vectors::default(), Vec::new());
            for batch in read_table(&path, &["parent", "centroid"])? {
                let (values, dim) = list_values(&batch, "centroid")?;
                centroids.dim = dim;
                centroids.values.extend_from_slice(values);
                above.extend(column::<UInt32Array>(&batch, "parent")?.iter().flatten());
            }
            let assignment = std::mem::replace(&mut parents, above);
            let distances = levels.last().map_or(Vec::new(), |below| {
                let pairs = assignment.iter().enumerate();
                pairs.map(|(i, parent)| distance(below.centroids.row(i), centroids.row(*parent as usize))).collect()
            });
            levels.push(Level { centroids, assignment, distances });
        }
        Ok(levels)
    }

    /// How well its tree fitted.
    pub(crate) fn drift(&self) -> Drift {
        serde_json::from_value(self.manifest.facts["tree"]["drift"].clone()).unwrap_or_default()
    }
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f32>().sqrt()
}
