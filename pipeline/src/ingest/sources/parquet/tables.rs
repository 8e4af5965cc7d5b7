//! Which Parquet files hold pictures, and in which column.
//!
//! The column that the `huggingface` metadata calls an Image is taken, whatever its name; without metadata the column of
//! struct<bytes, path> or of binary whose first values are pictures. Where there are several, a usual name decides, then the
//! order, and the log says so.

use super::bytes::{Pictures, pictures_of};
use crate::ingest::sources::{TABLE_EXTENSIONS, Tree, begins_as_image, has_extension};
use crate::runtime::caught;
use crate::{PipelineError, Result};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use serde_json::Value;
use std::fs::File;
use std::path::Path;

/// Names that an image column usually has, the likeliest first.
const USUAL_NAMES: &[&str] = &["image", "img", "jpg", "png", "picture", "photo", "jpeg", "webp"];
/// Rows that are looked at to tell whether a column holds pictures.
const ROWS_LOOKED_AT: usize = 16;

/// What a Parquet file holds.
#[derive(Debug, Clone)]
pub(in crate::ingest::sources) enum Found {
    /// Pictures.
    Pictures {
        /// The column.
        column: String,
        /// Its rows.
        rows: u64,
    },
    /// A column with several pictures a row.
    Lists(String),
    /// Other things: its columns.
    Nothing(String),
    /// It cannot be read.
    Broken(String),
}

/// The Parquet files of a tree, by path.
#[derive(Debug)]
pub(in crate::ingest::sources) struct Tables(Vec<(String, Found)>);

/// Looks into the Parquet files of a tree.
pub(in crate::ingest::sources) fn find_tables(tree: &Tree) -> Tables {
    let paths = tree.visible().filter(|path| has_extension(path, TABLE_EXTENSIONS));
    Tables(paths.map(|path| (path.to_owned(), look(tree, path))).collect())
}

impl Tables {
    pub(in crate::ingest::sources) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(in crate::ingest::sources) fn all(&self) -> impl Iterator<Item = (&str, &Found)> {
        self.0.iter().map(|(path, found)| (path.as_str(), found))
    }

    /// Files with pictures, and how many.
    pub(in crate::ingest::sources) fn pictures(&self) -> impl Iterator<Item = (&str, u64)> {
        self.all().filter_map(|(path, found)| match found {
            Found::Pictures { rows, .. } => Some((path, *rows)),
            _ => None,
        })
    }

    /// Files that can be read and hold none.
    pub(in crate::ingest::sources) fn others(&self) -> impl Iterator<Item = &str> {
        self.all().filter(|(_, found)| matches!(found, Found::Lists(_) | Found::Nothing(_))).map(|(path, _)| path)
    }

    /// Says why no file can be read as pictures.
    pub(in crate::ingest::sources) fn no_pictures(&self, root: &Path) -> PipelineError {
        let Some((path, found)) = self.0.first() else {
            return PipelineError::Empty(format!("`{}` holds no Parquet files", root.display()));
        };
        let detail = match found {
            Found::Lists(column) => {
                format!("column `{column}` holds lists of images\nhint: give each image a row of its own")
            }
            Found::Nothing(columns) => {
                format!("no column holds images ({columns})\nhint: one of struct<bytes, path> or binary is read")
            }
            Found::Broken(detail) => detail.clone(),
            Found::Pictures { column, .. } => format!("column `{column}` was not read"),
        };
        PipelineError::format(root.join(path), detail)
    }
}

fn look(tree: &Tree, shown: &str) -> Found {
    let path = tree.place(shown);
    match guarded(&path, || try_look(tree, &path, shown)) {
        Ok(found) => found,
        Err(error) => Found::Broken(error.to_string()),
    }
}

/// Runs a reader of foreign bytes; a panic in it is an error of the file.
pub(super) fn guarded<T>(path: &Path, read: impl FnOnce() -> Result<T>) -> Result<T> {
    caught(read).unwrap_or_else(|said| Err(PipelineError::format(path, said)))
}

