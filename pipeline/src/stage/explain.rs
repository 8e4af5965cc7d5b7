//! Where an image went: its row, what was decided on it, the subsets that hold it and the plans that show it; or why it was
//! rejected.

use super::files::name_of;
use super::matches::{Found, find, names_of};
use super::{Layout, Table, column, manifest_in_place, read_manifest, read_table};
use crate::Result;
use arrow::array::{Array, Float32Array, ListArray, RecordBatch, StringArray, UInt32Array, UInt64Array};
use lapidary_schemas::ImageId;
use lapidary_schemas::tables::{DECISIONS_FILE, SUBSET_FILE};
use serde_json::{Value, json};

/// An image's way through the chain.
///
/// `name` is whatever a person has at hand: the image's id or the beginning of it, its path in the source or the end of that,
/// its path on disk, or the id that its source gave it.
///
/// # Errors
/// When the source does not know it, or knows several.
pub fn explain(layout: &Layout, source: &str, name: &str) -> Result<Value> {
    match find(layout, source, name)? {
        Found::Image(id) => explain_image(layout, source, id),
        Found::Reject { path, reason, detail } => {
            Ok(json!({"source": source, "path": path, "rejected": {"reason": reason, "detail": detail}}))
        }
    }
}

fn explain_image(layout: &Layout, source: &str, id: ImageId) -> Result<Value> {
    let images = layout.images(source);
    let mut found = json!({"image_id": id.to_string(), "source": source});
    let texts = ["digest", "format", "split", "url", "license"];
    let columns = [&["image_id", "width", "height"], &texts[..]].concat();
    for shard in Layout::shards(&images)? {
        for batch in Table::open(&shard, &columns, 8192)? {
            let batch = batch?;
            let Some(row) = row_of(&batch, id)? else { continue };
            found["shard"] = json!(layout.name_of(&shard));
            for text in texts {
                found[text] = text_of(column(&batch, text)?, row);
            }
            for number in ["width", "height"] {
                found[number] = json!(column::<UInt32Array>(&batch, number)?.value(row));
            }
        }
    }
    let decisions = layout.ranking(source).join(DECISIONS_FILE);
    let mut named = vec![id];
    if decisions.is_file() {
        let mut ranked = 0;
        for batch in read_table(&decisions, &[])? {
            let ranks: &UInt32Array = column(&batch, "rank")?;
            ranked += ranks.len() - ranks.null_count();
            if let Some(row) = row_of(&batch, id)? {
                found["decision"] = decision_row(&batch, row)?;
                for name in ["duplicate_of", "neighbour"] {
                    let ids: &UInt64Array = column(&batch, name)?;
                    named.extend(ids.is_valid(row).then(|| ImageId(ids.value(row))));
                }
            }
        }
        if !found["decision"].is_null() {
            found["decision"]["ranked_images"] = json!(ranked);
        }
    }
    let names = names_of(&images, &named)?;
    let path_of = |id: &Value| id.as_str().and_then(|id| id.parse().ok()).and_then(|id: ImageId| names.get(&id));
    if let Some((path, source_id)) = names.get(&id) {
        found["path"] = json!(path);
        found["source_image_id"] = json!(source_id);
    }
    for (of, key) in [("duplicate_of", "duplicate_of_path"), ("tied_in_by", "tied_in_by_path")] {
        if let Some((path, _)) = path_of(&found["decision"][of]) {
            found["decision"][key] = json!(path);
        }
    }
    let subsets = subsets_holding(layout, source, id)?;
    found["plans"] = json!(plans_of(layout, source, &subsets));
    found["subsets"] = json!(subsets);
    Ok(found)
}

fn row_of(batch: &RecordBatch, id: ImageId) -> Result<Option<usize>> {
    Ok(column::<UInt64Array>(batch, "image_id")?.values().iter().position(|value| *value == id.0))
}

fn text_of(array: &StringArray, row: usize) -> Value {
    if array.is_null(row) { Value::Null } else { json!(array.value(row)) }
}

fn decision_row(batch: &RecordBatch, row: usize) -> Result<Value> {
    let id_text = |name: &str| -> Result<Value> {
        let array: &UInt64Array = column(batch, name)?;
        Ok(if array.is_null(row) { Value::Null } else { json!(ImageId(array.value(row)).to_string()) })
    };
    let number = |name: &str| -> Result<Value> {
        let array: &UInt32Array = column(batch, name)?;
        Ok(if array.is_null(row) { Value::Null } else { json!(array.value(row)) })
    };
    let score: &Float32Array = column(batch, "score")?;
    Ok(json!({
        "reason": column::<StringArray>(batch, "reason")?.value(row),
        "rank": number("rank")?,
        "leaf": number("leaf")?,
        "leaf_position": number("leaf_position")?,
        "duplicate_of": id_text("duplicate_of")?,
        "tied_in_by": id_text("neighbour")?,
        "score": if score.is_null(row) { Value::Null } else { json!(score.value(row)) },
        "detail": text_of(column(batch, "detail")?, row),
        "issues": issues(batch, row)?,
    }))
}

fn issues(batch: &RecordBatch, row: usize) -> Result<Value> {
    let issues: &ListArray = column(batch, "issues")?;
    let codes = issues.value(row);
    let codes = codes.as_any().downcast_ref::<StringArray>();
    Ok(json!(codes.into_iter().flatten().flatten().collect::<Vec<&str>>()))
}

fn subsets_holding(layout: &Layout, source: &str, id: ImageId) -> Result<Vec<String>> {
    let mut holding = Vec::new();
    for folder in layout.stages().into_iter().map(|stage| stage.folder) {
        let table = folder.join(SUBSET_FILE);
        if !table.is_file() || !layout.name_of(&folder).starts_with(&format!("{source}/subsets/")) {
            continue;
        }
        for batch in read_table(&table, &["image_id"])? {
            if column::<UInt64Array>(&batch, "image_id")?.values().contains(&id.0) {
                holding.push(name_of(&folder));
            }
        }
    }
    Ok(holding)
}

/// The plans that were made of these subsets as they are, and how often they show each image.
fn plans_of(layout: &Layout, source: &str, subsets: &[String]) -> Vec<Value> {
    let is_of = |name: &String, digest: &lapidary_schemas::Digest| {
        let of =
            subsets.iter().map(|subset| layout.subset(source, subset)).find(|folder| layout.name_of(folder) == *name);
        of.and_then(|folder| manifest_in_place(&folder).ok()).is_some_and(|manifest| manifest.digest == *digest)
    };
    let plan = |folder: std::path::PathBuf| {
        let manifest = read_manifest(&folder).ok().filter(|manifest| manifest.stage == "plan")?;
        manifest.inputs.iter().find(|(name, digest)| is_of(name, digest))?;
        let facts = &manifest.facts;
        Some(json!({"plan": name_of(&folder), "views_an_epoch": facts["views_per_image"], "epochs": facts["epochs"]}))
    };
    let of_source = |folder: &std::path::PathBuf| layout.name_of(folder).starts_with(&format!("{source}/plans/"));
    layout.stages().into_iter().map(|stage| stage.folder).filter(of_source).filter_map(plan).collect()
}
