//! The table of images that stay, with what tells whether they are still the same.

use super::Image;
use super::columns::{u64s, write_table};
use crate::Result;
use arrow::array::UInt64Array;
use lapidary_pipeline::stage::{StageRun, column, read_table};
use lapidary_schemas::tables::{self, KEPT_FILE};
use std::path::Path;

/// Writes which images stay, sorted by id.
pub(crate) fn write_kept<'a>(run: &mut StageRun, kept: impl Iterator<Item = &'a Image> + Clone) -> Result<()> {
    let ids = u64s(kept.clone().map(|image| Some(image.id.0)));
    let digests = u64s(kept.map(|image| Some(image.digest_prefix())));
    write_table(run, KEPT_FILE, tables::kept(), vec![ids, digests])
}

/// Reads the ids of the images that stay and the first 8 bytes of their digests, sorted by id.
///
/// # Errors
/// When the table cannot be read.
pub(crate) fn read_kept(folder: &Path) -> Result<Vec<(u64, u64)>> {
    let mut kept = Vec::new();
    for batch in read_table(&folder.join(KEPT_FILE), &[])? {
        let (ids, digests): (&UInt64Array, &UInt64Array) = (column(&batch, "image_id")?, column(&batch, "digest")?);
        kept.extend(ids.values().iter().copied().zip(digests.values().iter().copied()));
    }
    Ok(kept)
}
