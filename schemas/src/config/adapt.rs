//! How a trained network is adapted to a probe's classes.

use serde::{Deserialize, Serialize};

/// The rungs of `lapidary adapt`. Learning rates are what AdamW takes, whatever the batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdaptConfig {
    /// Share of the probe's train labels that are used (0 to 1), stratified by class.
    pub label_share: f64,
    /// Share of these that is held out (0 to 1): it alone decides when a rung ends and which of its epochs is kept.
    pub held_out_share: f64,
    /// Images a step.
    pub batch: usize,
    /// Parts of a batch that go through the network side by side.
    pub pieces: usize,
    /// Epochs at most, for each rung.
    pub epochs: usize,
    /// Epochs without a better held-out score after which a rung ends.
    pub patience: usize,
    /// Epochs of linear warm-up from 0 where the backbone is trained; at most half of all.
    pub warmup_epochs: f64,
    /// Peak learning rate of the head, in every rung.
    pub head_learning_rate: f64,
    /// Peak learning rate of the backbone in `unfreeze` and `full`.
    pub learning_rate: f64,
    /// Peak learning rate of LoRA's matrices.
    pub lora_learning_rate: f64,
    /// Peak learning rate of head and backbone in the second half of `lp-ft` (1e-5 to 5e-5 for large networks).
    pub lp_ft_learning_rate: f64,
    /// What a block's learning rate is of the block's after it, in `unfreeze` and `full` (0.65 to 0.95); 1 means all the same.
    pub layer_decay: f64,
    /// Weight decay; biases and 1-D parameters are not decayed.
    pub weight_decay: f64,
    /// Weight decay in the second half of `lp-ft` (at most 1e-5).
    pub lp_ft_weight_decay: f64,
    /// Greatest gradient norm of the backbone, and of the head; 0 switches clipping off.
    pub clip_norm: f64,
    /// Hidden width of `mlp`'s head; 0 means twice the network's.
    pub mlp_width: usize,
    /// Share of hidden values that `mlp` leaves out at a step (0 to below 1).
    pub mlp_dropout: f64,
    /// LoRA's rank.
    pub lora_rank: usize,
    /// LoRA's alpha: its product is scaled by alpha / rank; 0 means the rank.
    pub lora_alpha: f64,
    /// Epochs after which `unfreeze` lets the next lower block learn; after the first block the tokens and positions come.
    pub unfreeze_epochs: usize,
    /// Least share of an image's area that a crop covers where the backbone is trained; 1 means the whole image.
    pub crop_area_min: f32,
    /// Probability that such a crop is mirrored.
    pub flip_p: f32,
}

impl Default for AdaptConfig {
    fn default() -> Self {
        Self {
            label_share: 1.0,
            held_out_share: 0.1,
            batch: 64,
            pieces: 2,
            epochs: 30,
            patience: 5,
            warmup_epochs: 2.0,
            head_learning_rate: 1e-3,
            learning_rate: 3e-4,
            lora_learning_rate: 3e-4,
            lp_ft_learning_rate: 5e-5,
            layer_decay: 0.75,
            weight_decay: 0.05,
            lp_ft_weight_decay: 1e-5,
            clip_norm: 1.0,
            mlp_width: 0,
            mlp_dropout: 0.2,
            lora_rank: 8,
            lora_alpha: 0.0,
            unfreeze_epochs: 2,
            crop_area_min: 0.5,
            flip_p: 0.5,
        }
    }
}
