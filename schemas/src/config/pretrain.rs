//! How it is optimised: optimiser, schedules, memory, checkpoints, loader.

use serde::{Deserialize, Serialize};

/// Where views are jittered, blurred, solarised and normalised; they are always decoded and cropped on the CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AugmentOn {
    /// On the loader's threads.
    Cpu,
    /// As batched operations on the training device.
    Device,
}

/// Which optimiser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OptimiserKind {
    /// AdamW (Loshchilov and Hutter 2019).
    Adamw,
    /// LARS (You et al. 2017) as Barlow Twins has it.
    Lars,
}

/// Whose gradient norm is clipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClipBy {
    /// Each parameter tensor's (DINO).
    Tensor,
    /// Each part of the network's: backbone and every head (DINOv2).
    Module,
    /// That of all together.
    Global,
}

/// The precision that activations are stored and multiplied in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// 24 bits of mantissa.
    #[default]
    F32,
    /// 8 bits of mantissa and f32's range, on a GPU.
    Bf16,
    /// 11 bits of mantissa and a short range, on a GPU.
    F16,
}

/// Optimiser, schedules, checkpoints and loader.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PretrainConfig {
    /// Weights that the backbone starts from: a file (.safetensors, .pth), a folder that holds one, or the name of a finished
    /// run of the source; empty means drawn by seed.
    pub init_from: String,
    /// Images a step.
    pub batch: usize,
    /// Pieces that the batch goes through the backbone in, side by side; the gradients are those of the whole batch. Two
    /// use two cores well.
    pub pieces: usize,
    /// Parts that the batch goes through the backbone in, one after another, to save memory; the gradients are those of the
    /// whole batch for every objective, Barlow Twins included, at the price of one more forward pass.
    pub accumulate: usize,
    /// Keep each block's input alone and compute the rest again in the backward pass: memory for one more forward pass.
    pub recompute_blocks: bool,
    /// `f32` or, on a GPU, `bf16` or `f16`: what the activations of the backbone are stored and multiplied in; with `bf16` those of
    /// heads without BatchNorm too. Everything else stays f32: sums, norms, residuals, prototypes' logits, losses, statistics,
    /// weights and the optimiser's state. With `f16` the gradient at the features has a length of 1 in the backbone.
    pub precision: Precision,
    /// Steps after which the run ends; 0 means all epochs of the plan. Schedules span these steps.
    pub steps: usize,
    /// `adamw` or `lars`.
    pub optimiser: OptimiserKind,
    /// Peak learning rate for a batch of 256; scaled linearly with the batch.
    pub base_learning_rate: f64,
    /// Learning rate at the end of its cosine.
    pub final_learning_rate: f64,
    /// Steps of linear warm-up from 0, unless it is given in epochs. At most half of the run: a longer one is cut, which is
    /// said.
    pub warmup_steps: usize,
    /// Epochs of linear warm-up; 0 means by `warmup_steps`.
    pub warmup_epochs: f64,
    /// What a block's learning rate is of the block's after it (DINOv2: 0.9); 1 means all the same.
    pub layer_decay: f64,
    /// What the patch projection's learning rate is multiplied by besides (DINOv2: 0.2).
    pub patch_embed_rate: f64,
    /// Weight decay at the start of its cosine; biases and 1-D parameters are not decayed.
    pub weight_decay: f64,
    /// Weight decay at the end of its cosine.
    pub final_weight_decay: f64,
    /// LARS's trust coefficient.
    pub lars_trust: f64,
    /// LARS: what the learning rate of biases and 1-D parameters is of that of weights (Barlow Twins: .0048 / .2).
    pub lars_bias_rate: f64,
    /// LARS: bound a tensor's rate by the learning rate (solo-learn's `clip_lr`).
    pub lars_clip_rate: bool,
    /// The teacher's momentum at the start of its cosine, which ends at 1.
    pub momentum: f64,
    /// Greatest gradient norm; 0 switches clipping off.
    pub clip_norm: f64,
    /// Whose: `tensor`, `module` or `global`.
    pub clip_by: ClipBy,
    /// Steps during which the DINO head's last layer is frozen, unless that is given in epochs.
    pub freeze_last_layer_steps: usize,
    /// Epochs during which it is; 0 means by `freeze_last_layer_steps`.
    pub freeze_last_layer_epochs: f64,
    /// Steps between checkpoints.
    pub checkpoint_steps: usize,
    /// The newest checkpoints that are kept while the run goes on.
    pub keep_last: usize,
    /// A checkpoint of one in so many epochs is kept for good; 0 means none.
    pub keep_every_epochs: usize,
    /// Steps whose metrics are read from the device at once, so that it is waited for that seldom; a step that is not finite is
    /// then undone with those after it, which are taken again. Their batches and one copy of the run's state are kept until
    /// then. 0 means 1 on a CPU, where nothing is waited for, and 10 elsewhere.
    pub metrics_steps: usize,
    /// Steps between looks at the run's health (teacher's entropy, ranks, prototypes in use); 0 means never.
    pub health_steps: usize,
    /// A labelled source, ingested beforehand, on which the teacher (else the student) is measured by k-NN while it trains;
    /// empty means none. `eval.knn_neighbours`, `eval.max_train` and the like hold for it.
    pub watch: String,
    /// Epochs between two such measures; the last comes after the last step, and is the only one at 0.
    pub watch_epochs: usize,
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
            init_from: String::new(),
            batch: 64,
            pieces: 2,
            accumulate: 1,
            recompute_blocks: false,
            precision: Precision::F32,
            steps: 0,
            optimiser: OptimiserKind::Adamw,
            base_learning_rate: 5e-4,
            final_learning_rate: 1e-6,
            warmup_steps: 100,
            warmup_epochs: 0.0,
            layer_decay: 1.0,
            patch_embed_rate: 1.0,
            weight_decay: 0.04,
            final_weight_decay: 0.4,
            lars_trust: 1e-3,
            lars_bias_rate: 0.024,
            lars_clip_rate: false,
            momentum: 0.996,
            clip_norm: 3.0,
            clip_by: ClipBy::Tensor,
            freeze_last_layer_steps: 100,
            freeze_last_layer_epochs: 0.0,
            checkpoint_steps: 100,
            keep_last: 2,
            keep_every_epochs: 0,
            metrics_steps: 0,
            health_steps: 50,
            watch: String::new(),
            watch_epochs: 1,
            prefetch_batches: 3,
            loader_threads: 0,
            augment: AugmentOn::Cpu,
            scaled_decode: false,
        }
    }
}
