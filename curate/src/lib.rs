//! Which images to keep: duplicates out, clusters, and one ranking whose every prefix is a curated subset.
//!
//! Embeddings come as a table, whoever made them; this crate never sees a network. Only this crate knows FAISS.

mod assign;
mod clusters;
mod collages;
mod copies;
mod curate;
mod cut;
mod decisions;
mod diff;
mod drift;
mod duplicates;
mod error;
mod evidence;
mod explain;
mod export;
mod filter;
mod fingerprint;
mod former;
mod input;
mod kmeans;
mod local;
mod micro_ap;
mod multi_index;
mod neighbours;
mod overlap;
mod pool;
mod ranking;
mod score;
mod seeds;
mod summary;
mod tables;
mod tree;
mod union_find;
mod whitening;

pub use clusters::{Level, cluster};
pub use copies::duplicates;
pub use curate::curate;
pub use cut::{Size, cut};
pub use diff::diff;
pub use error::{CurateError, Result};
pub use explain::explain;
pub use export::{Format, export};
pub use filter::CutFilter;
pub use fingerprint::{Pdq, PdqHashes, Quality, fingerprint, pdq, usual_sizes};
pub use input::Vectors;
pub use kmeans::{Lloyd, lloyd};
pub use micro_ap::{RankedScore, ranked_score};
pub use multi_index::{matches_within, pairs_within};
pub use neighbours::{NearPairs, Neighbours, pairs_above};
pub use ranking::{Node, rank};
pub use score::{Truth, score_csv};
pub use tree::ranking_tree;
pub use union_find::components;
