//! The network, its objective, how it is optimised and how it is measured.

use serde::{Deserialize, Serialize};

/// A Vision Transformer of any width, depth, heads and patch (spec/pretraining.md 1.8).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelConfig {
    /// Side in pixels of the images the position embedding is made for.
    pub image_px: usize,
    /// Side of a patch in pixels; divides the side of every view.
    pub patch_px: usize,
    /// Width of a token.
    pub dim: usize,
    /// Transformer blocks.
    pub depth: usize,
    /// Attention heads; divides `dim`.
    pub heads: usize,
    /// Hidden width of a block's MLP over `dim`.
    pub mlp_ratio: usize,
}

impl Default for ModelConfig {
    /// ViT-S/16.
    fn default() -> Self {
        Self { image_px: 224, patch_px: 16, dim: 384, depth: 12, heads: 6, mlp_ratio: 4 }
    }
}

/// Which objective a run optimises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ObjectiveKind {
    /// Self-distillation with no labels (Caron et al. 2021).
    Dino,
    /// Redundancy reduction (Zbontar et al. 2021).
    BarlowTwins,
    /// Both on one network (Podsiadly and Lay 2025): `barlow_scale * L_BT + dino_weight * L_DINO`.
    Hybrid,
}

/// Heads and losses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ObjectiveConfig {
    /// `dino`, `barlow-twins` or `hybrid`.
    pub kind: ObjectiveKind,
    /// Weight of the DINO loss in the hybrid (alpha).
    pub dino_weight: f64,
    /// Scale of the Barlow Twins loss; 0 means 1 / `barlow_dim`, which makes its size independent of that.
    pub barlow_scale: f64,
    /// Weight of the off-diagonal terms of the Barlow Twins loss (lambda).
    pub barlow_off_diagonal: f64,
    /// Width of the Barlow Twins projector, hidden and out.
    pub barlow_dim: usize,
    /// Prototypes of the DINO head (K).
    pub prototypes: usize,
    /// Hidden width of the DINO head.
    pub head_hidden: usize,
    /// Width of the DINO head's bottleneck.
    pub head_bottleneck: usize,
    /// Keep the norm of each prototype at 1 instead of learning it.
    pub norm_last_layer: bool,
    /// The student's temperature.
    pub student_temperature: f64,
    /// The teacher's temperature after its warm-up ...
    pub teacher_temperature: f64,
    /// ... which starts here ...
    pub teacher_temperature_start: f64,
    /// ... and lasts this many epochs, linearly.
    pub teacher_temperature_warmup_epochs: u32,
    /// What the teacher's centre keeps of itself at a step.
    pub center_momentum: f64,
}

impl Default for ObjectiveConfig {
    fn default() -> Self {
        Self {
            kind: ObjectiveKind::Hybrid,
            dino_weight: 1.0,
            barlow_scale: 0.0,
            barlow_off_diagonal: 0.0051,
            barlow_dim: 8192,
            prototypes: 65_536,
            head_hidden: 2048,
            head_bottleneck: 256,
            norm_last_layer: true,
            student_temperature: 0.1,
            teacher_temperature: 0.04,
            teacher_temperature_start: 0.04,
            teacher_temperature_warmup_epochs: 0,
            center_momentum: 0.9,
        }
    }
}

/// Where views are jittered, blurred, solarised and normalised; they are always decoded and cropped on the CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AugmentOn {
    /// On the loader's threads.
    Cpu,
    /// As batched operations on the training device.
    Device,
}

/// Optimiser, schedules, checkpoints and loader.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PretrainConfig {
    /// Images a step.
    pub batch: usize,
    /// Pieces that the batch goes through the backbone in, side by side; the gradients are those of the whole batch. Two
    /// use two cores well; on a GPU more pieces save memory.
    pub pieces: usize,
    /// Steps after which the run ends; 0 means all epochs of the plan. Schedules span these steps.
    pub steps: usize,
    /// Peak learning rate for a batch of 256; scaled linearly with the batch.
    pub base_learning_rate: f64,
    /// Learning rate at the end of its cosine.
    pub final_learning_rate: f64,
    /// Steps of linear warm-up from 0.
    pub warmup_steps: usize,
    /// Weight decay at the start of its cosine; biases and 1-D parameters are not decayed.
    pub weight_decay: f64,
    /// Weight decay at the end of its cosine.
    pub final_weight_decay: f64,
    /// The teacher's momentum at the start of its cosine, which ends at 1.
    pub momentum: f64,
    /// Greatest gradient norm of each parameter tensor; 0 switches clipping off.
    pub clip_norm: f64,
    /// Steps during which the DINO head's last layer is frozen.
    pub freeze_last_layer_steps: usize,
    /// Steps between checkpoints.
    pub checkpoint_steps: usize,
    /// Batches that the loader prepares ahead.
    pub prefetch_batches: usize,
    /// Threads that decode and augment; 0 means all cores.
    pub loader_threads: usize,
    /// `cpu`, or `device`: where views are jittered, blurred, solarised and normalised, from the same rows of the plan
    /// (pipeline/pixels.md says how alike the pixels are).
    pub augment: AugmentOn,
    /// Decode a JPEG at the smallest of its scales (1/8 to 1) at which no view is enlarged: faster where images are much
    /// larger than views, but not the same pixels (pipeline/pixels.md).
    pub scaled_decode: bool,
}

impl Default for PretrainConfig {
    fn default() -> Self {
        Self {
            batch: 64,
            pieces: 2,
            steps: 0,
            base_learning_rate: 5e-4,
            final_learning_rate: 1e-6,
            warmup_steps: 100,
            weight_decay: 0.04,
            final_weight_decay: 0.4,
            momentum: 0.996,
            clip_norm: 3.0,
            freeze_last_layer_steps: 100,
            checkpoint_steps: 100,
            prefetch_batches: 3,
            loader_threads: 0,
            augment: AugmentOn::Cpu,
            scaled_decode: false,
        }
    }
}

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
