//! The Vision Transformer.

use serde::{Deserialize, Serialize};

/// A Vision Transformer by name or by numbers (spec/pretraining.md 1.8): a number of 0 is the name's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelConfig {
    /// `vit-ti`, `vit-s`, `vit-b`, `vit-l` or `vit-g`: width, depth and heads of those that are 0.
    pub name: String,
    /// Side in pixels of the images the position embedding is made for.
    pub image_px: usize,
    /// Side of a patch in pixels; divides the side of every view.
    pub patch_px: usize,
    /// Width of a token; 0 means the name's.
    pub dim: usize,
    /// Transformer blocks; 0 means the name's.
    pub depth: usize,
    /// Attention heads; divides `dim`; 0 means the name's.
    pub heads: usize,
    /// Hidden width of a block's feed-forward network over `dim`. With `swiglu` two thirds of it, rounded up to a multiple of 8,
    /// as DINOv2 has it.
    pub mlp_ratio: usize,
    /// A block's feed-forward network: `mlp` (GELU) or `swiglu` (DINOv2's and DINOv3's giants).
    pub feed_forward: FeedForward,
    /// Greatest probability that a block's branch is left out for an image (stochastic depth), 0 to below 1. The student alone,
    /// and only in training.
    pub drop_path: f64,
    /// Give every block the same `drop_path` (DINOv2) instead of one that grows linearly from 0 with depth (DINO).
    pub drop_path_uniform: bool,
    /// Initial value of LayerScale (DINOv2: 1e-5); 0 means none.
    pub layer_scale: f64,
    /// Register tokens (Darcet et al. 2024), between the class token and the patches.
    pub registers: usize,
    /// Where patches are told apart by place: `learned` or `rope`.
    pub positions: Positions,
    /// How learned positions are resized to another grid: `offset` (DINO, DINOv2 without registers) or `antialiased` (DINOv2
    /// with registers).
    pub position_resize: PositionResize,
    /// Greatest factor that RoPE's coordinates are rescaled by in training, drawn log-uniformly from 1 / it to it for each
    /// step; 1 means never (DINOv3: 2).
    pub rope_rescale: f64,
    /// LayerNorm's epsilon (DINO, DINOv2: 1e-6; DINOv3: 1e-5; transformers' ViT: 1e-12).
    pub norm_epsilon: f64,
}

impl Default for ModelConfig {
    /// ViT-S/16.
    fn default() -> Self {
        Self {
            name: "vit-s".to_owned(),
            image_px: 224,
            patch_px: 16,
            dim: 0,
            depth: 0,
            heads: 0,
            mlp_ratio: 4,
            feed_forward: FeedForward::Mlp,
            drop_path: 0.1,
            drop_path_uniform: false,
            layer_scale: 0.0,
            registers: 0,
            positions: Positions::Learned,
            position_resize: PositionResize::Offset,
            rope_rescale: 1.0,
            norm_epsilon: 1e-6,
        }
    }
}

/// Name, width, depth and heads of the networks that have a name (Touvron et al. 2021; Dosovitskiy et al. 2021; Oquab et al.
/// 2024).
pub const NAMED_MODELS: &[(&str, [usize; 3])] = &[
    ("vit-ti", [192, 12, 3]),
    ("vit-s", [384, 12, 6]),
    ("vit-b", [768, 12, 12]),
    ("vit-l", [1024, 24, 16]),
    ("vit-g", [1536, 40, 24]),
];

impl ModelConfig {
    /// The configuration with the name's numbers where it has 0; unchanged where the name is unknown, which `pretrain` refuses.
    pub fn resolved(&self) -> Self {
        let mut resolved = self.clone();
        if let Some((_, [dim, depth, heads])) = NAMED_MODELS.iter().find(|(name, _)| *name == self.name) {
            for (number, named) in
                [(&mut resolved.dim, dim), (&mut resolved.depth, depth), (&mut resolved.heads, heads)]
            {
                if *number == 0 {
                    *number = *named;
                }
            }
        }
        resolved
    }

    /// Patches along a side of the images that the position embedding is made for.
    pub fn grid(&self) -> usize {
        self.image_px / self.patch_px.max(1)
    }

    /// Hidden width of a block's feed-forward network.
    pub fn hidden(&self) -> usize {
        match self.feed_forward {
            FeedForward::Mlp => self.dim * self.mlp_ratio,
            FeedForward::Swiglu => (self.dim * self.mlp_ratio * 2 / 3).div_ceil(8) * 8,
        }
    }
}

/// A block's feed-forward network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FeedForward {
    /// Linear, exact GELU, Linear.
    Mlp,
    /// A linear map gated by the SiLU of another (Shazeer 2020).
    Swiglu,
}

/// Where patches are told apart by place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Positions {
    /// A learned embedding of each place, added to the patches.
    Learned,
    /// Rotary embeddings of queries and keys by row and column (DINOv3).
    Rope,
}

/// How learned positions are resized to another grid; both bicubic with a = -0.75.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PositionResize {
    /// By a factor whose numerator has 0.1 added, without antialiasing.
    Offset,
    /// To the size itself, antialiased.
    Antialiased,
}
