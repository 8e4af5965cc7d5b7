//! The 256-bit DCT hash PDQ (Facebook, ThreatExchange 2019), its quality, and the hashes under the eight dihedral
//! transforms.
//!
//! Luma is smoothed twice by boxes of a 128th of each side, decimated to 64 x 64, and transformed by a DCT; bit `16 i +
//! j` says whether coefficient (i + 1, j + 1) lies above the lower median of the 256. `spec/curation.md` section 5 has
//! the constants. A mirror changes signs of coefficients and a quarter turn transposes them, so the hashes of the
//! transformed image follow from the same coefficients; from the bits they do not, as signs change what the median is.

use super::Dihedral;
use super::box_filter::BoxFilter;
use multiversion::multiversion;
use std::sync::LazyLock;

const SIDE: usize = 64;
const KEPT: usize = 16;
/// An image with a shorter side has no hash.
const MIN_SIDE_PX: usize = 5;

/// 256 bits; bit `i` is bit `i % 64` of word `i / 64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord)]
pub struct Pdq(pub [u64; 4]);

impl Pdq {
    /// Bits in which two hashes differ.
    pub fn distance_bits(&self, other: &Self) -> u32 {
        self.0.iter().zip(other.0).map(|(a, b)| (a ^ b).count_ones()).sum()
    }
}

impl std::fmt::Display for Pdq {
    /// 64 hexadecimal digits as the reference prints them: the last row first, its last column the highest bit.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().rev().try_for_each(|word| write!(f, "{word:016x}"))
    }
}

/// The hash of an image, under each dihedral transform, and how much there is to hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PdqHashes {
    /// The hash under each transform, the image itself first.
    pub by_dihedral: [Pdq; 8],
    /// 0 to 100; below 50 the image is too plain for its hash to mean anything.
    pub quality: u8,
}

/// `COSINES[j][i] = sqrt(2 / 64) cos(pi / 128 (i + 1) (2 j + 1))`.
static COSINES: LazyLock<[[f32; KEPT]; SIDE]> = LazyLock::new(|| {
    std::array::from_fn(|j| {
        std::array::from_fn(|i| {
            let angle = std::f64::consts::PI / 128.0 * (i as f64 + 1.0) * (2.0 * j as f64 + 1.0);
            ((2.0f64 / SIDE as f64).sqrt() * angle.cos()) as f32
        })
    })
});

/// The hashes of an image's luma (0 to 255), `width` values a row.
pub fn pdq(luma: &[f32], width: usize) -> PdqHashes {
    PdqHasher::default().hashes(luma, width)
}

/// Takes hashes; its buffers are kept from image to image.
#[derive(Debug, Default)]
pub(super) struct PdqHasher {
    boxes: BoxFilter,
    /// What was smoothed along rows last, and once along both sides.
    along: Vec<f32>,
    once: Vec<f32>,
}

impl PdqHasher {
    /// The hashes of an image's luma (0 to 255), `width` values a row.
    pub(super) fn hashes(&mut self, luma: &[f32], width: usize) -> PdqHashes {
        let height = luma.len() / width.max(1);
        if width.min(height) < MIN_SIDE_PX {
            return PdqHashes::default();
        }
        let mut small = [0f32; SIDE * SIDE];
        if (width, height) == (SIDE, SIDE) {
            small.copy_from_slice(luma);
        } else {
            // Of the second round only the values that are taken need be there.
            let all = |side: usize| (0..side).collect::<Vec<usize>>();
            let taken = |side: usize| -> Vec<usize> {
                (0..SIDE).map(|o| ((o as f64 + 0.5) * side as f64 / SIDE as f64) as usize).collect()
            };
            let Self { boxes, along, once } = self;
            boxes.along_rows(luma, width, &all(width), along);
            boxes.along_columns(along, width, &all(height), once);
            boxes.along_rows(once, width, &taken(width), along);
            boxes.along_columns(along, SIDE, &taken(height), once);
            small.copy_from_slice(once);
        }
        let coefficients = transform(&small, &COSINES);
        PdqHashes { by_dihedral: Dihedral::ALL.map(|dihedral| hash(&coefficients, dihedral)), quality: quality(&small) }
    }
}

