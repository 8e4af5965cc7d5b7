//! Values of a grid between its points, bilinear, at many places at a time.
//!
//! Where places lie is worked out in vectors, then the four values around each are fetched one by one, then they are weighed in
//! vectors again: fetching is all that a processor has to do singly. The functions are inlined into loops that are compiled for
//! several generations of processors; each value has the same bits on all of them.

/// The values of a grid, `width` a row, at places `(x[i], y[i])`. Places are brought inside `0..=last`, which may be at most the
/// last column and row; the grid has two columns and two rows at least.
#[inline(always)]
pub(crate) fn bilinear<const N: usize>(
    values: &[f32],
    width: usize,
    [x, y]: [&[f32; N]; 2],
    last: (f32, f32),
) -> [f32; N] {
    let (last_column, last_row) = (width as i32 - 2, (values.len() / width) as i32 - 2);
    let (mut at, mut across, mut down) = ([0i32; N], [0f32; N], [0f32; N]);
    for i in 0..N {
        let (px, py) = (x[i].max(0.0).min(last.0), y[i].max(0.0).min(last.1));
        let (column, row) = (whole_part(px).min(last_column), whole_part(py).min(last_row));
        (across[i], down[i]) = (px - column as f32, py - row as f32);
        at[i] = row * width as i32 + column;
    }
    let (mut upper, mut lower) = ([[0f32; 2]; N], [[0f32; 2]; N]);
    for i in 0..N {
        let at = at[i] as usize;
        upper[i].copy_from_slice(&values[at..at + 2]);
        lower[i].copy_from_slice(&values[at + width..at + width + 2]);
    }
    let mut sampled = [0f32; N];
    for i in 0..N {
        let above = upper[i][0] + across[i] * (upper[i][1] - upper[i][0]);
        let below = lower[i][0] + across[i] * (lower[i][1] - lower[i][0]);
        sampled[i] = above + down[i] * (below - above);
    }
    sampled
}

/// The whole part of a value of at least 0 and less than 2^22. A cast of a float says what becomes of every value, for which a
/// compiler takes vectors apart; this adds 2^23, whose last digit is 1, and takes off what was rounded up.
#[inline(always)]
pub(crate) fn whole_part(value: f32) -> i32 {
    const WITHOUT_FRACTION: f32 = 8_388_608.0;
    let nearest = (value + WITHOUT_FRACTION) - WITHOUT_FRACTION;
    let whole = if nearest > value { nearest - 1.0 } else { nearest };
    (whole + WITHOUT_FRACTION).to_bits() as i32 - WITHOUT_FRACTION.to_bits() as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_part_is_what_a_cast_gives() {
        let largest = (1u32 << 22) - 1;
        let places = (0..5000).chain(largest - 5000..=largest).map(|i| i as f32);
        for value in places.flat_map(|i| [i, i.next_up(), i + 0.3, i + 0.5, (i + 1.0).next_down()]) {
            assert_eq!(whole_part(value), value as i32, "{value}");
        }
    }

    /// One place, as it is written down.
    fn bilinear_reference(values: &[f32], width: usize, (x, y): (f32, f32), last: (f32, f32)) -> f32 {
        let (x, y) = (x.clamp(0.0, last.0), y.clamp(0.0, last.1));
        let (column, row) = ((x as usize).min(width - 2), (y as usize).min(values.len() / width - 2));
        let (fx, fy) = (x - column as f32, y - row as f32);
        let at = |row: usize, column: usize| values[row * width + column];
        let above = at(row, column) + fx * (at(row, column + 1) - at(row, column));
        let below = at(row + 1, column) + fx * (at(row + 1, column + 1) - at(row + 1, column));
        above + fy * (below - above)
    }

    #[test]
    fn many_places_at_a_time_have_the_bits_of_each_by_itself() {
        let (width, height) = (23, 17);
        let values: Vec<f32> = (0..width * height).map(|i| ((i * 7919) % 1013) as f32 / 7.0).collect();
        // Inside, on the border, and outside on all sides.
        let x: [f32; 45] = std::array::from_fn(|i| (i as f32 * 1.37) % 31.0 - 4.0);
        let y: [f32; 45] = std::array::from_fn(|i| (i as f32 * 2.11) % 25.0 - 4.0);
        for last in [(22.0, 16.0), (21.999, 15.999)] {
            let sampled = bilinear(&values, width, [&x, &y], last);
            for i in 0..45 {
                let expected = bilinear_reference(&values, width, (x[i], y[i]), last);
                assert_eq!(sampled[i].to_bits(), expected.to_bits(), "{} {}", x[i], y[i]);
            }
        }
    }
}
