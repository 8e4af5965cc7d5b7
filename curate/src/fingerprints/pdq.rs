//! The 256-bit DCT hash PDQ (Facebook, ThreatExchange 2019), its quality, and the hashes under the eight dihedral
//! transforms.
//!
//! Luma is smoothed twice by boxes of a 128th of each side, decimated to 64 x 64, and transformed by a DCT; bit `16 i +
//! j` says whether coefficient (i + 1, j + 1) lies above the lower median of the 256. `spec/curation.md` section 5 has
//! the constants. A mirror changes signs of coefficients and a quarter turn transposes them, so the hashes of the
//! transformed image follow from the same coefficients; from the bits they do not, as signs change what the median is.

use super::Dihedral;
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

/// `COSINES[i][j] = sqrt(2 / 64) cos(pi / 128 (i + 1) (2 j + 1))`.
static COSINES: LazyLock<[[f32; SIDE]; KEPT]> = LazyLock::new(|| {
    std::array::from_fn(|i| {
        std::array::from_fn(|j| {
            let angle = std::f64::consts::PI / 128.0 * (i as f64 + 1.0) * (2.0 * j as f64 + 1.0);
            ((2.0f64 / SIDE as f64).sqrt() * angle.cos()) as f32
        })
    })
});

/// The hashes of an image's luma (0 to 255), `width` values a row.
pub fn pdq(luma: &[f32], width: usize) -> PdqHashes {
    let height = luma.len() / width.max(1);
    if width.min(height) < MIN_SIDE_PX {
        return PdqHashes::default();
    }
    let mut small = [0f32; SIDE * SIDE];
    if (width, height) == (SIDE, SIDE) {
        small.copy_from_slice(luma);
    } else {
        let mut smooth = luma.to_vec();
        let mut other = vec![0f32; luma.len()];
        for _ in 0..2 {
            box_along_rows(&smooth, &mut other, width);
            box_along_columns(&other, &mut smooth, width);
        }
        let source = |o: usize, side: usize| ((o as f64 + 0.5) * side as f64 / SIDE as f64) as usize;
        for (i, value) in small.iter_mut().enumerate() {
            *value = smooth[source(i / SIDE, height) * width + source(i % SIDE, width)];
        }
    }
    let coefficients = transform(&small);
    PdqHashes { by_dihedral: Dihedral::ALL.map(|dihedral| hash(&coefficients, dihedral)), quality: quality(&small) }
}

/// The window of a side, and how far it reaches ahead.
fn window(side: usize) -> (usize, usize) {
    let window = side.div_ceil(128);
    (window, (window + 2) / 2)
}

/// Means over the window around each value of a row, cut off at its ends; sums run along.
fn box_along_rows(from: &[f32], to: &mut [f32], width: usize) {
    let (window, half) = window(width);
    for (row, out) in from.chunks_exact(width).zip(to.chunks_exact_mut(width)) {
        let (mut sum, mut count) = (0f32, 0f32);
        for value in &row[..(half - 1).min(width)] {
            (sum, count) = (sum + value, count + 1.0);
        }
        for (i, out) in out.iter_mut().enumerate() {
            if let Some(entering) = row.get(i + half - 1) {
                (sum, count) = (sum + entering, count + 1.0);
            }
            if let Some(leaving) = (i + half).checked_sub(window + 1) {
                (sum, count) = (sum - row[leaving], count - 1.0);
            }
            *out = sum / count;
        }
    }
}

/// The same down the columns, all columns at once.
fn box_along_columns(from: &[f32], to: &mut [f32], width: usize) {
    let height = from.len() / width;
    let (window, half) = window(height);
    let row = |y: usize| &from[y * width..(y + 1) * width];
    let mut sums = vec![0f32; width];
    let mut count = 0f32;
    let add = |sums: &mut Vec<f32>, y: usize, sign: f32| {
        sums.iter_mut().zip(row(y)).for_each(|(sum, value)| *sum += sign * value);
    };
    for y in 0..(half - 1).min(height) {
        add(&mut sums, y, 1.0);
        count += 1.0;
    }
    for y in 0..height {
        if y + half - 1 < height {
            add(&mut sums, y + half - 1, 1.0);
            count += 1.0;
        }
        if let Some(leaving) = (y + half).checked_sub(window + 1) {
            add(&mut sums, leaving, -1.0);
            count -= 1.0;
        }
        let out = &mut to[y * width..(y + 1) * width];
        out.iter_mut().zip(&sums).for_each(|(out, sum)| *out = sum / count);
    }
}

/// The 16 x 16 coefficients of the lowest frequencies, the constant ones left out.
fn transform(small: &[f32; SIDE * SIDE]) -> [f32; KEPT * KEPT] {
    let mut columns = [[0f32; SIDE]; KEPT];
    for (cosines, out) in COSINES.iter().zip(&mut columns) {
        for (cosine, row) in cosines.iter().zip(small.chunks_exact(SIDE)) {
            out.iter_mut().zip(row).for_each(|(out, value)| *out += cosine * value);
        }
    }
    std::array::from_fn(|at| {
        let (i, j) = (at / KEPT, at % KEPT);
        columns[i].iter().zip(&COSINES[j]).map(|(value, cosine)| value * cosine).sum()
    })
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
fn quality(small: &[f32; SIDE * SIDE]) -> u8 {
    let step = |u: f32, v: f32| ((u - v) * 100.0 / 255.0).trunc().abs() as u32;
    let mut sum = 0;
    for y in 0..SIDE {
        for x in 0..SIDE {
            let at = y * SIDE + x;
            if y + 1 < SIDE {
                sum += step(small[at], small[at + SIDE]);
            }
            if x + 1 < SIDE {
                sum += step(small[at], small[at + 1]);
            }
        }
    }
    (sum / 90).min(100) as u8
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
    fn boxes_are_means_over_the_window() {
        let values: Vec<f32> = (0..300).map(|i| ((i * 37) % 101) as f32).collect();
        let (window, half) = window(300);
        assert_eq!((window, half), (3, 2));
        let mut out = vec![0f32; 300];
        box_along_rows(&values, &mut out, 300);
        for i in 0..300usize {
            let around = &values[i.saturating_sub(window - half)..(i + half).min(300)];
            assert!((out[i] - around.iter().sum::<f32>() / around.len() as f32).abs() < 1e-3, "{i}");
        }
        let mut down = vec![0f32; 300];
        box_along_columns(&values, &mut down, 1);
        assert_eq!(out, down);
    }

    #[test]
    fn what_is_tiny_or_plain_has_no_quality() {
        assert_eq!(pdq(&[9.0; 12], 3), PdqHashes::default());
        assert_eq!(pdq(&vec![100.0; 200 * 100], 200).quality, 0);
    }
}
