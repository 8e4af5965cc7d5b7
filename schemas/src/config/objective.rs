//! What a run optimises: heads and losses.

use serde::{Deserialize, Serialize};

/// Which objective a run optimises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ObjectiveKind {
    /// Self-distillation with no labels (Caron et al. 2021).
    Dino,
    /// Redundancy reduction (Zbontar et al. 2021).
    BarlowTwins,
    /// Both on one network (Podsiadly and Lay 2025): `scale * L_BT + dino_weight * L_DINO`.
    Hybrid,
    /// Variance, invariance and covariance of two views (Bardes et al. 2022).
    Vicreg,
    /// Contrast of two views (Chen et al. 2020).
    Simclr,
    /// Contrast of two copies, with embeddings spread evenly: a descriptor for copy detection (Pizzi et al. 2022).
    Sscd,
    /// Similarities of a frozen teacher's features, which is given as weights (lightly-train's `distillation`, version 3).
    Distillation,
}

impl ObjectiveKind {
    /// The name in configurations and in names of runs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dino => "dino",
            Self::BarlowTwins => "barlow-twins",
            Self::Hybrid => "hybrid",
            Self::Vicreg => "vicreg",
            Self::Simclr => "simclr",
            Self::Sscd => "sscd",
            Self::Distillation => "distillation",
        }
    }

    /// Whether a student predicts a teacher's distributions over prototypes (DINO's loss).
    pub fn has_prototypes(self) -> bool {
        matches!(self, Self::Dino | Self::Hybrid)
    }

    /// Whether two views of an image are compared without a teacher.
    pub fn compares_two_views(self) -> bool {
        !matches!(self, Self::Dino | Self::Distillation)
    }
}

/// What the hybrid multiplies Barlow Twins' loss by where `barlow_scale` is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BarlowBalance {
    /// 1 / `barlow_dim`, which makes the loss's size independent of that.
    Width,
    /// 0.0141: the scale that the paper's table of final losses comes to, (7.720 - 2.297) / 384.425.
    Paper,
    /// The scale that holds the ratio of both losses' gradient norms, at the backbone's features, at
    /// `barlow_gradient_ratio`, by a moving average.
    Matched,
}

/// How the teacher's distributions are kept from one prototype.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Targets {
    /// A running mean is taken from the logits (DINO).
    Centre,
    /// Three rounds of Sinkhorn and Knopp's normalisation over the batch (SwAV, DINOv2).
    Sinkhorn,
}

