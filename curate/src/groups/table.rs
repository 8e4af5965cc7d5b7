//! The table of groups.

use super::Member;
use crate::Result;
use crate::input::Image;
use crate::input::columns::{LIMITS, batches, f32s, texts, u32s, u64s, write_batches};
use crate::pairs::Pair;
use lapidary_pipeline::stage::StageRun;
use lapidary_schemas::tables::{self, DUPLICATES_FILE};

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
