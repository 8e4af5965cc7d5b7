//! Weighted sums of rows: what both passes of a blur come down to.
//!
//! Each value of the sum is `w0 c + w1 (a1 + b1) + w2 (a2 + b2) + ...`, rounded after each step and in this order, so that it has the
//! same bits whatever computes it. With AVX2 a strip of the row is kept in registers until all rows have been added; the
//! compiler, left alone, writes sums back after each row, or looks up each row's place again for every strip. Other processors,
//! and rows narrower than a strip, take the plain way. Vectors of 512 bits gain nothing here: most of them would straddle two
//! lines of the cache.

/// Two rows that are added and weighted: where each begins among the values.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Taps {
    pub(super) weight: f32,
    pub(super) starts: [usize; 2],
}

/// The rows that are summed up: the one in the middle, and those to either side of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) values: &'a [f32],
    /// The weight of the middle row, and where it begins.
    pub(super) middle: (f32, usize),
    pub(super) sides: &'a [Taps],
}

/// Where a sum goes: to a row, or less another row to a third, or both.
#[derive(Debug, Default)]
pub(super) struct Target<'a> {
    pub(super) sum: Option<&'a mut [f32]>,
    /// What is taken off the sum, and where the difference goes.
    pub(super) difference: Option<(&'a [f32], &'a mut [f32])>,
}

impl Target<'_> {
    fn has_width(&self, width: usize) -> bool {
        self.sum.as_ref().is_none_or(|sum| sum.len() == width)
            && self.difference.as_ref().is_none_or(|(less, to)| less.len() == width && to.len() == width)
    }
}

/// Sums up rows of `width` values.
///
/// # Panics
/// When a row does not lie within the values, or a target has another width.
pub(super) fn sum_up(rows: Rows<'_>, width: usize, target: Target<'_>) {
    let mut last = rows.middle.1;
    for taps in rows.sides {
        last = last.max(taps.starts[0]).max(taps.starts[1]);
    }
    let is_inside = last.checked_add(width).is_some_and(|end| end <= rows.values.len());
    assert!(is_inside && target.has_width(width), "rows lie within the values, targets are as wide");
    #[cfg(target_arch = "x86_64")]
    if width >= vectors::STRIP && is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has the instructions; rows and targets have a strip at least, which was just checked.
        #[expect(unsafe_code, reason = "instructions that not all processors have")]
        unsafe {
            vectors::sum_up(rows, width, target);
        }
        return;
    }
    sum_up_plainly(rows, width, target);
}

/// The same, a row after the other.
fn sum_up_plainly(rows: Rows<'_>, width: usize, mut target: Target<'_>) {
    let row = |start: usize| &rows.values[start..start + width];
    let (weight, start) = rows.middle;
    let mut spare = Vec::new();
    let sums = match &mut target.sum {
        Some(sum) => &mut **sum,
        None => {
            spare.resize(width, 0.0);
            &mut spare[..]
        }
    };
    sums.iter_mut().zip(row(start)).for_each(|(sum, value)| *sum = weight * value);
    for Taps { weight, starts } in rows.sides {
        let pairs = row(starts[0]).iter().zip(row(starts[1]));
        sums.iter_mut().zip(pairs).for_each(|(sum, (one, other))| *sum += weight * (one + other));
    }
    if let Some((less, to)) = target.difference {
        to.iter_mut().zip(sums.iter().zip(less)).for_each(|(to, (sum, less))| *to = sum - less);
    }
}

#[cfg(target_arch = "x86_64")]
mod vectors {
    use super::{Rows, Target};
    use std::arch::x86_64::{
        __m256, _mm256_add_ps, _mm256_loadu_ps, _mm256_mul_ps, _mm256_set1_ps, _mm256_storeu_ps, _mm256_sub_ps,
    };

    const VECTOR: usize = 8;
    /// Vectors of sums that are kept in registers: so many that none waits for its last addition.
    const VECTORS: usize = 4;
    pub(super) const STRIP: usize = VECTORS * VECTOR;

    /// The vectors of a strip.
    #[target_feature(enable = "avx2")]
    #[expect(unsafe_code, reason = "loads by pointers")]
    unsafe fn strip(row: *const f32) -> [__m256; VECTORS] {
        // SAFETY: the caller has a strip of values there.
        unsafe {
            [
                _mm256_loadu_ps(row),
                _mm256_loadu_ps(row.add(VECTOR)),
                _mm256_loadu_ps(row.add(2 * VECTOR)),
                _mm256_loadu_ps(row.add(3 * VECTOR)),
            ]
        }
    }

