//! What runs: the verbs `curate` and `duplicates`, and the ranges of their keys.
//!
//! In come configurations and folders; out go stages' folders with their manifests. How things are found, grouped,
//! clustered and ranked is the business of the rooms above.

mod assign;
mod clusters;
mod curate;
mod duplicates;
mod groups;
mod inputs;
mod limits;
mod pairs;
mod ranking;
mod thresholds;
mod tree;

pub use assign::assign;
pub use curate::{CurateOptions, Curated, Until, curate};
pub use duplicates::duplicates;
pub use inputs::StageDone;
pub use limits::check as check_limits;
pub use thresholds::{AtThreshold, copies_at};
