//! A pair of images: the evidence that one is a copy of the other.

use super::{Fit, Overlap};
use crate::fingerprints::Dihedral;
use lapidary_schemas::CopyKind;

/// Evidence between two images, by index.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair {
    /// The one with the smaller index.
    pub a: usize,
    /// The other.
    pub b: usize,
    /// The strongest kind of evidence.
    pub kind: CopyKind,
    /// 0 to 1; from `curate.score_min` on the two are linked.
    pub score: f32,
    /// Cosine of their embeddings, where there are any.
    pub similarity: Option<f32>,
    /// Bits in which their PDQ hashes differ, `a` transformed.
    pub hash_distance_bits: Option<u32>,
    /// The dihedral transform that makes `b` of `a`, where a hash or an embedding says so.
    pub dihedral: Option<Dihedral>,
    /// Correlation of their thumbnails, `a` transformed.
    pub correlation: Option<f32>,
    /// What their keypoints share.
    pub fit: Option<Fit>,
    /// What their thumbnails say of that.
    pub overlap: Option<Overlap>,
}

impl Pair {
    /// Two images of which nothing is known but what proposed them.
    pub(crate) fn new(a: usize, b: usize, kind: CopyKind) -> Self {
        Self {
            a,
            b,
            kind,
            score: 0.0,
            similarity: None,
            hash_distance_bits: None,
            dihedral: None,
            correlation: None,
            fit: None,
            overlap: None,
        }
    }
}
