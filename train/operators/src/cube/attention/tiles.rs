//! Tiles of tokens in shared memory, and products of them by the units of a cube (Dao et al. 2022 and 2023).
//!
//! A cube of 8 by 8 units owns a tile of queries (or of keys, for their gradients) of one head of one sequence, and goes over
//! the tiles of the other. Of a product of two tiles each unit has every eighth row and every eighth column. Widths are padded
//! to a multiple of 8 with zeros. Sums are f32 whatever the type of the tokens, and in the same order each time.

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

/// Units of a cube, in each of two directions.
pub(super) const SIDE: usize = 8;
/// Shared memory that any GPU has; some runtimes say more, which would leave room for fewer cubes at once.
const SHARED_BYTES: usize = 48 << 10;
/// Head widths above are left to plain operations.
pub(super) const WIDEST: usize = 128;

/// Values between two rows of a tile in shared memory: one more than a padded row, so that rows start in different banks.
pub(super) const fn pitch(width: usize) -> usize {
    width.next_multiple_of(SIDE) + 1
}

/// Reads a tile of tokens into shared memory, times a factor; what lies beyond the tokens or the width is 0.
#[cube]
pub(super) fn read_tile<F: Float>(
    from: &Array<F>,
    tile_of: &mut SharedMemory<f32>,
    start: usize,
    stride: usize,
    first: usize,
    tokens: usize,
    factor: f32,
    #[comptime] width: usize,
    #[comptime] tile: usize,
) {
    let padded = comptime![width.next_multiple_of(SIDE)];
    let mut at = UNIT_POS as usize;
    while at < comptime![tile * padded] {
        let (row, column) = (at / padded, at % padded);
        let mut value = f32::new(0.0);
        if first + row < tokens && column < width {
            value = f32::cast_from(from[start + (first + row) * stride + column]) * factor;
        }
        tile_of[row * comptime![pitch(width)] + column] = value;
        at += comptime![SIDE * SIDE];
    }
}

/// This unit's part of `left right'`: rows `UNIT_POS_Y + 8 i`, columns `UNIT_POS_X + 8 j`.
#[cube]
pub(super) fn product_of_tiles(
    left: &SharedMemory<f32>,
    right: &SharedMemory<f32>,
    #[comptime] width: usize,
    #[comptime] tile: usize,
) -> Array<f32> {
    let each = comptime![tile / SIDE];
    let mut sums = Array::<f32>::new(comptime![each * each]);
    #[unroll]
    for at in 0..comptime![each * each] {
        sums[at] = 0.0f32;
    }
    let (row, column) = (UNIT_POS_Y as usize, UNIT_POS_X as usize);
    for d in 0..width {
        let mut of_right = Array::<f32>::new(each);
        #[unroll]
        for j in 0..each {
            of_right[j] = right[(column + j * SIDE) * comptime![pitch(width)] + d];
        }
        #[unroll]
        for i in 0..each {
            let of_left = left[(row + i * SIDE) * comptime![pitch(width)] + d];
            #[unroll]
            for j in 0..each {
                sums[i * each + j] += of_left * of_right[j];
            }
        }
    }
    sums
}

/// Adds this unit's part of `weights values`, or of `weights' values`, to sums of rows `UNIT_POS_Y + 8 i` and columns
/// `UNIT_POS_X + 8 c`.
#[cube]
pub(super) fn add_weighted(
    sums: &mut Array<f32>,
    weights: &SharedMemory<f32>,
    values: &SharedMemory<f32>,
    #[comptime] transposed: bool,
    #[comptime] width: usize,
    #[comptime] tile: usize,
) {
    let (each, columns) = comptime![(tile / SIDE, width.div_ceil(SIDE))];
    let (row, column) = (UNIT_POS_Y as usize, UNIT_POS_X as usize);
    for other in 0..tile {
        let mut of_values = Array::<f32>::new(columns);
        #[unroll]
        for c in 0..columns {
            of_values[c] = values[other * comptime![pitch(width)] + column + c * SIDE];
        }
        #[unroll]
        for i in 0..each {
            let weight = if transposed {
                weights[other * comptime![tile + 1] + row + i * SIDE]
            } else {
                weights[(row + i * SIDE) * comptime![tile + 1] + other]
            };
            #[unroll]
            for c in 0..columns {
                sums[i * columns + c] += weight * of_values[c];
            }
        }
    }
}

/// So many sums of 0.
#[cube]
pub(super) fn zeros(#[comptime] count: usize) -> Array<f32> {
    let mut values = Array::<f32>::new(count);
    #[unroll]
    for at in 0..count {
        values[at] = 0.0f32;
    }
    values
}

/// Writes this unit's part of a tile of tokens, times a factor.
#[cube]
pub(super) fn write_tile<F: Float>(
    to: &mut Array<F>,
    sums: &Array<f32>,
    start: usize,
    stride: usize,
    first: usize,
    tokens: usize,
    factor: f32,
    #[comptime] width: usize,
    #[comptime] tile: usize,
) {
    let (each, columns) = comptime![(tile / SIDE, width.div_ceil(SIDE))];
    #[unroll]
    for i in 0..each {
        let token = first + UNIT_POS_Y as usize + i * SIDE;
        #[unroll]
        for c in 0..columns {
            let column = UNIT_POS_X as usize + c * SIDE;
            if token < tokens && column < width {
                to[start + token * stride + column] = F::cast_from(sums[i * columns + c] * factor);
            }
        }
    }
}

/// The largest tile whose memory fits: `tiles` of tokens, `squares` of scores, `rows` of numbers a token.
pub(super) fn tile_for<R: CubeRuntime>(
    like: &CubeTensor<R>,
    width: usize,
    tiles: usize,
    squares: usize,
    rows: usize,
) -> usize {
    let bytes = |tile: usize| 4 * (tiles * tile * pitch(width) + squares * tile * (tile + 1) + rows * tile);
    let limit = like.client.properties().hardware.max_shared_memory_size.min(SHARED_BYTES);
    [32, 16, 8].into_iter().find(|tile| bytes(*tile) <= limit).expect("8 tokens of 128 values fit into 32 KiB")
}

/// Units of every cube.
pub(super) fn units() -> CubeDim {
    CubeDim::new_2d(SIDE as u32, SIDE as u32)
}
