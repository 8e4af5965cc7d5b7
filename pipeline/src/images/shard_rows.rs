//! Reading a shard of `images` with the bytes of its pictures, a row group at a time.
//!
//! Batches that went over row groups could hold more bytes than a column addresses; a row group never does.

use crate::{PipelineError, Result};
use arrow::array::RecordBatch;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use std::fs::File;
use std::path::{Path, PathBuf};

/// The rows of a shard in batches, in their order.
pub struct ShardRows {
    path: PathBuf,
    file: File,
    metadata: ArrowReaderMetadata,
    mask: ProjectionMask,
    batch_rows: usize,
    next_group: usize,
    reader: Option<ParquetRecordBatchReader>,
}

impl ShardRows {
    /// Opens a shard; no batch has more than `batch_rows` rows.
    ///
    /// # Errors
    /// When the file is no Parquet table.
    pub fn open(path: &Path, batch_rows: usize) -> Result<Self> {
        Self::open_columns(path, &[], batch_rows)
    }

    /// The same with these columns alone, or with all when there are none.
    ///
    /// # Errors
    /// When the file is no Parquet table, or lacks one of them.
    pub fn open_columns(path: &Path, columns: &[&str], batch_rows: usize) -> Result<Self> {
        let file = File::open(path).map_err(PipelineError::io("open", path))?;
        let metadata = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new());
        let metadata = metadata.map_err(|e| PipelineError::format(path, e))?;
        let root = |name: &&str| {
            let missing = |_| PipelineError::format(path, format!("it has no column `{name}`"));
            metadata.schema().index_of(name).map_err(missing)
        };
        let roots: Vec<usize> = columns.iter().map(root).collect::<Result<_>>()?;
        let mask = match &roots[..] {
            [] => ProjectionMask::all(),
            roots => ProjectionMask::roots(metadata.parquet_schema(), roots.iter().copied()),
        };
        Ok(Self { path: path.to_owned(), file, metadata, mask, batch_rows, next_group: 0, reader: None })
    }

    fn next_reader(&mut self) -> Result<ParquetRecordBatchReader> {
        let file = self.file.try_clone().map_err(PipelineError::io("open", &self.path))?;
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone());
        let builder = builder.with_row_groups(vec![self.next_group]).with_batch_size(self.batch_rows);
        let builder = builder.with_projection(self.mask.clone());
        self.next_group += 1;
        builder.build().map_err(|e| PipelineError::format(&self.path, e))
    }
}

impl Iterator for ShardRows {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(batch) = self.reader.as_mut().and_then(Iterator::next) {
                return Some(batch.map_err(|e| PipelineError::format(&self.path, e)));
            }
            if self.next_group >= self.metadata.metadata().num_row_groups() {
                return None;
            }
            match self.next_reader() {
                Ok(reader) => self.reader = Some(reader),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
