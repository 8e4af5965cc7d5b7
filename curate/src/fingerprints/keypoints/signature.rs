//! The binary signature of a keypoint: 256 bits that say how gradients lie around it, and that know their mirror image.
//!
//! 1. A 16 x 16 patch of the keypoint's level is sampled along its orientation, 0.75 sigma apart.
//! 2. Gradients fall into 4 x 4 cells of 8 directions, shared between the nearest cells and directions and weighted by a
//!    Gaussian: the 128 values of SIFT (Lowe 2004, section 6), then square roots of their shares (RootSIFT, Arandjelovic and
//!    Zisserman 2012).
//! 3. In a mirror, row `r` of cells becomes row `3 - r` and direction `o` becomes `-o`. The sums of such pairs of values stay
//!    as they are, their differences change sign. 128 bits are signs of random projections of the 64 sums (less their
//!    mean), 128 of the 64 differences. So **the signature of the mirrored image is this one, its second half inverted**.
//!
//! Projections are Walsh-Hadamard transforms after random changes of sign; bits then differ in proportion to the angle
//! between the projected vectors (Charikar 2002).

use super::gradient_rows::angle_of;
use super::keypoint::Found;
use super::pooling::{CELLS, DIRECTIONS, SIDE, VALUES, WEIGHTS, Weights, pool};
use super::scale_space::Plane;
use crate::fingerprints::bilinear;
use multiversion::multiversion;
use std::f32::consts::TAU;
use std::sync::LazyLock;

const HALF: usize = VALUES / 2;
/// Words of a signature.
const WORDS: usize = 4;
/// Samples across a patch with the border that gradients need.
const ROOM: usize = SIDE + 2;
/// Distance of samples in the keypoint's sigma.
const SPACING: f32 = 0.75;

/// 256 bits; none straddles two lines of the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(align(32))]
pub(crate) struct Signature(pub(crate) [u64; WORDS]);

impl Signature {
    /// Bits in which two signatures differ.
    #[inline]
    pub(crate) fn distance_bits(&self, other: &Self) -> u32 {
        (0..4).map(|i| (self.0[i] ^ other.0[i]).count_ones()).sum()
    }

    /// Bits in which two signatures differ, and in which the mirrored one differs from the other.
    #[inline]
    pub(crate) fn distances_bits(&self, other: &Self) -> [u32; 2] {
        let [a, b, c, d] = std::array::from_fn(|i| (self.0[i] ^ other.0[i]).count_ones());
        [a + b + c + d, a + b + u64::BITS * 2 - c - d]
    }

    /// The signature of the same place in the mirrored image.
    #[inline]
    pub(crate) fn mirrored(self) -> Self {
        Self([self.0[0], self.0[1], !self.0[2], !self.0[3]])
    }
}

/// Where the samples of a patch lie, in samples from its middle: across, and down.
static OFFSETS: LazyLock<[[f32; ROOM * ROOM]; 2]> = LazyLock::new(|| {
    let from_middle = |i: usize| i as f32 - (ROOM as f32 - 1.0) / 2.0;
    [std::array::from_fn(|i| from_middle(i % ROOM)), std::array::from_fn(|i| from_middle(i / ROOM))]
});

/// Changes of sign before each of the two transforms: value after value, of each the four words' one after the other.
static SIGNS: LazyLock<[[f32; WORDS * HALF]; 2]> = LazyLock::new(|| {
    // A fixed stream: signatures must compare across machines and versions.
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        state = state.wrapping_mul(0xd129_0d3b_3f35_7a65).wrapping_add(0x1405_7b7e_f767_814f);
        if (state >> 61) & 1 == 1 { 1.0 } else { -1.0 }
    };
    let drawn: [[[f32; HALF]; 2]; WORDS] =
        std::array::from_fn(|_| std::array::from_fn(|_| std::array::from_fn(|_| next())));
    std::array::from_fn(|round| std::array::from_fn(|i| drawn[i % WORDS][round][i / WORDS]))
});

/// The place of each value in the mirrored histogram.
static MIRRORED: LazyLock<[u8; VALUES]> = LazyLock::new(|| std::array::from_fn(|place| mirror_of(place) as u8));

/// The signature of a keypoint, from the level it was found at.
pub(crate) fn signature(plane: &Plane, found: &Found) -> Signature {
    let (x, y, sigma) = found.in_octave();
    let (sin, cos) = found.keypoint.angle.sin_cos();
    let histogram = gradient_histogram(plane, [x, y, SPACING * sigma, sin, cos], &OFFSETS, &WEIGHTS);
    bits(&histogram, &MIRRORED, &SIGNS)
}

