//! A pair that a hash or an embedding proposes, of whole images.

use super::Pair;
use crate::fingerprints::Dihedral;
use crate::memory::{Fields, Record};
use lapidary_schemas::CopyKind;
use std::cmp::Ordering;

/// Two whole images that may be copies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    a: u32,
    b: u32,
    /// Bits in which hashes differ, [`NO_HASH`] where none proposed it, and the dihedral transform.
    bits: u32,
    dihedral: u8,
    /// Cosine of embeddings; NaN where none proposed it.
    similarity: f32,
}

/// More bits than a hash has.
const NO_HASH: u32 = u32::MAX;

impl Candidate {
    /// By hashes that differ in so many bits, `a` transformed.
    pub(super) fn by_hash(a: usize, b: usize, dihedral: Dihedral, bits: u32) -> Self {
        Self { a: a as u32, b: b as u32, bits, dihedral: dihedral as u8, similarity: f32::NAN }
    }

    /// By embeddings of that cosine.
    pub(super) fn by_embedding(a: usize, b: usize, similarity: f32) -> Self {
        Self { a: a as u32, b: b as u32, bits: NO_HASH, dihedral: Dihedral::None as u8, similarity }
    }

    /// The two images.
    pub(super) fn images(&self) -> (usize, usize) {
        (self.a as usize, self.b as usize)
    }

    /// The pair that candidates of the same two images propose: near under several transforms, it is taken under the
    /// nearest.
    pub(super) fn pair(candidates: &[Self]) -> Option<Pair> {
        let first = candidates.first()?;
        let is_by_hash = first.bits != NO_HASH;
        let kind = if is_by_hash { CopyKind::Perceptual } else { CopyKind::Copy };
        let similarity = candidates.iter().map(|candidate| candidate.similarity).find(|value| !value.is_nan());
        Some(Pair {
            hash_distance_bits: is_by_hash.then_some(first.bits),
            dihedral: Dihedral::ALL.get(usize::from(first.dihedral)).copied(),
            similarity,
            ..Pair::new(first.a as usize, first.b as usize, kind)
        })
    }
}

/// By images, then by bits, then by transform: the nearest hash comes first.
impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |c: &Self| (c.a, c.b, c.bits, c.dihedral);
        key(self).cmp(&key(other)).then(self.similarity.total_cmp(&other.similarity))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Candidate {}

impl Record for Candidate {
    const BYTES: usize = 17;

    fn put(&self, to: &mut Vec<u8>) {
        [self.a, self.b, self.bits].iter().for_each(|number| to.extend(number.to_le_bytes()));
        to.push(self.dihedral);
        to.extend(self.similarity.to_le_bytes());
    }

    fn get(bytes: &[u8]) -> Self {
        let mut fields = Fields(bytes);
        let (a, b, bits) = (fields.u32(), fields.u32(), fields.u32());
        Self { a, b, bits, dihedral: fields.u8(), similarity: fields.f32() }
    }
}
