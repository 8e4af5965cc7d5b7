//! What a stage may hold in memory, and where the rest goes.
//!
//! A [`Memory`] is a number of bytes and a folder. What grows with the pairs or the keypoints of a set is held while it
//! fits its share of the bytes; beyond that it lies in scratch files without a name, which the system removes with the
//! process, or is sorted in runs and merged ([`SortedRuns`]). The results are the same. Only what has one number of bytes
//! an image (ids, paths, hashes of one transform, embeddings) is held whatever its size, and counted beforehand.

mod budget;
mod fields;
mod sorted_runs;

pub(crate) use budget::{Memory, Share};
pub(crate) use fields::Fields;
pub(crate) use sorted_runs::{Record, Sorted, SortedRuns, scratch};
