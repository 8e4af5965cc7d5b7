//! What a cut leaves out before it counts: images by license, class and size.

use crate::Result;
use arrow::array::{Array, AsArray, Int64Array, ListArray, StringArray, UInt32Array, UInt64Array};
use arrow::datatypes::Int64Type;
use lapidary_pipeline::PipelineError;
use lapidary_pipeline::stage::{Layout, Table, column, digest_of_bytes};
use lapidary_schemas::Manifest;
use serde::Serialize;
use std::collections::HashSet;
use std::path::Path;

/// The images that a subset may hold; the default holds all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CutFilter {
    /// Names of licenses, of which an image must have one; empty allows all. Upper and lower case are one.
    pub licenses: Vec<String>,
    /// Names of classes, of which an image must show one; empty allows all.
    pub classes: Vec<String>,
    /// Pixels that the shorter side must have.
    pub short_side_min_px: u32,
}

impl CutFilter {
    /// Whether it lets all images pass.
    pub fn is_open(&self) -> bool {
        *self == Self::default()
    }

    /// A suffix for the name of the subset: empty, or a dash and 6 digits that differ between filters.
    pub fn suffix(&self) -> String {
        if self.is_open() {
            return String::new();
        }
        let text = serde_json::to_string(self).expect("names and numbers are JSON");
        format!("-{}", &digest_of_bytes(text.as_bytes()).0[..6])
    }

    /// The ids of the images that pass.
    ///
    /// # Errors
    /// When the source has no such class, or a shard cannot be read.
    pub fn passing(&self, images: &Path, ingested: &Manifest) -> Result<HashSet<u64>> {
        let allowed = self.class_indices(ingested)?;
        let licenses: HashSet<String> = self.licenses.iter().map(|name| name.to_lowercase()).collect();
        let mut passing = HashSet::new();
        for shard in Layout::shards(images)? {
            let columns = ["image_id", "width", "height", "license", "labels", "label"];
            for batch in Table::open(&shard, &columns, 65_536)? {
                let batch = batch?;
                let ids: &UInt64Array = column(&batch, "image_id")?;
                let (width, height): (&UInt32Array, &UInt32Array) =
                    (column(&batch, "width")?, column(&batch, "height")?);
                let license: &StringArray = column(&batch, "license")?;
                let (labels, label): (&ListArray, &Int64Array) = (column(&batch, "labels")?, column(&batch, "label")?);
                for row in 0..batch.num_rows() {
                    let licensed = licenses.is_empty()
                        || (license.is_valid(row) && licenses.contains(&license.value(row).to_lowercase()));
                    let classed = allowed.is_empty() || shows_one_of(labels, label, row, &allowed);
                    let large = width.value(row).min(height.value(row)) >= self.short_side_min_px;
                    if licensed && classed && large {
                        passing.insert(ids.value(row));
                    }
                }
            }
        }
        Ok(passing)
    }

    fn class_indices(&self, ingested: &Manifest) -> Result<HashSet<i64>> {
        let names: Vec<&str> =
            ingested.facts["classes"].as_array().into_iter().flatten().filter_map(|name| name.as_str()).collect();
        let index = |class: &String| {
            let found = names.iter().position(|name| name.eq_ignore_ascii_case(class));
            found.map(|index| index as i64).ok_or_else(|| {
                let known = names.join(", ");
                PipelineError::Usage(format!("the source has no class `{class}`\nhint: it has {known}")).into()
            })
        };
        self.classes.iter().map(index).collect()
    }
}

fn shows_one_of(labels: &ListArray, label: &Int64Array, row: usize, allowed: &HashSet<i64>) -> bool {
    let main = label.is_valid(row) && allowed.contains(&label.value(row));
    main || (labels.is_valid(row)
        && labels.value(row).as_primitive::<Int64Type>().iter().flatten().any(|class| allowed.contains(&class)))
}
