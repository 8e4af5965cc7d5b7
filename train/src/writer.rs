//! Checkpoints written on a thread of their own, one at a time, while training goes on.

use crate::checkpoint::{Keep, Snapshot, prune};
use crate::{Result, TrainError};
use lapidary_pipeline::PipelineError;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

/// Writes a run's checkpoints.
pub(crate) struct Writer {
    folder: PathBuf,
    keep: Keep,
    writing: Option<JoinHandle<Result<()>>>,
}

impl Writer {
    /// Checkpoints go into `folder`, where those that no rule keeps are removed.
    pub(crate) fn new(folder: &Path, keep: Keep) -> Self {
        Self { folder: folder.to_owned(), keep, writing: None }
    }

    /// Begins to write a snapshot, once the one before is on disk.
    ///
    /// # Errors
    /// What became of the one before.
    pub(crate) fn write(&mut self, snapshot: Snapshot, name: String, score: Option<f64>) -> Result<()> {
        self.finish()?;
        let (folder, keep) = (self.folder.clone(), self.keep);
        let write = move || {
            snapshot.save(&folder, &name, score)?;
            drop(snapshot);
            prune(&folder, keep)
        };
        let thread = std::thread::Builder::new().name("checkpoint".to_owned()).spawn(write);
        self.writing = Some(thread.map_err(|e| TrainError::from(PipelineError::Internal(e.to_string())))?);
        Ok(())
    }

    /// Waits until all is on disk.
    ///
    /// # Errors
    /// What became of the last.
    pub(crate) fn finish(&mut self) -> Result<()> {
        match self.writing.take().map(JoinHandle::join) {
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            Some(Ok(written)) => written,
            None => Ok(()),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Err(error) = self.finish() {
            tracing::error!("{error}");
        }
    }
}
