//! Tables: the one place that writes and reads Parquet.
//!
//! zstd, a page index and small pages, so that a row can be fetched without its neighbours; columns are found by name and
//! a missing or mistyped one names its file.

use super::fault::fault_point;
use super::files::temporary_name;
use crate::runtime::caught;
use crate::{PipelineError, Result};
use arrow::array::{Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use lapidary_schemas::Digest;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

/// The properties every table starts from: zstd 3 and pages of at most 4,096 rows.
pub fn table_properties() -> WriterPropertiesBuilder {
    let level = ZstdLevel::try_new(3).expect("3 is a zstd level");
    WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_data_page_row_count_limit(4096)
        .set_created_by("lapidary".to_owned())
}

/// Bytes of memory that a row group on its way takes at most, but for the last batch.
const ROW_GROUP_BYTES: usize = 128 << 20;

/// Writes one Parquet file.
#[derive(Debug)]
pub struct TableWriter {
    path: PathBuf,
    /// The name that the file has until it is whole.
    temporary: PathBuf,
    writer: ArrowWriter<HashedFile>,
    rows: u64,
    /// Row groups on their way to the disk.
    syncing: Option<JoinHandle<std::io::Result<()>>>,
}

/// A table that is written and on the disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrittenTable {
    /// Its rows.
    pub rows: u64,
    /// The file's length.
    pub bytes: u64,
    /// BLAKE3 of the file.
    pub digest: Digest,
}

/// A file that is hashed while it is written.
#[derive(Debug)]
struct HashedFile {
    file: File,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl Write for HashedFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

impl TableWriter {
    /// Starts a table with the usual properties.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn create(path: &Path, schema: SchemaRef) -> Result<Self> {
        Self::create_with(path, schema, table_properties().build())
    }

    /// Starts a table with properties of its own.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn create_with(path: &Path, schema: SchemaRef, properties: WriterProperties) -> Result<Self> {
        let temporary = temporary_name(path);
        let file = File::create(&temporary).map_err(PipelineError::io("create", path))?;
        let file = HashedFile { file, hasher: blake3::Hasher::new(), bytes: 0 };
        let writer = ArrowWriter::try_new(file, schema, Some(properties)).map_err(|e| failed(path, e))?;
        Ok(Self { path: path.to_owned(), temporary, writer, rows: 0, syncing: None })
    }

    /// Appends a batch. A row group ends when it takes more than 128 MiB of memory, however few its rows are.
    ///
    /// # Errors
    /// When it does not fit the schema or the disk.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.rows += batch.num_rows() as u64;
        self.writer.write(batch).map_err(|e| failed(&self.path, e))?;
        if self.writer.memory_size() > ROW_GROUP_BYTES {
            self.end_row_group()?;
        }
        Ok(())
    }

    /// Ends the current row group, which then goes to the disk while the next is made.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn end_row_group(&mut self) -> Result<()> {
        self.writer.flush().map_err(|e| failed(&self.path, e))?;
        self.end_sync()?;
        let file = self.writer.inner().file.try_clone().map_err(PipelineError::io("open", &self.path))?;
        self.syncing = Some(std::thread::spawn(move || file.sync_data()));
        Ok(())
    }

    fn end_sync(&mut self) -> Result<()> {
        match self.syncing.take().map(JoinHandle::join) {
            Some(Ok(synced)) => synced.map_err(PipelineError::io("sync", &self.path)),
            Some(Err(_)) => Err(PipelineError::Internal("syncing a table panicked".to_owned())),
            None => Ok(()),
        }
    }

    /// Rows written so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Writes the footer, waits for the disk and gives the file its name.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn finish(mut self) -> Result<WrittenTable> {
        self.end_sync()?;
        let written = self.writer.into_inner().map_err(|e| failed(&self.path, e))?;
        written.file.sync_all().map_err(PipelineError::io("sync", &self.path))?;
        fault_point("table:synced");
        std::fs::rename(&self.temporary, &self.path).map_err(PipelineError::io("rename", &self.temporary))?;
        let digest = Digest(written.hasher.finalize().to_hex().to_string());
        Ok(WrittenTable { rows: self.rows, bytes: written.bytes, digest })
    }
}

