//! Clusters of kept images.
//!
//! In come vectors; out go levels of centroids, the finest first, and each image's cluster at each ([`hierarchy`], by
//! [`kmeans`] and [`assignment`]). Where the tree is fitted on a sample, all images are assigned to it shard by shard
//! ([`assigned`]). Images that come later go to the nearest leaf of the tree that is there ([`previous`]); [`drift`] says how
//! well it still fits.

mod assigned;
mod assignment;
mod drift;
mod hierarchy;
mod kmeans;
mod previous;
mod table;

pub(crate) use assigned::{Leaves, read_assigned, squared_distance_of};
pub(crate) use assignment::assign;
pub(crate) use drift::{Drift, Spread};
pub(crate) use hierarchy::cluster_sample;
pub use hierarchy::{Fitted, Level, cluster};
pub use kmeans::{Lloyd, lloyd};
pub(crate) use previous::PreviousTree;
pub(crate) use table::{read_ids, read_levels, read_tree, write_clusters};
