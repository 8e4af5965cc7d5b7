//! What a probe's score says of itself.

use lapidary_train::probe::Accuracy;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A probe's score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbeScore {
    /// Its name: `knn 20`, `logistic 10 %`, `ridge 5 a class`, `quick 10 %`.
    pub name: String,
    /// The protocol that it follows, and what its figure can be held beside.
    pub protocol: String,
    /// Labels that it learned from.
    pub labels: usize,
    /// Share of test images whose class had the highest score.
    pub top1: f64,
    /// Share of test images whose class was among the five highest.
    pub top5: f64,
    /// What was chosen or fixed, by name.
    pub settings: BTreeMap<String, f64>,
    /// What a reader must know, in sentences.
    pub notes: Vec<String>,
}

impl ProbeScore {
    pub(crate) fn new(name: String, protocol: &str, labels: usize, accuracy: Accuracy) -> Self {
        let (top1, top5) = (accuracy.top1(), accuracy.top5());
        Self { name, protocol: protocol.to_owned(), labels, top1, top5, settings: BTreeMap::new(), notes: Vec::new() }
    }

    pub(crate) fn with(mut self, setting: &str, value: f64) -> Self {
        self.settings.insert(setting.to_owned(), value);
        self
    }

    pub(crate) fn noting(mut self, notes: impl IntoIterator<Item = String>) -> Self {
        self.notes.extend(notes);
        self
    }
}