    #[target_feature(enable = "avx2")]
    #[expect(unsafe_code, reason = "stores by pointers")]
    unsafe fn store(to: *mut f32, values: [__m256; VECTORS]) {
        // SAFETY: the caller has room for a strip of values there.
        unsafe {
            for (vector, value) in values.into_iter().enumerate() {
                _mm256_storeu_ps(to.add(vector * VECTOR), value);
            }
        }
    }

    /// Sums up strip by strip; the last one ends with the row, and may cover what another has computed.
    ///
    /// # Safety
    /// All rows lie within the values and have `width` values, of which there is a strip at least; so have the targets.
    #[target_feature(enable = "avx2")]
    #[expect(unsafe_code, reason = "loads and stores by pointers")]
    pub(super) unsafe fn sum_up(rows: Rows<'_>, width: usize, mut target: Target<'_>) {
        let values = rows.values.as_ptr();
        let middle = _mm256_set1_ps(rows.middle.0);
        let last = width - STRIP;
        let mut at = 0;
        loop {
            // SAFETY: a strip from `at` on lies within each row, as `at` is at most `last`.
            let row = |start: usize| unsafe { strip(values.add(start + at)) };
            let mut sums = row(rows.middle.1);
            for sum in &mut sums {
                *sum = _mm256_mul_ps(middle, *sum);
            }
            for taps in rows.sides {
                let weight = _mm256_set1_ps(taps.weight);
                let (one, other) = (row(taps.starts[0]), row(taps.starts[1]));
                for vector in 0..VECTORS {
                    // No fused multiply-add, which rounds once less.
                    let weighted = _mm256_mul_ps(weight, _mm256_add_ps(one[vector], other[vector]));
                    sums[vector] = _mm256_add_ps(sums[vector], weighted);
                }
            }
            if let Some((less, to)) = &mut target.difference {
                // SAFETY: as above, for the targets.
                unsafe {
                    let mut differences = strip(less.as_ptr().add(at));
                    for vector in 0..VECTORS {
                        differences[vector] = _mm256_sub_ps(sums[vector], differences[vector]);
                    }
                    store(to.as_mut_ptr().add(at), differences);
                }
            }
            if let Some(sum) = &mut target.sum {
                // SAFETY: as above.
                unsafe { store(sum.as_mut_ptr().add(at), sums) };
            }
            if at == last {
                break;
            }
            at = (at + STRIP).min(last);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strips_in_registers_have_the_bits_of_one_row_after_the_other() {
        let values: Vec<f32> = (0..1200).map(|i| ((i * 7919) % 1013) as f32 / 1013.0).collect();
        let sides: Vec<Taps> =
            (1..8).map(|i| Taps { weight: 0.7 / i as f32, starts: [37 * i, 900 - 61 * i] }).collect();
        // A strip, two, and some more than whole ones; fewer go the plain way.
        for width in [1, 31, 32, 33, 64, 95, 240] {
            let rows = Rows { values: &values, middle: (0.31, 5), sides: &sides };
            let less: Vec<f32> = values[100..100 + width].to_vec();
            let mut found = [const { Vec::new() }; 4];
            found.iter_mut().for_each(|row| row.resize(width, 0.0));
            let [sum, difference, plain_sum, plain_difference] = &mut found;
            sum_up(rows, width, Target { sum: Some(sum), difference: Some((&less, difference)) });
            let target = Target { sum: Some(plain_sum), difference: Some((&less, plain_difference)) };
            sum_up_plainly(rows, width, target);
            for x in 0..width {
                let mut expected = 0.31 * values[5 + x];
                for Taps { weight, starts } in &sides {
                    expected += weight * (values[starts[0] + x] + values[starts[1] + x]);
                }
                let expected = [expected, expected - less[x], expected, expected - less[x]];
                for (found, expected) in found.iter().zip(expected) {
                    assert_eq!(found[x].to_bits(), expected.to_bits(), "{width}, {x}");
                }
            }
            // The difference alone.
            let mut alone = vec![0.0; width];
            for sum in [sum_up, sum_up_plainly] {
                alone.fill(0.0);
                sum(rows, width, Target { sum: None, difference: Some((&less, &mut alone)) });
                assert_eq!(alone, found[1]);
            }
        }
    }
}
