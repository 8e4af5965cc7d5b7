//! What runs: the verbs `curate` and `duplicates`, and the ranges of their keys.
//!
//! In come configurations and folders; out go stages' folders with their manifests. How things are found, grouped,
//! clustered and ranked is the business of the rooms above.

mod curate;
mod duplicates;
mod limits;
mod summary;

pub use curate::curate;
pub use duplicates::duplicates;
pub use limits::check as check_limits;
