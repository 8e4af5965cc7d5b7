//! Products of matrices in memory by the `gemm` crate, on the calling thread: callers split the work into blocks whose sizes do
//! not depend on the number of threads, so that neither do results.

use gemm::Parallelism;
use lapidary_train::operators::exp;
use multiversion::multiversion;

/// Values that can be multiplied.
pub(crate) trait Real: Copy + Send + Sync + 'static {
    /// One.
    const ONE: Self;

    /// The nearest value.
    fn from_f64(value: f64) -> Self;

    /// The value, exactly.
    fn to_f64(self) -> f64;

    /// Turns a row into e^(value - greatest); returns the greatest and the sum of what the row has become.
    fn exponentials(row: &mut [Self]) -> (f64, f64);

    /// Multiplies a row.
    fn scale(row: &mut [Self], factor: f64);
}

impl Real for f32 {
    const ONE: Self = 1.0;

    fn from_f64(value: f64) -> Self {
        value as Self
    }

    fn to_f64(self) -> f64 {
        f64::from(self)
    }

    fn exponentials(row: &mut [Self]) -> (f64, f64) {
        exponentials_f32(row)
    }

    fn scale(row: &mut [Self], factor: f64) {
        row.iter_mut().for_each(|value| *value *= factor as Self);
    }
}

impl Real for f64 {
    const ONE: Self = 1.0;

    fn from_f64(value: f64) -> Self {
        value
    }

    fn to_f64(self) -> f64 {
        self
    }

    fn exponentials(row: &mut [Self]) -> (f64, f64) {
        let greatest = row.iter().copied().fold(Self::NEG_INFINITY, Self::max);
        row.iter_mut().for_each(|value| *value = (*value - greatest).exp());
        (greatest, row.iter().sum())
    }

    fn scale(row: &mut [Self], factor: f64) {
        row.iter_mut().for_each(|value| *value *= factor);
    }
}

/// Values that sums and maxima are taken of side by side.
const LANES: usize = 16;

/// [`Real::exponentials`] of f32, in vectors. A sum has 16 parts in f32, each of a sixteenth of the row.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2+fma"))]
fn exponentials_f32(row: &mut [f32]) -> (f64, f64) {
    let mut greatest = [f32::NEG_INFINITY; LANES];
    let mut chunks = row.chunks_exact(LANES);
    for chunk in &mut chunks {
        greatest.iter_mut().zip(chunk).for_each(|(greatest, value)| *greatest = value.max(*greatest));
    }
    let rest = chunks.remainder();
    greatest.iter_mut().zip(rest).for_each(|(greatest, value)| *greatest = value.max(*greatest));
    let greatest = greatest.into_iter().fold(f32::NEG_INFINITY, f32::max);
    let mut sums = [0f32; LANES];
    let mut chunks = row.chunks_exact_mut(LANES);
    for chunk in &mut chunks {
        for (sum, value) in sums.iter_mut().zip(chunk) {
            *value = exp(*value - greatest);
            *sum += *value;
        }
    }
    for (sum, value) in sums.iter_mut().zip(chunks.into_remainder()) {
        *value = exp(*value - greatest);
        *sum += *value;
    }
    (f64::from(greatest), sums.into_iter().map(f64::from).sum())
}

/// A matrix in memory, or its transpose.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matrix<'a, T> {
    values: &'a [T],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a, T: Real> Matrix<'a, T> {
    /// The rows of `columns` values each, in row-major order.
    pub(crate) fn new(values: &'a [T], columns: usize) -> Self {
        Self { values, rows: values.len() / columns.max(1), columns, row_stride: columns, column_stride: 1 }
    }

    /// Its transpose.
    pub(crate) fn transposed(self) -> Self {
        let Self { values, rows, columns, row_stride, column_stride } = self;
        Self { values, rows: columns, columns: rows, row_stride: column_stride, column_stride: row_stride }
    }
}

/// `left right`, written to `out` in row-major order, or added to what is there.
///
/// # Panics
/// When the shapes do not fit.
pub(crate) fn multiply<T: Real>(out: &mut [T], left: Matrix<'_, T>, right: Matrix<'_, T>, is_added: bool) {
    assert_eq!(left.columns, right.rows, "a product of matrices that do not fit");
    assert_eq!(out.len(), left.rows * right.columns, "a product written to another shape");
    if out.is_empty() {
        return;
    }
    let stride = |stride: usize| stride as isize;
    // SAFETY: `Matrix::new` makes matrices that lie within their slices, and `out` has a value for each row and column.
    #[expect(unsafe_code, reason = "gemm takes pointers")]
    unsafe {
        gemm::gemm(
            left.rows,
            right.columns,
            left.columns,
            out.as_mut_ptr(),
            1,
            stride(right.columns),
            is_added,
            left.values.as_ptr(),
            stride(left.column_stride),
            stride(left.row_stride),
            right.values.as_ptr(),
            stride(right.column_stride),
            stride(right.row_stride),
            T::ONE,
            T::ONE,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_and_transposes_are_what_sums_say() {
        let (a, b): (Vec<f64>, Vec<f64>) =
            ((0..6).map(f64::from).collect(), (0..12).map(|i| f64::from(i) - 5.0).collect());
        let mut out = vec![1.0; 2 * 4];
        multiply(&mut out, Matrix::new(&a, 3), Matrix::new(&b, 4), true);
        let mut transposed = vec![7.0; 4 * 2];
        multiply(&mut transposed, Matrix::new(&b, 4).transposed(), Matrix::new(&a, 3).transposed(), false);
        for (row, column) in (0..2).flat_map(|row| (0..4).map(move |column| (row, column))) {
            let sum: f64 = (0..3).map(|i| a[row * 3 + i] * b[i * 4 + column]).sum();
            assert_eq!((out[row * 4 + column], transposed[column * 2 + row]), (sum + 1.0, sum));
        }
    }

    #[test]
    fn exponentials_of_f32_are_those_of_f64() {
        for length in [1, 5, 16, 17, 100] {
            let row: Vec<f32> = (0..length).map(|i| (i as f32 * 1.3).sin() * 30.0 - 50.0 * (i % 7) as f32).collect();
            let (mut narrow, mut wide) = (row.clone(), row.iter().map(|value| f64::from(*value)).collect::<Vec<f64>>());
            let (sums, expected) = (f32::exponentials(&mut narrow), f64::exponentials(&mut wide));
            assert_eq!(sums.0, expected.0, "{length}");
            assert!((sums.1 / expected.1 - 1.0).abs() < 1e-6, "{length}: {sums:?}, {expected:?}");
            // The difference of two f32 of up to 350 is rounded before it is an exponent.
            assert!(narrow.iter().zip(&wide).all(|(a, b)| (f64::from(*a) - b).abs() <= 2e-5 * b + 1e-37), "{length}");
        }
    }
}
