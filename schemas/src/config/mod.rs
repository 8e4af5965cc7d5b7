//! The configuration: every knob of the chain, with its default, unit and effect.
//!
//! A run's configuration is the defaults, overlaid by a preset, by a TOML file and by `--set key=value`, in this order;
//! the pipeline does the overlaying and names unknown keys. No field is optional, so that the resolved configuration saved
//! with a run says everything; 0 or an empty value stands for "choose for me" where a comment says so.

mod adapt;
mod augment;
mod curation;
mod eval;
mod model;
mod objective;
mod pretrain;
mod probes;

pub use adapt::AdaptConfig;
pub use augment::{BlurKind, Interpolation, PlanConfig, ViewKind, ViewSpec};
pub use curation::{CurateConfig, Evidence, FingerprintConfig, LeafOrder, QualityConfig, Removal, SeedMode, Weight};
pub use eval::EvalConfig;
pub use model::{FeedForward, ModelConfig, NAMED_MODELS, PositionResize, Positions};
pub use objective::{BarlowBalance, ObjectiveConfig, ObjectiveKind, Targets};
pub use pretrain::{AugmentOn, ClipBy, OptimiserKind, Precision, PretrainConfig};
pub use probes::{DinoLinearConfig, Dinov2LinearConfig, MlpProbeConfig, ProbeCropsConfig};

use serde::{Deserialize, Serialize};

/// Everything that can be asked for, one section a stage.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The seed that every draw of every stage is keyed by, together with the stage's and the item's name.
    pub seed: u64,
    /// Reading a source into `images` shards.
    pub ingest: IngestConfig,
    /// Taking hashes, keypoints and measures of quality.
    pub fingerprint: FingerprintConfig,
    /// Turning images into embeddings.
    pub embed: EmbedConfig,
    /// Choosing which images to keep, and their order.
    pub curate: CurateConfig,
    /// Writing augmentations down before training.
    pub plan: PlanConfig,
    /// The Vision Transformer.
    pub model: ModelConfig,
    /// What is optimised: DINO, Barlow Twins or both.
    pub objective: ObjectiveConfig,
    /// How it is optimised.
    pub pretrain: PretrainConfig,
    /// How the result is measured.
    pub eval: EvalConfig,
    /// How the result is adapted to classes.
    pub adapt: AdaptConfig,
}

/// Limits and sizes of `lapidary ingest`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IngestConfig {
    /// Files larger than this many bytes are rejected.
    pub max_bytes: u64,
    /// Images with more pixels than this are rejected before they are decoded.
    pub max_pixels: u64,
    /// What becomes of ICC colour profiles: `ignore` (the stored values are taken for sRGB, as Pillow, torchvision and
    /// `datasets` take them; how many images that concerns is said) or `convert` (to sRGB).
    pub icc: IccProfiles,
    /// The share of rejected inputs (0 to 1) above which the stage fails with exit code 3.
    pub max_reject: f64,
    /// Fail at the first rejected input.
    pub strict: bool,
    /// Image bytes a row group holds, in MiB; also what a shard's writer keeps in memory.
    pub row_group_mib: u64,
    /// Image bytes a shard holds, in MiB.
    pub shard_mib: u64,
}

impl Default for IngestConfig {
    fn default() -> Self {
        Self {
            max_bytes: 64 << 20,
            max_pixels: 100_000_000,
            icc: IccProfiles::Ignore,
            max_reject: 0.05,
            strict: false,
            row_group_mib: 64,
            shard_mib: 512,
        }
    }
}

/// What becomes of an image's ICC colour profile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IccProfiles {
    /// The stored values are taken for sRGB.
    #[default]
    Ignore,
    /// Colours are converted to sRGB.
    Convert,
}

/// Which encoder `lapidary embed` runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EmbedConfig {
    /// `descriptor` (built in, no weights), the name of a finished run under `runs/`, or a file or folder of weights.
    pub encoder: String,
    /// Images a batch.
    pub batch: usize,
}

impl Default for EmbedConfig {
    fn default() -> Self {
        Self { encoder: "descriptor".to_owned(), batch: 64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_refused() {
        let error = serde_json::from_str::<Config>(r#"{"ingest": {"max_byte": 1}}"#).expect_err("a typo");
        assert!(error.to_string().contains("max_byte"), "{error}");
    }
}
