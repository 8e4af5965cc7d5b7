//! Tables as CSV, for the report and for other tools.

use crate::Result;
use lapidary_pipeline::PipelineError;
use std::fs::File;
use std::path::{Path, PathBuf};

/// A CSV file that is being written, quoted where a value needs it.
pub(crate) struct CsvFile {
    path: PathBuf,
    writer: csv::Writer<File>,
}

impl CsvFile {
    /// Starts a file with its heading.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn create(path: &Path, heading: &[&str]) -> Result<Self> {
        let file = File::create(path).map_err(PipelineError::io("create", path))?;
        let mut table = Self { path: path.to_owned(), writer: csv::Writer::from_writer(file) };
        table.row(heading)?;
        Ok(table)
    }

    /// Adds a row.
    ///
    /// # Errors
    /// When the disk is full.
    pub(crate) fn row<T: AsRef<[u8]>>(&mut self, values: impl IntoIterator<Item = T>) -> Result<()> {
        Ok(self.writer.write_record(values).map_err(|e| PipelineError::format(&self.path, e))?)
    }

    /// Ends the file.
    ///
    /// # Errors
    /// When the disk is full.
    pub(crate) fn finish(mut self) -> Result<()> {
        Ok(self.writer.flush().map_err(PipelineError::io("write", &self.path))?)
    }
}
