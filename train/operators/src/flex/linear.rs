//! Linear maps. Products are the `gemm` crate's; the bias is what it adds to, so that it costs no pass of its own.

use super::{contiguous, from_values, unwritten, values};
use crate::threads::{for_chunks, is_alone};
use burn_flex::FlexTensor;
use gemm::Parallelism;
use multiversion::multiversion;

/// A matrix in memory: its first value, and how far rows and columns lie apart.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// `rows` by `columns`, rows lying `row_stride` apart.
    pub(super) fn new(values: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        let matrix = Self { values, rows, columns, row_stride, column_stride: 1 };
        matrix.check(values.len());
        matrix
    }

    pub(super) fn transposed(self) -> Self {
        let Self { values, rows, columns, row_stride, column_stride } = self;
        Self { values, rows: columns, columns: rows, row_stride: column_stride, column_stride: row_stride }
    }

    /// Asserts that it lies within so many values.
    fn check(&self, count: usize) {
        if self.rows * self.columns > 0 {
            let last = (self.rows - 1) * self.row_stride + (self.columns - 1) * self.column_stride;
            assert!(last < count, "a matrix beyond its values");
        }
    }
}

/// The matrix that a product is written to, whose rows lie `row_stride` apart.
pub(super) struct Target<'a> {
    pub(super) values: &'a mut [f32],
    pub(super) row_stride: usize,
    /// What is there is added to.
    pub(super) added_to: bool,
}

/// `scale * left right`, written or added to the target.
pub(super) fn product(target: Target<'_>, left: Matrix<'_>, right: Matrix<'_>, scale: f32, parallelism: Parallelism) {
    assert_eq!(left.columns, right.rows, "a product of matrices that do not fit");
    let (rows, columns) = (left.rows, right.columns);
    let written = Matrix { values: &[], rows, columns, row_stride: target.row_stride, column_stride: 1 };
    written.check(target.values.len());
    if rows * columns == 0 {
        return;
    }
    let stride = |stride: usize| stride as isize;
    // SAFETY: all three matrices lie within their slices, which was checked, and the target is borrowed for itself.
    #[allow(unsafe_code, reason = "gemm takes pointers")]
    unsafe {
        gemm::gemm(
            rows,
            columns,
            left.columns,
            target.values.as_mut_ptr(),
            1,
            stride(target.row_stride),
            target.added_to,
            left.values.as_ptr(),
            stride(left.column_stride),
            stride(left.row_stride),
            right.values.as_ptr(),
            stride(right.column_stride),
            stride(right.row_stride),
            1.0,
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// Below so many products of two numbers a second thread costs more than it saves.
const PARALLEL_MIN: usize = 192 * 192 * 192;

fn parallelism(rows: usize, inner: usize, columns: usize) -> Parallelism {
    let work = rows.saturating_mul(inner).saturating_mul(columns);
    if is_alone() || work < PARALLEL_MIN { Parallelism::None } else { Parallelism::Rayon(0) }
}

/// A tensor's matrix, as it lies, where its columns or its rows are next to each other.
fn matrix(tensor: &FlexTensor) -> Option<Matrix<'_>> {
    let layout = tensor.layout();
    let (shape, strides) = (layout.shape(), layout.strides());
    let (rows, columns) = (shape[0], shape[1]);
    let [row_stride, column_stride] = [strides[0], strides[1]].map(|stride| usize::try_from(stride).ok());
    let (row_stride, column_stride) = (row_stride?, column_stride?);
    let values = tensor.storage::<f32>().get(layout.start_offset()..)?;
    let matrix = Matrix { values, rows, columns, row_stride, column_stride };
    matrix.check(values.len());
    Some(matrix)
}

pub(super) fn forward(x: &FlexTensor, weight: &FlexTensor, bias: Option<&FlexTensor>) -> FlexTensor {
    let (x, weight) = (as_matrix(x), as_matrix(weight));
    let (x, weight) = (matrix(&x).expect("made one"), matrix(&weight).expect("made one"));
    let (rows, outputs) = (x.rows, weight.columns);
    let mut y = unwritten(rows * outputs);
    let bias = bias.map(|bias| contiguous(bias.clone()));
    if let Some(bias) = &bias
        && outputs > 0
    {
        y.chunks_exact_mut(outputs).for_each(|row| row.copy_from_slice(values(bias)));
    }
    if x.columns == 0 && bias.is_none() {
        y.fill(0.0);
    }
    let target = Target { values: &mut y, row_stride: outputs, added_to: bias.is_some() };
    product(target, x, weight, 1.0, parallelism(rows, x.columns, outputs));
    from_values(y, [rows, outputs])
}

/// The tensor, or a copy that lies in memory as a matrix does.
fn as_matrix(tensor: &FlexTensor) -> FlexTensor {
    if matrix(tensor).is_some() { tensor.clone() } else { tensor.to_contiguous() }
}

pub(super) fn backward(
    x: &FlexTensor,
    weight: &FlexTensor,
    gradient: &FlexTensor,
    wanted: [bool; 3],
) -> [Option<FlexTensor>; 3] {
    let (x, weight, gradient) = (as_matrix(x), as_matrix(weight), contiguous(gradient.clone()));
    let (x, weight) = (matrix(&x).expect("made one"), matrix(&weight).expect("made one"));
    let (rows, inputs, outputs) = (x.rows, x.columns, weight.columns);
    let of_y = Matrix::new(values(&gradient), rows, outputs, outputs);
    let multiplied = |left: Matrix<'_>, right: Matrix<'_>| {
        let (rows, columns) = (left.rows, right.columns);
        let mut out = if left.columns == 0 { vec![0.0; rows * columns] } else { unwritten(rows * columns) };
        let target = Target { values: &mut out, row_stride: columns, added_to: false };
        product(target, left, right, 1.0, parallelism(rows, left.columns, columns));
        from_values(out, [rows, columns])
    };
    debug_assert_eq!((x.columns, weight.rows), (inputs, inputs));
    [
        wanted[0].then(|| multiplied(of_y, weight.transposed())),
        wanted[1].then(|| multiplied(x.transposed(), of_y)),
        wanted[2].then(|| from_values(column_sums(of_y), [outputs])),
    ]
}

/// Columns that a thread sums at a time.
const COLUMNS: usize = 256;

/// The sums of a matrix's columns, each from the first row on.
fn column_sums(matrix: Matrix<'_>) -> Vec<f32> {
    let mut sums = vec![0f32; matrix.columns];
    for_chunks(&mut sums, COLUMNS, |index, sums| {
        add_rows(&matrix.values[index * COLUMNS..], matrix.rows, matrix.row_stride, sums)
    });
    sums
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq+fma", "x86_64+avx2+fma"))]
fn add_rows(values: &[f32], rows: usize, stride: usize, sums: &mut [f32]) {
    for row in 0..rows {
        let values = &values[row * stride..][..sums.len()];
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum += value;
        }
    }
}
