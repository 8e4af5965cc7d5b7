//! The stage `fingerprint`: a row for every image, shard by shard. Memory is one batch.

use super::table::{KEYPOINT_BYTES, batch_of};
use super::{Contents, Fingerprint, Fingerprinters};
use crate::{CurateError, Result};
use arrow::array::{BinaryArray, RecordBatch, UInt64Array};
use lapidary_pipeline::stage::{
    Layout, Previous, Progress, Share, SharedStage, StageRun, StageSpec, TableWriter, column, require_shards,
};
use lapidary_pipeline::{DecodeRule, PipelineError, ShardRows, bytes_column, interrupt};
use lapidary_schemas::{Config, Manifest, Rows, tables};
use rayon::prelude::*;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Images a batch.
const BATCH: usize = 64;
const VERSION: u32 = 3;

/// Takes the fingerprints of a source's images, or of a share of them, into `OUT/SOURCE/fingerprints`.
///
/// # Errors
/// When the images are not there, or one no longer decodes.
pub fn fingerprint(
    layout: &Layout,
    source: &str,
    config: &Config,
    (share, dry_run): (Share, bool),
) -> Result<SharedStage> {
    let images = layout.images(source);
    let manifest = require_shards(&images, "ingested images", "run `lapidary ingest --data DIR` first")?;
    let folder = layout.fingerprints(source);
    let spec = StageSpec {
        stage: "fingerprint",
        version: VERSION,
        out: layout.out.clone(),
        folder: folder.clone(),
        config: json!({"fingerprint": config.fingerprint}),
        inputs: BTreeMap::from([(layout.name_of(&images), manifest.digest.clone())]),
        resumable: true,
        previous: Previous::Replaced,
    };
    spec.run_share(share, (dry_run, false), |run| {
        let shards = Layout::shards_by_name(&images)?;
        run_fingerprint(layout, &manifest, &shards, config.fingerprint.keypoints, run)
    })
}

fn run_fingerprint(
    layout: &Layout,
    images: &Manifest,
    shards: &[PathBuf],
    keypoints: usize,
    mut run: StageRun,
) -> Result<Option<Manifest>> {
    let facts_of = |batches: &[RecordBatch]| {
        let kept = batches.iter().map(keypoints_of).sum::<Result<u64, PipelineError>>()?;
        Ok(json!({"keypoints": kept}))
    };
    let fingerprinters = Fingerprinters::default();
    let contents = Contents { keypoints, quality: true };
    let make = |shard: &Path, to: &Path, progress: &Progress| {
        let rule = DecodeRule::of_shard(shard)?;
        let mut kept = 0;
        let mut table = TableWriter::create(to, tables::fingerprints())?;
        for rows in ShardRows::open_columns(shard, &["image_id", "image"], BATCH)? {
            interrupt::check()?;
            let rows = rows?;
            let ids: &UInt64Array = column(&rows, "image_id")?;
            let bytes = bytes_column(&rows)?;
            let prints: Vec<Fingerprint> = (0..rows.num_rows())
                .into_par_iter()
                .with_max_len(1)
                .map(|row| {
                    // Ingest decoded these very bytes; what fails now was damaged on disk.
                    let taken = fingerprinters.with(|taker| taker.take(bytes.value(row), rule, contents));
                    taken.map(|taken| taken.print).map_err(|(reason, detail)| {
                        let id = ids.value(row);
                        PipelineError::Internal(format!(
                            "image {id:016x} no longer decodes ({}): {detail}",
                            reason.code()
                        ))
                    })
                })
                .collect::<Result<_, PipelineError>>()?;
            kept += prints.iter().map(|print| print.local.keypoints.len() as u64).sum::<u64>();
            table.write(&batch_of(ids, &prints)?)?;
            progress.add(prints.len() as u64);
        }
        Ok::<_, CurateError>((table.finish()?, json!({"keypoints": kept})))
    };
    let shards = run.make_shards(layout, (images, shards), facts_of, make)?;
    if run.is_share() {
        return Ok(None);
    }
    let rows = Rows { input: shards.rows, output: shards.rows, rejected: 0 };
    let kept: u64 = run.shards().values().filter_map(|shard| shard.facts["keypoints"].as_u64()).sum();
    let facts = json!({"keypoints": kept, "added": shards.added, "shards": run.facts_of_shards()});
    Ok(Some(run.finish(rows, facts, &[])?))
}

/// How many keypoints the fingerprints of a batch have.
fn keypoints_of(batch: &RecordBatch) -> Result<u64, PipelineError> {
    let keypoints: &BinaryArray = column(batch, "keypoints")?;
    Ok(keypoints.iter().flatten().map(|stored| (stored.len() / KEYPOINT_BYTES) as u64).sum())
}
