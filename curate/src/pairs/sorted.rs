//! Pairs in an order: by their images, or the strongest first, as the table has them.

use super::{Affine, Fit, Overlap, Pair};
use crate::fingerprints::Dihedral;
use crate::memory::{Fields, Record};
use lapidary_schemas::CopyKind;
use std::cmp::Ordering;

/// A pair that sorts by its images; of the same images, what was found comes before what was passed on.
#[derive(Debug, Clone, Copy)]
pub(super) struct ByImages {
    pub(super) pair: Pair,
    /// Whether it is the pair of exact copies of these images.
    pub(super) is_passed_on: bool,
}

/// A pair that sorts by its score, the highest first, then by its images.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ByScore(pub(crate) Pair);

impl ByImages {
    fn key(&self) -> (usize, usize, bool) {
        (self.pair.a, self.pair.b, self.is_passed_on)
    }
}

impl Ord for ByImages {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl Ord for ByScore {
    fn cmp(&self, other: &Self) -> Ordering {
        other.0.score.total_cmp(&self.0.score).then((self.0.a, self.0.b).cmp(&(other.0.a, other.0.b)))
    }
}

macro_rules! ordered {
    ($($name:ty),*) => {$(
        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.cmp(other) == Ordering::Equal
            }
        }

        impl Eq for $name {}
    )*};
}
ordered!(ByImages, ByScore);

/// Bytes of a pair: two images, kind, score, similarity, bits, transform, correlation, fit (map, inliers, visible, rare) and
/// overlap.
const PAIR_BYTES: usize = 4 * 2 + 1 + 4 * 3 + 1 + 4 + 4 * 6 + 4 * 4 + 4 * 4;
/// A number that none of these can be.
const NONE: u32 = u32::MAX;

fn put(pair: &Pair, to: &mut Vec<u8>) {
    let start = to.len();
    let number = |to: &mut Vec<u8>, value: u32| to.extend(value.to_le_bytes());
    let float = |to: &mut Vec<u8>, value: Option<f32>| to.extend(value.unwrap_or(f32::NAN).to_le_bytes());
    number(to, pair.a as u32);
    number(to, pair.b as u32);
    to.push(CopyKind::ALL.iter().position(|kind| *kind == pair.kind).unwrap_or_default() as u8);
    float(to, Some(pair.score));
    float(to, pair.similarity);
    number(to, pair.hash_distance_bits.unwrap_or(NONE));
    to.push(pair.dihedral.map_or(u8::MAX, |dihedral| dihedral as u8));
    float(to, pair.correlation);
    let fit = pair.fit.as_ref();
    (0..6).for_each(|i| float(to, fit.map(|fit| fit.map.0[i])));
    // Keypoints of an image are counted in 32 bits.
    let counts = fit.map_or([NONE; 3], |fit| [fit.inliers, fit.visible.0, fit.visible.1].map(|count| count as u32));
    counts.into_iter().for_each(|count| number(to, count));
    float(to, fit.map(|fit| fit.rare));
    let overlap = pair.overlap.as_ref();
    float(to, overlap.map(|overlap| overlap.covered));
    float(to, overlap.map(|overlap| overlap.covered_back));
    float(to, overlap.map(|overlap| overlap.agreement));
    float(to, overlap.map(|overlap| overlap.correlation));
    debug_assert_eq!(to.len() - start, PAIR_BYTES);
}

fn get(bytes: &[u8]) -> Pair {
    let mut fields = Fields(bytes);
    let some = |value: f32| Some(value).filter(|value| !value.is_nan());
    let (a, b) = (fields.u32() as usize, fields.u32() as usize);
    let kind = CopyKind::ALL.get(usize::from(fields.u8())).copied().unwrap_or(CopyKind::Copy);
    let (score, similarity, bits) = (fields.f32(), some(fields.f32()), fields.u32());
    let (dihedral, correlation) = (fields.u8(), some(fields.f32()));
    let map = Affine(std::array::from_fn(|_| fields.f32()));
    let [inliers, visible_a, visible_b] = std::array::from_fn(|_| fields.u32());
    let rare = fields.f32();
    let [covered, covered_back, agreement, agreeing] = std::array::from_fn(|_| fields.f32());
    Pair {
        score,
        similarity,
        hash_distance_bits: (bits != NONE).then_some(bits),
        dihedral: Dihedral::ALL.get(usize::from(dihedral)).copied(),
        correlation,
        fit: (inliers != NONE).then_some(Fit {
            map,
            inliers: inliers as usize,
            visible: (visible_a as usize, visible_b as usize),
            rare,
        }),
        overlap: (!covered.is_nan()).then_some(Overlap { covered, covered_back, agreement, correlation: agreeing }),
        ..Pair::new(a, b, kind)
    }
}

impl Record for ByImages {
    const BYTES: usize = PAIR_BYTES + 1;

    fn put(&self, to: &mut Vec<u8>) {
        put(&self.pair, to);
        to.push(u8::from(self.is_passed_on));
    }

    fn get(bytes: &[u8]) -> Self {
        Self { pair: get(bytes), is_passed_on: bytes[PAIR_BYTES] != 0 }
    }
}

impl Record for ByScore {
    const BYTES: usize = PAIR_BYTES;

    fn put(&self, to: &mut Vec<u8>) {
        put(&self.0, to);
    }

    fn get(bytes: &[u8]) -> Self {
        Self(get(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_reads_as_it_was_written() {
        let bare = Pair::new(3, 70_000, CopyKind::Exact);
        let full = Pair {
            score: 0.75,
            similarity: Some(-0.5),
            hash_distance_bits: Some(0),
            dihedral: Some(Dihedral::Half),
            correlation: Some(0.0),
            fit: Some(Fit { map: Affine([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), inliers: 7, visible: (8, 9), rare: 2.5 }),
            overlap: Some(Overlap { covered: 0.1, covered_back: 0.2, agreement: 0.3, correlation: 0.4 }),
            ..Pair::new(0, 1, CopyKind::Local)
        };
        for pair in [bare, full] {
            for is_passed_on in [false, true] {
                let mut bytes = Vec::new();
                ByImages { pair, is_passed_on }.put(&mut bytes);
                assert_eq!(bytes.len(), ByImages::BYTES);
                let read = ByImages::get(&bytes);
                assert_eq!((read.pair, read.is_passed_on), (pair, is_passed_on));
            }
        }
        assert!(ByScore(full) < ByScore(Pair { score: 0.5, ..full }), "the strongest first");
    }
}
