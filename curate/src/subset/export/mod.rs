//! Exporting a subset as others read it: Parquet shards, a folder of files, or COCO with its JSON.
//!
//! Original bytes are copied; images stream through shard by shard.

mod coco;
mod image;
use crate::Result;
use arrow::array::{BooleanArray, RecordBatch, UInt64Array};
use arrow::compute::filter_record_batch;
use coco::CocoFolder;
use image::{ExportedImage, Files, make_parent};
use lapidary_pipeline::sources::part_of_name;
use lapidary_pipeline::stage::{Layout, Opened, Outcome, Previous, StageRun, StageSpec, column, read_manifest};
use lapidary_pipeline::{ImageShards, PipelineError, ShardRows, bytes_column, interrupt, plan, with_all_columns};
use lapidary_schemas::config::IngestConfig;
use lapidary_schemas::{ImageId, Manifest, Rows, tables};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

/// What a subset is exported as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// `part-*.parquet`, as `images`.
    Parquet,
    /// `SPLIT/CLASS/file`.
    Folder,
    /// A folder for each split and `annotations/instances_SPLIT.json`.
    Coco,
}

impl Format {
    fn name(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Folder => "folder",
            Self::Coco => "coco",
        }
    }
}

/// Exports a subset into `OUT/SOURCE/subsets/SIZE.FORMAT`.
///
/// # Errors
/// When the subset or its images are not there.
pub fn export(
    layout: &Layout,
    source: &str,
    subset: &str,
    format: Format,
    dry_run: bool,
) -> Result<(Outcome, PathBuf, Option<Manifest>)> {
    let subset_folder = layout.subset(source, subset);
    let images = layout.images(source);
    let images_manifest = read_manifest(&images)?;
    let folder = layout.subset(source, &format!("{subset}.{}", format.name()));
    let spec = StageSpec {
        stage: "export",
        version: 2,
        out: layout.out.clone(),
        folder: folder.clone(),
        config: json!({"format": format.name()}),
        inputs: BTreeMap::from([
            (layout.name_of(&images), images_manifest.digest.clone()),
            (layout.name_of(&subset_folder), read_manifest(&subset_folder)?.digest),
        ]),
        resumable: false,
        previous: Previous::Kept,
    };
    let run = match spec.open(dry_run)? {
        Opened::UpToDate(manifest) => return Ok((Outcome::UpToDate, folder, Some(*manifest))),
        Opened::DryRun => return Ok((Outcome::WouldRun, folder, None)),
        Opened::Run(run) => run,
    };
    let selected: HashSet<ImageId> = plan::subset_ids(&subset_folder)?.into_iter().collect();
    let classes = Classes::of(&images_manifest);
    let shards = Layout::shards(&images)?;
    let manifest = match format {
        Format::Parquet => export_parquet(&shards, &selected, &classes, run)?,
        Format::Folder => export_folder(&shards, &selected, &classes, run)?,
        Format::Coco => export_coco(&shards, &selected, &classes, run)?,
    };
    Ok((Outcome::Ran, folder, Some(manifest)))
}

/// What the source says of its classes and licenses.
#[derive(Debug, Default)]
struct Classes {
    names: Vec<String>,
    category_ids: Vec<i64>,
    categories: Vec<Value>,
    licenses: Vec<Value>,
}

impl Classes {
    fn of(images: &Manifest) -> Self {
        let list = |name: &str| images.facts[name].as_array().cloned().unwrap_or_default();
        Self {
            names: list("classes").iter().filter_map(|name| name.as_str().map(str::to_owned)).collect(),
            category_ids: list("category_ids").iter().filter_map(Value::as_i64).collect(),
            categories: list("categories"),
            licenses: list("licenses"),
        }
    }
}

/// The rows of the selected images, batch by batch, with the columns that the newest tables have.
fn selected_rows(
    shards: &[PathBuf],
    selected: &HashSet<ImageId>,
    mut take: impl FnMut(RecordBatch) -> Result<()>,
) -> Result<()> {
    let schema = tables::images(&[]);
    for shard in shards {
        for batch in ShardRows::open(shard, 64)? {
            interrupt::check()?;
            let batch = batch?;
            let ids: &UInt64Array = column(&batch, "image_id")?;
            let mask: BooleanArray = ids.values().iter().map(|id| Some(selected.contains(&ImageId(*id)))).collect();
            let rows = filter_record_batch(&batch, &mask).map_err(|e| PipelineError::Internal(e.to_string()))?;
            if rows.num_rows() > 0 {
                take(with_all_columns(&rows, &schema)?)?;
            }
        }
    }
    Ok(())
}

fn finish(run: StageRun, found: u64, selected: &HashSet<ImageId>) -> Result<Manifest> {
    if found != selected.len() as u64 {
        let text = format!("{found} of the subset's {} images are among the ingested ones", selected.len());
        return Err(PipelineError::Internal(text).into());
    }
    Ok(run.finish(Rows { input: found, output: found, rejected: 0 }, json!({}), &[])?)
}

fn export_parquet(
    shards: &[PathBuf],
    selected: &HashSet<ImageId>,
    classes: &Classes,
    mut run: StageRun,
) -> Result<Manifest> {
    let mut out = ImageShards::create(&run.folder(), &classes.names, &IngestConfig::default())?.with_categories(
        &classes.category_ids,
        &classes.categories,
        &classes.licenses,
    );
    let mut found = 0;
    selected_rows(shards, selected, |rows| {
        found += rows.num_rows() as u64;
        let bytes = bytes_column(&rows)?.iter().flatten().map(|b| b.len() as u64).sum();
        Ok(out.write_batch(&with_all_columns(&rows, out.schema())?, bytes)?)
    })?;
    out.finish(|file, table| run.note_table(file, table))?;
    finish(run, found, selected)
}

fn export_folder(
    shards: &[PathBuf],
    selected: &HashSet<ImageId>,
    classes: &Classes,
    run: StageRun,
) -> Result<Manifest> {
    let mut files = Files::default();
    let mut found = 0u64;
    selected_rows(shards, selected, |rows| {
        let bytes = bytes_column(&rows)?;
        for row in 0..rows.num_rows() {
            found += 1;
            let image = ExportedImage::read(&rows, row)?;
            let mut folder = PathBuf::from(part_of_name(&image.split));
            if let Some(class) = image.label.and_then(|label| classes.names.get(label as usize)) {
                folder.push(part_of_name(class));
            }
            files.write(&run, &folder, &image, bytes.value(row))?;
        }
        Ok(())
    })?;
    finish(run, found, selected)
}

fn export_coco(shards: &[PathBuf], selected: &HashSet<ImageId>, classes: &Classes, run: StageRun) -> Result<Manifest> {
    let mut files = Files::default();
    let mut found = 0u64;
    let annotations = run.path("annotations");
    let mut by_split: BTreeMap<String, CocoFolder> = BTreeMap::new();
    selected_rows(shards, selected, |rows| {
        let bytes = bytes_column(&rows)?;
        for row in 0..rows.num_rows() {
            found += 1;
            let image = ExportedImage::read(&rows, row)?;
            let split = part_of_name(&image.split);
            let name = files.write(&run, Path::new(&split), &image, bytes.value(row))?;
            if !by_split.contains_key(&split) {
                by_split.insert(split.clone(), CocoFolder::create(&annotations, &split, classes)?);
            }
            let coco = by_split.get_mut(&split).expect("it was inserted above");
            coco.add(&name, &image, &rows, row)?;
        }
        Ok(())
    })?;
    for coco in by_split.into_values() {
        coco.finish()?;
    }
    finish(run, found, selected)
}
