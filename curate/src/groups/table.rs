//! The table of groups.

use super::Member;
use crate::CurateError;
use crate::Result;
use crate::input::Image;
use crate::input::columns::{LIMITS, batches, f32s, texts, u32s, u64s, write_batches};
use crate::pairs::Pair;
use arrow::array::{Array, Float32Array, StringArray, UInt64Array};
use lapidary_pipeline::stage::{StageRun, column, read_table};
use lapidary_schemas::tables::{self, DUPLICATES_FILE};
use lapidary_schemas::{CopyKind, ImageId};
use std::path::Path;

/// Writes the members of groups.
pub(crate) fn write_duplicates(run: &mut StageRun, images: &[Image], members: &[Member], pairs: &[Pair]) -> Result<()> {
    let id = |index: usize| Some(images[index].id.0);
    let batches = batches(members.len(), |row| images[members[row].image].path.len(), LIMITS);
    let written = write_batches(&run.path(DUPLICATES_FILE), &tables::duplicates(), batches, |rows| {
        let members = &members[rows];
        vec![
            u64s(members.iter().map(|m| id(m.image))),
            texts(members.iter().map(|m| Some(images[m.image].path.as_str()))),
            u32s(members.iter().map(|m| Some(m.group))),
            u64s(members.iter().map(|m| id(m.representative))),
            texts(members.iter().map(|m| Some(m.kind.code()))),
            f32s(members.iter().map(|m| Some(pairs[m.pair].score))),
            u64s(members.iter().map(|m| id(m.neighbour))),
            u64s(members.iter().map(|m| m.contaminates.and_then(id))),
        ]
    })?;
    run.note_table(DUPLICATES_FILE, written);
    Ok(())
}

/// An image that goes, as the table has it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Excluded {
    pub(crate) image: ImageId,
    pub(crate) representative: ImageId,
    pub(crate) kind: CopyKind,
    pub(crate) score: f32,
    pub(crate) neighbour: ImageId,
    /// An image of an evaluation set that its group holds.
    pub(crate) contaminates: Option<ImageId>,
}

/// Reads the images of a folder's groups that go.
///
/// # Errors
/// When the table cannot be read.
pub(crate) fn read_excluded(folder: &Path) -> Result<Vec<Excluded>> {
    let mut excluded = Vec::new();
    for batch in read_table(&folder.join(DUPLICATES_FILE), &[])? {
        let id = |name: &str| column::<UInt64Array>(&batch, name);
        let (ids, representatives, neighbours) = (id("image_id")?, id("representative")?, id("neighbour")?);
        let (contaminates, scores): (_, &Float32Array) = (id("contaminates")?, column(&batch, "score")?);
        let kinds: &StringArray = column(&batch, "kind")?;
        for row in 0..batch.num_rows() {
            let contaminates = contaminates.is_valid(row).then(|| ImageId(contaminates.value(row)));
            if representatives.value(row) == ids.value(row) && contaminates.is_none() {
                continue;
            }
            let code = kinds.value(row);
            let kind = CopyKind::from_code(code);
            excluded.push(Excluded {
                image: ImageId(ids.value(row)),
                representative: ImageId(representatives.value(row)),
                kind: kind.ok_or_else(|| CurateError::Mismatch(format!("no kind of evidence is called `{code}`")))?,
                score: scores.value(row),
                neighbour: ImageId(neighbours.value(row)),
                contaminates,
            });
        }
    }
    Ok(excluded)
}
