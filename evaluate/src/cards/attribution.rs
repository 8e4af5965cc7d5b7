//! Where each image of a subset comes from and under which licence: what licences with attribution ask to be told.

use super::subset::Exported;
use crate::Result;
use arrow::array::{Array, AsArray, StringArray, StructArray, UInt64Array};
use lapidary_pipeline::PipelineError;
use lapidary_pipeline::ShardRows;
use lapidary_pipeline::stage::{Layout, column, write_synced};
use lapidary_schemas::ImageId;
use std::path::Path;

const COLUMNS: [&str; 6] = ["image_id", "image", "split", "source", "url", "license"];
/// Rows a batch: images come with their bytes.
const ROWS: usize = 64;

/// Writes a row for each image, in the order of the shards; how many there are.
///
/// # Errors
/// When a shard cannot be read or the file cannot be written.
pub(super) fn write(export: &Exported, path: &Path) -> Result<u64> {
    let mut table = csv::Writer::from_writer(Vec::new());
    let failed = |e: csv::Error| PipelineError::format(path, e);
    table.write_record(["image_id", "path", "split", "source", "url", "license"]).map_err(failed)?;
    let mut count = 0;
    for shard in Layout::shards(&export.images)? {
        for batch in ShardRows::open_columns(&shard, &COLUMNS, ROWS)? {
            let batch = batch?;
            let ids: &UInt64Array = column(&batch, "image_id")?;
            let images: &StructArray = column(&batch, "image")?;
            let paths = images.column_by_name("path").map(|paths| paths.as_string::<i32>());
            let texts = ["split", "source", "url", "license"].map(|name| column::<StringArray>(&batch, name));
            let texts = texts.into_iter().collect::<Result<Vec<_>, _>>()?;
            for row in (0..batch.num_rows()).filter(|row| export.ids.contains(&ImageId(ids.value(*row)))) {
                let text =
                    |array: &StringArray| if array.is_valid(row) { array.value(row).to_owned() } else { String::new() };
                let head = [ImageId(ids.value(row)).to_string(), paths.map(text).unwrap_or_default()];
                table.write_record(head.into_iter().chain(texts.iter().map(|array| text(array)))).map_err(failed)?;
                count += 1;
            }
        }
    }
    let bytes = table.into_inner().map_err(|e| PipelineError::format(path, e))?;
    write_synced(path, &bytes)?;
    Ok(count)
}
