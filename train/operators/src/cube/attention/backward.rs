//! The gradients of attention by tiles: scores are computed again. One kernel has a tile of keys and goes over all queries, one
//! has a tile of queries and goes over all keys, so that no two cubes add to the same value.

use super::place::{Packed, Place, packed_arg, place_at, tiles_in};
use super::tiles::{SIDE, add_weighted, pitch, product_of_tiles, read_tile, tile_for, units, write_tile, zeros};
use crate::cube::launch::{contiguous, count, cubes, elementwise, empty, empty_of};
use crate::packing::Packing;
use burn::tensor::{DType, TensorMetadata};
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

/// Of each token and head, the gradient of what came out times what came out.
#[cube(launch)]
fn own_kernel<F: Float>(
    output: &Array<F>,
    gradient: &Array<F>,
    own: &mut Array<f32>,
    packed: &Packed,
    #[comptime] width: usize,
    #[define(F)] _dtype: StorageType,
) {
    let at = ABSOLUTE_POS;
    if at >= own.len() {
        terminate!();
    }
    // In tiles of one token.
    let place = place_at(packed, at, 1usize);
    let start = ((place.row + place.first) * packed.heads + place.head) * width;
    let mut sum = f32::new(0.0);
    for d in 0..width {
        sum += f32::cast_from(output[start + d]) * f32::cast_from(gradient[start + d]);
    }
    own[at] = sum;
}

/// What a tile of queries and a tile of keys have to do with each other.
#[derive(CubeType)]
struct Tiles {
    queries: SharedMemory<f32>,
    keys: SharedMemory<f32>,
    values: SharedMemory<f32>,
    gradients: SharedMemory<f32>,
    /// Of each query, the log of its softmax's sum, and the gradient of what came out times what came out.
    log_sums: SharedMemory<f32>,
    own: SharedMemory<f32>,
    /// The softmax, and the gradient of the scores: a row a query, a column a key.
    weights: SharedMemory<f32>,
    slopes: SharedMemory<f32>,
}

#[cube]
fn room(#[comptime] width: usize, #[comptime] tile: usize) -> Tiles {
    Tiles {
        queries: SharedMemory::<f32>::new(comptime![tile * pitch(width)]),
        keys: SharedMemory::<f32>::new(comptime![tile * pitch(width)]),
        values: SharedMemory::<f32>::new(comptime![tile * pitch(width)]),
        gradients: SharedMemory::<f32>::new(comptime![tile * pitch(width)]),
        log_sums: SharedMemory::<f32>::new(tile),
        own: SharedMemory::<f32>::new(tile),
        weights: SharedMemory::<f32>::new(comptime![tile * (tile + 1)]),
        slopes: SharedMemory::<f32>::new(comptime![tile * (tile + 1)]),
    }
}

/// Reads what belongs to a tile of queries.
#[cube]
fn read_queries<F: Float>(
    tiles: &mut Tiles,
    qkv: &Array<F>,
    gradient: &Array<F>,
    log_sums: &Array<f32>,
    own: &Array<f32>,
    packed: &Packed,
    place: &Place,
    first: usize,
    factor: f32,
    #[comptime] width: usize,
    #[comptime] tile: usize,
) {
    let (tokens, dim) = (place.tokens, packed.heads * width);
    let start = place.row * 3 * dim + place.head * width;
    read_tile::<F>(qkv, &mut tiles.queries, start, 3 * dim, first, tokens, factor, width, tile);
    let start = place.row * dim + place.head * width;
    read_tile::<F>(gradient, &mut tiles.gradients, start, dim, first, tokens, f32::new(1.0), width, tile);
    let unit = UNIT_POS as usize;
    if unit < tile {
        let mut log_sum = f32::new(0.0);
        let mut of_own = f32::new(0.0);
        if first + unit < tokens {
            let at = place.row * packed.heads + place.head * tokens + first + unit;
            log_sum = log_sums[at];
            of_own = own[at];
        }
        tiles.log_sums[unit] = log_sum;
        tiles.own[unit] = of_own;
    }
}

