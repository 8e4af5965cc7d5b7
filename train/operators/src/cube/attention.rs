//! Self-attention by tiles (Dao et al. 2022 and 2023): the scores of all tokens are never in memory, the log of each softmax's
//! sum is kept, and the backward pass computes the scores again.
//!
//! A cube of 8 by 8 units owns a tile of queries (or of keys, for their gradients) of one head of one image, and goes over the
//! tiles of the other. Of a product of two tiles each unit has every eighth row and every eighth column. Widths are padded to
//! a multiple of 8 with zeros. Sums are f32 whatever the type of the tokens, and in the same order each time.

use super::launch::{contiguous, count, cubes, elementwise, empty, empty_of};
use burn::tensor::{DType, TensorMetadata};
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

/// Units of a cube, in each of two directions.
const SIDE: usize = 8;
/// Shared memory that any GPU has; some runtimes say more, which would leave room for fewer cubes at once.
const SHARED_BYTES: usize = 48 << 10;
/// Head widths above are left to plain operations.
pub(super) const WIDEST: usize = 128;

/// Which part of what: the head of an image whose tile a cube has.
#[derive(CubeType, Clone, Copy)]
struct Place {
    image: usize,
    head: usize,
    /// The first token of the tile.
    first: usize,
}

/// How many tokens, heads and images there are.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct Sizes {
    images: usize,
    tokens: usize,
    heads: usize,
}

/// The place of this cube; its image may be one beyond the last.
#[cube]
fn place(sizes: &Sizes, #[comptime] tile: usize) -> Place {
    let tiles = (sizes.tokens + comptime![tile - 1]) / tile;
    let pair = CUBE_POS / tiles;
    Place { image: pair / sizes.heads, head: pair % sizes.heads, first: (CUBE_POS % tiles) * tile }
}

/// Values between two rows of a tile in shared memory: one more than a padded row, so that rows start in different banks.
const fn pitch(width: usize) -> usize {
    width.next_multiple_of(SIDE) + 1
}

