//! Shards that Lapidary wrote, read back whole: splits, boxes, records, classes and category ids.
//!
//! Every version of the table is read: what an older one lacks is not there.

use crate::Result;
use crate::ingest::sources::coco::{Categories, Id};
use crate::ingest::sources::tree::read_manifest;
use crate::ingest::sources::{Entry, Listing, Loose, Object, Spool};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float32Type, Int64Type, Schema};
use lapidary_schemas::tables::LAPIDARY_KEY;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::Path;

/// Columns beside picture and label.
const COLUMNS: &[&str] = &["split", "url", "license", "annotations", "labels", "record", "records"];

/// What a shard of ours says beyond its rows.
pub(super) struct Own {
    /// Class of each category id: its name.
    name_of_category: HashMap<i64, String>,
    names: Vec<String>,
}

/// What a schema says when the table is one of ours; `names` are its classes.
pub(super) fn own(
    path: &Path,
    schema: &Schema,
    names: &[String],
    listing: &mut Listing,
    all: &mut Categories,
) -> Option<Own> {
    let typed = [
        ("image_id", DataType::UInt64),
        ("digest", DataType::Utf8),
        ("phash", DataType::UInt64),
        ("split", DataType::Utf8),
    ];
    if !typed.iter().all(|(name, kind)| schema.field_with_name(name).is_ok_and(|field| field.data_type() == kind)) {
        return None;
    }
    // Shards of before version 4 leave the ids to the manifest beside them.
    let said: Option<Value> = schema.metadata().get(LAPIDARY_KEY).and_then(|text| serde_json::from_str(text).ok());
    let said = said.or_else(|| Some(read_manifest(path.parent()?)?.facts)).unwrap_or_default();
    let ids: Vec<i64> = serde_json::from_value(said["category_ids"].clone()).unwrap_or_default();
    let mut name_of_category = HashMap::new();
    for (index, (id, name)) in ids.iter().zip(names).enumerate() {
        let record = said["categories"].get(index).cloned().unwrap_or_else(|| json!({"id": id, "name": name}));
        all.add(&Id::Number(*id), name, &record);
        name_of_category.insert(*id, name.clone());
    }
    for license in said["licenses"].as_array().into_iter().flatten().filter(|license| license.is_object()) {
        if !listing.license_records.contains(license) {
            listing.license_records.push(license.clone());
        }
    }
    Some(Own { name_of_category, names: names.to_vec() })
}

impl Own {
    /// The columns that a schema has of those that are read.
    pub(super) fn columns(schema: &Schema) -> Vec<&'static str> {
        COLUMNS.iter().copied().filter(|name| schema.column_with_name(name).is_some()).collect()
    }

    /// Completes a row's entry. `class_of` gives a name's provisional index, which stands for its category id until all are
    /// known.
    pub(super) fn complete(
        &self,
        batch: &RecordBatch,
        row: usize,
        entry: &mut Entry,
        listing: &mut Listing,
        spool: &mut Spool,
        mut class_of: impl FnMut(&str) -> i64,
    ) -> Result<()> {
        let text = |name: &str| -> Option<String> {
            let column = batch.column_by_name(name)?.as_string_opt::<i32>()?;
            column.is_valid(row).then(|| column.value(row).to_owned())
        };
        if let Some(split) = text("split") {
            entry.split = listing.split(&split);
        }
        entry.url = text("url");
        entry.license = text("license").map(|license| listing.license(&license));
        if let Some(record) = text("record") {
            entry.record = Some(spool.text(&record)?);
        }
        if let Some(texts) = list_at(batch, "records", row) {
            for text in texts.as_string_opt::<i32>().into_iter().flat_map(|texts| texts.iter()).flatten() {
                entry.records.push(Loose { category_id: None, record: spool.text(text)? });
            }
        }
        if let Some(labels) = list_at(batch, "labels", row).as_ref().and_then(|l| l.as_primitive_opt::<Int64Type>()) {
            let names = labels.values().iter().filter_map(|label| self.names.get(usize::try_from(*label).ok()?));
            entry.labels = Some(names.map(|name| class_of(name)).collect());
        }
        if let Some(objects) = list_at(batch, "annotations", row) {
            entry.objects = Some(self.objects(&objects, entry, listing, spool, class_of)?);
        }
        Ok(())
    }

    fn objects(
        &self,
        objects: &ArrayRef,
        entry: &mut Entry,
        listing: &mut Listing,
        spool: &mut Spool,
        mut class_of: impl FnMut(&str) -> i64,
    ) -> Result<Vec<Object>> {
        let mut found = Vec::new();
        let Some(fields) = objects.as_struct_opt() else { return Ok(found) };
        let ids = fields.column_by_name("category_id").and_then(|c| c.as_primitive_opt::<Int64Type>());
        let boxes = fields.column_by_name("bbox").and_then(|c| c.as_list_opt::<i32>());
        let areas = fields.column_by_name("area").and_then(|c| c.as_primitive_opt::<Float32Type>());
        let crowds = fields.column_by_name("iscrowd").and_then(|c| c.as_boolean_opt());
        let records = fields.column_by_name("record").and_then(|c| c.as_string_opt::<i32>());
        for object in 0..fields.len() {
            let bbox: Vec<f32> = boxes
                .filter(|boxes| boxes.is_valid(object))
                .and_then(|boxes| boxes.value(object).as_primitive_opt::<Float32Type>().map(|b| b.values().to_vec()))
                .unwrap_or_default();
            let id = ids.filter(|ids| ids.is_valid(object)).map(|ids| ids.value(object));
            let area_px = areas.filter(|areas| areas.is_valid(object)).map_or(0.0, |areas| areas.value(object));
            let iscrowd = crowds.is_some_and(|crowds| crowds.is_valid(object) && crowds.value(object));
            let record = records.filter(|records| records.is_valid(object)).map(|records| records.value(object));
            let name = id.and_then(|id| self.name_of_category.get(&id));
            match (name, <[f32; 4]>::try_from(bbox.clone())) {
                (Some(name), Ok(bbox_px)) => {
                    let records = record.map(|record| spool.text(record)).transpose()?.into_iter().collect();
                    found.push(Object { category_id: class_of(name), bbox_px, area_px, iscrowd, records });
                }
                _ => {
                    listing.bad("unknown_category");
                    let made = json!({"category_id": id, "bbox": bbox, "area": area_px, "iscrowd": u8::from(iscrowd)});
                    let text = record.map_or_else(|| made.to_string(), str::to_owned);
                    entry.records.push(Loose { category_id: None, record: spool.text(&text)? });
                }
            }
        }
        Ok(found)
    }
}

/// The elements of a row's list.
fn list_at(batch: &RecordBatch, name: &str, row: usize) -> Option<ArrayRef> {
    let lists = batch.column_by_name(name)?.as_list_opt::<i32>()?;
    lists.is_valid(row).then(|| lists.value(row))
}