/// Reads what belongs to a tile of keys.
#[cube]
fn read_keys<F: Float>(
    tiles: &mut Tiles,
    qkv: &Array<F>,
    packed: &Packed,
    place: &Place,
    first: usize,
    #[comptime] width: usize,
    #[comptime] tile: usize,
) {
    let (tokens, dim) = (place.tokens, packed.heads * width);
    let start = place.row * 3 * dim + place.head * width;
    read_tile::<F>(qkv, &mut tiles.keys, start + dim, 3 * dim, first, tokens, f32::new(1.0), width, tile);
    read_tile::<F>(qkv, &mut tiles.values, start + 2 * dim, 3 * dim, first, tokens, f32::new(1.0), width, tile);
}

/// The softmax and the gradient of the scores of the tiles in shared memory. Beyond the tokens both are 0.
#[cube]
fn weigh(
    tiles: &mut Tiles,
    first_query: usize,
    first_key: usize,
    tokens: usize,
    #[comptime] width: usize,
    #[comptime] tile: usize,
) {
    let each = comptime![tile / SIDE];
    let scores = product_of_tiles(&tiles.queries, &tiles.keys, width, tile);
    let of_weights = product_of_tiles(&tiles.gradients, &tiles.values, width, tile);
    #[unroll]
    for i in 0..each {
        let query = UNIT_POS_Y as usize + i * SIDE;
        #[unroll]
        for j in 0..each {
            let key = UNIT_POS_X as usize + j * SIDE;
            let mut weight = f32::new(0.0);
            if first_query + query < tokens && first_key + key < tokens {
                weight = (scores[i * each + j] - tiles.log_sums[query]).exp();
            }
            tiles.weights[query * comptime![tile + 1] + key] = weight;
            tiles.slopes[query * comptime![tile + 1] + key] = weight * (of_weights[i * each + j] - tiles.own[query]);
        }
    }
}

/// The gradients of a tile of keys and values: over all queries.
#[cube(launch)]
fn of_keys_kernel<F: Float>(
    qkv: &Array<F>,
    gradient: &Array<F>,
    log_sums: &Array<f32>,
    own: &Array<f32>,
    of_qkv: &mut Array<F>,
    packed: &Packed,
    factor: f32,
    #[comptime] width: usize,
    #[comptime] tile: usize,
    #[define(F)] _dtype: StorageType,
) {
    let place = place_at(packed, CUBE_POS, tile);
    if place.tokens == 0 {
        terminate!();
    }
    let (tokens, first, dim) = (place.tokens, place.first, packed.heads * width);
    let mut tiles = room(width, tile);
    read_keys::<F>(&mut tiles, qkv, packed, &place, first, width, tile);
    let mut of_keys = zeros(comptime![(tile / SIDE) * width.div_ceil(SIDE)]);
    let mut of_values = zeros(comptime![(tile / SIDE) * width.div_ceil(SIDE)]);
    let mut query = comptime![0usize].runtime();
    while query < tokens {
        read_queries::<F>(&mut tiles, qkv, gradient, log_sums, own, packed, &place, query, factor, width, tile);
        sync_cube();
        weigh(&mut tiles, query, first, tokens, width, tile);
        sync_cube();
        add_weighted(&mut of_values, &tiles.weights, &tiles.gradients, true, width, tile);
        add_weighted(&mut of_keys, &tiles.slopes, &tiles.queries, true, width, tile);
        sync_cube();
        query += tile;
    }
    let start = place.row * 3 * dim + place.head * width;
    write_tile::<F>(of_qkv, &of_keys, start + dim, 3 * dim, first, tokens, f32::new(1.0), width, tile);
    write_tile::<F>(of_qkv, &of_values, start + 2 * dim, 3 * dim, first, tokens, f32::new(1.0), width, tile);
}

