//! The leaves of a tree that is fitted on a sample: every image goes to the nearest, shard by shard, in whatever process.
//!
//! A shard is assigned by itself, so that its bytes do not depend on what is assigned beside it.

use super::assignment::assign_squared;
use super::table::read_levels;
use crate::input::columns::{f32s, u32s};
use crate::input::{Alignment, Image, Vectors, Whitening, embeddings_of_shard};
use crate::{CurateError, Result};
use arrow::array::{ArrayRef, Float32Array, RecordBatch, UInt32Array, UInt64Array};
use faiss::Index;
use faiss::index::flat::FlatIndexImpl;
use lapidary_pipeline::stage::{Layout, Progress, TableWriter, WrittenTable, column, read_table};
use lapidary_pipeline::{PipelineError, interrupt};
use lapidary_schemas::tables;
use std::path::Path;
use std::sync::Arc;

/// The finest centroids of a tree.
pub(crate) struct Leaves {
    index: FlatIndexImpl,
    dim: usize,
    whitening: Option<Whitening>,
}

impl Leaves {
    /// Those of a folder's tree, for embeddings that are whitened first where a map is given.
    ///
    /// # Errors
    /// When the tree cannot be read, or FAISS refuses.
    pub(crate) fn read(folder: &Path, whitening: Option<Whitening>) -> Result<Self> {
        let finest = read_levels(folder)?.into_iter().next();
        let Vectors { dim, values } = finest.map(|level| level.centroids).unwrap_or_default();
        let mut index = FlatIndexImpl::new_l2(dim as u32).map_err(CurateError::faiss("making a flat index"))?;
        index.add(&values).map_err(CurateError::faiss("adding centroids"))?;
        Ok(Self { index, dim, whitening })
    }

    /// Writes the leaf of each image of a shard of embeddings; returns the table and the sum of squared distances.
    ///
    /// # Errors
    /// When the shard cannot be read or is of other embeddings than the tree, FAISS refuses, or on an interrupt.
    pub(crate) fn assign_shard(&mut self, shard: &Path, to: &Path, progress: &Progress) -> Result<(WrittenTable, f64)> {
        let mut table = TableWriter::create(to, tables::assigned())?;
        let mut sum = 0.0;
        for batch in embeddings_of_shard(shard)? {
            interrupt::check()?;
            let (ids, mut vectors) = batch?;
            if let Some(whitening) = &self.whitening {
                vectors = whitening.apply(&vectors)?;
            }
            if vectors.dim != self.dim {
                let (theirs, ours) = (self.dim, vectors.dim);
                return Err(CurateError::Mismatch(format!("centroids of {theirs} values, embeddings of {ours}")));
            }
            let (clusters, squared) = assign_squared(&vectors, &mut self.index)?;
            sum += sum_of(squared.iter().copied());
            let columns: Vec<ArrayRef> = vec![
                Arc::new(UInt64Array::from_iter_values(ids.iter().copied())),
                u32s(clusters.into_iter().map(Some)),
                f32s(squared.into_iter().map(|squared| Some(squared.sqrt()))),
            ];
            let rows = RecordBatch::try_new(tables::assigned(), columns);
            table.write(&rows.map_err(|e| PipelineError::Internal(e.to_string()))?)?;
            progress.add(ids.len() as u64);
        }
        Ok((table.finish()?, sum))
    }
}

/// The sum of squared distances of a shard's rows.
///
/// # Errors
/// When it has no distances.
pub(crate) fn squared_distance_of(batches: &[RecordBatch]) -> Result<f64, PipelineError> {
    let mut sum = 0.0;
    for batch in batches {
        let distances: &Float32Array = column(batch, "distance")?;
        sum += sum_of(distances.values().iter().map(|distance| distance * distance));
    }
    Ok(sum)
}

fn sum_of(squared: impl Iterator<Item = f32>) -> f64 {
    squared.map(f64::from).sum()
}

/// The leaf of each image and its distance to it, in the images' order, from a folder that [`Leaves::assign_shard`] filled.
///
/// # Errors
/// When a shard cannot be read, or it is of other images.
pub(crate) fn read_assigned(folder: &Path, images: &[Image]) -> Result<Vec<(u32, f32)>> {
    let mut leaves = vec![(0, 0.0); images.len()];
    let mut alignment = Alignment::new(images, "cluster");
    for shard in Layout::shards(folder)? {
        for batch in read_table(&shard, &[])? {
            let ids: &UInt64Array = column(&batch, "image_id")?;
            let (clusters, distances): (&UInt32Array, &Float32Array) =
                (column(&batch, "cluster")?, column(&batch, "distance")?);
            for (row, id) in ids.values().iter().enumerate() {
                leaves[alignment.index_of(*id)?] = (clusters.value(row), distances.value(row));
            }
        }
    }
    alignment.require_all()?;
    Ok(leaves)
}