/// The 128 values: cell by cell, row after row, 8 directions each; square roots of shares. The patch is given by its middle, the
/// distance of its samples, and the sine and cosine of its direction.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2+fma"))]
fn gradient_histogram(
    plane: &Plane,
    patch: [f32; 5],
    offsets: &[[f32; ROOM * ROOM]; 2],
    weights: &Weights,
) -> [f32; VALUES] {
    let patch = sample(plane, patch, offsets);
    let (magnitudes, angles) = gradients(&patch);
    let mut histogram = pool(&magnitudes, &angles, weights);
    let total = histogram.iter().sum::<f32>().max(1e-12);
    for value in &mut histogram {
        *value = (*value / total).sqrt();
    }
    histogram
}

/// The level's values at the samples of a patch, row after row.
#[inline(always)]
fn sample(plane: &Plane, patch: [f32; 5], offsets: &[[f32; ROOM * ROOM]; 2]) -> [f32; ROOM * ROOM] {
    let [x, y, step, sin, cos] = patch;
    let (mut px, mut py) = ([0f32; ROOM * ROOM], [0f32; ROOM * ROOM]);
    for i in 0..ROOM * ROOM {
        let (across, down) = (offsets[0][i] * step, offsets[1][i] * step);
        px[i] = x + cos * across - sin * down;
        py[i] = y + sin * across + cos * down;
    }
    bilinear(&plane.values, plane.width, [&px, &py], (plane.width as f32 - 1.001, plane.height as f32 - 1.001))
}

/// The length of each sample's gradient, and its angle in directions.
#[inline(always)]
fn gradients(patch: &[f32; ROOM * ROOM]) -> ([f32; SIDE * SIDE], [f32; SIDE * SIDE]) {
    let (mut magnitudes, mut angles) = ([0f32; SIDE * SIDE], [0f32; SIDE * SIDE]);
    for v in 0..SIDE {
        let above: &[f32; ROOM] = patch[v * ROOM..(v + 1) * ROOM].try_into().expect("a row");
        let here: &[f32; ROOM] = patch[(v + 1) * ROOM..(v + 2) * ROOM].try_into().expect("a row");
        let below: &[f32; ROOM] = patch[(v + 2) * ROOM..(v + 3) * ROOM].try_into().expect("a row");
        for u in 0..SIDE {
            let dx = here[u + 2] - here[u];
            let dy = below[u + 1] - above[u + 1];
            magnitudes[v * SIDE + u] = (dx * dx + dy * dy).sqrt();
            angles[v * SIDE + u] = angle_of(dy, dx) * (DIRECTIONS as f32 / TAU);
        }
    }
    (magnitudes, angles)
}

/// The place of a value in the mirrored histogram.
fn mirror_of(place: usize) -> usize {
    let (cell, direction) = (place / DIRECTIONS, place % DIRECTIONS);
    let (row, column) = (cell / CELLS, cell % CELLS);
    ((CELLS - 1 - row) * CELLS + column) * DIRECTIONS + (DIRECTIONS - direction) % DIRECTIONS
}

/// Signs of the 64 values of each word's randomly rotated vector; the four are rotated side by side. Not for AVX-512, where the
/// compiler gathers and scatters values that lie side by side.
#[multiversion(targets("x86_64+avx2+fma"))]
fn bits(histogram: &[f32; VALUES], mirrored: &[u8; VALUES], signs: &[[f32; WORDS * HALF]; 2]) -> Signature {
    let (mut sums, mut differences) = ([0f32; HALF], [0f32; HALF]);
    for i in 0..HALF {
        let other = histogram[usize::from(mirrored[i]) % VALUES];
        (sums[i], differences[i]) = (histogram[i] + other, histogram[i] - other);
    }
    let mean = sums.iter().sum::<f32>() / HALF as f32;
    let mut values = [0f32; WORDS * HALF];
    for i in 0..HALF {
        let sum = sums[i] - mean;
        values[WORDS * i..WORDS * (i + 1)].copy_from_slice(&[sum, sum, differences[i], differences[i]]);
    }
    for signs in signs {
        for (value, sign) in values.iter_mut().zip(signs) {
            *value *= sign;
        }
        walsh_hadamard(&mut values);
    }
    // A byte for each sign: those of one value's four words lie side by side. Of eight values a byte of each word is made at once.
    let mut signs = [0u8; WORDS * HALF];
    for (sign, value) in signs.iter_mut().zip(values) {
        *sign = u8::from(value > 0.0);
    }
    let mut words = [0u64; WORDS];
    for (number, eight) in signs.as_chunks::<WORDS>().0.as_chunks::<8>().0.iter().enumerate() {
        let bytes = (0..8).fold(0, |bytes, i| bytes | u32::from_le_bytes(eight[i]) << i).to_le_bytes();
        for (word, byte) in words.iter_mut().zip(bytes) {
            *word |= u64::from(byte) << (8 * number);
        }
    }
    Signature(words)
}

