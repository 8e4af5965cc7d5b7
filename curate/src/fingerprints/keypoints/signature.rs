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

use super::keypoint::Found;
use super::orientation::angle_of;
use super::scale_space::Plane;
use multiversion::multiversion;
use std::f32::consts::TAU;
use std::sync::LazyLock;

const SIDE: usize = 16;
const CELLS: usize = 4;
const DIRECTIONS: usize = 8;
const VALUES: usize = CELLS * CELLS * DIRECTIONS;
const HALF: usize = VALUES / 2;
/// Samples across a patch with the border that gradients need.
const ROOM: usize = SIDE + 2;
/// Distance of samples in the keypoint's sigma.
const SPACING: f32 = 0.75;

/// 256 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Signature(pub(crate) [u64; 4]);

impl Signature {
    /// Bits in which two signatures differ.
    #[inline]
    pub(crate) fn distance_bits(&self, other: &Self) -> u32 {
        (0..4).map(|i| (self.0[i] ^ other.0[i]).count_ones()).sum()
    }

    /// The signature of the same place in the mirrored image.
    #[inline]
    pub(crate) fn mirrored(self) -> Self {
        Self([self.0[0], self.0[1], !self.0[2], !self.0[3]])
    }
}

/// What a sample adds to which cells: the first cell, and the weights of it and its right, lower and diagonal
/// neighbour.
struct Pooling {
    cells: [usize; 4],
    weights: [f32; 4],
}

static POOLING: LazyLock<Vec<Pooling>> = LazyLock::new(|| {
    let mut pooling = Vec::with_capacity(SIDE * SIDE);
    for v in 0..SIDE {
        for u in 0..SIDE {
            let place = |i: usize| (i as f32 + 0.5) / (SIDE / CELLS) as f32 - 0.5;
            let (across, down) = (place(u), place(v));
            let from_centre = |i: usize| i as f32 + 0.5 - SIDE as f32 / 2.0;
            let squared = from_centre(u).powi(2) + from_centre(v).powi(2);
            let gauss = (-squared / (2.0 * (SIDE as f32 / 2.0).powi(2))).exp();
            let mut cells = [0; 4];
            let mut weights = [0f32; 4];
            for (slot, (dy, dx)) in [(0, 0), (0, 1), (1, 0), (1, 1)].into_iter().enumerate() {
                let (row, column) = (down.floor() + dy as f32, across.floor() + dx as f32);
                let weight = (1.0 - (down - row).abs()) * (1.0 - (across - column).abs());
                let inside = |c: f32| c >= 0.0 && c < CELLS as f32;
                if inside(row) && inside(column) {
                    cells[slot] = (row as usize * CELLS + column as usize) * DIRECTIONS;
                    weights[slot] = weight * gauss;
                }
            }
            pooling.push(Pooling { cells, weights });
        }
    }
    pooling
});

/// Changes of sign before each of the two transforms of either half.
static SIGNS: LazyLock<[[[f32; HALF]; 2]; 4]> = LazyLock::new(|| {
    // A fixed stream: signatures must compare across machines and versions.
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        state = state.wrapping_mul(0xd129_0d3b_3f35_7a65).wrapping_add(0x1405_7b7e_f767_814f);
        if (state >> 61) & 1 == 1 { 1.0 } else { -1.0 }
    };
    std::array::from_fn(|_| std::array::from_fn(|_| std::array::from_fn(|_| next())))
});

/// The signature of a keypoint, from the level it was found at.
pub(crate) fn signature(plane: &Plane, found: &Found) -> Signature {
    bits(&gradient_histogram(plane, found))
}

