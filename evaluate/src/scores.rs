//! What a probe scores: top-1 and top-5.

use crate::geometry::Geometry;
use crate::probes::ProbeScore;
pub use lapidary_train::probe::Accuracy;
use serde::{Deserialize, Serialize};

/// A network's scores on a probe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NetworkScores {
    /// Top-1 of the k-NN probe with the first of `eval.knn_neighbours`.
    pub knn_top1: f64,
    /// Top-5 of the k-NN probe.
    pub knn_top5: f64,
    /// Top-1 of the probe `quick`.
    pub linear_top1: f64,
    /// Top-5 of the probe `quick`.
    pub linear_top5: f64,
    /// The learning rate that `quick` chose.
    pub linear_learning_rate: f64,
    /// Every probe's score, by name. Evaluations of before this have none.
    #[serde(default)]
    pub probes: Vec<ProbeScore>,
    /// The geometry of the test images' features.
    #[serde(default)]
    pub geometry: Option<Geometry>,
}

/// `scores.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// The run.
    pub run: String,
    /// The probe's source.
    pub probe: String,
    /// Its classes.
    pub classes: usize,
    /// Train images of the k-NN probe.
    pub train_images: usize,
    /// Labels that `quick` saw.
    pub linear_labels: usize,
    /// Test images.
    pub test_images: usize,
    /// Top-1 of guessing the test images' most frequent class.
    pub chance_top1: f64,
    /// The trained network.
    pub trained: NetworkScores,
    /// The same network before its first step.
    pub untrained: NetworkScores,
}
