//! What was learned: features of a frozen network, probes ([`ProbeScore`]), the geometry of features ([`Geometry`]), attention
//! maps, the report ([`report()`]) and its live counterpart ([`serve()`]), and cards.
//!
//! Every score of a trained network stands beside that of the same network before its first step.

mod attention;
mod cards;
mod error;
mod eval;
mod geometry;
#[cfg(test)]
mod golden;
mod limits;
mod matrix;
mod probes;
mod report;
mod score_table;
mod scores;
mod serve;

pub use cards::{dataset_cards, model_card};
pub use error::{EvaluateError, Result};
pub use eval::{ATTENTION, SCORES_FILE, eval};
pub use geometry::{Agreement, Geometry};
pub use probes::ProbeScore;
pub use report::{Subject, report};
pub use score_table::said_of_scores;
pub use scores::{Accuracy, Measure, NetworkScores, Scores};
pub use serve::{DEFAULT_PORT, ListenOn, serve};
