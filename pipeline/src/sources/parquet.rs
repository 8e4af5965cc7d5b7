//! Parquet files in the Hugging Face image convention: `image: struct<bytes, path>` and an integer `label` whose class
//! names stand in the schema's `huggingface` metadata.
//!
//! Rows are spooled to one file in their own order and then fetched in the order of image ids. The split is the file
//! name's part before the first `-`.

use super::{Entry, Listing, Place, Reject, Source, files_below, has_extension, relative};
use crate::stage::Table;
use crate::{PipelineError, Result};
use arrow::array::{Array, AsArray, BinaryArray, Int64Array, LargeBinaryArray, RecordBatch, StructArray};
use arrow::datatypes::{DataType, Schema};
use lapidary_schemas::RejectReason;
use serde_json::Value;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

const IMAGE_COLUMNS: &[&str] = &["image", "img", "jpg", "png"];
const LABEL_COLUMNS: &[&str] = &["label", "labels", "fine_label"];
const BATCH_ROWS: usize = 256;

/// A folder of Parquet files.
#[derive(Debug)]
pub(super) struct ParquetFiles {
    root: PathBuf,
}

impl ParquetFiles {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }
}

impl Source for ParquetFiles {
    fn layout(&self) -> &'static str {
        "Hugging Face Parquet"
    }

    fn root(&self) -> &Path {
        &self.root
    }

    fn list(&self, spool: &Path) -> Result<Listing> {
        let mut listing = Listing::default();
        let file = File::create(spool).map_err(PipelineError::io("create", spool))?;
        let mut spooled = Spool { writer: BufWriter::with_capacity(1 << 20, file), offset_bytes: 0 };
        let write_error = PipelineError::io("write", spool);
        for file in files_below(&self.root)?.iter().filter(|f| has_extension(f.path(), &["parquet"])) {
            let shown = relative(&self.root, file.path());
            list_file(file.path(), &shown, &mut listing, &mut spooled)?;
        }
        spooled.writer.flush().map_err(write_error)?;
        listing.category_ids = (0..listing.classes.len() as i64).collect();
        Ok(listing)
    }
}

struct Spool {
    writer: BufWriter<File>,
    offset_bytes: u64,
}

fn list_file(path: &Path, shown: &str, listing: &mut Listing, spool: &mut Spool) -> Result<()> {
    let schema = Table::open(path, &[], 1)?.schema().clone();
    let image_column = IMAGE_COLUMNS.iter().find(|name| schema.column_with_name(name).is_some()).ok_or_else(|| {
        PipelineError::format(path, format!("it has none of the image columns {}", IMAGE_COLUMNS.join(", ")))
    })?;
    let is_integer =
        |name: &&&str| schema.field_with_name(name).is_ok_and(|field| *field.data_type() == DataType::Int64);
    let label_column = LABEL_COLUMNS.iter().find(is_integer);
    if let Some(names) = label_column.and_then(|label| class_names(&schema, label)) {
        if !listing.classes.is_empty() && listing.classes != names {
            return Err(PipelineError::format(path, "its class names differ from those of the files before it"));
        }
        listing.classes = names;
    }
    let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    let split = listing.split(stem.split_once('-').map_or(stem.as_str(), |(split, _)| split));
    let columns: Vec<&str> = std::iter::once(*image_column).chain(label_column.copied()).collect();
    let mut row = 0u64;
    for batch in Table::open(path, &columns, BATCH_ROWS)? {
        let batch = batch?;
        let bytes = image_bytes(path, &batch, image_column)?;
        let labels = label_column.map(|name| crate::stage::column::<Int64Array>(&batch, name)).transpose()?;
        for (index, bytes) in bytes.iter().enumerate() {
            let name = format!("{shown}#{row}");
            row += 1;
            let Some(bytes) = bytes else {
                let mut reject = Reject::new(name, RejectReason::MissingFile, "the row holds no bytes");
                reject.offset_bytes = Some(row as i64 - 1);
                listing.rejects.push(reject);
                continue;
            };
            spool.writer.write_all(bytes).map_err(PipelineError::io("write the spool of", path))?;
            let mut digest = [0; 16];
            digest.copy_from_slice(&blake3::hash(bytes).as_bytes()[..16]);
            let len_bytes = bytes.len() as u64;
            let place = Place::Spool { offset_bytes: spool.offset_bytes, len_bytes, digest };
            spool.offset_bytes += bytes.len() as u64;
            // -1 stands for "no label" in datasets.
            let label = labels.filter(|l| l.is_valid(index)).map(|l| l.value(index)).filter(|l| *l >= 0);
            let (url, license, annotations) = (None, None, None);
            listing.entries.push(Entry { path: name, place, split, url, license, annotations, label });
        }
    }
    Ok(())
}

/// The bytes of each row: of a struct's `bytes` field, or of a binary column.
fn image_bytes<'a>(path: &Path, batch: &'a RecordBatch, name: &str) -> Result<Vec<Option<&'a [u8]>>> {
    let mut array = batch.column_by_name(name).ok_or_else(|| PipelineError::format(path, "no image column"))?;
    if let Some(image) = array.as_any().downcast_ref::<StructArray>() {
        array = image.column_by_name("bytes").ok_or_else(|| PipelineError::format(path, "images have no `bytes`"))?;
    }
    if let Some(binary) = array.as_any().downcast_ref::<BinaryArray>() {
        return Ok(binary.iter().collect());
    }
    if let Some(binary) = array.as_any().downcast_ref::<LargeBinaryArray>() {
        return Ok(binary.iter().collect());
    }
    if *array.data_type() == DataType::BinaryView {
        return Ok(array.as_binary_view().iter().collect());
    }
    Err(PipelineError::format(path, format!("column `{name}` has type {}, not bytes", array.data_type())))
}

fn class_names(schema: &Schema, label: &str) -> Option<Vec<String>> {
    let metadata: Value = serde_json::from_str(schema.metadata().get("huggingface")?).ok()?;
    let names = metadata["info"]["features"][label]["names"].as_array()?;
    names.iter().map(|name| name.as_str().map(str::to_owned)).collect()
}
