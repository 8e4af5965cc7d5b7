//! Which images to keep: duplicates out, clusters, and one ranking whose every prefix is a curated subset.
//!
//! Embeddings come as a table, whoever made them; this crate never sees a network. Only this crate knows FAISS.
//!
//! The modules are rooms, in the order in which images pass through them. A room imports only rooms above it (a test
//! holds this):
//!
//! | room | in | out |
//! |---|---|---|
//! | `memory` | a budget | what is held, what lies in scratch files, sorted runs |
//! | `input` | `images`, `embeddings` | images by id, vectors row for row, whitening |
//! | `fingerprints` | images | hashes, thumbnails, quality, keypoints |
//! | `pairs` | fingerprints, vectors | pairs with evidence, scored |
//! | `groups` | pairs | groups of copies, and who represents them |
//! | `clusters` | vectors of kept images | a tree of centroids |
//! | `ranking` | groups, clusters | a decision on every image |
//! | `subset` | the ranking | subsets, exports |
//! | `truth` | pairs, groups | scores against planted copies |
//! | `stages` | configurations, folders | what runs: manifests |
//! | `explain` | all tables | the facts of one image |

mod clusters;
mod error;
mod explain;
mod fingerprints;
mod groups;
mod input;
mod memory;
mod pairs;
mod ranking;
mod stages;
mod subset;
mod truth;

pub use clusters::{Level, Lloyd, cluster, lloyd};
pub use error::{CurateError, Result};
pub use explain::{explain, sentences};
pub use fingerprints::{Pdq, PdqHashes, Quality, fingerprint, pdq, usual_sizes};
pub use groups::components;
pub use input::Vectors;
pub use pairs::{NearPairs, Neighbours, matches_within, pairs_above, pairs_within};
pub use ranking::{Node, rank, ranking_tree};
pub use stages::{
    AtThreshold, CurateOptions, Curated, StageDone, Until, assign, check_limits, copies_at, curate, duplicates,
};
pub use subset::{CutFilter, Format, Size, cut, diff, export};
pub use truth::{RankedScore, Truth, ranked_score, score_csv};
