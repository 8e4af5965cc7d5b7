//! The labels of ingested images, split by split.

use crate::Result;
use crate::stage::{Layout, Table, column};
use arrow::array::{Array, Int64Array, StringArray, UInt64Array};
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
