//! Columns of Arrow, and writing tables of them in batches: Arrow counts the bytes of a column of text, bytes or lists
//! in 31 bits.

use crate::Result;
use arrow::array::{ArrayRef, Float32Array, RecordBatch, StringArray, UInt32Array, UInt64Array};
use arrow::datatypes::SchemaRef;
use lapidary_pipeline::PipelineError;
use lapidary_pipeline::stage::{StageRun, TableWriter, WrittenTable};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Writes a table whose columns are all of fixed width.
pub(crate) fn write_table(run: &mut StageRun, name: &str, schema: SchemaRef, columns: Vec<ArrayRef>) -> Result<()> {
    let batch = RecordBatch::try_new(schema.clone(), columns).map_err(|e| PipelineError::Internal(e.to_string()))?;
    let mut table = TableWriter::create(&run.path(name), schema)?;
    table.write(&batch)?;
    run.note_table(name, table.finish()?);
    Ok(())
}

/// What a batch holds at most; a row that alone is larger has a batch of its own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchLimits {
    pub(crate) rows: usize,
    pub(crate) bytes: usize,
}

/// A row group's rows, so that batches change nothing in the file; and half of what 31 bits count.
pub(crate) const LIMITS: BatchLimits = BatchLimits { rows: 1 << 20, bytes: 1 << 30 };

/// Cuts `rows` rows into batches, given the bytes of variable width in each row.
pub(crate) fn batches(rows: usize, bytes_of: impl Fn(usize) -> usize, limits: BatchLimits) -> Vec<Range<usize>> {
    let mut batches = Vec::new();
    let (mut first, mut bytes) = (0, 0usize);
    for row in 0..rows {
        let more = bytes_of(row);
        if row > first && (row - first == limits.rows || bytes.saturating_add(more) > limits.bytes) {
            batches.push(first..row);
            (first, bytes) = (row, 0);
        }
        bytes = bytes.saturating_add(more);
    }
    // A table without rows still has its columns.
    batches.push(first..rows);
    batches
}

/// Writes a table batch by batch; `columns` makes those of some rows.
pub(crate) fn write_batches(
    path: &Path,
    schema: &SchemaRef,
    batches: Vec<Range<usize>>,
    columns: impl Fn(Range<usize>) -> Vec<ArrayRef>,
) -> Result<WrittenTable> {
    let mut table = TableWriter::create(path, schema.clone())?;
    for rows in batches {
        let batch = RecordBatch::try_new(schema.clone(), columns(rows));
        table.write(&batch.map_err(|e| PipelineError::Internal(e.to_string()))?)?;
    }
    Ok(table.finish()?)
}

pub(crate) fn u32s(values: impl Iterator<Item = Option<u32>>) -> ArrayRef {
    Arc::new(values.collect::<UInt32Array>())
}

pub(crate) fn u64s(values: impl Iterator<Item = Option<u64>>) -> ArrayRef {
    Arc::new(values.collect::<UInt64Array>())
}

pub(crate) fn f32s(values: impl Iterator<Item = Option<f32>>) -> ArrayRef {
    Arc::new(values.collect::<Float32Array>())
}

pub(crate) fn texts<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn batches_hold_every_row_once_and_keep_to_their_limits(
            bytes in prop::collection::vec(0usize..50, 0..200), rows in 1usize..40, limit in 1usize..120
        ) {
            let limits = BatchLimits { rows, bytes: limit };
            let batches = batches(bytes.len(), |row| bytes[row], limits);
            let covered: Vec<usize> = batches.iter().cloned().flatten().collect();
            prop_assert_eq!(covered, (0..bytes.len()).collect::<Vec<_>>());
            for batch in batches {
                prop_assert!(batch.len() <= rows);
                prop_assert!(batch.len() <= 1 || bytes[batch].iter().sum::<usize>() <= limit);
            }
        }
    }

    #[test]
    fn text_of_more_than_two_gib_is_cut_where_31_bits_still_count_it() {
        let batches = batches(2_200, |_| 1 << 20, LIMITS);
        assert_eq!(batches, [0..1024, 1024..2048, 2048..2200]);
    }
}
