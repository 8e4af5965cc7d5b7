//! The labels of ingested images, split by split.

use crate::stage::{Layout, Table, column};
use crate::{PipelineError, Result};
use arrow::array::{Array, Int64Array, ListArray, StringArray, UInt64Array};
use lapidary_schemas::ImageId;
use std::collections::BTreeMap;
use std::path::Path;

/// Rows a batch.
const ROWS: usize = 65_536;

/// The images that have a label, with it, by split, in the order of their rows.
///
/// # Errors
/// When a shard of `folder` cannot be read.
pub fn labels_by_split(folder: &Path) -> Result<BTreeMap<String, Vec<(ImageId, i64)>>> {
    let mut by_split: BTreeMap<String, Vec<(ImageId, i64)>> = BTreeMap::new();
    for path in Layout::shards(folder)? {
        for batch in Table::open(&path, &["image_id", "split", "label"], ROWS)? {
            let batch = batch?;
            let ids: &UInt64Array = column(&batch, "image_id")?;
            let splits: &StringArray = column(&batch, "split")?;
            let labels: &Int64Array = column(&batch, "label")?;
            for row in (0..batch.num_rows()).filter(|row| labels.is_valid(*row) && splits.is_valid(*row)) {
                let split = by_split.entry(splits.value(row).to_owned()).or_default();
                split.push((ImageId(ids.value(row)), labels.value(row)));
            }
        }
    }
    Ok(by_split)
}

/// All labels of each image that has any, in the order of the source.
///
/// # Errors
/// When a shard of `folder` cannot be read.
pub fn label_sets(folder: &Path) -> Result<BTreeMap<ImageId, Vec<i64>>> {
    let mut sets = BTreeMap::new();
    for path in Layout::shards(folder)? {
        for batch in Table::open(&path, &["image_id", "labels"], ROWS)? {
            let batch = batch?;
            let ids: &UInt64Array = column(&batch, "image_id")?;
            let lists: &ListArray = column(&batch, "labels")?;
            for row in (0..batch.num_rows()).filter(|row| lists.is_valid(*row)) {
                let list = lists.value(row);
                let labels = list.as_any().downcast_ref::<Int64Array>();
                let labels = labels.ok_or_else(|| PipelineError::format(&path, "column `labels` does not hold i64"))?;
                let labels: Vec<i64> = labels.iter().flatten().collect();
                if !labels.is_empty() {
                    sets.insert(ImageId(ids.value(row)), labels);
                }
            }
        }
    }
    Ok(sets)
}
