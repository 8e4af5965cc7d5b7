//! Columns standardised over the batch: statistics by chunks of rows, then one pass over the values.

use super::launch::{contiguous, count, elementwise, empty, empty_of};
use super::sums::{COLUMNS, Cut, LANES, column_sums, sum_over_lanes};
use burn::tensor::{DType, TensorMetadata};
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

/// The sums of the squares of the values less their column's mean, over the rows of a chunk.
#[cube(launch)]
fn squares_kernel<F: Float>(
    x: &Array<F>,
    sums_of_columns: &Array<f32>,
    squares: &mut Array<f32>,
    rows: usize,
    width: usize,
    rows_of_a_chunk: usize,
    #[define(F)] _dtype: StorageType,
) {
    let column = CUBE_POS_X as usize * COLUMNS + UNIT_POS_X as usize;
    let start = CUBE_POS_Y as usize * rows_of_a_chunk;
    let end = min(start + rows_of_a_chunk, rows);
    let mut scratch = SharedMemory::<f32>::new(comptime![COLUMNS * LANES]);
    let mut sum = 0.0f32;
    if column < width {
        let mean = sums_of_columns[column] / f32::cast_from(rows as u32);
        let mut row = start + UNIT_POS_Y as usize;
        while row < end {
            let centred = f32::cast_from(x[row * width + column]) - mean;
            sum += centred * centred;
            row += LANES;
        }
    }
    let sum = sum_over_lanes(sum, &mut scratch);
    if UNIT_POS_Y == 0 && column < width {
        squares[CUBE_POS_Y as usize * width + column] = sum;
    }
}

#[cube(launch)]
fn standardise_kernel<F: Float>(
    x: &Array<F>,
    sums_of_columns: &Array<f32>,
    squares: &Array<f32>,
    output: &mut Array<F>,
    statistics: &mut Array<f32>,
    rows: usize,
    width: usize,
    epsilon: f32,
    #[define(F)] _dtype: StorageType,
) {
    let at = ABSOLUTE_POS;
    if at >= output.len() {
        terminate!();
    }
    let (column, count) = (at % width, f32::cast_from(rows as u32));
    let mean = sums_of_columns[column] / count;
    let inverse = 1.0f32 / (squares[column] / count + epsilon).sqrt();
    output[at] = F::cast_from((f32::cast_from(x[at]) - mean) * inverse);
    if at < width {
        statistics[column] = mean;
        statistics[width + column] = inverse;
    }
}

/// Standardised columns, of the type of x, and each column's mean and inverse deviation, in f32.
pub(super) fn forward<R: CubeRuntime>(x: CubeTensor<R>, epsilon: f32) -> [CubeTensor<R>; 2] {
    let x = contiguous(x);
    let [rows, width] = x.shape().dims();
    let (output, statistics) = (empty(&x, [rows, width]), empty_of(&x, [2, width], DType::F32));
    if count(&x) == 0 {
        return [output, statistics];
    }
    let (client, dtype, cut) = (x.client.clone(), x.dtype.into(), Cut::of(rows, width));
    let sums = column_sums(x.clone(), [rows, width], DType::F32);
    let squares = empty_of(&x, [cut.chunks, width], DType::F32);
    squares_kernel::launch::<R>(
        &client,
        cut.cubes(),
        Cut::units(),
        x.clone().into_array_arg(),
        sums.clone().into_array_arg(),
        squares.clone().into_array_arg(),
        rows,
        width,
        cut.rows_of_a_chunk,
        dtype,
    );
    let squares = column_sums(squares, [cut.chunks, width], DType::F32);
    let (cubes, units) = elementwise(&client, rows * width);
    standardise_kernel::launch::<R>(
        &client,
        cubes,
        units,
        x.into_array_arg(),
        sums.into_array_arg(),
        squares.into_array_arg(),
        output.clone().into_array_arg(),
        statistics.clone().into_array_arg(),
        rows,
        width,
        epsilon,
        dtype,
    );
    [output, statistics]
}

