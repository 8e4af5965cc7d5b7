//! Embedding: an encoder turns images into vectors, whatever the encoder; the built-in descriptor is one of them.
//!
//! The stage streams shards: a batch of images is decoded in parallel, encoded, normalised and written. Memory is one batch.

use crate::decode::{DecodeRule, decode};
use crate::images::ShardRows;
use crate::images::bytes_column;
use crate::stage::{
    Layout, Previous, Progress, Share, SharedStage, StageRun, StageSpec, TableWriter, column, require_shards,
};
use crate::{PipelineError, Result, interrupt};
use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field};
use image::RgbImage;
use lapidary_schemas::{Digest, Manifest, Rows, tables};
use rayon::prelude::*;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Turns images into vectors.
pub trait Encoder {
    /// Its name, as folders and configurations have it.
    fn name(&self) -> &str;
    /// A digest that changes when the same image would give another vector.
    fn digest(&self) -> Digest;
    /// Values a vector.
    fn dim(&self) -> usize;
    /// The vectors of a batch, one after the other, shape `[images.len(), dim]`; they need not be normalised.
    ///
    /// # Errors
    /// When the device fails.
    fn encode(&mut self, images: &[RgbImage]) -> Result<Vec<f32>>;
}

/// Embeds all images of a source, or a share of them, into `OUT/SOURCE/embeddings/ENCODER`.
///
/// # Errors
/// When the images are not there, or an embedding is not finite.
pub fn embed(
    layout: &Layout,
    source: &str,
    encoder: &mut dyn Encoder,
    batch: usize,
    (share, dry_run): (Share, bool),
) -> Result<SharedStage> {
    let images = layout.images(source);
    let manifest = require_shards(&images, "ingested images", "run `lapidary ingest --data DIR` first")?;
    let folder = layout.embeddings(source, encoder.name());
    let spec = StageSpec {
        stage: "embed",
        version: 2,
        out: layout.out.clone(),
        folder: folder.clone(),
        config: json!({"encoder": encoder.name(), "encoder_digest": encoder.digest()}),
        inputs: BTreeMap::from([(layout.name_of(&images), manifest.digest.clone())]),
        resumable: true,
        previous: Previous::Replaced,
    };
    spec.run_share(share, (dry_run, false), |run| {
        run_embed(layout, &manifest, &Layout::shards_by_name(&images)?, encoder, batch.max(1), run)
    })
}

fn run_embed(
    layout: &Layout,
    images: &Manifest,
    shards: &[PathBuf],
    encoder: &mut dyn Encoder,
    batch: usize,
    mut run: StageRun,
) -> Result<Option<Manifest>> {
    let dim = encoder.dim();
    let schema = tables::embeddings(dim, encoder.name(), &encoder.digest().0);
    let mut make = |shard: &Path, to: &Path, progress: &Progress| {
        let rule = DecodeRule::of_shard(shard)?;
        let mut table = TableWriter::create(to, schema.clone())?;
        for rows in ShardRows::open_columns(shard, &["image_id", "image"], batch)? {
            interrupt::check()?;
            let rows = rows?;
            let ids: &UInt64Array = column(&rows, "image_id")?;
            let images = decode_all(&rows, rule)?;
            let mut vectors = encoder.encode(&images)?;
            for (vector, id) in vectors.chunks_exact_mut(dim).zip(ids.values()) {
                if !normalise(vector) {
                    return Err(PipelineError::format(shard, format!("image {id:016x}: its embedding is not finite")));
                }
            }
            table.write(&embedding_batch(ids.clone(), vectors, dim, &schema)?)?;
            progress.add(ids.len() as u64);
        }
        Ok((table.finish()?, json!({})))
    };
    let shards = run.make_shards(layout, (images, shards), |_| Ok(json!({})), &mut make)?;
    if run.is_share() {
        return Ok(None);
    }
    let rows = Rows { input: shards.rows, output: shards.rows, rejected: 0 };
    let facts = json!({
        "encoder": encoder.name(), "dim": dim, "added": shards.added, "shards": run.facts_of_shards(),
    });
    run.finish(rows, facts, &[]).map(Some)
}

fn decode_all(rows: &RecordBatch, rule: DecodeRule) -> Result<Vec<RgbImage>> {
    let bytes = bytes_column(rows)?;
    (0..rows.num_rows())
        .into_par_iter()
        .with_max_len(1)
        .map(|row| {
            // Ingest decoded these very bytes; what fails now was damaged on disk.
            let decoded = decode(bytes.value(row), rule);
            decoded.map(|d| d.rgb).map_err(|(reason, detail)| {
                PipelineError::Internal(format!("an ingested image no longer decodes ({}): {detail}", reason.code()))
            })
        })
        .collect()
}

/// Scales a vector to length 1; false when it holds a value that is not finite. A zero vector becomes the first axis, so
/// that cosine similarity is defined for every image.
fn normalise(vector: &mut [f32]) -> bool {
    let norm = vector.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>().sqrt();
    if !norm.is_finite() {
        return false;
    }
    if norm < 1e-12 {
        vector.fill(0.0);
        vector[0] = 1.0;
    } else {
        vector.iter_mut().for_each(|v| *v = (f64::from(*v) / norm) as f32);
    }
    true
}

/// A batch of the embeddings table.
///
/// # Errors
/// When the vectors do not match the ids.
pub fn embedding_batch(
    ids: UInt64Array,
    vectors: Vec<f32>,
    dim: usize,
    schema: &arrow::datatypes::SchemaRef,
) -> Result<RecordBatch> {
    let item = Arc::new(Field::new("item", DataType::Float32, false));
    let list = FixedSizeListArray::try_new(item, dim as i32, Arc::new(Float32Array::from(vectors)), None)
        .map_err(|e| PipelineError::Internal(e.to_string()))?;
    RecordBatch::try_new(schema.clone(), vec![Arc::new(ids) as ArrayRef, Arc::new(list)])
        .map_err(|e| PipelineError::Internal(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_become_unit_and_zero_has_a_direction() {
        let mut vector = [3.0, 4.0];
        assert!(normalise(&mut vector));
        assert_eq!(vector, [0.6, 0.8]);
        let mut zero = [0.0, 0.0];
        assert!(normalise(&mut zero) && zero == [1.0, 0.0]);
        assert!(!normalise(&mut [f32::NAN, 0.0]));
    }
}
