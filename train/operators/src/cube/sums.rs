//! Sums over a row by the units of a cube, the largest of a row, and sums down the columns of a matrix in two launches: no atomics, so that the same
//! input gives the same bits.

use super::launch::{contiguous, count, empty, empty_of};
use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

/// Columns that one cube sums: as many units side by side.
pub(super) const COLUMNS: usize = 32;
/// Rows that a cube reads at once.
pub(super) const LANES: usize = 8;
/// Rows that a cube sums, at least; more where there are more than [`MOST_CHUNKS`] times as many.
const ROWS_OF_A_CHUNK: usize = 64;
const MOST_CHUNKS: usize = 256;
/// Below every logit and score, where a search for the largest begins.
pub(super) const LEAST: f32 = -3.0e38;

/// The sum over the cube of each unit's value, in every unit. `scratch` has room for a value a unit.
#[cube]
pub(super) fn sum_over_cube(value: f32, scratch: &mut SharedMemory<f32>, #[comptime] units: usize) -> f32 {
    let unit = UNIT_POS as usize;
    scratch[unit] = value;
    sync_cube();
    let mut half = comptime![units / 2].runtime();
    while half > 0 {
        if unit < half {
            scratch[unit] = scratch[unit] + scratch[unit + half];
        }
        sync_cube();
        half /= 2;
    }
    let sum = scratch[0];
    // Nobody writes the next value before all have read this one.
    sync_cube();
    sum
}

/// The largest of the units' values, in every unit. `scratch` has room for a value a unit.
#[cube]
pub(super) fn largest_of_cube(value: f32, scratch: &mut SharedMemory<f32>, #[comptime] units: usize) -> f32 {
    let unit = UNIT_POS as usize;
    scratch[unit] = value;
    sync_cube();
    let mut half = comptime![units / 2].runtime();
    while half > 0 {
        if unit < half {
            scratch[unit] = max(scratch[unit], scratch[unit + half]);
        }
        sync_cube();
        half /= 2;
    }
    let largest = scratch[0];
    sync_cube();
    largest
}

/// The sum over the lanes of a cube of [`COLUMNS`] by [`LANES`] units, in the first lane.
#[cube]
pub(super) fn sum_over_lanes(value: f32, scratch: &mut SharedMemory<f32>) -> f32 {
    let (column, lane) = (UNIT_POS_X as usize, UNIT_POS_Y as usize);
    scratch[lane * COLUMNS + column] = value;
    sync_cube();
    let mut sum = 0.0f32;
    if lane == 0 {
        #[unroll]
        for other in 0..LANES {
            sum += scratch[other * COLUMNS + column];
        }
    }
    sync_cube();
    sum
}

/// How a matrix is cut to be summed down its columns.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cut {
    /// Rows that a cube sums.
    pub(super) rows_of_a_chunk: usize,
    /// The number of chunks, each of which leaves a row of sums.
    pub(super) chunks: usize,
    /// The cubes of a launch: blocks of columns by chunks.
    pub(super) blocks: usize,
}

impl Cut {
    /// A cut of some rows and columns.
    pub(super) fn of(rows: usize, columns: usize) -> Self {
        let rows_of_a_chunk = rows.div_ceil(MOST_CHUNKS).max(ROWS_OF_A_CHUNK);
        Self { rows_of_a_chunk, chunks: rows.div_ceil(rows_of_a_chunk).max(1), blocks: columns.div_ceil(COLUMNS) }
    }

    pub(super) fn cubes(self) -> CubeCount {
        CubeCount::Static(self.blocks as u32, self.chunks as u32, 1)
    }

    pub(super) fn units() -> CubeDim {
        CubeDim::new_2d(COLUMNS as u32, LANES as u32)
    }
}

