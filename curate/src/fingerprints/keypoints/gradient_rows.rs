//! The gradients of a row of pixels, as a histogram of directions counts them: in which bin, and with what weight.
//!
//! With AVX2 eight pixels are looked at at a time; the compiler, left alone, takes those that do not fill its vectors one by one, which
//! are most of a row's. Other processors take the plain way. Each value has the same bits in both.

use crate::fingerprints::whole_part;
use std::f32::consts::{FRAC_PI_2, PI, TAU};

/// Bins of a full turn.
pub(super) const ANGLES: usize = 36;
/// Pixels of a row that are looked at, at most.
pub(super) const LANES: usize = 24;
/// Values of a row around them, which may lie two apart, rounded up to whole vectors.
pub(super) const ROOM: usize = 2 * LANES + 2;

/// Pixels that lie `STEP` apart, around a place.
#[derive(Debug, Clone, Copy)]
pub(super) struct PixelRow<'a> {
    /// The values above, those of the row, and those below, each from one before the first pixel on.
    pub(super) values: [&'a [f32; ROOM]; 3],
    /// How many pixels are looked at.
    pub(super) count: usize,
    /// The square of how far each pixel's column is from the place, and the weight that this gives it.
    pub(super) across: (&'a [f32; LANES], &'a [f32; LANES]),
    /// The same of the row.
    pub(super) down: (f32, f32),
    /// Pixels whose squared distance is larger have no weight.
    pub(super) square_max: f32,
}

/// The bin of each pixel's gradient, and its weight: its length, by how far it is from the place.
#[inline]
pub(super) fn weigh<const STEP: usize>(row: PixelRow<'_>, bins: &mut [u32; LANES], weights: &mut [f32; LANES]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has the instructions, which was just checked.
        #[expect(unsafe_code, reason = "instructions that not all processors have")]
        unsafe {
            vectors::weigh::<STEP>(row, bins, weights);
        }
        return;
    }
    weigh_plainly::<STEP>(row, bins, weights);
}

/// The same, a pixel after the other.
fn weigh_plainly<const STEP: usize>(row: PixelRow<'_>, bins: &mut [u32; LANES], weights: &mut [f32; LANES]) {
    let [above, here, below] = row.values;
    for pixel in 0..row.count {
        let at = STEP * pixel;
        let (dx, dy) = (here[at + 2] - here[at], below[at + 1] - above[at + 1]);
        let bin = whole_part(angle_of(dy, dx) * (ANGLES as f32 / TAU) + 0.5) as usize;
        bins[pixel] = if bin == ANGLES { 0 } else { bin as u32 };
        let is_inside = row.across.0[pixel] + row.down.0 <= row.square_max;
        let weight = row.down.1 * row.across.1[pixel] * (dx * dx + dy * dy).sqrt();
        weights[pixel] = if is_inside { weight } else { 0.0 };
    }
}

/// Of the polynomial over an octant, the factors of t, t^3 and t^5.
const OCTANT: [f32; 3] = [0.998, -0.302, 0.0895];
/// What a length is taken for at least, so that nothing is divided by 0.
const LENGTH_MIN: f32 = 1e-20;

/// The angle of a vector, 0 to 2 pi, to within 0.005: by a polynomial over an octant.
#[inline(always)]
pub(crate) fn angle_of(y: f32, x: f32) -> f32 {
    let (across, up) = (x.abs(), y.abs());
    let (small, large) = (across.min(up), across.max(up));
    let t = small / large.max(LENGTH_MIN);
    let octant = t * (OCTANT[0] + t * t * (OCTANT[1] + t * t * OCTANT[2]));
    let quadrant = if up > across { FRAC_PI_2 - octant } else { octant };
    let half = if x < 0.0 { PI - quadrant } else { quadrant };
    if y < 0.0 { TAU - half } else { half }
}

#[cfg(target_arch = "x86_64")]
mod vectors {
    use super::{ANGLES, FRAC_PI_2, LANES, LENGTH_MIN, OCTANT, PI, PixelRow, ROOM, TAU};
    use std::arch::x86_64::{
        __m256, _CMP_GT_OQ, _CMP_LE_OQ, _CMP_LT_OQ, _mm256_add_ps, _mm256_and_ps, _mm256_andnot_ps,
        _mm256_andnot_si256, _mm256_blendv_ps, _mm256_castpd_ps, _mm256_castps_pd, _mm256_cmp_ps, _mm256_cmpeq_epi32,
        _mm256_cvttps_epi32, _mm256_div_ps, _mm256_max_ps, _mm256_min_ps, _mm256_mul_ps, _mm256_permute4x64_pd,
        _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_ps, _mm256_shuffle_ps, _mm256_sqrt_ps, _mm256_sub_ps,
    };

    const VECTOR: usize = 8;

