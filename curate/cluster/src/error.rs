//! What can go wrong on a cluster, one variant for each thing a caller could do next.

use datafusion::error::DataFusionError;
use lapidary_pipeline::PipelineError;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::PathBuf;

/// The result of this crate's functions.
pub type Result<T, E = ClusterError> = std::result::Result<T, E>;

/// Exit codes with which a stage says that the same will happen on any executor: wrong usage, too much rejected, an empty
/// selection.
const FINAL_EXIT_CODES: [i32; 3] = [2, 3, 4];

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
    /// A stage said no.
    #[error("`lapidary {stage} --shard {share}` on {worker} failed: {stderr_tail}")]
    Stage {
        /// The stage.
        stage: &'static str,
        /// Its share, i/n.
        share: String,
        /// The executor.
        worker: String,
        /// What it exited with.
        exit_code: i32,
        /// The end of what it wrote to stderr.
        stderr_tail: String,
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
    /// A stage's process made nothing for so long that it was killed.
    #[error(
        "`lapidary {stage} --shard {share}` on {worker} was killed: no shard in {secs} s (--stuck-secs of its worker)"
    )]
    Stuck {
        /// The stage.
        stage: &'static str,
        /// Its share, i/n.
        share: String,
        /// The executor.
        worker: String,
        /// How long it made nothing.
        secs: u64,
    },
    /// The plan was dropped while a stage ran, or the executor is about to end.
    #[error("the task was cancelled")]
    Cancelled,
    /// A plan of another version of Lapidary.
    #[error("{worker} runs Lapidary {ours}, the plan is of {theirs}\nhint: install the same version on all machines")]
    OtherVersion {
        /// The executor or scheduler.
        worker: String,
        /// Its version.
        ours: String,
        /// The client's.
        theirs: String,
    },
    /// A plan of the same version, but of another build of the binary that does the work.
    #[error(
        "{worker} has `{binary}` of another build ({ours}, the client's is {theirs}): digests may differ\nhint: install the same build on all machines, or start the executor with --accept-other-builds when builds differ in their features alone"
    )]
    OtherBuild {
        /// The executor.
        worker: String,
        /// The binary's name.
        binary: String,
        /// Digits of its digest.
        ours: String,
        /// Digits of the client's.
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
    /// No shard was made for too long.
    #[error(
        "no new shard of {stage} in {secs} s, {left} are left\nhint: are there executors (`lapidary-worker --role executor --scheduler HOST:PORT`), and do they see the same OUT? --give-up-secs waits longer; shards that are made are kept"
    )]
    Stalled {
        /// The stage.
        stage: &'static str,
        /// How long nothing was made.
        secs: u64,
        /// Shards without a marker.
        left: usize,
    },
    /// Executors say that all is made, and it is not to be seen.
    #[error(
        "executors have made all shards of {stage}, but {missing} are not to be seen in OUT, `{first}` the first of them\nhint: do all machines see the same OUT?"
    )]
    Unseen {
        /// The stage.
        stage: &'static str,
        /// How many have no marker.
        missing: usize,
        /// The first of them.
        first: String,
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

    /// Whether another executor, or the same a little later, may do better.
    pub(crate) fn is_retryable(&self) -> bool {
        match self {
            Self::Stage { exit_code, .. } => !FINAL_EXIT_CODES.contains(exit_code),
            Self::Process { .. } | Self::Killed { .. } | Self::Stuck { .. } | Self::Cancelled | Self::Pipeline(_) => {
                true
            }
            _ => false,
        }
    }
}

/// An error as a task hands it to the client. Ballista passes errors on as text, each layer in another's `Debug`: ours stands in
/// it as hexadecimal digits, which no layer escapes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TaskError {
    /// Whether it was tried again.
    pub(crate) retried: bool,
    /// What it says.
    pub(crate) text: String,
}

/// What comes before the digits.
const TAG: &str = "LAPIDARY-ERROR ";

impl TaskError {
    /// The error for a reader, and for [`TaskError::find`].
    fn tagged(error: &ClusterError) -> String {
        let text = error.to_string();
        let json = serde_json::to_vec(&Self { retried: error.is_retryable(), text: text.clone() }).unwrap_or_default();
        let digits: String = json.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{text} [{TAG}{digits}]")
    }

    /// The last error of ours that a text of Ballista's holds.
    pub(crate) fn find(text: &str) -> Option<Self> {
        let (_, after) = text.rsplit_once(TAG)?;
        let digits: Vec<u8> = after.bytes().take_while(u8::is_ascii_hexdigit).collect();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let json: Option<Vec<u8>> = digits.chunks(2).map(byte).collect();
        serde_json::from_slice(&json?).ok()
    }
}

/// Ballista tries a task again, elsewhere too and four times in all, when its error is one of I/O; any other ends the job.
impl From<ClusterError> for DataFusionError {
    fn from(error: ClusterError) -> Self {
        let text = TaskError::tagged(&error);
        if error.is_retryable() { Self::IoError(io::Error::other(text)) } else { Self::Execution(text) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(exit_code: i32) -> ClusterError {
        let stderr_tail = "image 00 \"no longer\"\nhint: decodes".to_owned();
        ClusterError::Stage { stage: "embed", share: "1/2".to_owned(), worker: "a".to_owned(), exit_code, stderr_tail }
    }

    #[test]
    fn only_what_another_executor_may_do_better_is_tried_again() {
        let killed =
            ClusterError::Killed { stage: "embed", share: "1/2".to_owned(), worker: "a".to_owned(), signal: 9 };
        let no_program = ClusterError::process("run", "/lapidary")(io::Error::from(io::ErrorKind::NotFound));
        for unlucky in [killed, no_program, ClusterError::Cancelled, stage(1), stage(130), stage(143)] {
            let text = unlucky.to_string();
            assert!(matches!(DataFusionError::from(unlucky), DataFusionError::IoError(_)), "{text}");
        }
        let odd = ClusterError::Format("no".to_owned());
        for refused in [stage(2), stage(3), odd] {
            let text = refused.to_string();
            assert!(matches!(DataFusionError::from(refused), DataFusionError::Execution(_)), "{text}");
        }
    }

    #[test]
    fn an_error_comes_out_of_any_wrapping_as_it_went_in() {
        for (error, retried) in [(stage(1), true), (stage(2), false)] {
            let text = error.to_string();
            let error = DataFusionError::from(error);
            let wrapped = format!("Job 7 failed: {:?}", format!("Task failed: {error:?}"));
            assert_eq!(TaskError::find(&wrapped), Some(TaskError { retried, text }), "{wrapped}");
        }
        for none in ["", "transport error", "LAPIDARY-ERROR ", "LAPIDARY-ERROR 7b", "LAPIDARY-ERROR abc"] {
            assert_eq!(TaskError::find(none), None);
        }
    }
}
