//! Fingerprints: all that is kept of an image's pixels to find its copies and to judge it.
//!
//! In come images, one decode each; out goes a row an image: hashes in the eight dihedral transforms, a thumbnail, a
//! finer one, the mean colour, measures of quality, keypoints with signatures. A [`Pool`] holds those of a source beside its
//! embeddings.

mod bilinear;
mod box_filter;
mod colour;
mod detail;
mod dihedral;
mod fingerprinter;
mod keypoints;
mod pdq;
mod pool;
mod quality;
mod record;
mod stage;
mod store;
mod table;
mod thumbnail;

pub(crate) use bilinear::{bilinear, whole_part};
pub(crate) use colour::{LEVELS_APART_MAX, is_same_colour};
pub(crate) use detail::Detail;
pub(crate) use dihedral::Dihedral;
pub(crate) use fingerprinter::{Contents, Fingerprint, Fingerprinter, Fingerprinters};
pub(crate) use keypoints::{Keypoint, LocalFeatures, Signature};
pub use pdq::{Pdq, PdqHashes, pdq};
pub(crate) use pool::{ImageSet, Pool, PoolFolders, dropped_for, issues_of};
pub use quality::{Quality, usual_sizes};
pub use stage::fingerprint;
pub(crate) use store::{Prints, PrintsWriter};
pub(crate) use table::read_measures;
pub(crate) use thumbnail::Thumbnail;
