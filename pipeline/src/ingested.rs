//! What was ingested before, and whether the source still has all of it as it was.

use crate::sources::{Entry, Listing, Place, Reject};
use crate::stage::{StageRun, TableWriter, column, read_table};
use crate::{PipelineError, Result};
use arrow::array::{Array, FixedSizeBinaryArray, Int64Array, RecordBatch, StringArray};
use lapidary_schemas::tables::{self, LISTING_FILE, REJECTS_FILE};
use lapidary_schemas::{ImageId, Manifest, RejectReason};
use rayon::prelude::*;
use serde_json::json;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

/// What the folder holds already, when all of it is still in the source.
#[derive(Debug)]
pub(crate) struct Ingested {
    pub(crate) manifest: Manifest,
    /// The inputs that were fetched, whether rejected or not.
    pub(crate) paths: HashSet<String>,
    /// Those of them that were rejected.
    pub(crate) rejects: Vec<Reject>,
}

impl Ingested {
    /// None when an input has changed or gone since, or what labels mean has.
    pub(crate) fn read(
        run: &StageRun,
        manifest: Manifest,
        listing: &Listing,
        entries: &[(ImageId, Entry)],
        stamps: &[[u8; 16]],
    ) -> Result<Option<Self>> {
        if manifest.facts["classes"] != json!(listing.classes)
            || manifest.facts["category_ids"] != json!(listing.category_ids)
        {
            return Ok(None);
        }
        let now: HashMap<&str, &[u8]> =
            entries.iter().zip(stamps).map(|((_, entry), stamp)| (entry.path.as_str(), &stamp[..])).collect();
        let mut paths = HashSet::new();
        for batch in read_table(&run.former_path(LISTING_FILE), &[])? {
            let (names, stamps): (&StringArray, &FixedSizeBinaryArray) =
                (column(&batch, "path")?, column(&batch, "stamp")?);
            for row in 0..batch.num_rows() {
                if now.get(names.value(row)) != Some(&stamps.value(row)) {
                    tracing::info!("`{}` has changed or gone: everything is read again", names.value(row));
                    return Ok(None);
                }
                paths.insert(names.value(row).to_owned());
            }
        }
        let mut rejects = read_rejects(&run.former_path(REJECTS_FILE))?;
        // What a listing rejects it rejects again.
        rejects.retain(|reject| paths.contains(&reject.path) && reject.reason != RejectReason::DuplicateEntry);
        Ok(Some(Self { manifest, paths, rejects }))
    }
}

/// What tells whether an input is still the same: see [`tables::listing`].
pub(crate) fn stamps(entries: &[(ImageId, Entry)], listing: &Listing) -> Vec<[u8; 16]> {
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
        let all = json!([place, listing.splits[entry.split as usize], entry.url, license, objects, entry.label]);
        let mut stamp = [0; 16];
        stamp.copy_from_slice(&blake3::hash(all.to_string().as_bytes()).as_bytes()[..16]);
        stamp
    };
    entries.par_iter().map(stamp).collect()
}

/// Writes what was listed, so that the next ingest can tell what is new.
pub(crate) fn write_listing(run: &mut StageRun, entries: &[(ImageId, Entry)], stamps: &[[u8; 16]]) -> Result<()> {
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

/// Reads the table of rejected inputs.
fn read_rejects(path: &Path) -> Result<Vec<Reject>> {
    let mut rejects = Vec::new();
    for batch in read_table(path, &[])? {
        let text = |name: &str| column::<StringArray>(&batch, name);
        let (paths, reasons, details) = (text("path")?, text("reason")?, text("detail")?);
        let offsets: &Int64Array = column(&batch, "offset_bytes")?;
        for row in 0..batch.num_rows() {
            let reason = RejectReason::from_code(reasons.value(row))
                .ok_or_else(|| PipelineError::format(path, format!("no reason is called `{}`", reasons.value(row))))?;
            let offset_bytes = offsets.is_valid(row).then(|| offsets.value(row));
            let (path, detail) = (paths.value(row).to_owned(), details.value(row).to_owned());
            rejects.push(Reject { path, offset_bytes, reason, detail });
        }
    }
    Ok(rejects)
}
