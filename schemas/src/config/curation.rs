//! The configuration of `lapidary fingerprint` and `lapidary curate`.

use crate::QualityIssue;
use serde::{Deserialize, Serialize};

/// Taking fingerprints of images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FingerprintConfig {
    /// Keypoints kept of an image at most, the strongest first; 40 bytes each. 0 leaves local evidence out.
    pub keypoints: usize,
}

impl Default for FingerprintConfig {
    fn default() -> Self {
        Self { keypoints: 250 }
    }
}

/// A kind of evidence that two images are copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Evidence {
    /// The same bytes.
    Exact,
    /// Perceptual hashes, 64 and 256 bits, under every dihedral transform.
    Hash,
    /// Embeddings.
    Embedding,
    /// Keypoints.
    Local,
}

/// Which images of a group of copies go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Removal {
    /// All but one of each connected component.
    Components,
    /// An image goes when it is linked to one that stays; the largest are considered first (greedy leader).
    Leader,
    /// An image goes when it is linked to any that was considered before it, gone or not (SemDeDup's rule).
    Semdedup,
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
    /// The image closest to the centroid, then always the one farthest from those before it.
    FarthestPoint,
}

/// What tilts the order inside a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weight {
    /// Nothing.
    None,
    /// Images without quality issues come first, by the number of their issues.
    Quality,
    /// Images that the seeds retrieved come first, by their similarity to the nearest seed.
    Relevance,
}

/// How seeds retrieve images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SeedMode {
    /// The nearest images of each seed.
    Nearest,
    /// Whole finest clusters that hold enough seeds.
    Clusters,
}

/// Thresholds of what is marked as an issue; cleanvision's, where it has one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QualityConfig {
    /// Too dark: 99 % of the pixels have less than this brightness (0 to 1).
    pub dark_max: f32,
    /// Too bright: 95 % of the pixels have more than this brightness (0 to 1).
    pub bright_min: f32,
    /// Blurred: sharpness (0 to 1) below this.
    pub sharpness_min: f32,
    /// Nearly uniform: entropy below this many bits.
    pub entropy_min_bits: f32,
    /// Odd aspect: the shorter side over the longer below this.
    pub aspect_min: f32,
    /// Tiny: a shorter side below this many pixels.
    pub short_side_min_px: u32,
    /// Odd size: the root of the pixels lies so many interquartile ranges outside the quartiles of all images.
    pub odd_size_iqr: f64,
    /// Issues whose images are not kept; the others only mark.
    pub drop: Vec<QualityIssue>,
}

impl Default for QualityConfig {
    fn default() -> Self {
        Self {
            dark_max: 0.32,
            bright_min: 0.95,
            sharpness_min: 0.29,
            entropy_min_bits: 3.0,
            aspect_min: 0.35,
            short_side_min_px: 24,
            odd_size_iqr: 3.0,
            drop: Vec::new(),
        }
    }
}

