//! One ranking for every size.
//!
//! In come groups and clusters; out goes a decision on every image: its rank, or why it has none. Seeds retrieve what
//! is like them ([`retrieval`]), the [`tree`] of clusters orders its leaves, [`water_filling`] walks it, [`decisions`]
//! say why.

mod decisions;
mod leaf_order;
mod retrieval;
mod table;
mod tree;
mod water_filling;

pub(crate) use decisions::{Decision, Verdicts};
pub(crate) use retrieval::{Seeds, read_retrieved, write_retrieved};
pub(crate) use table::write_decisions;
pub use tree::ranking_tree;
pub(crate) use tree::{Kept, LeafPlace, tree_of};
pub use water_filling::{Node, rank};
