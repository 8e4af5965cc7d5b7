//! The configuration: every knob of the chain, with its default, unit and effect.
//!
//! A run's configuration is the defaults, overlaid by a preset, by a TOML file and by `--set key=value`, in this order;
//! the pipeline does the overlaying and names unknown keys. No field is optional, so that the resolved configuration saved
//! with a run says everything; 0 or an empty value stands for "choose for me" where a comment says so.

mod augment;
mod training;

pub use augment::{BlurKind, Interpolation, PlanConfig, ViewKind, ViewSpec};
pub use training::{AugmentOn, EvalConfig, ModelConfig, ObjectiveConfig, ObjectiveKind, PretrainConfig};

use serde::{Deserialize, Serialize};

/// Everything that can be asked for, one section a stage.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The seed that every draw of every stage is keyed by, together with the stage's and the item's name.
    pub seed: u64,
    /// Reading a source into `images` shards.
    pub ingest: IngestConfig,
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
}

/// Limits and sizes of `lapidary ingest`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IngestConfig {
    /// Files larger than this many bytes are rejected.
    pub max_bytes: u64,
    /// Images with more pixels than this are rejected before they are decoded.
    pub max_pixels: u64,
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
            max_reject: 0.05,
            strict: false,
            row_group_mib: 64,
            shard_mib: 512,
        }
    }
}

/// Which encoder `lapidary embed` runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EmbedConfig {
    /// `descriptor` (built in, no weights) or the name of a finished run under `runs/`.
    pub encoder: String,
    /// Images a batch.
    pub batch: usize,
}

impl Default for EmbedConfig {
    fn default() -> Self {
        Self { encoder: "descriptor".to_owned(), batch: 64 }
    }
}

/// The order inside a leaf of the cluster tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LeafOrder {
    /// The image closest to its centroid first.
    Nearest,
    /// The image farthest from its centroid first.
    Farthest,
    /// A seeded random order.
    Random,
}

/// Duplicates, clusters and ranking of `lapidary curate`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CurateConfig {
    /// Two images are perceptual duplicates when their 64-bit hashes differ in at most this many bits (0 to 63) ...
    pub hash_max_bits: u32,
    /// ... and the cosine similarity of their embeddings is at least this (-1 switches the check off).
    pub hash_similarity_min: f32,
    /// Two images are copies when the cosine similarity of their embeddings is at least this.
    pub copy_similarity_min: f32,
    /// Neighbours looked at for each image, itself included.
    pub neighbours: usize,
    /// Above this many images an inverted file replaces the exact search.
    pub flat_max_images: usize,
    /// Clusters at each level, the finest first; an empty list means 2 sqrt(n), then the square root of that.
    pub clusters: Vec<usize>,
    /// k-means iterations.
    pub kmeans_iterations: u32,
    /// Rounds of k-means on the points closest to each centroid, after the first one, at each level.
    pub resample_rounds: u32,
    /// Points a cluster gives to a resampling round; 0 means half the mean cluster size.
    pub resample_points: usize,
    /// The order inside a leaf.
    pub leaf_order: LeafOrder,
    /// A table of planted copies (CSV: path, copy_of, kind) that the duplicates are scored against; empty means none.
    pub truth: String,
}

impl Default for CurateConfig {
    fn default() -> Self {
        Self {
            hash_max_bits: 6,
            hash_similarity_min: 0.8,
            copy_similarity_min: 0.95,
            neighbours: 64,
            flat_max_images: 20_000,
            clusters: Vec::new(),
            kmeans_iterations: 20,
            resample_rounds: 3,
            resample_points: 0,
            leaf_order: LeafOrder::Nearest,
            truth: String::new(),
        }
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