/// What a writer says, as the disk's refusal where it was one.
fn failed(path: &Path, error: ParquetError) -> PipelineError {
    match error {
        ParquetError::External(cause) => match cause.downcast::<std::io::Error>() {
            Ok(refusal) => PipelineError::io("write", path)(*refusal),
            Err(cause) => PipelineError::format(path, cause),
        },
        other => PipelineError::format(path, other),
    }
}

/// A table open for reading, batch by batch.
pub struct Table {
    path: PathBuf,
    schema: SchemaRef,
    rows: u64,
    reader: ParquetRecordBatchReader,
}

impl Table {
    /// Opens a table; `columns` are read, or all when it is empty.
    ///
    /// # Errors
    /// When the file is no Parquet table or a column is not there.
    pub fn open(path: &Path, columns: &[&str], batch_rows: usize) -> Result<Self> {
        Self::open_from(path, columns, batch_rows, 0)
    }

    /// Opens a table with all its columns, to be read from row `first_row` on.
    ///
    /// # Errors
    /// When the file is no Parquet table.
    pub fn open_at(path: &Path, batch_rows: usize, first_row: usize) -> Result<Self> {
        Self::open_from(path, &[], batch_rows, first_row)
    }

    fn open_from(path: &Path, columns: &[&str], batch_rows: usize, first_row: usize) -> Result<Self> {
        caught(|| Self::open_unguarded(path, columns, batch_rows, first_row))
            .unwrap_or_else(|panicked| Err(PipelineError::format(path, panicked)))
    }

    fn open_unguarded(path: &Path, columns: &[&str], batch_rows: usize, first_row: usize) -> Result<Self> {
        let file = File::open(path).map_err(PipelineError::io("open", path))?;
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| PipelineError::format(path, e))?;
        let schema = builder.schema().clone();
        let rows = builder.metadata().file_metadata().num_rows() as u64;
        for name in columns {
            if schema.column_with_name(name).is_none() {
                return Err(PipelineError::format(path, format!("it has no column `{name}`")));
            }
        }
        let mask = if columns.is_empty() {
            parquet::arrow::ProjectionMask::all()
        } else {
            let roots = columns.iter().filter_map(|name| schema.index_of(name).ok());
            parquet::arrow::ProjectionMask::roots(builder.parquet_schema(), roots)
        };
        let reader = builder
            .with_projection(mask)
            .with_batch_size(batch_rows)
            .with_offset(first_row)
            .build()
            .map_err(|e| PipelineError::format(path, e))?;
        Ok(Self { path: path.to_owned(), schema, rows, reader })
    }

    /// The whole file's schema, with its metadata.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Rows in the file.
    pub fn rows(&self) -> u64 {
        self.rows
    }
}

impl Iterator for Table {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        // The reader panics on some files that are damaged.
        match caught(|| self.reader.next()) {
            Ok(batch) => batch.map(|batch| batch.map_err(|e| PipelineError::format(&self.path, e))),
            Err(panicked) => Some(Err(PipelineError::format(&self.path, panicked))),
        }
    }
}

/// Reads a table whole: for tables of a few columns, not for images.
///
/// # Errors
/// When the file is no table or a column is not there.
pub fn read_table(path: &Path, columns: &[&str]) -> Result<Vec<RecordBatch>> {
    Table::open(path, columns, 65_536)?.collect()
}

/// The column `name` of a batch as an array of type `A`.
///
/// # Errors
/// When it is not there or of another type.
pub fn column<'a, A: Array + 'static>(batch: &'a RecordBatch, name: &str) -> Result<&'a A> {
    let array =
        batch.column_by_name(name).ok_or_else(|| PipelineError::Internal(format!("a batch has no column `{name}`")))?;
    array.as_any().downcast_ref().ok_or_else(|| {
        PipelineError::Internal(format!("column `{name}` has type {}, not the expected one", array.data_type()))
    })
}

/// The f32 values of a fixed-size list column, row after row, with the list's length.
///
/// # Errors
/// When the column is not such a list.
pub fn list_values<'a>(batch: &'a RecordBatch, name: &str) -> Result<(&'a [f32], usize)> {
    let list: &arrow::array::FixedSizeListArray = column(batch, name)?;
    let values = list
        .values()
        .as_any()
        .downcast_ref::<arrow::array::Float32Array>()
        .ok_or_else(|| PipelineError::Internal(format!("column `{name}` does not hold f32")))?;
    let dim = list.value_length() as usize;
    Ok((&values.values()[list.offset() * dim..(list.offset() + list.len()) * dim], dim))
}