    #[target_feature(enable = "avx2")]
    pub(super) fn weigh<const STEP: usize>(row: PixelRow<'_>, bins: &mut [u32; LANES], weights: &mut [f32; LANES]) {
        let [above, here, below] = row.values;
        let (bins, weights) = (bins.as_chunks_mut::<VECTOR>().0, weights.as_chunks_mut::<VECTOR>().0);
        let across = row.across.0.as_chunks::<VECTOR>().0.iter().zip(row.across.1.as_chunks::<VECTOR>().0);
        let vectors = bins.iter_mut().zip(weights).zip(across).take(row.count.div_ceil(VECTOR));
        for (number, ((bins, weights), (squares, across))) in vectors.enumerate() {
            let at = STEP * VECTOR * number;
            let dx = _mm256_sub_ps(spaced::<STEP>(here, at + 2), spaced::<STEP>(here, at));
            let dy = _mm256_sub_ps(spaced::<STEP>(below, at + 1), spaced::<STEP>(above, at + 1));
            let turns = _mm256_mul_ps(angle_of(dy, dx), _mm256_set1_ps(ANGLES as f32 / TAU));
            let bin = _mm256_cvttps_epi32(_mm256_add_ps(turns, _mm256_set1_ps(0.5)));
            let is_whole_turn = _mm256_cmpeq_epi32(bin, _mm256_set1_epi32(ANGLES as i32));
            *bins = bytemuck::cast(_mm256_andnot_si256(is_whole_turn, bin));
            let square = _mm256_add_ps(bytemuck::cast(*squares), _mm256_set1_ps(row.down.0));
            let is_inside = _mm256_cmp_ps::<_CMP_LE_OQ>(square, _mm256_set1_ps(row.square_max));
            let length = _mm256_sqrt_ps(_mm256_add_ps(_mm256_mul_ps(dx, dx), _mm256_mul_ps(dy, dy)));
            let near = _mm256_mul_ps(_mm256_set1_ps(row.down.1), bytemuck::cast(*across));
            *weights = bytemuck::cast(_mm256_and_ps(is_inside, _mm256_mul_ps(near, length)));
        }
    }

    /// Eight values that lie `STEP` apart, one or two.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn spaced<const STEP: usize>(values: &[f32; ROOM], at: usize) -> __m256 {
        let vector = |at: usize| -> __m256 {
            bytemuck::cast(*values[at..].first_chunk::<VECTOR>().expect("there is room for whole vectors"))
        };
        if STEP == 1 {
            return vector(at);
        }
        // The even ones of either half of both, then the halves of the second between those of the first.
        let even = _mm256_shuffle_ps::<0b10_00_10_00>(vector(at), vector(at + VECTOR));
        _mm256_castpd_ps(_mm256_permute4x64_pd::<0b11_01_10_00>(_mm256_castps_pd(even)))
    }

    /// As its namesake.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn angle_of(y: __m256, x: __m256) -> __m256 {
        let set = |value: f32| _mm256_set1_ps(value);
        let sign = set(-0.0);
        let (across, up) = (_mm256_andnot_ps(sign, x), _mm256_andnot_ps(sign, y));
        let (small, large) = (_mm256_min_ps(across, up), _mm256_max_ps(across, up));
        let t = _mm256_div_ps(small, _mm256_max_ps(large, set(LENGTH_MIN)));
        let square = _mm256_mul_ps(t, t);
        let inner = _mm256_add_ps(set(OCTANT[1]), _mm256_mul_ps(square, set(OCTANT[2])));
        let octant = _mm256_mul_ps(t, _mm256_add_ps(set(OCTANT[0]), _mm256_mul_ps(square, inner)));
        let is_steep = _mm256_cmp_ps::<_CMP_GT_OQ>(up, across);
        let quadrant = _mm256_blendv_ps(octant, _mm256_sub_ps(set(FRAC_PI_2), octant), is_steep);
        let is_left = _mm256_cmp_ps::<_CMP_LT_OQ>(x, _mm256_setzero_ps());
        let half = _mm256_blendv_ps(quadrant, _mm256_sub_ps(set(PI), quadrant), is_left);
        let is_below = _mm256_cmp_ps::<_CMP_LT_OQ>(y, _mm256_setzero_ps());
        _mm256_blendv_ps(half, _mm256_sub_ps(set(TAU), half), is_below)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_polynomial_is_the_angle() {
        for i in 0..1000 {
            let angle = i as f32 / 1000.0 * TAU;
            let found = angle_of(angle.sin(), angle.cos());
            let off = (found - angle).abs();
            assert!(off.min(TAU - off) < 0.005, "{angle} {found}");
        }
    }

    #[test]
    fn vectors_have_the_bits_of_one_pixel_after_the_other() {
        let value = |i: usize| ((i * 7919) % 1013) as f32 / 1013.0;
        // Somewhere the image is flat, or has the same value on both sides.
        let row = |seed: usize| -> [f32; ROOM] {
            std::array::from_fn(|i| if (9..14).contains(&i) { 0.25 } else { value(i + 61 * seed) })
        };
        let [above, here, below] = [row(1), row(2), row(3)];
        let (squares, across) = (std::array::from_fn(|i| (i as f32 - 8.3).powi(2)), std::array::from_fn(value));
        for count in [1, 7, 8, 19, LANES] {
            let (across, down) = ((&squares, &across), (2.5, 0.7));
            let row = PixelRow { values: [&above, &here, &below], count, across, down, square_max: 81.0 };
            let (mut bins, mut weights) = ([[0; LANES]; 4], [[0.0; LANES]; 4]);
            weigh::<1>(row, &mut bins[0], &mut weights[0]);
            weigh_plainly::<1>(row, &mut bins[1], &mut weights[1]);
            weigh::<2>(row, &mut bins[2], &mut weights[2]);
            weigh_plainly::<2>(row, &mut bins[3], &mut weights[3]);
            for (vectors, plain) in [(0, 1), (2, 3)] {
                assert_eq!(bins[vectors][..count], bins[plain][..count]);
                let bits = |weights: &[f32; LANES]| weights.map(f32::to_bits)[..count].to_vec();
                assert_eq!(bits(&weights[vectors]), bits(&weights[plain]));
            }
            assert_ne!(bins[0], bins[2]);
        }
    }
}
