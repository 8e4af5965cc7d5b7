//! Comparison: runs side by side, those that differ in nothing but the seed as one group with mean and spread, and which
//! differences between groups are larger than the spread.
//!
//! A run becomes facts ([`RunFacts`], a line of JSON), facts become groups and differences ([`Comparison`]), and these become
//! tables in whatever format. Nothing is measured here: what a run has no evaluation for is missing, and said.

mod difference;
mod facts;
mod figures;
mod gather;
mod group;
mod notes;
mod render;
mod statistics;
mod tables;
#[cfg(test)]
mod tests;

pub use difference::{Difference, Verdict};
pub use facts::{Evaluation, Figure, PlanFacts, RunFacts};
pub use figures::Quantity;
pub use gather::{finished_runs, gather, read_lines};
pub use group::{Group, GroupFigure};
pub use render::{Format, render};
pub use statistics::Sample;
pub(crate) use tables::{Table, sentences, tables};

use serde::Serialize;

/// How differences are judged, as every output says it.
pub const RULE: &str = "a difference of means is called larger than the spread when 0 lies outside Welch's 95 % interval of it; \
                        of comparisons without any true difference about one in twenty is called so";

/// Runs in groups, and what sets the groups apart.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// The groups, in the order in which their first runs were named; untrained networks last.
    pub groups: Vec<Group>,
    /// Every pair of groups on every figure that both have, the first less the second.
    pub differences: Vec<Difference>,
    /// How differences are judged.
    pub rule: &'static str,
    /// What a reader must know, in sentences.
    pub notes: Vec<String>,
}

impl Comparison {
    /// Compares runs.
    pub fn of(runs: &[RunFacts]) -> Self {
        let (kept, repeated) = group::without_repetitions(runs);
        let groups = group::groups(&kept);
        let differences = difference::differences(&groups);
        let notes = notes::notes(&kept, &groups, &repeated);
        Self { groups, differences, rule: RULE, notes }
    }
}
