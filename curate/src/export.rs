//! Exporting a subset as others read it: Parquet shards, a folder of files, or COCO with its JSON.
//!
//! Original bytes are copied; images stream through shard by shard.

use crate::Result;
use arrow::array::{
    Array, AsArray, BooleanArray, Float32Array, Int64Array, ListArray, RecordBatch, StringArray, StructArray,
    UInt32Array, UInt64Array,
};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Float32Type, Int64Type};
use lapidary_pipeline::stage::{
    Layout, Opened, Outcome, Previous, StageRun, StageSpec, Table, column, read_manifest, write_json,
};
use lapidary_pipeline::{ImageShards, PipelineError, bytes_column, interrupt, plan};
use lapidary_schemas::config::IngestConfig;
use lapidary_schemas::{ImageId, Manifest, Rows};
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
        version: 1,
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
    let wanted: HashSet<ImageId> = plan::subset_ids(&subset_folder)?.into_iter().collect();
    let classes: Vec<String> = serde_json::from_value(images_manifest.facts["classes"].clone()).unwrap_or_default();
    let category_ids: Vec<i64> =
        serde_json::from_value(images_manifest.facts["category_ids"].clone()).unwrap_or_default();
    let shards = Layout::shards(&images)?;
    let manifest = match format {
        Format::Parquet => export_parquet(&shards, &wanted, &classes, run)?,
        Format::Folder => export_files(&shards, &wanted, &classes, None, run)?,
        Format::Coco => export_files(&shards, &wanted, &classes, Some(&category_ids), run)?,
    };
    Ok((Outcome::Ran, folder, Some(manifest)))
}

/// The rows of the wanted images, batch by batch.
fn wanted_rows(
    shards: &[PathBuf],
    wanted: &HashSet<ImageId>,
    mut take: impl FnMut(RecordBatch) -> Result<()>,
) -> Result<()> {
    for shard in shards {
        for batch in Table::open(shard, &[], 64)? {
            interrupt::check()?;
            let batch = batch?;
            let ids: &UInt64Array = column(&batch, "image_id")?;
            let mask: BooleanArray = ids.values().iter().map(|id| Some(wanted.contains(&ImageId(*id)))).collect();
            let rows = filter_record_batch(&batch, &mask).map_err(|e| PipelineError::Internal(e.to_string()))?;
            if rows.num_rows() > 0 {
                take(rows)?;
            }
        }
    }
    Ok(())
}

fn finish(run: StageRun, found: u64, wanted: &HashSet<ImageId>) -> Result<Manifest> {
    if found != wanted.len() as u64 {
        let text = format!("{found} of the subset's {} images are among the ingested ones", wanted.len());
        return Err(PipelineError::Internal(text).into());
    }
    Ok(run.finish(Rows { input: found, output: found, rejected: 0 }, json!({}), &[])?)
}

fn export_parquet(
    shards: &[PathBuf],
    wanted: &HashSet<ImageId>,
    classes: &[String],
    mut run: StageRun,
) -> Result<Manifest> {
    let mut out = ImageShards::create(&run.folder(), classes, &IngestConfig::default())?;
    let mut found = 0;
    wanted_rows(shards, wanted, |rows| {
        found += rows.num_rows() as u64;
        let bytes = bytes_column(&rows)?.iter().flatten().map(|b| b.len() as u64).sum();
        Ok(out.write_batch(&rows, bytes)?)
    })?;
    out.finish(|file, table| run.note_table(file, table))?;
    finish(run, found, wanted)
}

/// Writes files, and COCO's JSON when `category_ids` is given.
fn export_files(
    shards: &[PathBuf],
    wanted: &HashSet<ImageId>,
    classes: &[String],
    category_ids: Option<&[i64]>,
    run: StageRun,
) -> Result<Manifest> {
    let mut by_split: BTreeMap<String, CocoSplit> = BTreeMap::new();
    let mut used: HashSet<PathBuf> = HashSet::new();
    let mut found = 0u64;
    wanted_rows(shards, wanted, |rows| {
        let bytes = bytes_column(&rows)?;
        for row in 0..rows.num_rows() {
            found += 1;
            let image = ExportedImage::read(&rows, row)?;
            let class = image.label.and_then(|label| classes.get(label as usize));
            let mut folder = PathBuf::from(safe_name(&image.split));
            if let (None, Some(class)) = (category_ids, class) {
                folder.push(safe_name(class));
            }
            let mut name = image.file_name();
            if !used.insert(folder.join(&name)) {
                name = format!("{}.{}", image.id, image.format);
                used.insert(folder.join(&name));
            }
            write_file(&run.path(&folder.join(&name).to_string_lossy()), bytes.value(row))?;
            if category_ids.is_some() {
                let split = by_split.entry(image.split.clone()).or_default();
                split.add(found, &name, &image, &rows, row)?;
            }
        }
        Ok(())
    })?;
    if let Some(category_ids) = category_ids {
        let categories: Vec<Value> =
            category_ids.iter().zip(classes).map(|(id, name)| json!({"id": id, "name": name})).collect();
        for (split, content) in by_split {
            let path = run.path(&format!("annotations/instances_{split}.json"));
            make_parent(&path)?;
            write_json(&path, &content.into_json(&categories))?;
        }
    }
    finish(run, found, wanted)
}

