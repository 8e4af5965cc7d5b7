//! What is compared of a run: a line of JSON, so that runs of other machines and days can be compared too.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A run with its evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunFacts {
    /// Its source.
    pub source: String,
    /// Its name.
    pub run: String,
    /// What its group is called, where somebody named it.
    #[serde(default)]
    pub called: Option<String>,
    /// Its seed.
    pub seed: u64,
    /// Its settings and those of the plan, the subset and the curation that it was made of, but for seeds.
    pub settings: BTreeMap<String, String>,
    /// The plan that it was trained on.
    pub plan: PlanFacts,
    /// Its steps.
    pub steps: u64,
    /// Mean loss of its last epoch.
    pub loss: Option<f64>,
    /// Seconds of its steps, waiting for data included.
    pub secs: Option<f64>,
    /// How it did on the probe.
    pub evaluation: Option<Evaluation>,
    /// What is wrong with it, in sentences.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// A plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanFacts {
    /// Its folder under OUT.
    pub name: String,
    /// Its digest.
    pub digest: String,
}

/// A run's scores on a probe, beside those of the same network before its first step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The probe.
    pub probe: String,
    /// What its figures can be compared with: evaluations of the same key.
    pub key: String,
    /// Top-1 of guessing the test images' most frequent class.
    pub chance_top1: f64,
    /// The trained network's.
    pub trained: Vec<Figure>,
    /// The untrained one's.
    pub untrained: Vec<Figure>,
}

/// A probe's score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// Its name: `knn 20`, `quick 10 %`, a measure's.
    pub name: String,
    /// Share of test images whose class had the highest score, or a measure's value.
    pub top1: f64,
    /// Share of test images whose class was among the five highest; none of a measure.
    pub top5: Option<f64>,
}
