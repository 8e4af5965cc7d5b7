//! What a rung came to: `scores.json`.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What adapting a network by one rung cost and gained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Adapted {
    /// The run.
    pub run: String,
    /// The probe's source.
    pub probe: String,
    /// The rung.
    pub kind: String,
    /// The probe's classes.
    pub classes: usize,
    /// Labelled images that were learned from.
    pub labels: usize,
    /// Labelled images that were held out.
    pub held_out: usize,
    /// Test images.
    pub test_images: usize,
    /// Values of the network with its head, low-rank maps merged.
    pub parameters: usize,
    /// Values that were trained.
    pub trainable_parameters: usize,
    /// Steps of the optimiser.
    pub steps: usize,
    /// Epochs until it stopped.
    pub epochs: usize,
    /// The epoch that is kept, from 1.
    pub best_epoch: usize,
    /// Seconds of learning, looks at held-out images included, the test aside.
    pub seconds: f64,
    /// The most memory that the process held meanwhile, in MiB; 0 where the system does not say.
    pub peak_mib: f64,
    /// Share of held-out images whose class had the highest score; none where nothing is held out.
    pub held_out_top1: Option<f64>,
    /// Share of test images whose class had the highest score.
    pub test_top1: f64,
    /// Share of test images whose class was among the five highest.
    pub test_top5: f64,
    /// What the rung was made with, by name.
    pub settings: BTreeMap<String, f64>,
    /// Every epoch.
    pub history: Vec<EpochLine>,
    /// What a reader must know, in sentences.
    pub notes: Vec<String>,
}

/// An epoch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EpochLine {
    /// Mean loss of its steps.
    pub loss: f64,
    /// Top-1 on held-out images after it.
    pub held_out_top1: Option<f64>,
    /// Mean cross-entropy on them.
    pub held_out_loss: Option<f64>,
}
