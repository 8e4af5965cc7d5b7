//! The inputs of a source as they were when it was ingested: a path and a stamp each, so that the next ingest can tell what
//! is new, what has changed and what has gone.

use crate::ingest::sources::{Entry, Listing, Place, Reject, image_id};
use crate::stage::{StageRun, TableWriter};
use crate::{PipelineError, Result};
use arrow::array::{FixedSizeBinaryArray, RecordBatch, StringArray};
use lapidary_schemas::tables::{self, LISTING_FILE};
use lapidary_schemas::{ImageId, RejectReason};
use rayon::prelude::*;
use serde_json::json;
use std::sync::Arc;

/// Gives each entry its id and sorts by it; a path or an id that comes twice is rejected.
pub(super) fn sorted_by_id(listing: &mut Listing, name: &str) -> Vec<(ImageId, Entry)> {
    let mut entries: Vec<(ImageId, Entry)> =
        std::mem::take(&mut listing.entries).into_iter().map(|e| (image_id(name, &e.path), e)).collect();
    entries.sort_by(|(a, x), (b, y)| (a, &x.path).cmp(&(b, &y.path)));
    let mut unique: Vec<(ImageId, Entry)> = Vec::with_capacity(entries.len());
    for (id, entry) in entries {
        match unique.last() {
            Some((last, kept)) if *last == id => {
                let reason =
                    if kept.path == entry.path { RejectReason::DuplicateEntry } else { RejectReason::IdCollision };
                listing.rejects.push(Reject::new(entry.path, reason, format!("like `{}`", kept.path)));
            }
            _ => unique.push((id, entry)),
        }
    }
    unique
}

/// What tells whether an input is still the same: see [`tables::listing`]. Classes count by name, not by index.
pub(super) fn stamps(entries: &[(ImageId, Entry)], listing: &Listing) -> Vec<[u8; 16]> {
    let stamp = |(_, entry): &(ImageId, Entry)| {
        let place = match &entry.place {
            Place::Spool { digest, .. } => json!(digest),
            Place::File(path) => {
                let meta = std::fs::metadata(path).ok();
                let modified = meta.as_ref().and_then(|m| m.modified().ok());
                let since = modified.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
                json!([meta.map(|m| m.len()), since.map(|since| since.as_nanos().to_string())])
            }
        };
        let license = entry.license.map(|index| &listing.licenses[index as usize]);
        let objects = entry.annotations_stamp();
        let class = entry.label.and_then(|label| listing.classes.get(usize::try_from(label).ok()?));
        let all = json!([place, listing.splits[entry.split as usize], entry.url, license, objects, class]);
        let mut stamp = [0; 16];
        stamp.copy_from_slice(&blake3::hash(all.to_string().as_bytes()).as_bytes()[..16]);
        stamp
    };
    entries.par_iter().map(stamp).collect()
}

/// Writes what was listed.
pub(super) fn write_listing(run: &mut StageRun, entries: &[(ImageId, Entry)], stamps: &[[u8; 16]]) -> Result<()> {
    let internal = |e: arrow::error::ArrowError| PipelineError::Internal(e.to_string());
    let mut table = TableWriter::create(&run.path(LISTING_FILE), tables::listing())?;
    for (entries, stamps) in entries.chunks(65_536).zip(stamps.chunks(65_536)) {
        let paths: StringArray = entries.iter().map(|(_, entry)| Some(&entry.path)).collect();
        let stamps = FixedSizeBinaryArray::try_from_iter(stamps.iter()).map_err(internal)?;
        let batch = RecordBatch::try_new(tables::listing(), vec![Arc::new(paths), Arc::new(stamps)]);
        table.write(&batch.map_err(internal)?)?;
    }
    run.note_table(LISTING_FILE, table.finish()?);
    Ok(())
}
