//! LayerNorm: a cube a row; and the gradients of scale and shift, which are sums down the columns.

use super::launch::{contiguous, count, cubes, empty, empty_of, units_for_row};
use super::sums::{COLUMNS, Cut, LANES, column_sums, sum_over_cube, sum_over_lanes};
use burn::tensor::{DType, TensorMetadata};
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

#[cube(launch)]
fn norm_kernel<F: Float>(
    x: &Array<F>,
    scale: &Array<F>,
    shift: &Array<F>,
    output: &mut Array<F>,
    statistics: &mut Array<f32>,
    rows: usize,
    width: usize,
    epsilon: f32,
    #[comptime] units: usize,
    #[define(F)] _dtype: StorageType,
) {
    let row = CUBE_POS;
    if row >= rows {
        terminate!();
    }
    let mut scratch = SharedMemory::<f32>::new(units);
    let (start, unit) = (row * width, UNIT_POS as usize);
    let count = f32::cast_from(width as u32);

    let mut sum = 0.0f32;
    let mut at = unit;
    while at < width {
        sum += f32::cast_from(x[start + at]);
        at += units;
    }
    let mean = sum_over_cube(sum, &mut scratch, units) / count;

    let mut squares = 0.0f32;
    at = unit;
    while at < width {
        let centred = f32::cast_from(x[start + at]) - mean;
        squares += centred * centred;
        at += units;
    }
    let variance = sum_over_cube(squares, &mut scratch, units) / count;
    let inverse = 1.0f32 / (variance + epsilon).sqrt();

    at = unit;
    while at < width {
        let normalised = (f32::cast_from(x[start + at]) - mean) * inverse;
        output[start + at] = F::cast_from(normalised * f32::cast_from(scale[at]) + f32::cast_from(shift[at]));
        at += units;
    }
    if unit == 0 {
        statistics[2 * row] = mean;
        statistics[2 * row + 1] = inverse;
    }
}

/// Normalised rows, of the type of x, and each row's mean and inverse deviation, in f32.
pub(super) fn forward<R: CubeRuntime>(
    x: CubeTensor<R>,
    scale: CubeTensor<R>,
    shift: CubeTensor<R>,
    epsilon: f32,
) -> [CubeTensor<R>; 2] {
    let [x, scale, shift] = [x, scale, shift].map(contiguous);
    let [rows, width] = x.shape().dims();
    let (output, statistics) = (empty(&x, [rows, width]), empty_of(&x, [rows, 2], DType::F32));
    if rows == 0 {
        return [output, statistics];
    }
    let (client, units, dtype) = (x.client.clone(), units_for_row(width), x.dtype.into());
    norm_kernel::launch::<R>(
        &client,
        cubes(&client, rows),
        CubeDim::new_1d(units as u32),
        x.into_array_arg(),
        scale.into_array_arg(),
        shift.into_array_arg(),
        output.clone().into_array_arg(),
        statistics.clone().into_array_arg(),
        rows,
        width,
        epsilon,
        units,
        dtype,
    );
    [output, statistics]
}

#[cube(launch)]
fn norm_backward_kernel<F: Float>(
    x: &Array<F>,
    scale: &Array<F>,
    statistics: &Array<f32>,
    gradient: &Array<F>,
    of_x: &mut Array<F>,
    rows: usize,
    width: usize,
    #[comptime] units: usize,
    #[define(F)] _dtype: StorageType,
) {
    let row = CUBE_POS;
    if row >= rows {
        terminate!();
    }
    let mut scratch = SharedMemory::<f32>::new(units);
    let (start, unit) = (row * width, UNIT_POS as usize);
    let (mean, inverse) = (statistics[2 * row], statistics[2 * row + 1]);
    let count = f32::cast_from(width as u32);

    let mut sum = 0.0f32;
    let mut along = 0.0f32;
    let mut at = unit;
    while at < width {
        let normalised = (f32::cast_from(x[start + at]) - mean) * inverse;
        let scaled = f32::cast_from(gradient[start + at]) * f32::cast_from(scale[at]);
        sum += scaled;
        along += scaled * normalised;
        at += units;
    }
    let mean_of_scaled = sum_over_cube(sum, &mut scratch, units) / count;
    let mean_along = sum_over_cube(along, &mut scratch, units) / count;

    at = unit;
    while at < width {
        let normalised = (f32::cast_from(x[start + at]) - mean) * inverse;
        let scaled = f32::cast_from(gradient[start + at]) * f32::cast_from(scale[at]);
        of_x[start + at] = F::cast_from((scaled - mean_of_scaled - normalised * mean_along) * inverse);
        at += units;
    }
}

/// The sums of the gradient times the normalised values, and of the gradient, over the rows of a chunk, side by side.
#[cube(launch)]
fn norm_parameters_kernel<F: Float>(
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
    let mut of_scale = 0.0f32;
    let mut of_shift = 0.0f32;
    if column < width {
        let mut row = start + UNIT_POS_Y as usize;
        while row < end {
            let at = row * width + column;
            let normalised = (f32::cast_from(x[at]) - statistics[2 * row]) * statistics[2 * row + 1];
            let slope = f32::cast_from(gradient[at]);
            of_scale += slope * normalised;
            of_shift += slope;
            row += LANES;
        }
    }
    let of_scale = sum_over_lanes(of_scale, &mut scratch);
    let of_shift = sum_over_lanes(of_shift, &mut scratch);
    if UNIT_POS_Y == 0 && column < width {
        let first = CUBE_POS_Y as usize * 2 * width + column;
        sums[first] = of_scale;
        sums[first + width] = of_shift;
    }
}

/// The gradients of x, of the scale and of the shift, of the type of x.
pub(super) fn backward<R: CubeRuntime>(
    x: CubeTensor<R>,
    scale: CubeTensor<R>,
    statistics: CubeTensor<R>,
    gradient: CubeTensor<R>,
) -> [CubeTensor<R>; 3] {
    let [x, scale, statistics, gradient] = [x, scale, statistics, gradient].map(contiguous);
    let [rows, width] = x.shape().dims();
    let (of_x, client, dtype) = (empty(&x, [rows, width]), x.client.clone(), x.dtype.into());
    if count(&x) > 0 {
        let units = units_for_row(width);
        norm_backward_kernel::launch::<R>(
            &client,
            cubes(&client, rows),
            CubeDim::new_1d(units as u32),
            x.clone().into_array_arg(),
            scale.clone().into_array_arg(),
            statistics.clone().into_array_arg(),
            gradient.clone().into_array_arg(),
            of_x.clone().into_array_arg(),
            rows,
            width,
            units,
            dtype,
        );
    }
    let cut = Cut::of(rows, width);
    let sums = empty_of(&x, [cut.chunks, 2 * width], DType::F32);
    norm_parameters_kernel::launch::<R>(
        &client,
        cut.cubes(),
        Cut::units(),
        x.into_array_arg(),
        statistics.into_array_arg(),
        gradient.into_array_arg(),
        sums.clone().into_array_arg(),
        rows,
        width,
        cut.rows_of_a_chunk,
        dtype,
    );
    let both = column_sums(sums, [cut.chunks, 2 * width], scale.dtype);
    let part = |index: usize| {
        let columns = index * width..(index + 1) * width;
        burn_cubecl::kernel::slice(both.clone(), std::slice::from_ref(&columns))
    };
    [of_x, part(0), part(1)]
}