/// The sums of the gradient, and of the gradient times the standardised values, over the rows of a chunk, side by side.
#[cube(launch)]
fn sums_kernel<F: Float>(
    x: &Array<F>,
    statistics: &Array<f32>,
    gradient: &Array<F>,
    sums: &mut Array<f32>,
    rows: usize,
    width: usize,
    rows_of_a_chunk: usize,
    #[define(F)] _dtype: StorageType,
) {
    let column = CUBE_POS_X as usize * COLUMNS + UNIT_POS_X as usize;
    let start = CUBE_POS_Y as usize * rows_of_a_chunk;
    let end = min(start + rows_of_a_chunk, rows);
    let mut scratch = SharedMemory::<f32>::new(comptime![COLUMNS * LANES]);
    let mut slopes = 0.0f32;
    let mut along = 0.0f32;
    if column < width {
        let (mean, inverse) = (statistics[column], statistics[width + column]);
        let mut row = start + UNIT_POS_Y as usize;
        while row < end {
            let at = row * width + column;
            let slope = f32::cast_from(gradient[at]);
            slopes += slope;
            along += slope * (f32::cast_from(x[at]) - mean) * inverse;
            row += LANES;
        }
    }
    let slopes = sum_over_lanes(slopes, &mut scratch);
    let along = sum_over_lanes(along, &mut scratch);
    if UNIT_POS_Y == 0 && column < width {
        let first = CUBE_POS_Y as usize * 2 * width + column;
        sums[first] = slopes;
        sums[first + width] = along;
    }
}

#[cube(launch)]
fn backward_kernel<F: Float>(
    x: &Array<F>,
    statistics: &Array<f32>,
    gradient: &Array<F>,
    sums: &Array<f32>,
    of_x: &mut Array<F>,
    rows: usize,
    width: usize,
    #[define(F)] _dtype: StorageType,
) {
    let at = ABSOLUTE_POS;
    if at >= of_x.len() {
        terminate!();
    }
    let (column, count) = (at % width, f32::cast_from(rows as u32));
    let inverse = statistics[width + column];
    let standardised = (f32::cast_from(x[at]) - statistics[column]) * inverse;
    let slope = f32::cast_from(gradient[at]) - sums[column] / count - standardised * sums[width + column] / count;
    of_x[at] = F::cast_from(slope * inverse);
}

/// The gradient of x, of its type.
pub(super) fn backward<R: CubeRuntime>(
    x: CubeTensor<R>,
    statistics: CubeTensor<R>,
    gradient: CubeTensor<R>,
) -> CubeTensor<R> {
    let [x, statistics, gradient] = [x, statistics, gradient].map(contiguous);
    let [rows, width] = x.shape().dims();
    let of_x = empty(&x, [rows, width]);
    if count(&x) == 0 {
        return of_x;
    }
    let (client, dtype, cut) = (x.client.clone(), x.dtype.into(), Cut::of(rows, width));
    let sums = empty_of(&x, [cut.chunks, 2 * width], DType::F32);
    sums_kernel::launch::<R>(
        &client,
        cut.cubes(),
        Cut::units(),
        x.clone().into_array_arg(),
        statistics.clone().into_array_arg(),
        gradient.clone().into_array_arg(),
        sums.clone().into_array_arg(),
        rows,
        width,
        cut.rows_of_a_chunk,
        dtype,
    );
    let sums = column_sums(sums, [cut.chunks, 2 * width], DType::F32);
    let (cubes, units) = elementwise(&client, rows * width);
    backward_kernel::launch::<R>(
        &client,
        cubes,
        units,
        x.into_array_arg(),
        statistics.into_array_arg(),
        gradient.into_array_arg(),
        sums.into_array_arg(),
        of_x.clone().into_array_arg(),
        rows,
        width,
        dtype,
    );
    of_x
}
