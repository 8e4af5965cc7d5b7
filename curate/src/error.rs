//! The curation's errors, one variant for each thing a caller could do next.

use lapidary_pipeline::PipelineError;
use lapidary_pipeline::cli::Failure;

/// The result of a curation function.
pub type Result<T, E = CurateError> = std::result::Result<T, E>;

/// What can go wrong while images are chosen.
#[derive(Debug, thiserror::Error)]
pub enum CurateError {
    /// Reading, writing or the stage itself failed.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// FAISS refused.
    #[error("FAISS, {action}: {source}")]
    Faiss {
        /// What it was to do.
        action: &'static str,
        /// Its answer.
        source: faiss::error::Error,
    },
    /// Polars refused.
    #[error("summing up the curation: {0}")]
    Polars(#[from] polars::prelude::PolarsError),
    /// Embeddings or fingerprints do not belong to the images.
    #[error("tables do not belong together: {0}\nhint: run `lapidary fingerprint` and `lapidary embed` again")]
    Mismatch(String),
}

impl CurateError {
    /// Wraps an error of FAISS with what it was to do.
    pub fn faiss(action: &'static str) -> impl FnOnce(faiss::error::Error) -> Self {
        move |source| Self::Faiss { action, source }
    }
}

impl From<CurateError> for Failure {
    fn from(error: CurateError) -> Self {
        match error {
            CurateError::Pipeline(error) => error.into(),
            other => Failure { exit_code: 1, error: other.into() },
        }
    }
}
