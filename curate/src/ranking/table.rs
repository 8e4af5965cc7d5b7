//! The table of decisions.

use super::Decision;
use crate::Result;
use crate::input::columns::{LIMITS, batches, f32s, texts, u32s, u64s, write_batches};
use arrow::array::{ListBuilder, StringBuilder};
use lapidary_pipeline::stage::StageRun;
use lapidary_schemas::tables::{self, DECISIONS_FILE};
use std::sync::Arc;

/// Writes a row for every image: the ranked by rank, then the excluded by id.
pub(crate) fn write_decisions(run: &mut StageRun, decisions: &[Decision]) -> Result<()> {
    let batches = batches(decisions.len(), |row| decisions[row].detail.as_ref().map_or(0, String::len), LIMITS);
    let written = write_batches(&run.path(DECISIONS_FILE), &tables::decisions(), batches, |rows| {
        let decisions = &decisions[rows];
        let mut issues = ListBuilder::new(StringBuilder::new());
        for decision in decisions {
            issues.append_value(decision.issues.iter().map(|issue| Some(issue.code())));
        }
        vec![
            u64s(decisions.iter().map(|d| Some(d.image.0))),
            u32s(decisions.iter().map(|d| d.rank)),
            texts(decisions.iter().map(|d| Some(d.reason.code()))),
            u32s(decisions.iter().map(|d| d.place.map(|place| place.leaf))),
            u32s(decisions.iter().map(|d| d.place.map(|place| place.position))),
            u64s(decisions.iter().map(|d| d.duplicate_of.map(|id| id.0))),
            f32s(decisions.iter().map(|d| d.score)),
            u64s(decisions.iter().map(|d| d.neighbour.map(|id| id.0))),
            texts(decisions.iter().map(|d| d.detail.as_deref())),
            Arc::new(issues.finish()),
        ]
    })?;
    run.note_table(DECISIONS_FILE, written);
    Ok(())
}
