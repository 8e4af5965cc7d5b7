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
use lapidary_pipeline::stage::{
    Layout, Previous, Progress, Share, SharedStage, StageRun, StageSpec, column, name_of, read_manifest,
};
use lapidary_pipeline::{
    ImageShards, PipelineError, ShardRows, bytes_column, interrupt, plan, shard_number, with_all_columns,
};
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

/// Exports a subset into `OUT/SOURCE/subsets/SIZE.FORMAT`, or a share of its Parquet shards.
///
/// # Errors
/// When the subset or its images are not there, or a share is asked for of a format that is no shards.
pub fn export(
    layout: &Layout,
    source: &str,
    subset: &str,
    format: Format,
    (share, dry_run): (Share, bool),
) -> Result<SharedStage> {
    if share != Share::All && format != Format::Parquet {
        let hint = "hint: `--to parquet` makes a shard of each shard of the images";
        return Err(PipelineError::Usage(format!("a {} is made by one process\n{hint}", format.name())).into());
    }
    let subset_folder = layout.subset(source, subset);
    let images = layout.images(source);
    let images_manifest = read_manifest(&images)?;
    let folder = layout.subset(source, &format!("{subset}.{}", format.name()));
    let spec = StageSpec {
        stage: "export",
        version: 3,
        out: layout.out.clone(),
        folder: folder.clone(),
        config: json!({"format": format.name()}),
        inputs: BTreeMap::from([
            (layout.name_of(&images), images_manifest.digest.clone()),
            (layout.name_of(&subset_folder), read_manifest(&subset_folder)?.digest),
        ]),
        resumable: format == Format::Parquet,
        previous: Previous::Kept,
    };
    spec.run_share(share, (dry_run, false), |run| run_export(&images, &images_manifest, &subset_folder, format, run))
}

/// The manifest, unless a share was made.
fn run_export(
    images: &Path,
    images_manifest: &Manifest,
    subset: &Path,
    format: Format,
    run: StageRun,
) -> Result<Option<Manifest>> {
    let selected: HashSet<ImageId> = plan::subset_ids(subset)?.into_iter().collect();
    let classes = Classes::of(images_manifest);
    match format {
        Format::Parquet => export_parquet(&Layout::shards_by_name(images)?, &selected, &classes, run),
        Format::Folder => export_folder(&Layout::shards(images)?, &selected, &classes, run).map(Some),
        Format::Coco => export_coco(&Layout::shards(images)?, &selected, &classes, run).map(Some),
    }
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

/// A shard of each shard of the images, with the rows of the subset; none where it has none of them.
fn export_parquet(
    shards: &[PathBuf],
    selected: &HashSet<ImageId>,
    classes: &Classes,
    mut run: StageRun,
) -> Result<Option<Manifest>> {
    let names: Vec<String> = shards.iter().map(|shard| name_of(shard)).collect();
    let left = run.shards_left(&names)?;
    let progress = Progress::new("export", left.len() as u64, "shards");
    let config = IngestConfig { shard_mib: u64::MAX >> 20, ..IngestConfig::default() };
    for shard in left.into_iter().map(|place| &shards[place]) {
        let made = export_shard(shard, selected, classes, &config, &mut run);
        if run.unless_finished_meanwhile(made)?.is_none() {
            break;
        }
        progress.add(1);
    }
    if run.is_share() {
        return Ok(None);
    }
    // One stays, so that the columns are there when the subset is empty.
    let empty: Vec<String> =
        run.shards().values().filter(|shard| shard.table.rows == 0).map(|s| s.name.clone()).collect();
    let skipped = usize::from(empty.len() == names.len());
    for name in empty.iter().skip(skipped) {
        run.remove_shard(name)?;
    }
    let found = run.shards().values().map(|shard| shard.table.rows).sum();
    finish(run, found, selected).map(Some)
}

fn export_shard(
    shard: &PathBuf,
    selected: &HashSet<ImageId>,
    classes: &Classes,
    config: &IngestConfig,
    run: &mut StageRun,
) -> Result<()> {
    Layout::bring(shard)?;
    let name = name_of(shard);
    let number =
        shard_number(&name).ok_or_else(|| PipelineError::Internal(format!("`{name}` is no name of a shard")))?;
    let out = ImageShards::create(&run.folder(), &classes.names, config)?;
    let mut out = out.with_categories(&classes.category_ids, &classes.categories, &classes.licenses).after(number);
    selected_rows(std::slice::from_ref(shard), selected, |rows| {
        let bytes = bytes_column(&rows)?.iter().flatten().map(|b| b.len() as u64).sum();
        Ok(out.write_batch(&with_all_columns(&rows, out.schema())?, bytes)?)
    })?;
    out.end_shard_or_empty()?;
    for finished in out.take_finished() {
        run.note_shard(&finished.name, finished.table, json!({}))?;
    }
    Ok(())
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
