//! Attention by tiles: the scores of all tokens are never in memory; a cube goes over the tiles of keys with the softmax's sum
//! relative to the largest score so far, and keeps its log.

use super::place::{Packed, Place, packed_arg, place_at, tiles_in};
use super::tiles::{SIDE, add_weighted, pitch, product_of_tiles, read_tile, tile_for, units, write_tile, zeros};
use crate::cube::launch::{contiguous, cubes, empty, empty_of};
use crate::cube::sums::LEAST;
use crate::packing::Packing;
use burn::tensor::{DType, TensorMetadata};
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

#[cube(launch)]
fn attention_kernel<F: Float>(
    qkv: &Array<F>,
    output: &mut Array<F>,
    log_sums: &mut Array<f32>,
    packed: &Packed,
    factor: f32,
    #[comptime] width: usize,
    #[comptime] tile: usize,
    #[define(F)] _dtype: StorageType,
) {
    let Place { row, tokens, head, first } = place_at(packed, CUBE_POS, tile);
    if tokens == 0 {
        terminate!();
    }
    let (each, columns) = comptime![(tile / SIDE, width.div_ceil(SIDE))];
    let dim = packed.heads * width;
    let stride = 3 * dim;
    let start = row * stride + head * width;

    let mut queries = SharedMemory::<f32>::new(comptime![tile * pitch(width)]);
    let mut keys = SharedMemory::<f32>::new(comptime![tile * pitch(width)]);
    let mut values = SharedMemory::<f32>::new(comptime![tile * pitch(width)]);
    let mut weights = SharedMemory::<f32>::new(comptime![tile * (tile + 1)]);
    // Of each query: its largest score so far, the softmax's sum relative to it, and what the sums before are worth now.
    let mut largest = SharedMemory::<f32>::new(tile);
    let mut sums = SharedMemory::<f32>::new(tile);
    let mut rescale = SharedMemory::<f32>::new(tile);
    let unit = UNIT_POS as usize;
    if unit < tile {
        largest[unit] = f32::new(LEAST);
        sums[unit] = f32::new(0.0);
    }
    read_tile::<F>(qkv, &mut queries, start, stride, first, tokens, factor, width, tile);
    let mut mixed = zeros(comptime![each * columns]);

    let mut key = comptime![0usize].runtime();
    while key < tokens {
        read_tile::<F>(qkv, &mut keys, start + dim, stride, key, tokens, f32::new(1.0), width, tile);
        read_tile::<F>(qkv, &mut values, start + 2 * dim, stride, key, tokens, f32::new(1.0), width, tile);
        sync_cube();
        let scores = product_of_tiles(&queries, &keys, width, tile);
        #[unroll]
        for i in 0..each {
            #[unroll]
            for j in 0..each {
                let at = (UNIT_POS_Y as usize + i * SIDE) * comptime![tile + 1] + UNIT_POS_X as usize + j * SIDE;
                weights[at] = scores[i * each + j];
            }
        }
        sync_cube();
        if unit < tile {
            let scores_of_query = unit * comptime![tile + 1];
            let here = min(tokens - key, tile);
            let before = largest[unit];
            let mut most = before;
            for other in 0..here {
                most = max(most, weights[scores_of_query + other]);
            }
            let mut sum = f32::new(0.0);
            for other in 0..tile {
                let mut weight = f32::new(0.0);
                if other < here {
                    weight = (weights[scores_of_query + other] - most).exp();
                }
                weights[scores_of_query + other] = weight;
                sum += weight;
            }
            let worth = (before - most).exp();
            largest[unit] = most;
            sums[unit] = sums[unit] * worth + sum;
            rescale[unit] = worth;
        }
        sync_cube();
        #[unroll]
        for i in 0..each {
            let worth = rescale[UNIT_POS_Y as usize + i * SIDE];
            #[unroll]
            for c in 0..columns {
                mixed[i * columns + c] *= worth;
            }
        }
        add_weighted(&mut mixed, &weights, &values, false, width, tile);
        // The next tiles are read over these.
        sync_cube();
        key += tile;
    }

    #[unroll]
    for i in 0..each {
        let inverse = 1.0f32 / sums[UNIT_POS_Y as usize + i * SIDE];
        #[unroll]
        for c in 0..columns {
            mixed[i * columns + c] *= inverse;
        }
    }
    let start_of_output = row * dim + head * width;
    write_tile::<F>(output, &mixed, start_of_output, dim, first, tokens, f32::new(1.0), width, tile);
    if unit < tile && first + unit < tokens {
        log_sums[row * packed.heads + head * tokens + first + unit] = largest[unit] + sums[unit].ln();
    }
}

/// What each token attends to, `[rows, dim]`, and the logs of the softmaxes' sums, `[heads * rows]`, in f32.
pub(super) fn forward<R: CubeRuntime>(qkv: CubeTensor<R>, packing: &Packing, heads: usize) -> [CubeTensor<R>; 2] {
    let qkv = contiguous(qkv);
    let [rows, all] = qkv.shape().dims();
    let (dim, width) = (all / 3, all / 3 / heads);
    let (output, log_sums) = (empty(&qkv, [rows, dim]), empty_of(&qkv, [heads * rows], DType::F32));
    let (client, dtype) = (qkv.client.clone(), qkv.dtype.into());
    let tile = tile_for(&qkv, width, 3, 1, 3);
    attention_kernel::launch::<R>(
        &client,
        cubes(&client, tiles_in(packing, heads, tile)),
        units(),
        qkv.into_array_arg(),
        output.clone().into_array_arg(),
        log_sums.clone().into_array_arg(),
        packed_arg(packing, heads),
        (width as f32).powf(-0.5),
        width,
        tile,
        dtype,
    );
    [output, log_sums]
}
