//! The evaluation's errors, one variant for each thing a caller could do next.

use lapidary_pipeline::PipelineError;
use lapidary_pipeline::cli::Failure;
use lapidary_schemas::ImageId;
use lapidary_train::TrainError;

/// The result of an evaluation function.
pub type Result<T, E = EvaluateError> = std::result::Result<T, E>;

/// What can go wrong while a network is measured.
#[derive(Debug, thiserror::Error)]
pub enum EvaluateError {
    /// Reading, writing or the stage itself failed.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// The run or its device cannot be used.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The network gives values that are no numbers.
    #[error(
        "features of the {network} network are not finite for {images} of {of} images, the first is {first}\n\
         hint: the run diverged; see its health with `lapidary status` and train again with a lower `pretrain.base_learning_rate`"
    )]
    NotFinite {
        /// Trained or untrained.
        network: &'static str,
        /// Images with such features.
        images: usize,
        /// Images in all.
        of: usize,
        /// The first such image.
        first: ImageId,
    },
    /// The loss of an adaptation is no number.
    #[error(
        "the loss of `{rung}` is no number at step {step}\n\
         hint: lower its learning rate: adapt.head_learning_rate, adapt.learning_rate, adapt.lora_learning_rate or \
         adapt.lp_ft_learning_rate"
    )]
    Diverged {
        /// The rung.
        rung: &'static str,
        /// The step, from 0.
        step: usize,
    },
    /// Polars refused.
    #[error("reading tables: {0}")]
    Polars(#[from] polars::prelude::PolarsError),
}

impl From<EvaluateError> for Failure {
    fn from(error: EvaluateError) -> Self {
        match error {
            EvaluateError::Pipeline(error) => error.into(),
            EvaluateError::Train(error) => error.into(),
            other => Self { exit_code: 1, error: other.into() },
        }
    }
}
