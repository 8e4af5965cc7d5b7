//! Keypoints that two images share, and the affine map that carries one set onto the other.
//!
//! Hash tables over the whole set propose pairs of images ([`lsh`]); a geometric fit confirms them ([`fit`]), in which
//! a keypoint counts the less the more images have it ([`rarity`]).

mod affine;
mod fit;
mod lsh;
mod matching;
mod rarity;
mod slot;
mod vote;

pub(crate) use affine::Affine;
pub(crate) use fit::Fit;
pub(super) use fit::confirm;
pub(super) use lsh::{KeypointSet, VOTE_MAX_BITS, Votes};
pub(super) use rarity::Rarity;
pub(super) use vote::Proposal;
