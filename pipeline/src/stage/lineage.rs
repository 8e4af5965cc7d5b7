//! The chain as it lies on disk: which stages are there, which are stale, and where an image went.

use super::{Layout, column, digest_of_file, read_manifest, read_table};
use crate::sources::{image_id, listing_digest_of_address};
use crate::{PipelineError, Result};
use arrow::array::{Array, Float32Array, ListArray, StringArray, StructArray, UInt32Array, UInt64Array};
use lapidary_schemas::tables::{DECISIONS_FILE, REJECTS_FILE, SUBSET_FILE};
use lapidary_schemas::{Digest, ImageId, Manifest};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Whether a stage's folder can be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StageState {
    /// Whole, and its inputs are as they were.
    UpToDate,
    /// Whole, but an input has changed or gone since.
    Stale,
    /// Unfinished: the same command goes on or starts afresh.
    Unfinished,
}

/// One stage of `lapidary status`.
#[derive(Debug, Clone, Serialize)]
pub struct StageStatus {
    /// The stage's name; empty when unfinished.
    pub stage: String,
    /// Its folder, relative to `OUT`.
    pub folder: String,
    /// Whether it can be relied on.
    pub state: StageState,
    /// Rows that came out.
    pub rows: u64,
    /// Its manifest's digest.
    pub digest: Option<Digest>,
    /// Why it is stale.
    pub because: String,
}

/// Every stage under `OUT`, by folder.
pub fn status(layout: &Layout) -> Vec<StageStatus> {
    let mut manifests: BTreeMap<String, Option<Manifest>> = BTreeMap::new();
    for folder in layout.stage_folders() {
        manifests.insert(layout.name_of(&folder), read_manifest(&folder).ok());
    }
    let changed = |input: &str, digest: &Digest| match manifests.get(input) {
        Some(Some(now)) => now.digest != *digest,
        Some(None) => true,
        None => digest_outside(layout, input).as_ref() != Some(digest),
    };
    let describe = |(folder, manifest): (&String, &Option<Manifest>)| match manifest {
        None => StageStatus {
            stage: String::new(),
            folder: folder.clone(),
            state: StageState::Unfinished,
            rows: 0,
            digest: None,
            because: "it was interrupted".to_owned(),
        },
        Some(manifest) => {
            let moved: Vec<&str> =
                manifest.inputs.iter().filter(|(name, d)| changed(name, d)).map(|(name, _)| name.as_str()).collect();
            StageStatus {
                stage: manifest.stage.clone(),
                folder: folder.clone(),
                state: if moved.is_empty() { StageState::UpToDate } else { StageState::Stale },
                rows: manifest.rows.output,
                digest: Some(manifest.digest.clone()),
                because: if moved.is_empty() { String::new() } else { format!("changed: {}", moved.join(", ")) },
            }
        }
    };
    manifests.iter().map(describe).collect()
}

/// The manifest of the stage `stage` that `manifest` was made from, directly or through others; none when there is none, or
/// when what lies there now is not what was used.
pub fn ancestor(layout: &Layout, manifest: &Manifest, stage: &str) -> Option<Manifest> {
    if manifest.stage == stage {
        return Some(manifest.clone());
    }
    manifest.inputs.iter().find_map(|(name, digest)| {
        let input = read_manifest(&layout.out.join(name)).ok().filter(|input| input.digest == *digest)?;
        ancestor(layout, &input, stage)
    })
}

/// The digest of an input outside `OUT`, which is named by its address: a source's listing, or a file's bytes.
fn digest_outside(layout: &Layout, address: &str) -> Option<Digest> {
    let path = std::path::Path::new(address);
    if path.is_file() {
        return digest_of_file(path).ok().map(|(digest, _)| digest);
    }
    listing_digest_of_address(address, &layout.out)
}

