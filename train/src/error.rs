//! The trainer's errors, one variant for each thing a caller could do next.

use lapidary_pipeline::PipelineError;
use lapidary_pipeline::cli::Failure;
use std::path::PathBuf;

/// The result of a training function.
pub type Result<T, E = TrainError> = std::result::Result<T, E>;

/// What can go wrong while a network is trained or used.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// Reading, writing or the stage itself failed.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// A checkpoint is not what its digest or its network say.
    #[error("checkpoint `{}`: {detail}", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// A file is no weights of a network that we have, or of another than is asked for.
    #[error("weights `{}`: {detail}", path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what was expected.
        detail: String,
    },
    /// A probe cannot be used.
    #[error("probe `{probe}`: {detail}")]
    Probe {
        /// Its name.
        probe: String,
        /// What is wrong with it.
        detail: String,
    },
    /// The device cannot be used.
    #[error("device `{device}`: {detail}")]
    Device {
        /// As it was asked for.
        device: String,
        /// What is missing and what to do.
        detail: String,
    },
    /// The device failed in the middle: it is lost, or its memory is full.
    #[error(
        "device `{device}` failed in the middle: {detail}\nhint: what was written stays, and the same command resumes from the last checkpoint{advice}"
    )]
    DeviceLost {
        /// Which.
        device: String,
        /// What its driver said.
        detail: String,
        /// What a run of these settings needs, where it is known.
        advice: String,
    },
    /// Steps one after the other gave no finite loss or gradient.
    #[error("{in_a_row} steps in a row, the last of them step {step}, had a loss or gradients that are not finite; nothing was changed by them\nhint: `lapidary pretrain --replay {}` says where it began; a lower pretrain.base_learning_rate or pretrain.clip_norm may help", dump.display())]
    NotFinite {
        /// The last of them.
        step: usize,
        /// How many.
        in_a_row: usize,
        /// What is needed to compute the last one again.
        dump: PathBuf,
    },
    /// The run collapsed, and was to stop then.
    #[error("stopped after step {step}, whose checkpoint is written: {verdict}; `--on-collapse warn` trains on")]
    Collapsed {
        /// The last step.
        step: usize,
        /// What went wrong and what to change.
        verdict: String,
    },
    /// A checkpoint would hold, or holds, a value that is not finite.
    #[error("checkpoint `{}`: tensor `{tensor}` holds a value that is not finite; it is not used, and those before it stay\nhint: lower pretrain.base_learning_rate", path.display())]
    BrokenState {
        /// The file.
        path: PathBuf,
        /// The first such tensor.
        tensor: String,
    },
    /// The network cannot be built as configured.
    #[error("{0}")]
    Model(String),
}

impl From<TrainError> for Failure {
    fn from(error: TrainError) -> Self {
        let exit_code = match &error {
            TrainError::Pipeline(inner) => inner.exit_code(),
            TrainError::Model(_) | TrainError::Weights { .. } => 2,
            _ => 1,
        };
        Self { exit_code, error: error.into() }
    }
}
