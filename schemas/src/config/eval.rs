//! How the result is measured.

use serde::{Deserialize, Serialize};

/// Probes of `lapidary eval`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvalConfig {
    /// Images a batch when features are computed.
    pub batch: usize,
    /// Neighbours that vote in the k-NN probe.
    pub knn_neighbours: usize,
    /// Temperature of the votes, exp(similarity / temperature).
    pub knn_temperature: f64,
    /// Train images whose features are computed; 0 means all. Chosen by seed, stratified by class.
    pub max_train: usize,
    /// Test images whose features are computed; 0 means all.
    pub max_test: usize,
    /// Share of the train labels that the linear probe sees (0 to 1), stratified by class.
    pub label_share: f64,
    /// Steps of the linear probe's gradient descent.
    pub linear_steps: usize,
    /// Its learning rates; the best on a held-out fifth of the labels is kept.
    pub linear_learning_rates: Vec<f64>,
    /// Images whose attention maps are drawn.
    pub attention_images: usize,
}

impl Default for EvalConfig {
    fn default() -> Self {
        Self {
            batch: 64,
            knn_neighbours: 20,
            knn_temperature: 0.07,
            max_train: 0,
            max_test: 0,
            label_share: 0.1,
            linear_steps: 500,
            linear_learning_rates: vec![0.1, 0.3, 1.0, 3.0, 10.0],
            attention_images: 6,
        }
    }
}
