//! The facts of an image, looked up in the tables.

use crate::Result;
use crate::input::dot;
use arrow::array::{Array, BooleanArray, Float32Array, RecordBatch, StringArray, UInt8Array, UInt32Array, UInt64Array};
use lapidary_pipeline::stage::{Layout, Table, column, list_values, read_table};
use lapidary_schemas::ImageId;
use serde_json::{Value, json};
use std::path::Path;

/// Neighbours and pairs listed.
const TOP_K: usize = 8;

fn row_of(batch: &RecordBatch, name: &str, id: ImageId) -> Result<Option<usize>> {
    Ok(column::<UInt64Array>(batch, name)?.values().iter().position(|value| *value == id.0))
}

pub(super) fn quality(folder: &Path, id: ImageId) -> Result<Value> {
    if !folder.is_dir() {
        return Ok(Value::Null);
    }
    const MEASURES: [&str; 5] = ["brightness_p99", "brightness_p5", "entropy_bits", "sharpness", "aspect"];
    let columns = [&["image_id", "pdq_quality", "short_side_px", "grayscale"], &MEASURES[..]].concat();
    for shard in Layout::shards(folder)? {
        for batch in Table::open(&shard, &columns, 65_536)? {
            let batch = batch?;
            let Some(row) = row_of(&batch, "image_id", id)? else { continue };
            let mut found = json!({
                "short_side_px": column::<UInt32Array>(&batch, "short_side_px")?.value(row),
                "grayscale": column::<BooleanArray>(&batch, "grayscale")?.value(row),
                "pdq_quality": column::<UInt8Array>(&batch, "pdq_quality")?.value(row),
            });
            for measure in MEASURES {
                found[measure] = json!(column::<Float32Array>(&batch, measure)?.value(row));
            }
            return Ok(found);
        }
    }
    Ok(Value::Null)
}

/// The other members of the image's group.
pub(super) fn group(path: &Path, id: ImageId) -> Result<Vec<Value>> {
    if !path.is_file() {
        return Ok(Vec::new());
    }
    let mut members = Vec::new();
    let batches = read_table(path, &[])?;
    let mut number = None;
    for batch in &batches {
        if let Some(row) = row_of(batch, "image_id", id)? {
            number = Some(column::<UInt32Array>(batch, "group")?.value(row));
        }
    }
    let Some(number) = number else { return Ok(members) };
    for batch in &batches {
        let (ids, groups): (&UInt64Array, &UInt32Array) = (column(batch, "image_id")?, column(batch, "group")?);
        let (paths, kinds): (&StringArray, &StringArray) = (column(batch, "path")?, column(batch, "kind")?);
        let representatives: &UInt64Array = column(batch, "representative")?;
        for row in (0..batch.num_rows()).filter(|row| groups.value(*row) == number && ids.value(*row) != id.0) {
            members.push(json!({
                "image_id": ImageId(ids.value(row)).to_string(),
                "path": paths.value(row),
                "kind": kinds.value(row),
                "stands_for_itself": representatives.value(row) == ids.value(row),
            }));
        }
    }
    Ok(members)
}

/// The strongest pairs that the image is in; the table has the strongest first.
pub(super) fn pairs(path: &Path, id: ImageId) -> Result<Vec<Value>> {
    if !path.is_file() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for batch in read_table(path, &[])? {
        let (a, b): (&UInt64Array, &UInt64Array) = (column(&batch, "a")?, column(&batch, "b")?);
        let (paths_a, paths_b): (&StringArray, &StringArray) = (column(&batch, "path_a")?, column(&batch, "path_b")?);
        let scores: &Float32Array = column(&batch, "score")?;
        let kinds: &StringArray = column(&batch, "kind")?;
        let (bits, inliers): (&UInt32Array, &UInt32Array) =
            (column(&batch, "hash_distance_bits")?, column(&batch, "inliers")?);
        let optional = |array: &UInt32Array, row: usize| array.is_valid(row).then(|| array.value(row));
        for row in 0..batch.num_rows() {
            let (other, path) = match (a.value(row) == id.0, b.value(row) == id.0) {
                (true, _) => (b.value(row), paths_b.value(row)),
                (_, true) => (a.value(row), paths_a.value(row)),
                _ => continue,
            };
            found.push(json!({
                "image_id": ImageId(other).to_string(),
                "path": path,
                "score": scores.value(row),
                "kind": kinds.value(row),
                "hash_distance_bits": optional(bits, row),
                "inliers": optional(inliers, row),
            }));
            if found.len() == TOP_K {
                return Ok(found);
            }
        }
    }
    Ok(found)
}

/// The nearest images by cosine, compared with all, shard by shard.
pub(super) fn nearest(folder: &Path, id: ImageId) -> Result<Vec<Value>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let shards = Layout::shards(folder)?;
    let each = |visit: &mut dyn FnMut(u64, &[f32])| -> Result<()> {
        for shard in &shards {
            for batch in Table::open(shard, &["image_id", "embedding"], 8192)? {
                let batch = batch?;
                let (values, dim) = list_values(&batch, "embedding")?;
                let ids: &UInt64Array = column(&batch, "image_id")?;
                ids.values().iter().zip(values.chunks_exact(dim)).for_each(|(id, vector)| visit(*id, vector));
            }
        }
        Ok(())
    };
    let mut query: Vec<f32> = Vec::new();
    each(&mut |other, vector| {
        if other == id.0 {
            query = vector.to_vec();
        }
    })?;
    let mut found: Vec<(f32, u64)> = Vec::new();
    each(&mut |other, vector| {
        if other != id.0 && vector.len() == query.len() {
            found.push((dot(&query, vector), other));
            if found.len() > 4096 {
                keep_nearest(&mut found);
            }
        }
    })?;
    keep_nearest(&mut found);
    let listed = found.iter().map(|(cosine, other)| json!({"image_id": ImageId(*other).to_string(), "cosine": cosine}));
    Ok(listed.collect())
}

fn keep_nearest(found: &mut Vec<(f32, u64)>) {
    found.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    found.truncate(TOP_K);
}
