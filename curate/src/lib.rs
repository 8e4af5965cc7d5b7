//! Which images to keep: duplicates out, clusters, and one ranking whose every prefix is a curated subset.
//!
//! Embeddings come as a table, whoever made them; this crate never sees a network. Only this crate knows FAISS.

mod clusters;
mod copies;
mod curate;
mod cut;
mod decisions;
mod duplicates;
mod error;
mod evidence;
mod export;
mod fingerprint;
mod input;
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
mod whitening;

pub use copies::duplicates;
pub use curate::curate;
pub use cut::{Size, cut};
pub use error::{CurateError, Result};
pub use export::{Format, export};
pub use fingerprint::{Pdq, PdqHashes, Quality, fingerprint, pdq};
pub use micro_ap::{RankedScore, ranked_score};
pub use multi_index::{matches_within, pairs_within};
pub use ranking::{Node, rank};
pub use score::{Truth, score_csv};
