//! `lapidary explain IMAGE`: an image's way through the chain, its quality, its group, its pairs and its nearest neighbours,
//! as facts and as a page with thumbnails.

use crate::Result;
use crate::input::dot;
use arrow::array::{Array, BooleanArray, Float32Array, RecordBatch, StringArray, UInt8Array, UInt32Array, UInt64Array};
use lapidary_pipeline::report::{page, table};
use lapidary_pipeline::stage::{
    Layout, Table, column, explain as explain_lineage, list_values, read_table, write_synced,
};
use lapidary_pipeline::{ImageStore, Pictures, PipelineError};
use lapidary_schemas::ImageId;
use lapidary_schemas::tables::{DUPLICATES_FILE, PAIRS_FILE};
use maud::{Markup, html};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Neighbours and pairs told.
const TOLD: usize = 8;
/// Members of a group that the page shows.
const SHOWN: usize = 32;
const THUMBNAIL_PX: u32 = 120;

/// What is known of an image, named by whatever is at hand (see [`explain_lineage`]), and the page that shows it; a rejected
/// input has no page.
///
/// # Errors
/// When the source does not know it, or a table cannot be read.
pub fn explain(layout: &Layout, source: &str, encoder: &str, name: &str) -> Result<(Value, Option<PathBuf>)> {
    let mut facts = explain_lineage(layout, source, name)?;
    if !facts["rejected"].is_null() {
        return Ok((facts, None));
    }
    let id: ImageId = facts["image_id"]
        .as_str()
        .and_then(|id| id.parse().ok())
        .ok_or_else(|| PipelineError::Internal("an image without an id".to_owned()))?;
    facts["quality"] = quality(&layout.fingerprints(source), id)?;
    let curation = layout.curation(source);
    facts["group"] = json!(group(&curation.join(DUPLICATES_FILE), id)?);
    facts["pairs"] = json!(pairs(&curation.join(PAIRS_FILE), id)?);
    facts["nearest"] = json!(nearest(&layout.embeddings(source, encoder), id)?);
    let path = layout.out.join(source).join("explained").join(format!("{id}.html"));
    let html = page_of(&facts, id, &Pictures::new(ImageStore::open(&layout.images(source))?))?;
    let folder = path.parent().expect("it was joined above");
    std::fs::create_dir_all(folder).map_err(PipelineError::io("create folder", folder))?;
    write_synced(&path, html.as_bytes())?;
    Ok((facts, Some(path)))
}

fn row_of(batch: &RecordBatch, name: &str, id: ImageId) -> Result<Option<usize>> {
    Ok(column::<UInt64Array>(batch, name)?.values().iter().position(|value| *value == id.0))
}

fn quality(folder: &Path, id: ImageId) -> Result<Value> {
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
fn group(path: &Path, id: ImageId) -> Result<Vec<Value>> {
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
fn pairs(path: &Path, id: ImageId) -> Result<Vec<Value>> {
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
            if found.len() == TOLD {
                return Ok(found);
            }
        }
    }
    Ok(found)
}

/// The nearest images by cosine, compared with all, shard by shard.
fn nearest(folder: &Path, id: ImageId) -> Result<Vec<Value>> {
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
    let mut asked: Vec<f32> = Vec::new();
    each(&mut |other, vector| {
        if other == id.0 {
            asked = vector.to_vec();
        }
    })?;
    let mut found: Vec<(f32, u64)> = Vec::new();
    each(&mut |other, vector| {
        if other != id.0 && vector.len() == asked.len() {
            found.push((dot(&asked, vector), other));
            if found.len() > 4096 {
                keep_nearest(&mut found);
            }
        }
    })?;
    keep_nearest(&mut found);
    let told = found.iter().map(|(cosine, other)| json!({"image_id": ImageId(*other).to_string(), "cosine": cosine}));
    Ok(told.collect())
}

fn keep_nearest(found: &mut Vec<(f32, u64)>) {
    found.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    found.truncate(TOLD);
}

fn page_of(facts: &Value, id: ImageId, pictures: &Pictures) -> Result<String> {
    let flat = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let rows_of = |value: &Value| -> Vec<Vec<String>> {
        let object = value.as_object().into_iter().flatten();
        object.filter(|(_, value)| !value.is_null()).map(|(key, value)| vec![key.clone(), flat(value)]).collect()
    };
    let plain: Value = facts
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(_, value)| !value.is_object() && !value.is_array())
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect::<serde_json::Map<String, Value>>()
        .into();
    let others = |key: &str, caption: &dyn Fn(&Value) -> String| -> Result<Markup> {
        let list = facts[key].as_array().map(Vec::as_slice).unwrap_or_default();
        let known = |other: &Value| {
            let id = other["image_id"].as_str().and_then(|id| id.parse::<ImageId>().ok());
            // An image of another source has no picture here.
            id.filter(|id| pictures.has(*id)).map(|id| (id, caption(other)))
        };
        let shown: Vec<(ImageId, String)> = list.iter().take(SHOWN).filter_map(known).collect();
        Ok(html! { @if shown.is_empty() { p { "None." } } (pictures.row(&shown, THUMBNAIL_PX)?) })
    };
    let sections = [
        (
            "image",
            "The image",
            html! { (pictures.row(&[(id, String::new())], 2 * THUMBNAIL_PX)?) (table(&["what", "value"], &rows_of(&plain))) },
        ),
        ("decision", "Decision", table(&["what", "value"], &rows_of(&facts["decision"]))),
        ("quality", "Quality", table(&["measure", "value"], &rows_of(&facts["quality"]))),
        (
            "group",
            "Its group",
            others("group", &|other| format!("{}: {}", flat(&other["kind"]), flat(&other["path"])))?,
        ),
        (
            "pairs",
            "Its pairs",
            others("pairs", &|other| {
                format!("{:.2} {}", other["score"].as_f64().unwrap_or(0.0), flat(&other["kind"]))
            })?,
        ),
        (
            "nearest",
            "Nearest neighbours",
            others("nearest", &|other| format!("cosine {:.3}", other["cosine"].as_f64().unwrap_or(0.0)))?,
        ),
    ];
    let sections = sections.map(|(anchor, heading, body)| (anchor.to_owned(), heading.to_owned(), body));
    Ok(page(&format!("Lapidary: image {id}"), facts["path"].as_str().unwrap_or_default(), &sections))
}
