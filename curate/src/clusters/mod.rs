//! Clusters of kept images.
//!
//! In come vectors; out go levels of centroids, the finest first, and each image's cluster at each ([`hierarchy`], by
//! [`kmeans`] and [`assignment`]). Images that come later go to the nearest leaf of the tree that is there
//! ([`previous`]); [`drift`] says how well it still fits.

mod assignment;
mod drift;
mod hierarchy;
mod kmeans;
mod previous;
mod table;

pub(crate) use assignment::assign;
pub(crate) use drift::{Drift, Spread};
pub use hierarchy::{Level, cluster};
pub use kmeans::{Lloyd, lloyd};
pub(crate) use previous::PreviousTree;
pub(crate) use table::{read_tree, write_clusters};