#[cube(launch)]
fn column_sums_kernel<F: Float, G: Float>(
    values: &Array<F>,
    sums: &mut Array<G>,
    rows: usize,
    columns: usize,
    rows_of_a_chunk: usize,
    #[define(F)] _dtype: StorageType,
    #[define(G)] _dtype_of_sums: StorageType,
) {
    let column = CUBE_POS_X as usize * COLUMNS + UNIT_POS_X as usize;
    let start = CUBE_POS_Y as usize * rows_of_a_chunk;
    let end = min(start + rows_of_a_chunk, rows);
    let mut scratch = SharedMemory::<f32>::new(comptime![COLUMNS * LANES]);
    let mut sum = 0.0f32;
    if column < columns {
        let mut row = start + UNIT_POS_Y as usize;
        while row < end {
            sum += f32::cast_from(values[row * columns + column]);
            row += LANES;
        }
    }
    let sum = sum_over_lanes(sum, &mut scratch);
    if UNIT_POS_Y == 0 && column < columns {
        sums[CUBE_POS_Y as usize * columns + column] = G::cast_from(sum);
    }
}

/// The sums down the columns of a matrix, `[columns]`, of a type of their own; sums in between are f32.
pub(super) fn column_sums<R: CubeRuntime>(
    values: CubeTensor<R>,
    [rows, columns]: [usize; 2],
    dtype: DType,
) -> CubeTensor<R> {
    let mut values = contiguous(values);
    let mut rows = rows;
    loop {
        let cut = Cut::of(rows, columns);
        let last = cut.chunks == 1;
        let sums = if last {
            empty_of(&values, [columns], dtype)
        } else {
            empty_of(&values, [cut.chunks, columns], DType::F32)
        };
        let client = values.client.clone();
        let (from, to) = (values.dtype.into(), sums.dtype.into());
        let written = sums.clone().into_array_arg();
        let (cubes, units) = (cut.cubes(), Cut::units());
        let read = values.into_array_arg();
        column_sums_kernel::launch::<R>(
            &client,
            cubes,
            units,
            read,
            written,
            rows,
            columns,
            cut.rows_of_a_chunk,
            from,
            to,
        );
        if last {
            return sums;
        }
        (values, rows) = (sums, cut.chunks);
    }
}

#[cube(launch)]
fn squares_kernel<F: Float>(
    values: &Array<F>,
    sums: &mut Array<f32>,
    #[comptime] units: usize,
    #[comptime] squared: bool,
    #[define(F)] _dtype: StorageType,
) {
    let mut scratch = SharedMemory::<f32>::new(units);
    let step = CUBE_COUNT_X as usize * units;
    let mut sum = 0.0f32;
    let mut at = CUBE_POS_X as usize * units + UNIT_POS as usize;
    while at < values.len() {
        let value = f32::cast_from(values[at]);
        if squared {
            sum += value * value;
        } else {
            sum += value;
        }
        at += step;
    }
    let sum = sum_over_cube(sum, &mut scratch, units);
    if UNIT_POS == 0 {
        sums[CUBE_POS_X as usize] = sum;
    }
}

/// The sum of the squares of all values, `[1]`, in f32.
pub(super) fn sum_of_squares<R: CubeRuntime>(values: CubeTensor<R>) -> CubeTensor<R> {
    const UNITS: usize = 256;
    let values = contiguous(values);
    let client = values.client.clone();
    let cubes = count(&values).div_ceil(UNITS * 16).clamp(1, UNITS);
    let parts = empty_of(&values, [cubes], DType::F32);
    let (dtype, dim) = (values.dtype.into(), CubeDim::new_1d(UNITS as u32));
    let written = parts.clone().into_array_arg();
    squares_kernel::launch::<R>(
        &client,
        CubeCount::new_1d(cubes as u32),
        dim,
        values.into_array_arg(),
        written,
        UNITS,
        true,
        dtype,
    );
    if cubes == 1 {
        return parts;
    }
    let sum = empty(&parts, [1]);
    let (dtype, written) = (parts.dtype.into(), sum.clone().into_array_arg());
    squares_kernel::launch::<R>(
        &client,
        CubeCount::new_1d(1),
        dim,
        parts.into_array_arg(),
        written,
        UNITS,
        false,
        dtype,
    );
    sum
}