/// A name from outside as one part of a path: it neither climbs nor hides.
fn safe_name(name: &str) -> String {
    let name: String = name.chars().map(|c| if matches!(c, '/' | '\\' | '\0') { '_' } else { c }).collect();
    if name.is_empty() || name.starts_with('.') { format!("_{name}") } else { name }
}

fn make_parent(path: &Path) -> Result<()> {
    let parent = path.parent().unwrap_or(Path::new("."));
    Ok(std::fs::create_dir_all(parent).map_err(PipelineError::io("create folder", parent))?)
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    make_parent(path)?;
    Ok(std::fs::write(path, bytes).map_err(PipelineError::io("write", path))?)
}

struct ExportedImage {
    id: ImageId,
    path: String,
    split: String,
    format: String,
    width: u32,
    height: u32,
    url: Option<String>,
    license: Option<String>,
    label: Option<i64>,
}

impl ExportedImage {
    fn read(rows: &RecordBatch, row: usize) -> Result<Self> {
        let text = |name: &str| -> Result<Option<String>> {
            let array: &StringArray = column(rows, name)?;
            Ok(array.is_valid(row).then(|| array.value(row).to_owned()))
        };
        let image: &StructArray = column(rows, "image")?;
        let path = image.column_by_name("path").map(|paths| paths.as_string::<i32>().value(row).to_owned());
        let label: &Int64Array = column(rows, "label")?;
        Ok(Self {
            id: ImageId(column::<UInt64Array>(rows, "image_id")?.value(row)),
            path: path.unwrap_or_default(),
            split: text("split")?.unwrap_or_default(),
            format: text("format")?.unwrap_or_default(),
            width: column::<UInt32Array>(rows, "width")?.value(row),
            height: column::<UInt32Array>(rows, "height")?.value(row),
            url: text("url")?,
            license: text("license")?,
            label: label.is_valid(row).then(|| label.value(row)),
        })
    }

    /// The file's own name where it has one, else its id.
    fn file_name(&self) -> String {
        match self.path.rsplit('/').next() {
            Some(name) if name.contains('.') && !name.contains('#') => safe_name(name),
            _ => format!("{}.{}", self.id, self.format),
        }
    }
}

/// The images and objects of a split of COCO's JSON.
#[derive(Default)]
struct CocoSplit {
    images: Vec<Value>,
    annotations: Vec<Value>,
    licenses: Vec<String>,
}

impl CocoSplit {
    fn add(&mut self, id: u64, name: &str, image: &ExportedImage, rows: &RecordBatch, row: usize) -> Result<()> {
        let license = image.license.as_ref().map(|license| {
            self.licenses.iter().position(|known| known == license).unwrap_or_else(|| {
                self.licenses.push(license.clone());
                self.licenses.len() - 1
            }) + 1
        });
        self.images.push(json!({
            "id": id, "file_name": name, "width": image.width, "height": image.height,
            "coco_url": image.url, "license": license,
        }));
        let lists: &ListArray = column(rows, "annotations")?;
        if lists.is_null(row) {
            return Ok(());
        }
        let objects = lists.value(row);
        let objects = objects.as_struct();
        let no_column = || PipelineError::Internal("an annotation lacks a column".to_owned());
        let field = |name: &str| objects.column_by_name(name).ok_or_else(no_column);
        let (categories, boxes) = (field("category_id")?.as_primitive::<Int64Type>(), field("bbox")?.as_list::<i32>());
        let (areas, crowds) = (field("area")?.as_primitive::<Float32Type>(), field("iscrowd")?.as_boolean());
        for object in 0..objects.len() {
            let bbox = boxes.value(object);
            let bbox = bbox.as_any().downcast_ref::<Float32Array>().ok_or_else(no_column)?;
            self.annotations.push(json!({
                "id": id * 10_000 + object as u64, "image_id": id, "category_id": categories.value(object),
                "bbox": bbox.values().to_vec(), "area": areas.value(object), "iscrowd": u8::from(crowds.value(object)),
            }));
        }
        Ok(())
    }

    fn into_json(self, categories: &[Value]) -> Value {
        let licenses: Vec<Value> =
            self.licenses.iter().enumerate().map(|(i, name)| json!({"id": i + 1, "name": name, "url": ""})).collect();
        json!({"images": self.images, "annotations": self.annotations, "categories": categories, "licenses": licenses})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_outside_stay_inside() {
        for name in ["..", "../../etc", "/etc", ".hidden", "", "a/../../b", "a\\b"] {
            let safe = safe_name(name);
            let parts: Vec<_> = Path::new(&safe).components().collect();
            assert!(matches!(parts[..], [std::path::Component::Normal(_)]), "{name:?} became {safe:?}");
        }
        assert_eq!(safe_name("traffic light"), "traffic light");
    }
}
