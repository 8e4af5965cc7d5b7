//! Pooling the gradients of a patch: into cells of eight directions, shared between the nearest cells and directions.
//!
//! Each of the 128 sums runs in the order of the samples, row after row, so that it has the same bits whatever computes it. With
//! AVX2 the eight directions of a cell are a vector and a row of cells stays in registers; the compiler, left alone, makes vectors of
//! samples instead and turns them around. Other processors take the plain way.

use crate::fingerprints::whole_part;
use std::ops::Range;
use std::sync::LazyLock;

/// Samples across and down a patch.
pub(super) const SIDE: usize = 16;
/// Cells across and down.
pub(super) const CELLS: usize = 4;
pub(super) const DIRECTIONS: usize = 8;
/// Values of a histogram.
pub(super) const VALUES: usize = CELLS * CELLS * DIRECTIONS;

/// Samples that count for each row or column of cells: those nearer to its middle than to the one after the next.
const SAMPLES_OF_CELL: [Range<usize>; CELLS] = [0..6, 2..10, 6..14, 10..16];

/// Of each cell, row after row, the weight of each sample of a patch.
pub(super) type Weights = [[[f32; SIDE]; SIDE]; CELLS * CELLS];

/// How much each sample counts for each cell it counts for, row after row: as far as it is from the cell's middle, and less far from
/// the patch's. Of others there is nothing that is read.
pub(super) static WEIGHTS: LazyLock<Weights> = LazyLock::new(|| {
    let mut weights = [[[0f32; SIDE]; SIDE]; CELLS * CELLS];
    for (cell, weights) in weights.iter_mut().enumerate() {
        let (row, column) = (cell / CELLS, cell % CELLS);
        for v in SAMPLES_OF_CELL[row].clone() {
            for u in SAMPLES_OF_CELL[column].clone() {
                let place = |i: usize| (i as f32 + 0.5) / (SIDE / CELLS) as f32 - 0.5;
                let near = |i: usize, cell: usize| 1.0 - (place(i) - cell as f32).abs();
                let from_centre = |i: usize| i as f32 + 0.5 - SIDE as f32 / 2.0;
                let squared = from_centre(u).powi(2) + from_centre(v).powi(2);
                let gauss = (-squared / (2.0 * (SIDE as f32 / 2.0).powi(2))).exp();
                weights[v][u] = near(v, row) * near(u, column) * gauss;
            }
        }
    }
    weights
});

/// The sums of each cell's directions, cell by cell, row after row, of the samples' gradients: their lengths, and their angles in
/// directions, 0 to 8.
#[inline]
pub(super) fn pool(magnitudes: &[f32; SIDE * SIDE], angles: &[f32; SIDE * SIDE], weights: &Weights) -> [f32; VALUES] {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has the instructions, which was just checked.
        #[expect(unsafe_code, reason = "instructions that not all processors have")]
        return unsafe { vectors::pool(magnitudes, angles, weights) };
    }
    pool_plainly(magnitudes, angles, weights)
}

/// The two directions that share a sample, and what the second one gets.
#[inline(always)]
fn directions_of(angle: f32) -> (usize, usize, f32) {
    let low = whole_part(angle);
    (low as usize % DIRECTIONS, (low + 1) as usize % DIRECTIONS, angle - low as f32)
}

/// Sample by sample, each to the two directions of the cells that it counts for.
fn pool_plainly(magnitudes: &[f32; SIDE * SIDE], angles: &[f32; SIDE * SIDE], weights: &Weights) -> [f32; VALUES] {
    let mut histogram = [0f32; VALUES];
    for (cell, sums) in histogram.as_chunks_mut::<DIRECTIONS>().0.iter_mut().enumerate() {
        for v in SAMPLES_OF_CELL[cell / CELLS].clone() {
            for u in SAMPLES_OF_CELL[cell % CELLS].clone() {
                let votes = weights[cell][v][u] * magnitudes[v * SIDE + u];
                let (low, high, share) = directions_of(angles[v * SIDE + u]);
                sums[low] += votes * (1.0 - share);
                sums[high] += votes * share;
            }
        }
    }
    histogram
}

#[cfg(target_arch = "x86_64")]
mod vectors {
    use super::{CELLS, DIRECTIONS, SAMPLES_OF_CELL, SIDE, VALUES, Weights};
    use std::arch::x86_64::{
        __m256, _mm256_add_ps, _mm256_broadcast_ss, _mm256_cvtepi32_ps, _mm256_cvttps_epi32, _mm256_mul_ps,
        _mm256_set1_ps, _mm256_setzero_ps, _mm256_sub_ps,
    };