/// The transform of the four words' vectors, which lie side by side.
#[inline(always)]
fn walsh_hadamard(values: &mut [f32; WORDS * HALF]) {
    butterflies::<WORDS>(values);
    butterflies::<{ 2 * WORDS }>(values);
    butterflies::<{ 4 * WORDS }>(values);
    butterflies::<{ 8 * WORDS }>(values);
    butterflies::<{ 16 * WORDS }>(values);
    butterflies::<{ 32 * WORDS }>(values);
}

/// Sums and differences of values that lie `WIDTH` apart, which the compiler knows, so that it makes vectors of the short ones, too.
#[inline(always)]
fn butterflies<const WIDTH: usize>(values: &mut [f32; WORDS * HALF]) {
    for [a, b] in values.as_chunks_mut::<WIDTH>().0.as_chunks_mut::<2>().0 {
        for (a, b) in a.iter_mut().zip(b) {
            (*a, *b) = (*a + *b, *a - *b);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::extrema::find;
    use super::super::scale_space::ScaleSpace;
    use super::*;

    fn textured(width: usize, height: usize, mirrored: bool) -> Plane {
        let mut plane = Plane::default();
        plane.resize(width, height);
        for (i, value) in plane.values.iter_mut().enumerate() {
            let x = if mirrored { width - 1 - i % width } else { i % width } as f32;
            let y = (i / width) as f32;
            *value = 0.5 + 0.2 * (0.31 * x + 0.002 * x * y).sin() + 0.2 * (0.23 * y - 0.003 * x * x).cos();
        }
        plane
    }

    #[test]
    fn a_mirrored_keypoint_has_the_mirrored_signature() {
        let (mut space, mut other) = (ScaleSpace::default(), ScaleSpace::default());
        let (width, height) = (161, 120);
        space.build(&textured(width, height, false));
        other.build(&textured(width, height, true));
        let (found, reflected) = (find(&space, 80), find(&other, 80));
        let signed = |space: &ScaleSpace, f: &Found| signature(&space.octaves()[f.octave].gaussians[f.level], f);
        let (mut pairs, mut far) = (0, 0);
        for a in &found {
            for b in &reflected {
                let angle = (std::f32::consts::PI - a.keypoint.angle - b.keypoint.angle).rem_euclid(TAU);
                let same = ((width - 1) as f32 - a.keypoint.x - b.keypoint.x).hypot(a.keypoint.y - b.keypoint.y) < 0.3
                    && (a.keypoint.sigma / b.keypoint.sigma - 1.0).abs() < 0.05
                    && angle.min(TAU - angle) < 0.1;
                if same {
                    let (a, b) = (signed(&space, a), signed(&other, b));
                    pairs += 1;
                    far += u32::from(a.mirrored().distance_bits(&b) > 24);
                }
            }
        }
        assert!(pairs >= 20 && far * 10 <= pairs, "{far} of {pairs} mirrored keypoints differ");
    }

    #[test]
    fn mirroring_the_histogram_inverts_the_second_half() {
        let histogram: [f32; VALUES] = std::array::from_fn(|i| ((i * 37 % 101) as f32 / 101.0).sqrt());
        let mirrored: [f32; VALUES] = std::array::from_fn(|i| histogram[mirror_of(i)]);
        let bits = |histogram: &[f32; VALUES]| bits(histogram, &MIRRORED, &SIGNS);
        assert_eq!(bits(&histogram).mirrored(), bits(&mirrored));
        let (a, b) = (bits(&histogram), bits(&histogram.map(|value| (9.0 * value).sin())));
        assert_eq!(a.distances_bits(&b), [a.distance_bits(&b), a.mirrored().distance_bits(&b)]);
    }

    /// Steps 1 and 2 as they are written down: sample by sample, each to the four cells around it.
    fn gradient_histogram_reference(plane: &Plane, found: &Found) -> [f32; VALUES] {
        let (x, y, sigma) = found.in_octave();
        let (sin, cos) = found.keypoint.angle.sin_cos();
        let step = SPACING * sigma;
        let value = |u: usize, v: usize| {
            let from_middle = |i: usize| (i as f32 - (ROOM as f32 - 1.0) / 2.0) * step;
            let (across, down) = (from_middle(u), from_middle(v));
            let px = (x + cos * across - sin * down).clamp(0.0, plane.width as f32 - 1.001);
            let py = (y + sin * across + cos * down).clamp(0.0, plane.height as f32 - 1.001);
            let at = |column: usize, row: usize| plane.values[row * plane.width + column];
            let (column, row) = (px as usize, py as usize);
            let along = |row: usize| at(column, row) + (px - column as f32) * (at(column + 1, row) - at(column, row));
            along(row) + (py - row as f32) * (along(row + 1) - along(row))
        };
        let mut histogram = [0f32; VALUES];
        for v in 0..SIDE {
            for u in 0..SIDE {
                let dx = value(u + 2, v + 1) - value(u, v + 1);
                let dy = value(u + 1, v + 2) - value(u + 1, v);
                let angle = angle_of(dy, dx) * (DIRECTIONS as f32 / TAU);
                let (low, share) = (angle as usize, angle - angle.floor());
                let place = |i: usize| (i as f32 + 0.5) / (SIDE / CELLS) as f32 - 0.5;
                let from_centre = |i: usize| (i as f32 + 0.5 - SIDE as f32 / 2.0).powi(2);
                let gauss = (-(from_centre(u) + from_centre(v)) / (2.0 * (SIDE as f32 / 2.0).powi(2))).exp();
                for row in 0..CELLS {
                    for column in 0..CELLS {
                        let near = |at: f32, cell: usize| (1.0 - (at - cell as f32).abs()).max(0.0);
                        let votes = near(place(v), row) * near(place(u), column) * gauss * (dx * dx + dy * dy).sqrt();
                        let cell = (row * CELLS + column) * DIRECTIONS;
                        histogram[cell + low % DIRECTIONS] += votes * (1.0 - share);
                        histogram[cell + (low + 1) % DIRECTIONS] += votes * share;
                    }
                }
            }
        }
        let total = histogram.iter().sum::<f32>().max(1e-12);
        histogram.map(|value| (value / total).sqrt())
    }

    /// Step 3 as it is written down: word by word.
    fn bits_reference(histogram: &[f32; VALUES]) -> Signature {
        let sums: [f32; HALF] = std::array::from_fn(|i| histogram[i] + histogram[mirror_of(i)]);
        let differences: [f32; HALF] = std::array::from_fn(|i| histogram[i] - histogram[mirror_of(i)]);
        let mean = sums.iter().sum::<f32>() / HALF as f32;
        let sums = sums.map(|sum| sum - mean);
        let project = |word: usize| {
            let mut values = if word < 2 { sums } else { differences };
            for round in 0..2 {
                values.iter_mut().enumerate().for_each(|(i, value)| *value *= SIGNS[round][WORDS * i + word]);
                for bit in 0..6 {
                    let before = values;
                    for (i, value) in values.iter_mut().enumerate() {
                        let (one, other) = (before[i & !(1 << bit)], before[i | 1 << bit]);
                        *value = if i >> bit & 1 == 0 { one + other } else { one - other };
                    }
                }
            }
            values.iter().enumerate().fold(0, |word, (i, value)| word | u64::from(*value > 0.0) << i)
        };
        Signature(std::array::from_fn(project))
    }

    #[test]
    fn a_signature_has_the_bits_of_the_plain_one() {
        let mut space = ScaleSpace::default();
        space.build(&textured(161, 120, false));
        let found = find(&space, 200);
        assert!(found.len() > 60, "{}", found.len());
        for found in &found {
            let plane = &space.octaves()[found.octave].gaussians[found.level];
            let histogram = gradient_histogram_reference(plane, found);
            assert_eq!(signature(plane, found), bits_reference(&histogram), "{found:?}");
            let (x, y, sigma) = found.in_octave();
            let (sin, cos) = found.keypoint.angle.sin_cos();
            let patch = [x, y, SPACING * sigma, sin, cos];
            let computed = gradient_histogram(plane, patch, &OFFSETS, &WEIGHTS);
            assert_eq!(computed.map(f32::to_bits), histogram.map(f32::to_bits), "{found:?}");
        }
    }
}
