//! Under which licences images stand, as their source says it.

use crate::Result;
use crate::stage::{Layout, Table, column};
use arrow::array::{Array, StringArray, UInt64Array};
use lapidary_schemas::ImageId;
use serde::Serialize;
use std::collections::{BTreeMap, HashSet};
use std::path::Path;

/// Rows a batch.
const ROWS: usize = 65_536;

/// The images under one licence.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LicenceCount {
    /// Its name as the source has it; empty where the source says nothing.
    pub name: String,
    /// Images under it.
    pub images: u64,
    /// Of these, images of which the source says where they come from: what an attribution needs.
    pub with_url: u64,
}

impl LicenceCount {
    /// Its name for a reader.
    pub fn said(&self) -> &str {
        if self.name.is_empty() { "no licence stated" } else { &self.name }
    }
}

/// Counts the licences of some images of a source, the most frequent first.
///
/// # Errors
/// When a shard of `folder` cannot be read.
pub fn licence_counts(folder: &Path, ids: &HashSet<ImageId>) -> Result<Vec<LicenceCount>> {
    let mut counts: BTreeMap<String, LicenceCount> = BTreeMap::new();
    for shard in Layout::shards(folder)? {
        for batch in Table::open(&shard, &["image_id", "url", "license"], ROWS)? {
            let batch = batch?;
            let of: &UInt64Array = column(&batch, "image_id")?;
            let (urls, licences): (&StringArray, &StringArray) = (column(&batch, "url")?, column(&batch, "license")?);
            for row in (0..batch.num_rows()).filter(|row| ids.contains(&ImageId(of.value(*row)))) {
                let name = if licences.is_valid(row) { licences.value(row) } else { "" };
                let count = counts
                    .entry(name.to_owned())
                    .or_insert_with(|| LicenceCount { name: name.to_owned(), ..LicenceCount::default() });
                count.images += 1;
                count.with_url += u64::from(urls.is_valid(row) && !urls.value(row).is_empty());
            }
        }
    }
    let mut counts: Vec<LicenceCount> = counts.into_values().collect();
    counts.sort_by(|a, b| b.images.cmp(&a.images).then_with(|| a.name.cmp(&b.name)));
    Ok(counts)
}
