//! The table of rejected inputs, and how many may be rejected.

use crate::ingest::sources::Reject;
use crate::stage::{StageRun, TableWriter, column, read_table};
use crate::{PipelineError, Result};
use arrow::array::{Array, Int64Array, RecordBatch, StringArray};
use lapidary_schemas::config::IngestConfig;
use lapidary_schemas::tables::{self, REJECTS_FILE};
use lapidary_schemas::{RejectReason, Rows};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Writes the table of rejected inputs.
///
/// # Errors
/// When the disk refuses.
pub fn write_rejects(run: &mut StageRun, rejects: &[Reject]) -> Result<()> {
    let text = |f: fn(&Reject) -> &str| Arc::new(rejects.iter().map(|r| Some(f(r))).collect::<StringArray>());
    let offsets: Int64Array = rejects.iter().map(|r| r.offset_bytes).collect();
    let batch = RecordBatch::try_new(
        tables::rejects(),
        vec![text(|r| &r.path), Arc::new(offsets), text(|r| r.reason.code()), text(|r| &r.detail)],
    )
    .map_err(|e| PipelineError::Internal(e.to_string()))?;
    let mut table = TableWriter::create(&run.path(REJECTS_FILE), tables::rejects())?;
    table.write(&batch)?;
    run.note_table(REJECTS_FILE, table.finish()?);
    Ok(())
}

/// Reads the table of rejected inputs.
pub(super) fn read_rejects(path: &Path) -> Result<Vec<Reject>> {
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

/// How many were rejected for each reason.
pub(super) fn counts(rejects: &[Reject]) -> BTreeMap<RejectReason, u64> {
    let mut counts = BTreeMap::new();
    for reject in rejects {
        *counts.entry(reject.reason).or_default() += 1;
    }
    counts
}

/// Fails when more inputs are rejected than the configuration allows.
///
/// # Errors
/// [`PipelineError::TooManyRejected`], with the counts of reasons.
pub fn refuse_too_many(run: &StageRun, rejects: &[Reject], rows: Rows, config: &IngestConfig) -> Result<()> {
    if rows.rejected as f64 <= config.max_reject * rows.input as f64 {
        return Ok(());
    }
    let reasons: Vec<String> = counts(rejects).iter().map(|(reason, n)| format!("{n} {}", reason.code())).collect();
    Err(PipelineError::TooManyRejected {
        rejected: rows.rejected,
        inputs: rows.input,
        max_reject: config.max_reject,
        reasons: reasons.join(", "),
        table: run.path(REJECTS_FILE),
    })
}