/// The 16 x 16 coefficients of the lowest frequencies, the constant ones left out; `cosines` are those of each place.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2+fma"))]
fn transform(small: &[f32; SIDE * SIDE], cosines: &[[f32; KEPT]; SIDE]) -> [f32; KEPT * KEPT] {
    let mut coefficients = [0f32; KEPT * KEPT];
    for (i, coefficients) in coefficients.as_chunks_mut::<KEPT>().0.iter_mut().enumerate() {
        let mut column = [0f32; SIDE];
        for (cosines, row) in cosines.iter().zip(small.as_chunks::<SIDE>().0) {
            for x in 0..SIDE {
                column[x] += cosines[i] * row[x];
            }
        }
        for (cosines, value) in cosines.iter().zip(column) {
            for j in 0..KEPT {
                coefficients[j] += value * cosines[j];
            }
        }
    }
    coefficients
}

/// The hash of the transformed image. Row and column `k` of the coefficients have frequency `k + 1`, which is odd, and
/// so changes its sign when its axis is reversed, where `k` is even.
fn hash(coefficients: &[f32; KEPT * KEPT], dihedral: Dihedral) -> Pdq {
    let (transposed, mirrored, flipped) = dihedral.steps();
    let transformed: [f32; KEPT * KEPT] = std::array::from_fn(|at| {
        let (i, j) = (at / KEPT, at % KEPT);
        let value = if transposed { coefficients[j * KEPT + i] } else { coefficients[at] };
        let negative = (mirrored && j % 2 == 0) != (flipped && i % 2 == 0);
        if negative { -value } else { value }
    });
    let mut sorted = transformed;
    let (_, median, _) = sorted.select_nth_unstable_by(KEPT * KEPT / 2 - 1, f32::total_cmp);
    let median = *median;
    let mut words = [0u64; 4];
    for (bit, value) in transformed.iter().enumerate() {
        words[bit / 64] |= u64::from(*value > median) << (bit % 64);
    }
    Pdq(words)
}

/// How much neighbouring values differ, in whole hundredths of the range: 0 to 100.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2+fma"))]
fn quality(small: &[f32; SIDE * SIDE]) -> u8 {
    let mut sum = 0u32;
    for y in 0..SIDE {
        let row: &[f32; SIDE] = small[y * SIDE..][..SIDE].try_into().expect("a row");
        let below: &[f32; SIDE] = small[(y + 1).min(SIDE - 1) * SIDE..][..SIDE].try_into().expect("a row");
        for x in 0..SIDE {
            // Of the last row with itself there is no difference.
            sum += step(row[x], below[x]);
        }
        for x in 0..SIDE - 1 {
            sum += step(row[x], row[x + 1]);
        }
    }
    (sum / 90).min(100) as u8
}

/// A difference in whole hundredths of the range.
#[inline(always)]
fn step(u: f32, v: f32) -> u32 {
    (((u - v) * 100.0 / 255.0) as i32).unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// spec/curation.md section 8, test 7.
    fn synthetic() -> Vec<f32> {
        (0..64 * 64)
            .map(|at| ((7 * (at / 64) + 13 * (at % 64) + 5 * ((at / 64 * (at % 64)) % 31)) % 256) as f32)
            .collect()
    }

    #[test]
    fn the_published_pattern_has_the_published_hash() {
        let hashes = pdq(&synthetic(), 64);
        assert_eq!(
            hashes.by_dihedral[0].to_string(),
            "33f1be84637fd542737f7540ba8954c2ffeaf545a645774a6fc2501504283095"
        );
        assert_eq!(hashes.quality, 100);
        assert_eq!(hashes.by_dihedral[0].0.iter().map(|word| word.count_ones()).sum::<u32>(), 128);
    }

    #[test]
    fn the_hashes_under_transforms_are_the_hashes_of_the_turned_image() {
        let image = synthetic();
        let hashes = pdq(&image, 64);
        for (dihedral, expected) in Dihedral::ALL.into_iter().zip(hashes.by_dihedral) {
            let transformed: Vec<f32> = (0..64 * 64).map(|at| image[dihedral.source(at / 64, at % 64, 64)]).collect();
            // Sums of the transform run in another order: coefficients at the median may change sides.
            assert!(pdq(&transformed, 64).by_dihedral[0].distance_bits(&expected) <= 2, "{dihedral:?}");
        }
        let mirrored: Vec<f32> = (0..64 * 64).map(|at| image[Dihedral::Mirror.source(at / 64, at % 64, 64)]).collect();
        assert_eq!(pdq(&mirrored, 64).by_dihedral[0], hashes.by_dihedral[1], "test 8: no bit differs in a mirror");
    }

    #[test]
    fn what_is_tiny_or_plain_has_no_quality() {
        assert_eq!(pdq(&[9.0; 12], 3), PdqHashes::default());
        assert_eq!(pdq(&vec![100.0; 200 * 100], 200).quality, 0);
    }
}
