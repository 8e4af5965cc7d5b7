//! What is measured of a network on a probe: accuracies, other measures, geometry.

use crate::geometry::Geometry;
use crate::probes::ProbeScore;
use crate::robustness::Robustness;
pub use lapidary_train::probe::Accuracy;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A figure that is not an accuracy of classes: a mean average precision, an intersection over union, a region similarity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    /// Its name: `retrieval mAP`, `patch k-NN mIoU`.
    pub name: String,
    /// The protocol that it follows, and what its figure can be held beside.
    pub protocol: String,
    /// Images that it is a mean over.
    pub images: usize,
    /// The figure, 0 to 1; none where it is not defined.
    pub value: Option<f64>,
    /// What was chosen or fixed, and parts of the figure, by name.
    pub settings: BTreeMap<String, f64>,
    /// What a reader must know, in sentences.
    pub notes: Vec<String>,
}

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
    /// Figures that are no accuracies of classes.
    #[serde(default)]
    pub measures: Vec<Measure>,
    /// The geometry of the test images' features.
    #[serde(default)]
    pub geometry: Option<Geometry>,
    /// How features stand transformations of test images.
    #[serde(default)]
    pub robustness: Option<Robustness>,
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
