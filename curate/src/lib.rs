//! Which images to keep: duplicates out, clusters, and one ranking whose every prefix is a curated subset.
//!
//! Embeddings come as a table, whoever made them; this crate never sees a network. Only this crate knows FAISS.

mod clusters;
mod curate;
mod cut;
mod duplicates;
mod error;
mod export;
mod hashes;
mod input;
mod neighbours;
mod ranking;
mod score;
mod summary;
mod tables;
mod tree;

pub use curate::curate;
pub use cut::{Size, cut};
pub use error::{CurateError, Result};
pub use export::{Format, export};
pub use ranking::{Node, rank};
