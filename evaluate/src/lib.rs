//! What was learned: features of a frozen network, probes ([`ProbeScore`]), the geometry of features ([`Geometry`]), what patch
//! tokens know, how features stand transformations ([`Robustness`]), attention maps, the report ([`report()`]) and its live
//! counterpart ([`serve()`]), and cards.
//!
//! Every score of a trained network stands beside that of the same network before its first step.

pub mod adapt;
mod cards;
pub mod compare;
mod csv_file;
mod dense;
mod error;
mod eval;
mod geometry;
#[cfg(test)]
mod golden;
mod limits;
mod masks;
mod matrix;
mod measures;
mod pictures;
mod probes;
mod read;
mod report;
mod robustness;
mod score_table;
mod scores;
mod seeing;
mod serve;
mod video;

pub use cards::{dataset_cards, model_card};
pub use error::{EvaluateError, Result};
pub use eval::{SCORES_FILE, eval};
pub use geometry::{Agreement, Geometry};
pub use probes::{Logistic, ProbeScore, Stop};
pub use report::{Subject, report};
pub use robustness::{ROBUSTNESS_FILE, Robustness, Strength, Transformed};
pub use score_table::{said_of_all, said_of_scores};
pub use scores::{Accuracy, Measure, NetworkScores, Scores};
pub use seeing::{ATTENTION, MAP_FILE, MATCHES, MATCHES_FILE, NEIGHBOURS_FILE, PATCH_COLOURS_FILE};
pub use serve::{DEFAULT_PORT, ListenOn, serve};
