//! What lies on disk and what is asked for: table schemas, ids, reason codes, manifests, configuration.
//!
//! This crate holds no behaviour: it neither reads nor writes files, and every other crate depends on it. The invariant:
//! a column, a reason code or a configuration key exists here or nowhere.

pub mod config;
mod ids;
mod manifest;
mod presets;
mod reason;
pub mod tables;

pub use config::Config;
pub use ids::{Digest, ImageId};
pub use manifest::{Manifest, Output, Rows};
pub use presets::{AUGMENT_RECIPES, PRESETS, augment_recipe, preset};
pub use reason::{CopyKind, DecisionReason, QualityIssue, RejectReason};
