//! The pipeline's errors, one variant for each thing a caller could do next.

use std::path::{Path, PathBuf};

/// The result of a pipeline function.
pub type Result<T, E = PipelineError> = std::result::Result<T, E>;

/// What can go wrong while images move. Each variant names the file, row or key and, where known, what to do.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// The operating system refused.
    #[error("{action} `{}`: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A file of ours, or one given as input, is not what it should be.
    #[error("`{}` is not valid: {detail}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// A configuration key or value, or an argument, that cannot be.
    #[error("{0}")]
    Usage(String),
    /// A stage's input is not there.
    #[error("no {what} in `{}`\nhint: {hint}", path.display())]
    Missing {
        /// What was looked for.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// The command that makes it.
        hint: String,
    },
    /// More inputs were rejected than allowed.
    #[error("{rejected} of {inputs} inputs were rejected, more than ingest.max_reject = {max_reject}: {reasons}\nhint: `{}` names each with its reason", table.display())]
    TooManyRejected {
        /// Inputs set aside.
        rejected: u64,
        /// All inputs.
        inputs: u64,
        /// The allowed share.
        max_reject: f64,
        /// Counts by reason.
        reasons: String,
        /// Where the rejected inputs are listed.
        table: PathBuf,
    },
    /// Nothing is left to work on.
    #[error("{0}")]
    Empty(String),
    /// Someone pressed Ctrl-C, or asked the process to end.
    #[error(
        "interrupted; the same command resumes from its last checkpoint or whole shard, or starts this stage again"
    )]
    Interrupted,
    /// An object store refused, or went away; the text names the URL.
    #[error("{0}")]
    Store(String),
    /// A promise between two parts of Lapidary was broken.
    #[error("{0}\nhint: this is a fault of Lapidary itself; please report it")]
    Internal(String),
}

impl PipelineError {
    /// Wraps an I/O error with what was tried on which file.
    pub fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// Says what is wrong with a file.
    pub fn format(path: impl AsRef<Path>, detail: impl ToString) -> Self {
        Self::Format { path: path.as_ref().to_owned(), detail: detail.to_string() }
    }

    /// The process's exit code for this error.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::TooManyRejected { .. } => 3,
            Self::Empty(_) => 4,
            Self::Interrupted => 130,
            _ => 1,
        }
    }
}