/// Reads a tile of tokens into shared memory, times a factor; what lies beyond the tokens or the width is 0.
#[cube]
fn read_tile<F: Float>(
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
fn product_of_tiles(
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
fn add_weighted(
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

#[cube]
fn zeros(#[comptime] count: usize) -> Array<f32> {
    let mut values = Array::<f32>::new(count);
    #[unroll]
    for at in 0..count {
        values[at] = 0.0f32;
    }
    values
}

/// Writes this unit's part of a tile of tokens, times a factor.
#[cube]
fn write_tile<F: Float>(
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

#[cube(launch)]
fn attention_kernel<F: Float>(
    qkv: &Array<F>,
    output: &mut Array<F>,
    log_sums: &mut Array<f32>,
    sizes: &Sizes,
    factor: f32,
    #[comptime] width: usize,
    #[comptime] tile: usize,
    #[define(F)] _dtype: StorageType,
) {
    let Place { image, head, first } = place(sizes, tile);
    if image >= sizes.images {
        terminate!();
    }
    let (each, columns) = comptime![(tile / SIDE, width.div_ceil(SIDE))];
    let (tokens, dim) = (sizes.tokens, sizes.heads * width);
    let stride = 3 * dim;
    let start = image * tokens * stride + head * width;

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
        largest[unit] = f32::new(-3.0e38);
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
            let row = unit * comptime![tile + 1];
            let here = min(tokens - key, tile);
            let before = largest[unit];
            let mut most = before;
            for other in 0..here {
                most = max(most, weights[row + other]);
            }
            let mut sum = f32::new(0.0);
            for other in 0..tile {
                let mut weight = f32::new(0.0);
                if other < here {
                    weight = (weights[row + other] - most).exp();
                }
                weights[row + other] = weight;
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
    let start_of_output = image * tokens * dim + head * width;
    write_tile::<F>(output, &mixed, start_of_output, dim, first, tokens, f32::new(1.0), width, tile);
    if unit < tile && first + unit < tokens {
        log_sums[(image * sizes.heads + head) * tokens + first + unit] = largest[unit] + sums[unit].ln();
    }
}

/// Of each token and head, the gradient of what came out times what came out.
#[cube(launch)]
fn own_kernel<F: Float>(
    output: &Array<F>,
    gradient: &Array<F>,
    own: &mut Array<f32>,
    sizes: &Sizes,
    #[comptime] width: usize,
    #[define(F)] _dtype: StorageType,
) {
    let at = ABSOLUTE_POS;
    if at >= own.len() {
        terminate!();
    }
    let (token, pair) = (at % sizes.tokens, at / sizes.tokens);
    let (head, image) = (pair % sizes.heads, pair / sizes.heads);
    let start = ((image * sizes.tokens + token) * sizes.heads + head) * width;
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
    sizes: &Sizes,
    image: usize,
    head: usize,
    first: usize,
    factor: f32,
    #[comptime] width: usize,
    #[comptime] tile: usize,
) {
    let (tokens, dim) = (sizes.tokens, sizes.heads * width);
    let start = image * tokens * 3 * dim + head * width;
    read_tile::<F>(qkv, &mut tiles.queries, start, 3 * dim, first, tokens, factor, width, tile);
    let start = image * tokens * dim + head * width;
    read_tile::<F>(gradient, &mut tiles.gradients, start, dim, first, tokens, f32::new(1.0), width, tile);
    let unit = UNIT_POS as usize;
    if unit < tile {
        let mut log_sum = f32::new(0.0);
        let mut of_own = f32::new(0.0);
        if first + unit < tokens {
            let at = (image * sizes.heads + head) * tokens + first + unit;
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
    sizes: &Sizes,
    image: usize,
    head: usize,
    first: usize,
    #[comptime] width: usize,
    #[comptime] tile: usize,
) {
    let (tokens, dim) = (sizes.tokens, sizes.heads * width);
    let start = image * tokens * 3 * dim + head * width;
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
    sizes: &Sizes,
    factor: f32,
    #[comptime] width: usize,
    #[comptime] tile: usize,
    #[define(F)] _dtype: StorageType,
) {
    let Place { image, head, first } = place(sizes, tile);
    if image >= sizes.images {
        terminate!();
    }
    let (tokens, dim) = (sizes.tokens, sizes.heads * width);
    let mut tiles = room(width, tile);
    read_keys::<F>(&mut tiles, qkv, sizes, image, head, first, width, tile);
    let mut of_keys = zeros(comptime![(tile / SIDE) * width.div_ceil(SIDE)]);
    let mut of_values = zeros(comptime![(tile / SIDE) * width.div_ceil(SIDE)]);
    let mut query = comptime![0usize].runtime();
    while query < tokens {
        read_queries::<F>(&mut tiles, qkv, gradient, log_sums, own, sizes, image, head, query, factor, width, tile);
        sync_cube();
        weigh(&mut tiles, query, first, tokens, width, tile);
        sync_cube();
        add_weighted(&mut of_values, &tiles.weights, &tiles.gradients, true, width, tile);
        add_weighted(&mut of_keys, &tiles.slopes, &tiles.queries, true, width, tile);
        sync_cube();
        query += tile;
    }
    let start = image * tokens * 3 * dim + head * width;
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
    sizes: &Sizes,
    factor: f32,
    #[comptime] width: usize,
    #[comptime] tile: usize,
    #[define(F)] _dtype: StorageType,
) {
    let Place { image, head, first } = place(sizes, tile);
    if image >= sizes.images {
        terminate!();
    }
    let (tokens, dim) = (sizes.tokens, sizes.heads * width);
    let mut tiles = room(width, tile);
    read_queries::<F>(&mut tiles, qkv, gradient, log_sums, own, sizes, image, head, first, factor, width, tile);
    let mut of_queries = zeros(comptime![(tile / SIDE) * width.div_ceil(SIDE)]);
    let mut key = comptime![0usize].runtime();
    while key < tokens {
        read_keys::<F>(&mut tiles, qkv, sizes, image, head, key, width, tile);
        sync_cube();
        weigh(&mut tiles, first, key, tokens, width, tile);
        sync_cube();
        add_weighted(&mut of_queries, &tiles.slopes, &tiles.keys, false, width, tile);
        sync_cube();
        key += tile;
    }
    let start = image * tokens * 3 * dim + head * width;
    write_tile::<F>(of_qkv, &of_queries, start, 3 * dim, first, tokens, factor, width, tile);
}

/// The largest tile whose memory fits: `tiles` of tokens, `squares` of scores, `rows` of numbers a token.
fn tile_for<R: CubeRuntime>(like: &CubeTensor<R>, width: usize, tiles: usize, squares: usize, rows: usize) -> usize {
    let bytes = |tile: usize| 4 * (tiles * tile * pitch(width) + squares * tile * (tile + 1) + rows * tile);
    let limit = like.client.properties().hardware.max_shared_memory_size.min(SHARED_BYTES);
    [32, 16, 8].into_iter().find(|tile| bytes(*tile) <= limit).expect("8 tokens of 128 values fit into 32 KiB")
}

fn units() -> CubeDim {
    CubeDim::new_2d(SIDE as u32, SIDE as u32)
}

/// What each token attends to, and the log of each softmax's sum, in f32.
pub(super) fn forward<R: CubeRuntime>(qkv: CubeTensor<R>, heads: usize) -> [CubeTensor<R>; 2] {
    let qkv = contiguous(qkv);
    let [images, tokens, all] = qkv.shape().dims();
    let (dim, width) = (all / 3, all / 3 / heads);
    let (output, log_sums) = (empty(&qkv, [images, tokens, dim]), empty_of(&qkv, [images, heads, tokens], DType::F32));
    if count(&qkv) == 0 {
        return [output, log_sums];
    }
    let (client, dtype) = (qkv.client.clone(), qkv.dtype.into());
    let tile = tile_for(&qkv, width, 3, 1, 3);
    attention_kernel::launch::<R>(
        &client,
        cubes(&client, images * heads * tokens.div_ceil(tile)),
        units(),
        qkv.into_array_arg(),
        output.clone().into_array_arg(),
        log_sums.clone().into_array_arg(),
        SizesLaunch::new(images, tokens, heads),
        (width as f32).powf(-0.5),
        width,
        tile,
        dtype,
    );
    [output, log_sums]
}

/// Of each token and head, the gradient of what came out times what came out, `[images, heads, tokens]`, in f32. Both inputs
/// are contiguous.
pub(super) fn own<R: CubeRuntime>(output: CubeTensor<R>, gradient: CubeTensor<R>, heads: usize) -> CubeTensor<R> {
    let [images, tokens, dim] = output.shape().dims();
    let own = empty_of(&output, [images, heads, tokens], DType::F32);
    let (client, dtype) = (output.client.clone(), output.dtype.into());
    let (number, units) = elementwise(&client, count(&own));
    own_kernel::launch::<R>(
        &client,
        number,
        units,
        output.into_array_arg(),
        gradient.into_array_arg(),
        own.clone().into_array_arg(),
        SizesLaunch::new(images, tokens, heads),
        dim / heads,
        dtype,
    );
    own
}

/// The gradient of queries, keys and values.
pub(super) fn backward<R: CubeRuntime>(
    qkv: CubeTensor<R>,
    heads: usize,
    output: CubeTensor<R>,
    log_sums: CubeTensor<R>,
    gradient: CubeTensor<R>,
) -> CubeTensor<R> {
    let [qkv, output, log_sums, gradient] = [qkv, output, log_sums, gradient].map(contiguous);
    let [images, tokens, all] = qkv.shape().dims();
    let width = all / 3 / heads;
    let of_qkv = empty(&qkv, [images, tokens, all]);
    if count(&qkv) == 0 {
        return of_qkv;
    }
    let (client, dtype) = (qkv.client.clone(), qkv.dtype.into());
    let own = own(output, gradient.clone(), heads);
    let tile = tile_for(&qkv, width, 4, 2, 2);
    let number = images * heads * tokens.div_ceil(tile);
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
        SizesLaunch::new(images, tokens, heads),
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
        SizesLaunch::new(images, tokens, heads),
        factor,
        width,
        tile,
        dtype,
    );
    of_qkv
}
