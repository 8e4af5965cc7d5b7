//! What runs: the verbs `curate` and `duplicates`, and the ranges of their keys.
//!
//! In come configurations and folders; out go stages' folders with their manifests. How things are found, grouped,
//! clustered and ranked is the business of the rooms above.

mod clusters;
mod curate;
mod duplicates;
mod groups;
mod inputs;
mod limits;
mod pairs;
mod ranking;
mod thresholds;

pub use curate::{Curated, curate};
pub use duplicates::duplicates;
pub use inputs::StageDone;
pub use limits::check as check_limits;
pub use thresholds::{AtThreshold, copies_at};
