//! Plans: augmentation as data. One row a view, one Parquet file an epoch, in training order.
//!
//! Every draw comes from a generator keyed by (seed, epoch, image, view): a row depends neither on threads nor on which
//! other images are in the set. No randomness lives in the executor ([`crate::pixels`]). With `plan.store = false` only the
//! images are written down, and the same rows are drawn when they are read.

mod limits;
pub mod loader;
mod reader;
mod sample;
mod sheet;
mod table;

pub use reader::PlanReader;
pub use sample::{Crop, Jitter, View, epoch_order, views_of_image};
pub use sheet::{ShownView, show};

use crate::images::{ImageInfo, ImageStore};
use crate::stage::{
    Layout, Opened, Outcome, Previous, Progress, StageRun, StageSpec, TableWriter, column, read_table, require_manifest,
};
use crate::{PipelineError, Result, interrupt};
use arrow::array::{RecordBatch, UInt32Array, UInt64Array};
use lapidary_schemas::tables::SUBSET_FILE;
use lapidary_schemas::{Config, ImageId, Manifest, Rows, tables};
use rayon::prelude::*;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The version of what a plan's rows mean.
pub const VERSION: u32 = 2;
/// Images planned and written at a time; bounds the memory of an epoch.
const CHUNK_IMAGES: usize = 8192;

/// Plans the augmentation of a subset into `OUT/SOURCE/plans/NAME`.
///
/// # Errors
/// When the subset or its images are not there, or the views cannot be.
pub fn plan(
    layout: &Layout,
    source: &str,
    subset: &str,
    name: &str,
    config: &Config,
    dry_run: bool,
) -> Result<(Outcome, PathBuf, Option<Manifest>)> {
    let subset_folder = layout.subset(source, subset);
    let subset_manifest = require_manifest(&subset_folder, "subset", "run `lapidary cut --size N` first")?;
    let images = layout.images(source);
    let images_manifest = require_manifest(&images, "ingested images", "run `lapidary ingest --data DIR` first")?;
    limits::check(&config.plan)?;
    let epochs = resolved_epochs(config, subset_manifest.rows.output)?;
    let folder = layout.plan(source, name);
    let spec = StageSpec {
        stage: "plan",
        version: VERSION,
        out: layout.out.clone(),
        folder: folder.clone(),
        config: json!({
            "seed": config.seed, "epochs": epochs, "recipe": config.plan.recipe, "store": config.plan.store,
            "view": config.plan.views,
        }),
        inputs: BTreeMap::from([
            (layout.name_of(&images), images_manifest.digest),
            (layout.name_of(&subset_folder), subset_manifest.digest),
        ]),
        resumable: false,
        previous: Previous::Kept,
    };
    match spec.open(dry_run)? {
        Opened::UpToDate(manifest) => Ok((Outcome::UpToDate, folder, Some(*manifest))),
        Opened::DryRun => Ok((Outcome::WouldRun, folder, None)),
        Opened::Run(run) => {
            let store = ImageStore::open(&images)?;
            let mut infos = Vec::new();
            for id in subset_ids(&subset_folder)? {
                let info = store.info(id).ok_or_else(|| {
                    PipelineError::format(&subset_folder, format!("image {id} is not among the ingested images"))
                })?;
                if info.width > u32::from(u16::MAX) || info.height > u32::from(u16::MAX) {
                    let text = format!("image {id} has a side of over {} pixels; curate it away first", u16::MAX);
                    return Err(PipelineError::Usage(text));
                }
                infos.push(*info);
            }
            let manifest = if config.plan.store {
                write_rows(&infos, epochs, config, run)?
            } else {
                write_images(&infos, epochs, config, run)?
            };
            Ok((Outcome::Ran, folder, Some(manifest)))
        }
    }
}

/// The image ids of a subset, by rank.
///
/// # Errors
/// When the table cannot be read.
pub fn subset_ids(folder: &Path) -> Result<Vec<ImageId>> {
    let mut ids = Vec::new();
    for batch in read_table(&folder.join(SUBSET_FILE), &["image_id"])? {
        ids.extend(column::<UInt64Array>(&batch, "image_id")?.values().iter().map(|id| ImageId(*id)));
    }
    Ok(ids)
}

