//! Pairs of images with evidence that one is a copy of the other.
//!
//! In come images with fingerprints and embeddings; out goes the table of pairs, each with a score from 0 to 1 and the
//! facts behind it. Candidates are proposed by equal bytes ([`exact`]), near hashes ([`hashes`]), complementary ones
//! ([`inverted`]), near embeddings ([`embeddings`]) and shared keypoints ([`keypoints`]); [`judge`] holds each to a check
//! of its own. Of many near-identical images one stands for the others ([`stars`]). Nothing here decides who goes.

mod blocks;
mod candidate;
mod colours;
mod compared;
mod detail;
mod embeddings;
mod exact;
mod hashes;
mod index;
mod inverted;
mod judge;
mod keypoints;
mod multi_index;
mod overlap;
mod pair;
mod previous;
mod search;
mod sorted;
mod stars;
mod table;
mod union_find;

pub(crate) use compared::Compared;
pub use embeddings::{NearPairs, pairs_above};
pub use index::Neighbours;
pub(crate) use keypoints::{Affine, Fit};
pub use multi_index::{matches_within, pairs_within};
pub(crate) use overlap::Overlap;
pub use pair::Pair;
pub(crate) use previous::{KnownPairs, PreviousPairs};
pub(crate) use search::{FoundPairs, Occurrences, find_pairs};
pub(crate) use sorted::ByScore;
use table::read_pairs;
pub(crate) use table::{write_indexed, write_pairs, write_rarity};
pub(crate) use union_find::UnionFind;
