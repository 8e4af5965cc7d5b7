//! What was ingested before: which of it is still in the source as it was, and the shards without the rest.
//!
//! Images that are gone or were touched leave their shards, which are written without them; no image is read or decoded for
//! that. Touched images then come back, in shards of their own, as new ones do.

use super::listing::stamps;
use super::rejects::read_rejects;
use super::shards_of;
use crate::images::ShardRows;
use crate::images::{bytes_column, shard_number};
use crate::ingest::sources::{Entry, Listing, Reject, image_id};
use crate::stage::{StageRun, Table, column, read_table, rows_among};
use crate::{PipelineError, Result, interrupt};
use arrow::array::{
    ArrayRef, AsArray, FixedSizeBinaryArray, Int64Array, ListArray, RecordBatch, StringArray, UInt64Array,
};
use arrow::datatypes::Int64Type;
use lapidary_schemas::config::IngestConfig;
use lapidary_schemas::tables::{LISTING_FILE, REJECTS_FILE};
use lapidary_schemas::{ImageId, Manifest, RejectReason};
use serde_json::json;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// What the folder holds already.
#[derive(Debug)]
pub(super) struct Previous {
    manifest: Manifest,
    /// The source's name.
    name: String,
    /// The inputs that are as they were, whether they were rejected or not.
    pub(super) unchanged: HashSet<String>,
    /// Those of them that were rejected when they were fetched.
    pub(super) rejects: Vec<Reject>,
    /// Images of the shards that are no longer in the source, or no longer as they were.
    gone: HashSet<u64>,
    /// The present index of each class; none where that is what it was.
    classes: Option<Vec<Option<i64>>>,
}

impl Previous {
    /// None when what labels mean cannot be carried over.
    pub(super) fn read(
        run: &StageRun,
        manifest: Manifest,
        name: &str,
        listing: &Listing,
        entries: &[(ImageId, Entry)],
    ) -> Result<Option<Self>> {
        let Some(classes) = present_classes(&manifest, listing, entries) else {
            tracing::info!("{name}: the classes have changed, so that everything is read again");
            return Ok(None);
        };
        let stamps = stamps(entries, listing);
        let now: HashMap<&str, &[u8]> =
            entries.iter().zip(&stamps).map(|((_, entry), stamp)| (entry.path.as_str(), &stamp[..])).collect();
        let (mut unchanged, mut gone) = (HashSet::new(), HashSet::new());
        for batch in read_table(&run.previous_path(LISTING_FILE), &[])? {
            let (names, stamps): (&StringArray, &FixedSizeBinaryArray) =
                (column(&batch, "path")?, column(&batch, "stamp")?);
            for row in 0..batch.num_rows() {
                let path = names.value(row);
                if now.get(path) == Some(&stamps.value(row)) {
                    unchanged.insert(path.to_owned());
                } else {
                    gone.insert(image_id(name, path).0);
                }
            }
        }
        let mut rejects = read_rejects(&run.previous_path(REJECTS_FILE))?;
        // What a listing rejects it rejects again.
        rejects.retain(|reject| unchanged.contains(&reject.path) && reject.reason != RejectReason::DuplicateEntry);
        Ok(Some(Self { manifest, name: name.to_owned(), unchanged, rejects, gone, classes }))
    }

    /// How many inputs have gone or changed.
    pub(super) fn gone(&self) -> usize {
        self.gone.len()
    }

    fn shards(&self) -> impl Iterator<Item = &String> {
        self.manifest.outputs.keys().filter(|name| name.starts_with("part-"))
    }

    /// The number of the first new shard. Numbers are never used again.
    pub(super) fn next_shard(&self) -> usize {
        let next = self.manifest.facts["next_shard"].as_u64();
        next.map_or_else(|| self.shards().count(), |next| next as usize)
    }

    /// Takes the shards over, without what has gone.
    pub(super) fn take_over(&self, run: &mut StageRun, listing: &Listing, config: &IngestConfig) -> Result<()> {
        for name in self.shards() {
            interrupt::check()?;
            if run.shards().contains_key(name) {
                continue;
            }
            if self.classes.is_none() && !self.has_gone(run, name)? {
                run.take_over_shard(&self.manifest, name, self.manifest.facts["shards"][name].clone())?;
            } else {
                self.rewrite(run, name, listing, config)?;
            }
        }
        run.extend(&self.manifest);
        Ok(())
    }