/// Heads and losses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ObjectiveConfig {
    /// `dino`, `barlow-twins`, `hybrid`, `vicreg`, `simclr`, `sscd` or `distillation`.
    pub kind: ObjectiveKind,
    /// Weight of the DINO loss in the hybrid (alpha).
    pub dino_weight: f64,
    /// Scale of the Barlow Twins loss; 0 means by `barlow_balance`.
    pub barlow_scale: f64,
    /// `width`, `paper` or `matched`.
    pub barlow_balance: BarlowBalance,
    /// With `matched`: the norm of the scaled Barlow Twins loss's gradient over that of the weighted DINO loss's.
    pub barlow_gradient_ratio: f64,
    /// Weight of the off-diagonal terms of the Barlow Twins loss (lambda).
    pub barlow_off_diagonal: f64,
    /// Width of the projector of Barlow Twins and VICReg, hidden and out.
    pub barlow_dim: usize,
    /// Prototypes of the DINO head (K).
    pub prototypes: usize,
    /// Hidden width of the DINO head.
    pub head_hidden: usize,
    /// Width of the DINO head's bottleneck.
    pub head_bottleneck: usize,
    /// BatchNorm after the DINO head's two hidden layers (DINO's `use_bn_in_head`).
    pub head_batch_norm: bool,
    /// Keep the norm of each prototype at 1 instead of learning it (DINO advises it for ViT-B and larger).
    pub norm_last_layer: bool,
    /// The student's temperature.
    pub student_temperature: f64,
    /// The teacher's temperature after its warm-up ...
    pub teacher_temperature: f64,
    /// ... which starts here ...
    pub teacher_temperature_start: f64,
    /// ... and lasts this many epochs, linearly.
    pub teacher_temperature_warmup_epochs: u32,
    /// `centre` or `sinkhorn`.
    pub targets: Targets,
    /// What the teacher's centre keeps of itself at a step.
    pub center_momentum: f64,
    /// Weight of KoLeo (Sablayrolles et al. 2019), which spreads the class features of each global view; 0 means none
    /// (DINOv2: 0.1).
    pub koleo_weight: f64,
    /// Weight of iBOT's loss on masked patches (Zhou et al. 2022); 0 means none (DINOv2: 1).
    pub ibot_weight: f64,
    /// A head of its own for patches instead of DINO's.
    pub ibot_separate_head: bool,
    /// Share of global views that are masked, 0 to 1.
    pub mask_share: f64,
    /// Least and greatest share of a masked view's patches that are masked.
    pub mask_ratio: [f64; 2],
    /// SimCLR's temperature.
    pub simclr_temperature: f64,
    /// Width of SimCLR's embedding.
    pub simclr_dim: usize,
    /// SSCD's temperature.
    pub sscd_temperature: f64,
    /// Weight of SSCD's entropy term, which spreads descriptors (the reference: 30, and 10 to begin with).
    pub sscd_entropy_weight: f64,
    /// Width of SSCD's descriptor.
    pub sscd_dim: usize,
    /// Weights of VICReg's invariance, variance and covariance.
    pub vicreg_weights: [f64; 3],
    /// The frozen teacher of `distillation`: a file of weights (.safetensors, .pth), a folder that holds one, or the name of a
    /// finished run of the source. Width, depth and patch may differ from the student's; its patch must divide the global views,
    /// which both networks see.
    pub distill_from: String,
    /// Width of the teacher's features, which the student's are mapped to; 0 means as its weights have it.
    pub distill_dim: usize,
    /// The temperature of the similarities, of the class term and of the patch term.
    pub distill_temperature: f64,
    /// The teacher's class features that images are compared with, the latest of the run; 0 means by the number of images, up
    /// to 8192 and at most half of them.
    pub distill_queue: usize,
    /// Weight of the patch term beside the class term, which has 1; 0 means none.
    pub distill_patch_weight: f64,
    /// Weight of Gram anchoring (Simeoni et al. 2025), which keeps the similarities of the global views' patches as an earlier
    /// teacher had them; 0 means none (DINOv3: 2).
    pub gram_weight: f64,
    /// The step that it starts at, whose teacher becomes the anchor (DINOv3: 1,000,000).
    pub gram_from_step: usize,
    /// Steps in which its weight grows linearly from 0; 0 means at once (DINOv3: 1,000).
    pub gram_warmup_steps: usize,
    /// Steps after which the teacher of that step becomes the anchor, again and again; 0 means never (DINOv3: 10,000).
    pub gram_refresh_steps: usize,
    /// How often it does at most; 0 means without end (DINOv3: 3).
    pub gram_refreshes_max: usize,
}

impl Default for ObjectiveConfig {
    fn default() -> Self {
        Self {
            kind: ObjectiveKind::Hybrid,
            dino_weight: 1.0,
            barlow_scale: 0.0,
            barlow_balance: BarlowBalance::Width,
            barlow_gradient_ratio: 1.0,
            barlow_off_diagonal: 0.0051,
            barlow_dim: 8192,
            prototypes: 65_536,
            head_hidden: 2048,
            head_bottleneck: 256,
            head_batch_norm: false,
            norm_last_layer: false,
            student_temperature: 0.1,
            teacher_temperature: 0.04,
            teacher_temperature_start: 0.04,
            teacher_temperature_warmup_epochs: 0,
            targets: Targets::Centre,
            center_momentum: 0.9,
            koleo_weight: 0.0,
            ibot_weight: 0.0,
            ibot_separate_head: false,
            mask_share: 0.5,
            mask_ratio: [0.1, 0.5],
            simclr_temperature: 0.1,
            simclr_dim: 128,
            sscd_temperature: 0.05,
            sscd_entropy_weight: 10.0,
            sscd_dim: 512,
            vicreg_weights: [25.0, 25.0, 1.0],
            distill_from: String::new(),
            distill_dim: 0,
            distill_temperature: 0.07,
            distill_queue: 0,
            distill_patch_weight: 1.0,
            gram_weight: 0.0,
            gram_from_step: 0,
            gram_warmup_steps: 0,
            gram_refresh_steps: 0,
            gram_refreshes_max: 0,
        }
    }
}