fn try_look(tree: &Tree, path: &Path, shown: &str) -> Result<Found> {
    let file = File::open(path).map_err(PipelineError::io("open", path))?;
    let metadata =
        ArrowReaderMetadata::load(&file, ArrowReaderOptions::new()).map_err(|e| PipelineError::format(path, e))?;
    let schema = metadata.schema().clone();
    let rows = metadata.metadata().file_metadata().num_rows().max(0) as u64;
    let features = features(&schema);
    let of_feature = |kind: fn(&Value) -> bool| -> Vec<String> {
        let fields = features.as_ref().and_then(Value::as_object).into_iter().flatten();
        fields.filter(|(name, f)| kind(f) && schema.column_with_name(name).is_some()).map(|(n, _)| n.clone()).collect()
    };
    let mut columns = of_feature(|feature| feature["_type"] == "Image");
    if columns.is_empty() {
        if let Some(list) = of_feature(is_list_of_images).into_iter().next() {
            return Ok(Found::Lists(list));
        }
        // Of a table in a store only the end is here.
        let whole = tree.whole(shown)?;
        let file = File::open(whole.path()).map_err(PipelineError::io("open", path))?;
        columns = columns_of_pictures(path, &file, &metadata)?;
    }
    if columns.len() > 1 {
        let usual = |column: &String| USUAL_NAMES.iter().position(|name| name == column).unwrap_or(usize::MAX);
        columns.sort_by_key(usual);
        tracing::warn!(
            "`{shown}` has several columns of images; `{}` is read, not {}",
            columns[0],
            columns[1..].join(", ")
        );
    }
    Ok(match columns.into_iter().next() {
        Some(column) => Found::Pictures { column, rows },
        None => match schema.fields().iter().find(|field| is_list_of_pictures(field.data_type())) {
            Some(field) => Found::Lists(field.name().clone()),
            None => {
                let columns = schema.fields().iter().map(|f| format!("{}: {}", f.name(), f.data_type()));
                Found::Nothing(columns.take(12).collect::<Vec<_>>().join(", "))
            }
        },
    })
}

/// The features of the `huggingface` metadata.
pub(super) fn features(schema: &Schema) -> Option<Value> {
    let metadata: Value = serde_json::from_str(schema.metadata().get("huggingface")?).ok()?;
    metadata.get("info")?.get("features").cloned()
}

fn is_list_of_images(feature: &Value) -> bool {
    let inner = if feature.is_array() { &feature[0] } else { &feature["feature"] };
    inner["_type"] == "Image"
}

fn is_bytes(kind: &DataType) -> bool {
    matches!(kind, DataType::Binary | DataType::LargeBinary | DataType::BinaryView)
}

/// Whether a column may hold a picture a row: bytes, or a struct with them.
fn may_hold_pictures(kind: &DataType) -> bool {
    match kind {
        DataType::Struct(fields) => fields.iter().any(|field| field.name() == "bytes" && is_bytes(field.data_type())),
        kind => is_bytes(kind),
    }
}

fn is_list_of_pictures(kind: &DataType) -> bool {
    match kind {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            may_hold_pictures(item.data_type())
        }
        _ => false,
    }
}

/// The columns whose first values are pictures, or which hold nothing but paths.
fn columns_of_pictures(path: &Path, file: &File, metadata: &ArrowReaderMetadata) -> Result<Vec<String>> {
    let schema: &SchemaRef = metadata.schema();
    let mut found = Vec::new();
    for (index, field) in schema.fields().iter().enumerate() {
        if !may_hold_pictures(field.data_type()) {
            continue;
        }
        let file = file.try_clone().map_err(PipelineError::io("open", path))?;
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata.clone());
        let mask = ProjectionMask::roots(builder.parquet_schema(), [index]);
        let reader = builder.with_projection(mask).with_limit(ROWS_LOOKED_AT).with_batch_size(ROWS_LOOKED_AT).build();
        let reader = reader.map_err(|e| PipelineError::format(path, e))?;
        let mut seen = Seen::default();
        for batch in reader {
            let batch = batch.map_err(|e| PipelineError::format(path, e))?;
            seen.look(&pictures_of(batch.column(0)).ok_or_else(|| PipelineError::format(path, "no pictures"))?);
        }
        let is_struct = matches!(field.data_type(), DataType::Struct(_));
        let usual = USUAL_NAMES.contains(&field.name().as_str());
        if seen.pictures > 0 || (seen.others == 0 && is_struct) || (usual && is_struct) {
            found.push(field.name().clone());
        }
    }
    Ok(found)
}

#[derive(Default)]
struct Seen {
    pictures: usize,
    others: usize,
}

impl Seen {
    fn look(&mut self, pictures: &Pictures) {
        for row in 0..pictures.len() {
            match pictures.bytes(row) {
                Some(bytes) if begins_as_image(bytes) => self.pictures += 1,
                Some(_) => self.others += 1,
                None => {}
            }
        }
    }
}