/// The 128 values: cell by cell, row after row, 8 directions each; square roots of shares.
fn gradient_histogram(plane: &Plane, found: &Found) -> [f32; VALUES] {
    let (x, y, sigma) = found.in_octave();
    let (sin, cos) = found.keypoint.angle.sin_cos();
    let step = SPACING * sigma;
    let mut patch = [0f32; ROOM * ROOM];
    let (right, bottom) = (plane.width as f32 - 1.001, plane.height as f32 - 1.001);
    for v in 0..ROOM {
        let down = (v as f32 - (ROOM as f32 - 1.0) / 2.0) * step;
        for u in 0..ROOM {
            let across = (u as f32 - (ROOM as f32 - 1.0) / 2.0) * step;
            let px = (x + cos * across - sin * down).clamp(0.0, right);
            let py = (y + sin * across + cos * down).clamp(0.0, bottom);
            let (column, row) = (px as usize, py as usize);
            let (fx, fy) = (px - column as f32, py - row as f32);
            let upper = &plane.values[row * plane.width + column..][..2];
            let lower = &plane.values[(row + 1) * plane.width + column..][..2];
            let above = upper[0] + fx * (upper[1] - upper[0]);
            let below = lower[0] + fx * (lower[1] - lower[0]);
            patch[v * ROOM + u] = above + fy * (below - above);
        }
    }
    let (mut magnitudes, mut angles) = ([0f32; SIDE * SIDE], [0f32; SIDE * SIDE]);
    gradients(&patch, &mut magnitudes, &mut angles);
    let mut histogram = [0f32; VALUES];
    pool(&POOLING, &magnitudes, &angles, &mut histogram);
    let total = histogram.iter().sum::<f32>().max(1e-12);
    histogram.map(|value| (value / total).sqrt())
}

/// The length of each sample's gradient, and its angle in directions.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2+fma"))]
fn gradients(patch: &[f32; ROOM * ROOM], magnitudes: &mut [f32; SIDE * SIDE], angles: &mut [f32; SIDE * SIDE]) {
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
}

/// Adds each sample to its cells, all directions of a cell at once: those that it does not point to get nothing.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2+fma"))]
fn pool(
    pooling: &[Pooling],
    magnitudes: &[f32; SIDE * SIDE],
    angles: &[f32; SIDE * SIDE],
    histogram: &mut [f32; VALUES],
) {
    for ((pooling, magnitude), angle) in pooling.iter().zip(magnitudes).zip(angles) {
        let low = *angle as u32;
        let share = angle - low as f32;
        let (low, high) = (low % DIRECTIONS as u32, (low + 1) % DIRECTIONS as u32);
        let mut shares = [0f32; DIRECTIONS];
        for (direction, of_direction) in (0u32..).zip(&mut shares) {
            let upper = if direction == high { share } else { 0.0 };
            *of_direction = if direction == low { 1.0 - share } else { upper };
        }
        for (cell, weight) in pooling.cells.iter().zip(pooling.weights) {
            let votes = weight * magnitude;
            let cell: &mut [f32; DIRECTIONS] =
                (&mut histogram[*cell..*cell + DIRECTIONS]).try_into().expect("all directions of a cell");
            for direction in 0..DIRECTIONS {
                cell[direction] += votes * shares[direction];
            }
        }
    }
}

/// The place of a value in the mirrored histogram.
fn mirror_of(place: usize) -> usize {
    let (cell, direction) = (place / DIRECTIONS, place % DIRECTIONS);
    let (row, column) = (cell / CELLS, cell % CELLS);
    ((CELLS - 1 - row) * CELLS + column) * DIRECTIONS + (DIRECTIONS - direction) % DIRECTIONS
}

fn bits(histogram: &[f32; VALUES]) -> Signature {
    let mut sums: [f32; HALF] = std::array::from_fn(|i| histogram[i] + histogram[mirror_of(i)]);
    let differences: [f32; HALF] = std::array::from_fn(|i| histogram[i] - histogram[mirror_of(i)]);
    let mean = sums.iter().sum::<f32>() / HALF as f32;
    sums.iter_mut().for_each(|value| *value -= mean);
    let words = [(&sums, 0), (&sums, 1), (&differences, 2), (&differences, 3)];
    Signature(words.map(|(half, which)| project(half, &SIGNS[which])))
}

/// Signs of the 64 values of a randomly rotated vector.
fn project(half: &[f32; HALF], signs: &[[f32; HALF]; 2]) -> u64 {
    let mut values = *half;
    for round in signs {
        values.iter_mut().zip(round).for_each(|(value, sign)| *value *= sign);
        walsh_hadamard(&mut values);
    }
    values.iter().enumerate().fold(0, |word, (i, value)| word | u64::from(*value > 0.0) << i)
}

fn walsh_hadamard(values: &mut [f32; HALF]) {
    let mut width = 1;
    while width < HALF {
        for block in values.chunks_exact_mut(2 * width) {
            let (a, b) = block.split_at_mut(width);
            for (a, b) in a.iter_mut().zip(b) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        width *= 2;
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
        assert_eq!(bits(&histogram).mirrored(), bits(&mirrored));
    }
}