/// Duplicates, clusters and ranking of `lapidary curate`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CurateConfig {
    /// The kinds of evidence that are looked for.
    pub evidence: Vec<Evidence>,
    /// Two images are candidates when their 64-bit hashes differ in at most this many bits (0 to 63) ...
    pub hash_max_bits: u32,
    /// ... or their 256-bit PDQ hashes in at most this many (0 to 63), under any dihedral transform.
    pub pdq_max_bits: u32,
    /// PDQ hashes of a lower quality (0 to 100) are not compared.
    pub pdq_quality_min: u8,
    /// Two images are candidates when the cosine similarity of their embeddings is at least this.
    pub copy_similarity_min: f32,
    /// Candidates by hash or embedding are copies when their thumbnails correlate at least this much.
    pub correlation_min: f32,
    /// Two images are copies when `n` keypoints lie where one affine map carries them, out of `v` that the other image could
    /// show, and `r sqrt(n / v)` times their likeness under the map is at least this; `r` counts the `n` by their rarity.
    pub local_support_min: f32,
    /// The least score (0 to 1) of a pair that links its images; 0.5 is where each kind of evidence reaches its own threshold.
    pub score_min: f32,
    /// Which images of a group go.
    pub removal: Removal,
    /// MiB that finding pairs holds at most; 0 means a quarter of the machine's memory. What does not fit lies in scratch
    /// files. Up to `flat_max_images` it changes the time, never the groups; above, the index over embeddings may be a smaller one,
    /// whose recall is said.
    pub memory_mib: u64,
    /// Neighbours looked at for each image, itself included; 0 looks at all above `copy_similarity_min` (a range search).
    pub neighbours: usize,
    /// Up to this many images the search is exact ...
    pub flat_max_images: usize,
    /// ... up to this many an inverted file of the vectors as they are, if those fit a quarter of `memory_mib`; beyond, of 8
    /// bits a value, and where those do not fit, of 64 bytes a vector (product quantisation). What quantised vectors propose
    /// is held against the vectors themselves.
    pub inverted_max_images: usize,
    /// A source (by name) whose images are copies of nobody's: an image's mean similarity to its three nearest of them, times
    /// the weight, is taken off its similarities before they are held against `copy_similarity_min`. Empty means none.
    pub background: String,
    /// That weight.
    pub background_weight: f32,
    /// Dimensions that embeddings are whitened to (PCA) before neighbours and clusters; 0 leaves them as they are.
    pub whiten_dim: usize,
    /// Sources whose images must not be kept: probe and test sets, by the names they were ingested under. An image that is a copy
    /// of one of theirs is not kept, nor is its group.
    pub against: Vec<String>,
    /// The least score of a pair with an image of those sources.
    pub against_score_min: f32,
    /// A source (by name) or a file of image ids or paths, one a line, whose images are seeds; empty means that all images
    /// stay.
    pub seeds: String,
    /// How seeds retrieve.
    pub seed_mode: SeedMode,
    /// Images that each seed retrieves (LVD-142M: 4 for large corpora, 32 for small ones).
    pub seed_neighbours: usize,
    /// Seeds that a cluster must hold to be retrieved.
    pub seed_cluster_min: usize,
    /// Images that the tree of clusters is fitted on at most. Of more, so many are drawn, and then every image is assigned to
    /// its nearest leaf, shard by shard: `lapidary assign` lets several processes do that. With seeds all that they retrieve
    /// are fitted.
    pub tree_max_images: usize,
    /// Clusters at each level, the finest first; an empty list means 2 sqrt(n), then the square root of that.
    pub clusters: Vec<usize>,
    /// k-means iterations.
    pub kmeans_iterations: u32,
    /// Points a centroid that k-means is fitted on at most, drawn at random; the others are only assigned.
    pub kmeans_max_points: usize,
    /// Rounds of k-means on the points closest to each centroid, after the first one, at each level.
    pub resample_rounds: u32,
    /// Points a cluster gives to a resampling round; 0 means half the mean cluster size.
    pub resample_points: usize,
    /// New images are merged into the tree that is there. A rebuild is offered when they lie, by the mean squared distance to
    /// their centroids, this many times as far out as the images that the tree was built from (each left out in turn) ...
    pub drift_max: f64,
    /// ... or are this many times as many.
    pub added_max: f64,
    /// The order inside a leaf.
    pub leaf_order: LeafOrder,
    /// What tilts that order.
    pub weight: Weight,
    /// What is marked, and what is dropped, by its own quality.
    pub quality: QualityConfig,
    /// A table of planted copies (CSV: path, copy_of, kind) that the duplicates are scored against; empty means none.
    pub truth: String,
}

impl Default for CurateConfig {
    fn default() -> Self {
        Self {
            evidence: vec![Evidence::Exact, Evidence::Hash, Evidence::Embedding, Evidence::Local],
            hash_max_bits: 6,
            pdq_max_bits: 31,
            pdq_quality_min: 50,
            copy_similarity_min: 0.9,
            correlation_min: 0.95,
            local_support_min: 3.0,
            score_min: 0.5,
            removal: Removal::Components,
            memory_mib: 0,
            neighbours: 64,
            flat_max_images: 20_000,
            inverted_max_images: 5_000_000,
            background: String::new(),
            background_weight: 1.0,
            whiten_dim: 0,
            against: Vec::new(),
            against_score_min: 0.45,
            seeds: String::new(),
            seed_mode: SeedMode::Nearest,
            seed_neighbours: 4,
            seed_cluster_min: 3,
            tree_max_images: 2_000_000,
            clusters: Vec::new(),
            kmeans_iterations: 20,
            kmeans_max_points: 64,
            resample_rounds: 3,
            resample_points: 0,
            drift_max: 1.2,
            added_max: 0.5,
            leaf_order: LeafOrder::Nearest,
            weight: Weight::None,
            quality: QualityConfig::default(),
            truth: String::new(),
        }
    }
}