/// The gradients of a tile of queries: over all keys.
#[cube(launch)]
fn of_queries_kernel<F: Float>(
    qkv: &Array<F>,
    gradient: &Array<F>,
    log_sums: &Array<f32>,
    own: &Array<f32>,
    of_qkv: &mut Array<F>,
    packed: &Packed,
    factor: f32,
    #[comptime] width: usize,
    #[comptime] tile: usize,
    #[define(F)] _dtype: StorageType,
) {
    let place = place_at(packed, CUBE_POS, tile);
    if place.tokens == 0 {
        terminate!();
    }
    let (tokens, first, dim) = (place.tokens, place.first, packed.heads * width);
    let mut tiles = room(width, tile);
    read_queries::<F>(&mut tiles, qkv, gradient, log_sums, own, packed, &place, first, factor, width, tile);
    let mut of_queries = zeros(comptime![(tile / SIDE) * width.div_ceil(SIDE)]);
    let mut key = comptime![0usize].runtime();
    while key < tokens {
        read_keys::<F>(&mut tiles, qkv, packed, &place, key, width, tile);
        sync_cube();
        weigh(&mut tiles, first, key, tokens, width, tile);
        sync_cube();
        add_weighted(&mut of_queries, &tiles.slopes, &tiles.keys, false, width, tile);
        sync_cube();
        key += tile;
    }
    let start = place.row * 3 * dim + place.head * width;
    write_tile::<F>(of_qkv, &of_queries, start, 3 * dim, first, tokens, factor, width, tile);
}

/// Of each token and head, the gradient of what came out times what came out, `[heads * rows]` as the logs of the softmaxes'
/// sums lie, in f32. Both inputs are contiguous.
pub(super) fn own<R: CubeRuntime>(
    output: CubeTensor<R>,
    gradient: CubeTensor<R>,
    packing: &Packing,
    heads: usize,
) -> CubeTensor<R> {
    let [rows, dim] = output.shape().dims();
    let own = empty_of(&output, [heads * rows], DType::F32);
    let (client, dtype) = (output.client.clone(), output.dtype.into());
    let (number, units) = elementwise(&client, count(&own));
    own_kernel::launch::<R>(
        &client,
        number,
        units,
        output.into_array_arg(),
        gradient.into_array_arg(),
        own.clone().into_array_arg(),
        packed_arg(packing, heads),
        dim / heads,
        dtype,
    );
    own
}

/// The gradient of queries, keys and values, `[rows, 3 * dim]`.
pub(super) fn backward<R: CubeRuntime>(
    qkv: CubeTensor<R>,
    (packing, heads): (&Packing, usize),
    output: CubeTensor<R>,
    log_sums: CubeTensor<R>,
    gradient: CubeTensor<R>,
) -> CubeTensor<R> {
    let [qkv, output, log_sums, gradient] = [qkv, output, log_sums, gradient].map(contiguous);
    let [rows, all] = qkv.shape().dims();
    let width = all / 3 / heads;
    let of_qkv = empty(&qkv, [rows, all]);
    let (client, dtype) = (qkv.client.clone(), qkv.dtype.into());
    let own = own(output, gradient.clone(), packing, heads);
    let tile = tile_for(&qkv, width, 4, 2, 2);
    let number = tiles_in(packing, heads, tile);
    let factor = (width as f32).powf(-0.5);
    of_keys_kernel::launch::<R>(
        &client,
        cubes(&client, number),
        units(),
        qkv.clone().into_array_arg(),
        gradient.clone().into_array_arg(),
        log_sums.clone().into_array_arg(),
        own.clone().into_array_arg(),
        of_qkv.clone().into_array_arg(),
        packed_arg(packing, heads),
        factor,
        width,
        tile,
        dtype,
    );
    of_queries_kernel::launch::<R>(
        &client,
        cubes(&client, number),
        units(),
        qkv.into_array_arg(),
        gradient.into_array_arg(),
        log_sums.into_array_arg(),
        own.into_array_arg(),
        of_qkv.clone().into_array_arg(),
        packed_arg(packing, heads),
        factor,
        width,
        tile,
        dtype,
    );
    of_qkv
}
