//! The instances with masks of some images of a table: annotations whose source wrote a segmentation, with a box or without.

use super::Mask;
use super::segmentation::Segmentation;
use crate::Result;
use arrow::array::{Array, AsArray, ListArray, RecordBatch, UInt32Array, UInt64Array};
use lapidary_pipeline::stage::{Layout, column, require_manifest};
use lapidary_pipeline::{ShardRows, interrupt};
use lapidary_schemas::ImageId;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

/// Rows a batch.
const ROWS: usize = 256;
/// The version of ingest whose tables keep what sources wrote of their objects.
const FIRST_WITH_RECORDS: u32 = 4;

/// An object with its pixels.
#[derive(Debug, Clone)]
pub(crate) struct Instance {
    /// Index of its class.
    pub(crate) class: u32,
    /// It stands for a crowd.
    pub(crate) is_crowd: bool,
    /// Its pixels in the whole image.
    pub(crate) mask: Mask,
}

/// The instances of some images.
#[derive(Debug, Default)]
pub(crate) struct Instances {
    /// By image; images without any are not there.
    pub(crate) by_image: BTreeMap<ImageId, Vec<Instance>>,
    /// Segmentations that are no masks of their images.
    pub(crate) bad: usize,
}

impl Instances {
    /// Those of the images `ids` in a folder of shards. Tables of before ingest's version 4 have no records, and so no masks.
    ///
    /// # Errors
    /// When a shard cannot be read, or the user interrupts.
    pub(crate) fn read(folder: &Path, ids: &BTreeSet<ImageId>) -> Result<Self> {
        let manifest = require_manifest(folder, "ingested probe", "run `lapidary ingest --data DIR --as-probe` first")?;
        let mut instances = Self::default();
        if manifest.version < FIRST_WITH_RECORDS {
            return Ok(instances);
        }
        // Readers of Parquet drop the schema's metadata: the manifest says the same of categories.
        let categories = manifest.facts["category_ids"].as_array().cloned().unwrap_or_default();
        let class_of: HashMap<i64, u32> =
            categories.iter().zip(0..).filter_map(|(id, class)| Some((id.as_i64()?, class))).collect();
        for path in Layout::shards(folder)? {
            let columns = ["image_id", "width", "height", "annotations", "records"];
            for batch in ShardRows::open_columns(&path, &columns, ROWS)? {
                interrupt::check()?;
                instances.read_batch(&batch?, ids, &class_of)?;
            }
        }
        Ok(instances)
    }

    fn read_batch(&mut self, batch: &RecordBatch, ids: &BTreeSet<ImageId>, class_of: &HashMap<i64, u32>) -> Result<()> {
        let images: &UInt64Array = column(batch, "image_id")?;
        let (widths, heights): (&UInt32Array, &UInt32Array) = (column(batch, "width")?, column(batch, "height")?);
        let (objects, loose): (&ListArray, &ListArray) = (column(batch, "annotations")?, column(batch, "records")?);
        for row in (0..batch.num_rows()).filter(|row| ids.contains(&ImageId(images.value(*row)))) {
            let (id, size_px) = (ImageId(images.value(row)), (widths.value(row), heights.value(row)));
            let mut texts: Vec<String> = Vec::new();
            if objects.is_valid(row) {
                let objects = objects.value(row);
                if let Some(records) = objects.as_struct().column_by_name("record") {
                    texts.extend(records.as_string::<i32>().iter().flatten().map(str::to_owned));
                }
            }
            if loose.is_valid(row) {
                texts.extend(loose.value(row).as_string::<i32>().iter().flatten().map(str::to_owned));
            }
            let found: Vec<Instance> = texts.iter().filter_map(|text| self.instance(text, size_px, class_of)).collect();
            if !found.is_empty() {
                self.by_image.insert(id, found);
            }
        }
        Ok(())
    }

    /// The instance of an annotation's record; none where it has no mask or no class of these.
    fn instance(&mut self, text: &str, size_px: (u32, u32), class_of: &HashMap<i64, u32>) -> Option<Instance> {
        let record: Value = serde_json::from_str(text).ok()?;
        let class = *class_of.get(&record["category_id"].as_i64()?)?;
        let is_crowd = record["iscrowd"].as_i64() == Some(1) || record["iscrowd"].as_bool() == Some(true);
        match Segmentation::of(&record, size_px) {
            Segmentation::Whole(mask) => Some(Instance { class, is_crowd, mask }),
            Segmentation::Absent => None,
            Segmentation::Bad => {
                self.bad += 1;
                None
            }
        }
    }
}
