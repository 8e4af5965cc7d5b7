//! What can go wrong on a cluster, one variant for each thing a caller could do next.

use datafusion::error::DataFusionError;
use lapidary_pipeline::PipelineError;
use std::io;
use std::path::PathBuf;

/// The result of this crate's functions.
pub type Result<T, E = ClusterError> = std::result::Result<T, E>;

/// What can go wrong between a client, a scheduler and executors.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// A process of a stage could not be started or read.
    #[error("{action} `{}`: {source}", path.display())]
    Process {
        /// What was tried.
        action: &'static str,
        /// With which program or file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A stage said no: the same will happen on any executor.
    #[error("`lapidary {stage} --shard {share}` on {worker} failed: {said}")]
    Stage {
        /// The stage.
        stage: &'static str,
        /// Its share, i/n.
        share: String,
        /// The executor.
        worker: String,
        /// The end of what it wrote to stderr.
        said: String,
    },
    /// A stage's process was killed, for memory say: another executor may be luckier.
    #[error("`lapidary {stage} --shard {share}` on {worker} was cut off by signal {signal}")]
    Killed {
        /// The stage.
        stage: &'static str,
        /// Its share, i/n.
        share: String,
        /// The executor.
        worker: String,
        /// The signal.
        signal: i32,
    },
    /// The plan was dropped while a stage ran.
    #[error("the task was cancelled")]
    Cancelled,
    /// A plan of another version of Lapidary.
    #[error(
        "executor {worker} runs Lapidary {ours}, the plan is of {theirs}\nhint: install the same version on all machines"
    )]
    OtherVersion {
        /// The executor.
        worker: String,
        /// Its version.
        ours: String,
        /// The client's.
        theirs: String,
    },
    /// Bytes that are no plan of ours, or rows that are no manifest lines.
    #[error("not a plan or result of Lapidary: {0}")]
    Format(String),
    /// An address that cannot be.
    #[error("`{0}` is no address of a cluster\nhint: write `df://HOST:PORT`, as the scheduler has it")]
    Address(String),
    /// No scheduler answers.
    #[error(
        "the scheduler at `{url}` does not answer: {detail}\nhint: `lapidary-worker --role scheduler` starts one; what is made is kept, the same command goes on with it"
    )]
    Unreachable {
        /// Its address.
        url: String,
        /// What was last heard.
        detail: String,
    },
    /// The cluster gave the job up.
    #[error("{detail}\nhint: shards that are made are kept; the same command goes on with them")]
    Job {
        /// What the scheduler said.
        detail: String,
    },
    /// DataFusion or Ballista refused.
    #[error("the engine refused: {0}")]
    Engine(String),
    /// What the pipeline says.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
}

impl ClusterError {
    /// Wraps an I/O error with what was tried on which program or file.
    pub(crate) fn process(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Process { action, path, source }
    }
}

/// Ballista tries a task again, elsewhere too, when its error is one of I/O; any other ends the job at once.
impl From<ClusterError> for DataFusionError {
    fn from(error: ClusterError) -> Self {
        match error {
            ClusterError::Killed { .. } | ClusterError::Cancelled => Self::IoError(io::Error::other(error.to_string())),
            other => Self::Execution(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_another_executor_may_do_better_is_tried_again() {
        let killed =
            ClusterError::Killed { stage: "embed", share: "1/2".to_owned(), worker: "a".to_owned(), signal: 9 };
        assert!(matches!(DataFusionError::from(killed), DataFusionError::IoError(_)));
        let said = "image 00 no longer decodes".to_owned();
        let stage = ClusterError::Stage { stage: "embed", share: "1/2".to_owned(), worker: "a".to_owned(), said };
        let error = DataFusionError::from(stage);
        assert!(matches!(&error, DataFusionError::Execution(text) if text.contains("no longer decodes")), "{error}");
    }
}
