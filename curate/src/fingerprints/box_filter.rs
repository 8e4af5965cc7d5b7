//! Means over windows of an image, along its rows and down its columns, as running sums (box filters).
//!
//! A sum waits for the one before it, so that one row at a time would leave the processor idle: sixteen are summed up side by
//! side, each in a lane of a vector, for which they are transposed in squares of four. Down the columns, all columns lie side by
//! side. Each sum runs in the order of its values, so that it has the bits of one row or column after the other. All buffers are
//! kept from image to image.

use multiversion::multiversion;

/// Rows that are summed up side by side, and the side of the squares that they are transposed by.
const ROWS: usize = 16;
const SQUARE: usize = 4;
type Lanes = [f32; ROWS];

/// Takes means; the window of a side is a 128th of it, rounded up.
#[derive(Debug, Default)]
pub(super) struct BoxFilter {
    /// A few rows, and what is taken of them, column after column.
    values: Vec<Lanes>,
    taken: Vec<Lanes>,
    column_sums: Vec<f32>,
}

impl BoxFilter {
    /// Means over the window around the values at some columns of each row, in ascending order, cut off at the row's ends.
    pub(super) fn along_rows(&mut self, from: &[f32], width: usize, columns: &[usize], means: &mut Vec<f32>) {
        let counts = counts(width, columns);
        means.resize(from.len() / width * columns.len(), 0.0);
        self.values.resize(width, [0.0; ROWS]);
        self.taken.resize(columns.len(), [0.0; ROWS]);
        for (rows, means) in from.chunks(ROWS * width).zip(means.chunks_mut(ROWS * columns.len())) {
            interleave(rows, width, &mut self.values);
            means_of_lanes(&self.values, columns, &counts, &mut self.taken);
            separate(&self.taken, means);
        }
    }

    /// The same down the columns, all columns at once, at some rows.
    pub(super) fn along_columns(&mut self, from: &[f32], width: usize, rows: &[usize], means: &mut Vec<f32>) {
        let height = from.len() / width;
        let (window, half) = window(height);
        let counts = counts(height, rows);
        means.resize(rows.len() * width, 0.0);
        let sums = &mut self.column_sums;
        sums.clear();
        sums.resize(width, 0.0);
        let row = |y: usize| &from[y * width..(y + 1) * width];
        (0..(half - 1).min(height)).for_each(|y| add_row(sums, row(y), 1.0));
        let mut wanted = rows.iter().zip(&counts).zip(means.chunks_exact_mut(width)).peekable();
        for y in 0..height {
            if y + half - 1 < height {
                add_row(sums, row(y + half - 1), 1.0);
            }
            if let Some(leaving) = (y + half).checked_sub(window + 1) {
                add_row(sums, row(leaving), -1.0);
            }
            while let Some(((_, count), out)) = wanted.next_if(|((wanted, _), _)| **wanted == y) {
                divided_row(sums, *count, out);
            }
        }
    }
}

/// The window of a side, and how far it reaches ahead.
fn window(side: usize) -> (usize, usize) {
    let window = side.div_ceil(128);
    (window, (window + 2) / 2)
}

/// How many values the window around each place has.
fn counts(side: usize, places: &[usize]) -> Vec<f32> {
    let (window, half) = window(side);
    let count = |place: &usize| (place + half).min(side) - (place + half).saturating_sub(window);
    places.iter().map(|place| count(place) as f32).collect()
}

/// Lays rows, at most [`ROWS`] of them, side by side; lanes without one keep what they had.
fn interleave(rows: &[f32], width: usize, lanes: &mut [Lanes]) {
    for (number, rows) in rows.chunks(SQUARE * width).enumerate() {
        let mut done = 0;
        if rows.len() == SQUARE * width {
            let row = |i: usize| rows[i * width..(i + 1) * width].as_chunks::<SQUARE>().0;
            let squares = row(0).iter().zip(row(1)).zip(row(2)).zip(row(3));
            for ((((a, b), c), d), lanes) in squares.zip(lanes.as_chunks_mut::<SQUARE>().0) {
                for (lanes, values) in lanes.iter_mut().zip(transposed([*a, *b, *c, *d])) {
                    lanes.as_chunks_mut::<SQUARE>().0[number] = values;
                }
            }
            done = width / SQUARE * SQUARE;
        }
        for (i, row) in rows.chunks_exact(width).enumerate() {
            for (lanes, value) in lanes[done..].iter_mut().zip(&row[done..]) {
                lanes[SQUARE * number + i] = *value;
            }
        }
    }
}

/// Lays lanes apart into rows again.
fn separate(lanes: &[Lanes], rows: &mut [f32]) {
    let width = lanes.len();
    for (number, rows) in rows.chunks_mut(SQUARE * width).enumerate() {
        let mut done = 0;
        if rows.len() == SQUARE * width {
            let (a, rest) = rows.split_at_mut(width);
            let (b, rest) = rest.split_at_mut(width);
            let (c, d) = rest.split_at_mut(width);
            let [a, b, c, d] = [a, b, c, d].map(|row| row.as_chunks_mut::<SQUARE>().0);
            let squares = a.iter_mut().zip(b).zip(c).zip(d);
            for ((((a, b), c), d), lanes) in squares.zip(lanes.as_chunks::<SQUARE>().0) {
                [*a, *b, *c, *d] = transposed([0, 1, 2, 3].map(|i: usize| lanes[i].as_chunks::<SQUARE>().0[number]));
            }
            done = width / SQUARE * SQUARE;
        }
        for (i, row) in rows.chunks_exact_mut(width).enumerate() {
            for (value, lanes) in row[done..].iter_mut().zip(&lanes[done..]) {
                *value = lanes[SQUARE * number + i];
            }
        }
    }
}