    fn has_gone(&self, run: &StageRun, shard: &str) -> Result<bool> {
        if self.gone.is_empty() {
            return Ok(false);
        }
        for batch in Table::open(&run.previous_path(shard), &["image_id"], 65_536)? {
            let batch = batch?;
            let ids: &UInt64Array = column(&batch, "image_id")?;
            if ids.values().iter().any(|id| self.gone.contains(id)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Writes a shard without the images that have gone; nothing when none is left.
    fn rewrite(&self, run: &mut StageRun, name: &str, listing: &Listing, config: &IngestConfig) -> Result<()> {
        let internal = || PipelineError::Internal(format!("`{name}` is no name of a shard"));
        let number = shard_number(name).ok_or_else(internal)?;
        // What fitted into one shard with more in it still does.
        let config = IngestConfig { shard_mib: u64::MAX >> 20, ..config.clone() };
        let mut shards = shards_of(run, listing, &config)?.after(number);
        for batch in ShardRows::open(&run.previous_path(name), 64)? {
            interrupt::check()?;
            let batch = batch?;
            let ids: &UInt64Array = column(&batch, "image_id")?;
            let stay: HashSet<u64> = ids.values().iter().copied().filter(|id| !self.gone.contains(id)).collect();
            let batch = self.with_present_classes(&rows_among(&batch, &stay)?)?;
            if batch.num_rows() > 0 {
                let bytes = bytes_column(&batch)?.iter().flatten().map(|bytes| bytes.len() as u64).sum();
                shards.write_batch(&batch, bytes)?;
            }
        }
        shards.end_shard()?;
        for shard in shards.take_finished() {
            run.note_shard(&shard.name, shard.table, json!(shard.facts))?;
        }
        tracing::debug!("{}: `{name}` is written without what has gone", self.name);
        Ok(())
    }

    /// The labels of a batch as indices into the present classes.
    fn with_present_classes(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let Some(classes) = &self.classes else { return Ok(batch.clone()) };
        let internal = |e: arrow::error::ArrowError| PipelineError::Internal(e.to_string());
        let present = |label: i64| classes.get(usize::try_from(label).ok()?).copied().flatten();
        let label: &Int64Array = column(batch, "label")?;
        let label: Int64Array = label.iter().map(|label| label.and_then(present)).collect();
        let lists: &ListArray = column(batch, "labels")?;
        let lists = lists.iter().map(|list| {
            let list = list?;
            let mut labels: Vec<i64> = list.as_primitive::<Int64Type>().iter().flatten().filter_map(present).collect();
            labels.sort_unstable();
            Some(labels.into_iter().map(Some).collect::<Vec<_>>())
        });
        let lists = ListArray::from_iter_primitive::<Int64Type, _, _>(lists);
        let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
        for (name, column) in [("label", Arc::new(label) as ArrayRef), ("labels", Arc::new(lists))] {
            columns[batch.schema().index_of(name).map_err(internal)?] = column;
        }
        RecordBatch::try_new(batch.schema(), columns).map_err(internal)
    }
}

/// The present index of each previous class: inside none when it is gone, outside none when the annotations' category ids
/// have changed as well.
#[expect(clippy::option_option, reason = "two questions: whether classes carry over, and whether they have to move")]
fn present_classes(
    manifest: &Manifest,
    listing: &Listing,
    entries: &[(ImageId, Entry)],
) -> Option<Option<Vec<Option<i64>>>> {
    let (names, ids) = (&manifest.facts["classes"], &manifest.facts["category_ids"]);
    if *names == json!(listing.classes) && *ids == json!(listing.category_ids) {
        return Some(None);
    }
    let has_annotations = entries.iter().any(|(_, entry)| entry.objects.is_some());
    if has_annotations {
        return None;
    }
    let before: Vec<String> = serde_json::from_value(names.clone()).ok()?;
    let index_of = |name: &String| listing.classes.iter().position(|now| now == name).map(|index| index as i64);
    Some(Some(before.iter().map(index_of).collect()))
}
