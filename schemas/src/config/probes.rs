//! Probes that are trained: linear classifiers as DINO and DINOv2 train theirs, and a classifier with a hidden layer.

use super::Interpolation;
use serde::{Deserialize, Serialize};

/// Linear classifier after facebookresearch/dino `eval_linear.py`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DinoLinearConfig {
    /// Epochs of random crops; the reference trains 100. 0 leaves the probe out. Each costs the features of all train images.
    pub epochs: usize,
    /// Last blocks whose class tokens are concatenated; the reference takes 4 of ViT-S and 1 of ViT-B.
    pub blocks: usize,
    /// Whether the mean of the last block's patch tokens is interleaved with the class token's channels; with 1 block only, as
    /// in the reference.
    pub average_patches: bool,
    /// Images a step.
    pub batch: usize,
    /// Learning rate at 256 images a step; it is scaled by the batch.
    pub base_learning_rate: f64,
}

impl Default for DinoLinearConfig {
    fn default() -> Self {
        Self { epochs: 10, blocks: 4, average_patches: false, batch: 128, base_learning_rate: 1e-3 }
    }
}

/// Linear classifiers after facebookresearch/dinov2 `eval/linear.py`: one for each learning rate, number of blocks and with or
/// without the mean of the patch tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dinov2LinearConfig {
    /// Steps; the reference takes 12,500. 0 leaves the probe out. They take the crops that `dino_linear` takes, and more epochs
    /// of them where those are too few.
    pub iterations: usize,
    /// Images a step.
    pub batch: usize,
    /// Learning rates at 256 images a step; each is scaled by the batch.
    pub base_learning_rates: Vec<f64>,
    /// Numbers of last blocks whose class tokens are concatenated.
    pub blocks: Vec<usize>,
}

impl Default for Dinov2LinearConfig {
    fn default() -> Self {
        Self {
            iterations: 100,
            batch: 128,
            base_learning_rates: vec![1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1],
            blocks: vec![1, 4],
        }
    }
}

/// Crops that both linear classifiers learn from: area 0.08 to 1 of the image, mirrored every other time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProbeCropsConfig {
    /// The filter that crops are resized with: `eval_linear.py` has `bilinear`, dinov2 `bicubic`.
    pub interpolation: Interpolation,
}

impl Default for ProbeCropsConfig {
    fn default() -> Self {
        Self { interpolation: Interpolation::Bilinear }
    }
}

/// A classifier with one hidden layer of twice the features' width, GELU and dropout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MlpProbeConfig {
    /// Steps of stochastic gradient descent; 0 leaves the probe out.
    pub steps: usize,
    /// Labelled images a step.
    pub batch: usize,
    /// Learning rates; the best on a held-out tenth of each class's labels is kept.
    pub learning_rates: Vec<f64>,
    /// Share of the hidden layer that a step leaves out (0 to 1).
    pub dropout: f64,
}

impl Default for MlpProbeConfig {
    fn default() -> Self {
        Self { steps: 300, batch: 128, learning_rates: vec![0.01, 0.03, 0.1, 0.3], dropout: 0.1 }
    }
}
