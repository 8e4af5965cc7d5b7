//! What was learned: features of a frozen network, k-NN and linear probes, attention maps, and the report.
//!
//! Every score of a trained network stands beside that of the same network before its first step.

mod attention;
mod error;
mod eval;
mod limits;
mod linear;
mod report;
mod scores;

pub use error::{EvaluateError, Result};
pub use eval::{ATTENTION, SCORES_FILE, eval};
pub use report::{Subject, report};
pub use scores::{Accuracy, NetworkScores, Scores};