/// Writes some views as a table of a plan's rows.
///
/// # Errors
/// When the file cannot be written.
pub fn write_views(path: &Path, views: &[View]) -> Result<()> {
    let mut written = TableWriter::create_with(path, tables::plan(), table::plan_properties())?;
    written.write(&table::batch_of_views(views)?)?;
    written.finish().map(drop)
}

/// Reads the views of a table of a plan's rows.
///
/// # Errors
/// When it is not one.
pub fn read_views(path: &Path) -> Result<Vec<View>> {
    let mut views = Vec::new();
    for batch in read_table(path, &[])? {
        let first_row = views.len();
        table::views_of_batch(&batch, path, first_row, &mut views)?;
    }
    Ok(views)
}

/// The file of an epoch's rows.
fn epoch_file(epoch: u32) -> String {
    format!("epoch-{epoch:05}.parquet")
}

fn views_per_image(config: &Config) -> u64 {
    config.plan.views.iter().map(|spec| u64::from(spec.count)).sum()
}

/// Writes the images alone: who reads the plan draws its rows.
fn write_images(infos: &[ImageInfo], epochs: u32, config: &Config, mut run: StageRun) -> Result<Manifest> {
    let ids: Vec<u64> = infos.iter().map(|info| info.id.0).collect();
    let ranks: Vec<u32> = (0..ids.len() as u32).collect();
    let batch = RecordBatch::try_new(
        tables::subset(),
        vec![Arc::new(UInt32Array::from(ranks)), Arc::new(UInt64Array::from(ids))],
    )
    .map_err(|e| PipelineError::Internal(e.to_string()))?;
    let mut table = TableWriter::create(&run.path(SUBSET_FILE), tables::subset())?;
    table.write(&batch)?;
    run.note_table(SUBSET_FILE, table.finish()?);
    let views = views_per_image(config);
    let total = u64::from(epochs) * infos.len() as u64 * views;
    let facts = json!({"epochs": epochs, "images": infos.len(), "views_per_image": views, "bytes_per_view": 0.0});
    run.finish(Rows { input: total, output: total, rejected: 0 }, facts, &[])
}

/// Writes every row of every epoch.
fn write_rows(infos: &[ImageInfo], epochs: u32, config: &Config, mut run: StageRun) -> Result<Manifest> {
    let views = views_per_image(config);
    let progress = Progress::new("plan", u64::from(epochs) * infos.len() as u64 * views, "views");
    let (mut total, mut bytes) = (0, 0);
    for epoch in 0..epochs {
        let name = epoch_file(epoch);
        let mut table = TableWriter::create_with(&run.path(&name), tables::plan(), table::plan_properties())?;
        let order = epoch_order(config.seed, epoch, infos);
        for (chunk, images) in order.chunks(CHUNK_IMAGES).enumerate() {
            interrupt::check()?;
            let first = chunk * CHUNK_IMAGES;
            let rows: Vec<View> = images
                .par_iter()
                .enumerate()
                .flat_map_iter(|(i, info)| {
                    views_of_image(config.seed, epoch, (first + i) as u32, info, &config.plan.views)
                })
                .collect();
            table.write(&table::batch_of_views(&rows)?)?;
            progress.add(rows.len() as u64);
        }
        let written = table.finish()?;
        (total, bytes) = (total + written.rows, bytes + written.bytes);
        run.note_table(&name, written);
    }
    drop(progress);
    let rows = Rows { input: total, output: total, rejected: 0 };
    let facts = json!({
        "epochs": epochs, "images": infos.len(), "views_per_image": views,
        "bytes_per_view": bytes as f64 / total.max(1) as f64,
    });
    run.finish(rows, facts, &[])
}

/// The epochs to plan: as configured, or enough for `pretrain.steps` when that is 0.
fn resolved_epochs(config: &Config, images: u64) -> Result<u32> {
    if config.plan.epochs > 0 {
        return Ok(config.plan.epochs);
    }
    let steps_per_epoch = images as usize / config.pretrain.batch.max(1);
    if config.pretrain.steps == 0 {
        return Err(PipelineError::Usage(
            "plan.epochs and pretrain.steps are both 0: say how long to train".to_owned(),
        ));
    }
    if steps_per_epoch == 0 {
        return Err(PipelineError::Empty(format!(
            "the subset has {images} images, fewer than pretrain.batch = {}",
            config.pretrain.batch
        )));
    }
    Ok(config.pretrain.steps.div_ceil(steps_per_epoch) as u32)
}
