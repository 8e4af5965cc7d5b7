//! Scoring against planted copies.
//!
//! In come pairs and groups, and a table of what was planted; out go recall, precision and micro-AP ([`micro_ap`]), in
//! all and by kind ([`planted`]), also for pairs that another tool found ([`csv_table`]).

mod csv_table;
mod micro_ap;
mod planted;

pub use csv_table::score_csv;
pub use micro_ap::{RankedScore, ranked_score};
pub use planted::Truth;

use crate::Result;
use crate::groups::Member;
use crate::input::Image;
use crate::pairs::Pair;
use serde_json::Value;
use std::path::Path;

/// What groups and pairs achieve against planted copies.
pub(crate) fn score(truth: &Path, images: &[Image], pairs: &[Pair], members: &[Member]) -> Result<Value> {
    let truth = Truth::read(truth)?;
    let paths: Vec<&str> = images.iter().map(|image| image.path.as_str()).collect();
    let mut group_of = vec![None; images.len()];
    members.iter().for_each(|member| group_of[member.image] = Some(member.group));
    let scored: Vec<(usize, usize, f64)> = pairs.iter().map(|pair| (pair.a, pair.b, f64::from(pair.score))).collect();
    let mut value = truth.score_groups(&paths, &group_of);
    value["pairs"] = truth.score_pairs(&paths, &scored);
    Ok(value)
}