    /// 1 in one direction.
    static ONE: [[f32; DIRECTIONS]; DIRECTIONS] = {
        let mut one = [[0.0; DIRECTIONS]; DIRECTIONS];
        let mut direction = 0;
        while direction < DIRECTIONS {
            one[direction][direction] = 1.0;
            direction += 1;
        }
        one
    };

    #[target_feature(enable = "avx2")]
    pub(super) fn pool(
        magnitudes: &[f32; SIDE * SIDE],
        angles: &[f32; SIDE * SIDE],
        weights: &Weights,
    ) -> [f32; VALUES] {
        let shares = shares_of_directions(angles);
        let shares = shares.as_chunks::<SIDE>().0;
        let magnitudes = magnitudes.as_chunks::<SIDE>().0;
        let mut histogram = [0f32; VALUES];
        let rows_of_cells = histogram.as_chunks_mut::<{ CELLS * DIRECTIONS }>().0.iter_mut();
        for ((sums, weights), samples) in rows_of_cells.zip(weights.as_chunks::<CELLS>().0).zip(SAMPLES_OF_CELL) {
            let [mut one, mut two, mut three, mut four] = [_mm256_setzero_ps(); CELLS];
            for v in samples {
                let (magnitudes, shares) = (&magnitudes[v], &shares[v]);
                one = add_samples::<0, 6>(one, &weights[0][v], magnitudes, shares);
                two = add_samples::<2, 10>(two, &weights[1][v], magnitudes, shares);
                three = add_samples::<6, 14>(three, &weights[2][v], magnitudes, shares);
                four = add_samples::<10, 16>(four, &weights[3][v], magnitudes, shares);
            }
            *sums = bytemuck::cast([one, two, three, four]);
        }
        histogram
    }

    /// What of each sample each direction gets: the two nearest share it. Nothing but zeros is added to products, so that these are
    /// no sums that round.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn shares_of_directions(angles: &[f32; SIDE * SIDE]) -> [__m256; SIDE * SIDE] {
        let mut shares = [_mm256_setzero_ps(); SIDE * SIDE];
        for (shares, angles) in shares.as_chunks_mut::<8>().0.iter_mut().zip(angles.as_chunks::<8>().0) {
            let angles: __m256 = bytemuck::cast(*angles);
            let whole = _mm256_cvttps_epi32(angles);
            let of_high = _mm256_sub_ps(angles, _mm256_cvtepi32_ps(whole));
            let of_low = _mm256_sub_ps(_mm256_set1_ps(1.0), of_high);
            let whole: [u32; 8] = bytemuck::cast(whole);
            let [of_low, of_high]: [[f32; 8]; 2] = bytemuck::cast([of_low, of_high]);
            for (i, shares) in shares.iter_mut().enumerate() {
                let [low, high] = [whole[i], whole[i] + 1].map(|direction| direction as usize % DIRECTIONS);
                let of_low = _mm256_mul_ps(bytemuck::cast(ONE[low]), _mm256_broadcast_ss(&of_low[i]));
                let of_high = _mm256_mul_ps(bytemuck::cast(ONE[high]), _mm256_broadcast_ss(&of_high[i]));
                *shares = _mm256_add_ps(of_low, of_high);
            }
        }
        shares
    }

    /// Adds samples `FROM..TO` of a row to the sums of a cell, one after the other.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn add_samples<const FROM: usize, const TO: usize>(
        mut sums: __m256,
        weights: &[f32; SIDE],
        magnitudes: &[f32; SIDE],
        shares: &[__m256; SIDE],
    ) -> __m256 {
        let mut votes = [0f32; SIDE];
        for u in 0..SIDE {
            votes[u] = weights[u] * magnitudes[u];
        }
        for u in FROM..TO {
            sums = _mm256_add_ps(sums, _mm256_mul_ps(_mm256_broadcast_ss(&votes[u]), shares[u]));
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_have_the_bits_of_one_sample_after_the_other() {
        let value = |i: usize| ((i * 7919) % 1013) as f32 / 1013.0;
        let magnitudes: [f32; SIDE * SIDE] = std::array::from_fn(value);
        // From 0 up to 8 itself, some of them whole.
        let angles: [f32; SIDE * SIDE] =
            std::array::from_fn(|i| if i % 9 == 0 { (i % 17 / 2) as f32 } else { 8.0 * value(i + 300) });
        assert!(angles.contains(&8.0) && angles.contains(&0.0));
        let [found, expected] = [pool, pool_plainly].map(|pool| pool(&magnitudes, &angles, &WEIGHTS).map(f32::to_bits));
        assert_eq!(found, expected);
    }
}