/// An image's way through the chain: its row, its decision, the subsets that hold it; or why it was rejected.
///
/// `name` is an image id (16 hexadecimal digits) or a path in the source.
///
/// # Errors
/// When the source does not know it.
pub fn explain(layout: &Layout, source: &str, name: &str) -> Result<Value> {
    let images = layout.images(source);
    let id = match name.parse::<ImageId>() {
        Ok(id) if name.len() == 16 => id,
        _ => image_id(source, name),
    };
    let mut found = json!({"image_id": id.to_string(), "source": source});
    let mut known = false;
    let columns = ["image_id", "digest", "image", "width", "height", "format", "split", "url", "license"];
    for shard in Layout::shards(&images)? {
        // The bytes come along with the struct, so rows are looked up in small batches.
        for batch in super::Table::open(&shard, &columns, 64)? {
            let batch = batch?;
            let ids: &UInt64Array = column(&batch, "image_id")?;
            let Some(row) = ids.values().iter().position(|v| *v == id.0) else { continue };
            known = true;
            found["shard"] = json!(layout.name_of(&shard));
            for text in ["digest", "format", "split", "url", "license"] {
                let array: &StringArray = column(&batch, text)?;
                found[text] = if array.is_null(row) { Value::Null } else { json!(array.value(row)) };
            }
            for number in ["width", "height"] {
                found[number] = json!(column::<UInt32Array>(&batch, number)?.value(row));
            }
            let image: &StructArray = column(&batch, "image")?;
            let paths = image.column_by_name("path").and_then(|c| c.as_any().downcast_ref::<StringArray>());
            found["path"] = json!(paths.map(|p| p.value(row)));
        }
    }
    if !known {
        return explain_reject(layout, source, name, found);
    }
    let decisions = layout.curation(source).join(DECISIONS_FILE);
    if decisions.is_file() {
        for batch in read_table(&decisions, &[])? {
            let ids: &UInt64Array = column(&batch, "image_id")?;
            let Some(row) = ids.values().iter().position(|v| *v == id.0) else { continue };
            found["decision"] = decision_row(&batch, row)?;
        }
    }
    found["subsets"] = json!(subsets_holding(layout, source, id)?);
    Ok(found)
}

fn explain_reject(layout: &Layout, source: &str, name: &str, mut found: Value) -> Result<Value> {
    let rejects = layout.images(source).join(REJECTS_FILE);
    for batch in read_table(&rejects, &[])? {
        let paths: &StringArray = column(&batch, "path")?;
        if let Some(row) = (0..paths.len()).find(|row| paths.value(*row) == name) {
            found["path"] = json!(name);
            found["rejected"] = json!({
                "reason": column::<StringArray>(&batch, "reason")?.value(row),
                "detail": column::<StringArray>(&batch, "detail")?.value(row),
            });
            return Ok(found);
        }
    }
    Err(PipelineError::Usage(format!(
        "source `{source}` has no image `{name}`\nhint: give 16 hexadecimal digits, or the path inside the source"
    )))
}

fn decision_row(batch: &arrow::array::RecordBatch, row: usize) -> Result<Value> {
    let id_text = |name: &str| -> Result<Value> {
        let array: &UInt64Array = column(batch, name)?;
        Ok(if array.is_null(row) { Value::Null } else { json!(ImageId(array.value(row)).to_string()) })
    };
    let number = |name: &str| -> Result<Value> {
        let array: &UInt32Array = column(batch, name)?;
        Ok(if array.is_null(row) { Value::Null } else { json!(array.value(row)) })
    };
    let (score, detail): (&Float32Array, &StringArray) = (column(batch, "score")?, column(batch, "detail")?);
    Ok(json!({
        "reason": column::<StringArray>(batch, "reason")?.value(row),
        "rank": number("rank")?,
        "leaf": number("leaf")?,
        "leaf_position": number("leaf_position")?,
        "duplicate_of": id_text("duplicate_of")?,
        "tied_in_by": id_text("neighbour")?,
        "score": if score.is_null(row) { Value::Null } else { json!(score.value(row)) },
        "detail": if detail.is_null(row) { Value::Null } else { json!(detail.value(row)) },
        "issues": issues(batch, row)?,
    }))
}

fn issues(batch: &arrow::array::RecordBatch, row: usize) -> Result<Value> {
    let issues: &ListArray = column(batch, "issues")?;
    let codes = issues.value(row);
    let codes = codes.as_any().downcast_ref::<StringArray>();
    Ok(json!(codes.into_iter().flatten().flatten().collect::<Vec<&str>>()))
}

fn subsets_holding(layout: &Layout, source: &str, id: ImageId) -> Result<Vec<String>> {
    let mut holding = Vec::new();
    for folder in layout.stage_folders() {
        let table = folder.join(SUBSET_FILE);
        if !table.is_file() || !layout.name_of(&folder).starts_with(&format!("{source}/subsets/")) {
            continue;
        }
        for batch in read_table(&table, &["image_id"])? {
            if column::<UInt64Array>(&batch, "image_id")?.values().contains(&id.0) {
                holding.push(folder.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default());
            }
        }
    }
    Ok(holding)
}