/// A square with its rows as columns.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn transposed(square: [[f32; SQUARE]; SQUARE]) -> [[f32; SQUARE]; SQUARE] {
    use std::arch::x86_64::{__m128, _mm_movehl_ps, _mm_movelh_ps, _mm_unpackhi_ps, _mm_unpacklo_ps};
    let [a, b, c, d] = square.map(bytemuck::cast::<_, __m128>);
    // SAFETY: every x86-64 has SSE.
    #[expect(unsafe_code, reason = "the compiler, left alone, moves value by value")]
    let columns = unsafe {
        let (low, high) = (_mm_unpacklo_ps(a, b), _mm_unpackhi_ps(a, b));
        let (next_low, next_high) = (_mm_unpacklo_ps(c, d), _mm_unpackhi_ps(c, d));
        [
            _mm_movelh_ps(low, next_low),
            _mm_movehl_ps(next_low, low),
            _mm_movelh_ps(high, next_high),
            _mm_movehl_ps(next_high, high),
        ]
    };
    columns.map(bytemuck::cast)
}

#[cfg(not(target_arch = "x86_64"))]
fn transposed(square: [[f32; SQUARE]; SQUARE]) -> [[f32; SQUARE]; SQUARE] {
    std::array::from_fn(|i| std::array::from_fn(|j| square[j][i]))
}

/// Means over the window around the values at some columns, all lanes at once.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2+fma"))]
fn means_of_lanes(values: &[Lanes], columns: &[usize], counts: &[f32], means: &mut [Lanes]) {
    let width = values.len();
    let (window, half) = window(width);
    let mut sums = [0f32; ROWS];
    for values in values.iter().take(half - 1) {
        for lane in 0..ROWS {
            sums[lane] += values[lane];
        }
    }
    let mut wanted = columns.iter().zip(counts).zip(means).peekable();
    for at in 0..width {
        if let Some(coming) = values.get(at + half - 1) {
            for lane in 0..ROWS {
                sums[lane] += coming[lane];
            }
        }
        if let Some(leaving) = (at + half).checked_sub(window + 1) {
            let leaving = &values[leaving];
            for lane in 0..ROWS {
                sums[lane] -= leaving[lane];
            }
        }
        // A column may be taken several times, where there are fewer than taken.
        while let Some(((_, count), means)) = wanted.next_if(|((column, _), _)| **column == at) {
            for lane in 0..ROWS {
                means[lane] = sums[lane] / count;
            }
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2+fma"))]
fn add_row(sums: &mut [f32], row: &[f32], sign: f32) {
    for (sum, value) in sums.iter_mut().zip(row) {
        *sum += sign * value;
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2+fma"))]
fn divided_row(sums: &[f32], count: f32, out: &mut [f32]) {
    for (out, sum) in out.iter_mut().zip(sums) {
        *out = sum / count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Columns that are taken of a row.
    const TAKEN: usize = 64;

    #[test]
    fn boxes_are_means_over_the_window() {
        let values: Vec<f32> = (0..300).map(|i| ((i * 37) % 101) as f32).collect();
        let (window, half) = window(300);
        assert_eq!((window, half), (3, 2));
        let all: Vec<usize> = (0..300).collect();
        let (mut boxes, mut out, mut down) = (BoxFilter::default(), Vec::new(), Vec::new());
        boxes.along_rows(&values, 300, &all, &mut out);
        for i in 0..300usize {
            let around = &values[i.saturating_sub(window - half)..(i + half).min(300)];
            assert!((out[i] - around.iter().sum::<f32>() / around.len() as f32).abs() < 1e-3, "{i}");
        }
        boxes.along_columns(&values, 1, &all, &mut down);
        assert_eq!(out, down);
    }

    /// All values, the sum of a row running along it by itself.
    fn box_reference(row: &[f32]) -> Vec<f32> {
        let (window, half) = window(row.len());
        let (mut sum, mut count) = (0f32, 0f32);
        for value in &row[..(half - 1).min(row.len())] {
            (sum, count) = (sum + value, count + 1.0);
        }
        let mean = |at: usize| {
            if let Some(entering) = row.get(at + half - 1) {
                (sum, count) = (sum + entering, count + 1.0);
            }
            if let Some(leaving) = (at + half).checked_sub(window + 1) {
                (sum, count) = (sum - row[leaving], count - 1.0);
            }
            sum / count
        };
        (0..row.len()).map(mean).collect()
    }

    #[test]
    fn rows_side_by_side_have_the_bits_of_one_after_the_other() {
        let (mut boxes, mut found, mut down) = (BoxFilter::default(), Vec::new(), Vec::new());
        // Fewer columns than are taken, a window of one, of several, and of more than a block of rows.
        for (width, height) in [(5, 21), (64, 8), (413, 39), (1500, 9)] {
            let values: Vec<f32> = (0..width * height).map(|i| ((i * 7919) % 1013) as f32 / 7.0).collect();
            let columns: Vec<usize> = (0..TAKEN).map(|o| (2 * o + 1) * width / (2 * TAKEN)).collect();
            boxes.along_rows(&values, width, &columns, &mut found);
            let transposed: Vec<f32> = (0..width * height).map(|i| values[i % height * width + i / height]).collect();
            boxes.along_columns(&transposed, height, &columns, &mut down);
            for y in 0..height {
                let expected = box_reference(&values[y * width..(y + 1) * width]);
                for (place, column) in columns.iter().enumerate() {
                    assert_eq!(found[y * TAKEN + place].to_bits(), expected[*column].to_bits(), "{width} {y} {column}");
                    assert_eq!(down[place * height + y].to_bits(), expected[*column].to_bits(), "{width} {y} {column}");
                }
            }
        }
    }
}
