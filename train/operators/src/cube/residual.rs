//! A bias added to rows; a branch added to tokens, scaled by channel and by image; and what of a gradient goes into each.

use super::launch::{contiguous, count, elementwise, empty, empty_of, writable};
use super::sums::{COLUMNS, Cut, LANES, column_sums, sum_over_lanes};
use burn::tensor::{DType, TensorMetadata};
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

#[cube(launch)]
fn bias_kernel<F: Float>(values: &mut Array<F>, bias: &Array<F>, #[define(F)] _dtype: StorageType) {
    if ABSOLUTE_POS >= values.len() {
        terminate!();
    }
    let sum = f32::cast_from(values[ABSOLUTE_POS]) + f32::cast_from(bias[ABSOLUTE_POS % bias.len()]);
    values[ABSOLUTE_POS] = F::cast_from(sum);
}

/// Rows with a bias added, in their place where nothing else holds them.
pub(super) fn add_bias<R: CubeRuntime>(rows: CubeTensor<R>, bias: CubeTensor<R>) -> CubeTensor<R> {
    let (rows, bias) = (writable(rows), contiguous(bias));
    let (cubes, units) = elementwise(&rows.client, count(&rows));
    let (client, dtype) = (rows.client.clone(), rows.dtype.into());
    bias_kernel::launch::<R>(&client, cubes, units, rows.clone().into_array_arg(), bias.into_array_arg(), dtype);
    rows
}

/// What a value of the branch is multiplied by.
#[cube]
fn factor<F: Float>(
    scale: &ComptimeOption<Array<F>>,
    keep: &ComptimeOption<Array<F>>,
    at: usize,
    dim: usize,
    of_image: usize,
) -> f32 {
    #[comptime]
    let of_channel = match scale {
        ComptimeOption::Some(scale) => f32::cast_from(scale[at % dim]),
        ComptimeOption::None => f32::new(1.0),
    };
    #[comptime]
    let of_keep = match keep {
        ComptimeOption::Some(keep) => f32::cast_from(keep[at / of_image]),
        ComptimeOption::None => f32::new(1.0),
    };
    of_channel * of_keep
}

#[cube(launch)]
fn residual_kernel<F: Float>(
    tokens: &mut Array<F>,
    branch: &Array<F>,
    scale: &ComptimeOption<Array<F>>,
    keep: &ComptimeOption<Array<F>>,
    dim: usize,
    of_image: usize,
    #[define(F)] _dtype: StorageType,
) {
    if ABSOLUTE_POS >= tokens.len() {
        terminate!();
    }
    let by = factor::<F>(scale, keep, ABSOLUTE_POS, dim, of_image);
    let sum = f32::cast_from(tokens[ABSOLUTE_POS]) + f32::cast_from(branch[ABSOLUTE_POS]) * by;
    tokens[ABSOLUTE_POS] = F::cast_from(sum);
}

/// `tokens + branch * scale * keep`, in the place of the tokens where nothing else holds them.
pub(super) fn forward<R: CubeRuntime>(
    tokens: CubeTensor<R>,
    branch: CubeTensor<R>,
    scale: Option<CubeTensor<R>>,
    keep: Option<CubeTensor<R>>,
) -> CubeTensor<R> {
    let (tokens, branch) = (writable(tokens), contiguous(branch));
    let [_, count_of_tokens, dim] = tokens.shape().dims();
    let (cubes, units) = elementwise(&tokens.client, count(&tokens));
    let (client, dtype) = (tokens.client.clone(), tokens.dtype.into());
    residual_kernel::launch::<R>(
        &client,
        cubes,
        units,
        tokens.clone().into_array_arg(),
        branch.into_array_arg(),
        scale.map(|scale| contiguous(scale).into_array_arg()).into(),
        keep.map(|keep| contiguous(keep).into_array_arg()).into(),
        dim,
        count_of_tokens * dim,
        dtype,
    );
    tokens
}

#[cube(launch)]
fn of_branch_kernel<F: Float>(
    gradient: &Array<F>,
    scale: &ComptimeOption<Array<F>>,
    keep: &ComptimeOption<Array<F>>,
    of_branch: &mut Array<F>,
    dim: usize,
    of_image: usize,
    #[define(F)] _dtype: StorageType,
) {
    if ABSOLUTE_POS >= of_branch.len() {
        terminate!();
    }
    let by = factor::<F>(scale, keep, ABSOLUTE_POS, dim, of_image);
    of_branch[ABSOLUTE_POS] = F::cast_from(f32::cast_from(gradient[ABSOLUTE_POS]) * by);
}

/// The sums of the branch times what its image keeps times the gradient, over the rows of a chunk.
#[cube(launch)]
fn of_scale_kernel<F: Float>(
    branch: &Array<F>,
    keep: &ComptimeOption<Array<F>>,
    gradient: &Array<F>,
    sums: &mut Array<f32>,
    rows: usize,
    dim: usize,
    tokens: usize,
    rows_of_a_chunk: usize,
    #[define(F)] _dtype: StorageType,
) {
    let column = CUBE_POS_X as usize * COLUMNS + UNIT_POS_X as usize;
    let start = CUBE_POS_Y as usize * rows_of_a_chunk;
    let end = min(start + rows_of_a_chunk, rows);
    let mut scratch = SharedMemory::<f32>::new(comptime![COLUMNS * LANES]);
    let mut sum = 0.0f32;
    if column < dim {
        let mut row = start + UNIT_POS_Y as usize;
        while row < end {
            let at = row * dim + column;
            #[comptime]
            let of_keep = match keep {
                ComptimeOption::Some(keep) => f32::cast_from(keep[row / tokens]),
                ComptimeOption::None => f32::new(1.0),
            };
            sum += f32::cast_from(branch[at]) * f32::cast_from(gradient[at]) * of_keep;
            row += LANES;
        }
    }
    let sum = sum_over_lanes(sum, &mut scratch);
    if UNIT_POS_Y == 0 && column < dim {
        sums[CUBE_POS_Y as usize * dim + column] = sum;
    }
}

/// The gradients of the branch and of the scale, where there is one.
pub(super) fn backward<R: CubeRuntime>(
    branch: Option<CubeTensor<R>>,
    scale: Option<CubeTensor<R>>,
    keep: Option<CubeTensor<R>>,
    gradient: CubeTensor<R>,
) -> (CubeTensor<R>, Option<CubeTensor<R>>) {
    let gradient = contiguous(gradient);
    let (scale, keep) = (scale.map(contiguous), keep.map(contiguous));
    let [batch, tokens, dim] = gradient.shape().dims();
    let (client, dtype) = (gradient.client.clone(), gradient.dtype);
    let of_branch = empty(&gradient, [batch, tokens, dim]);
    let (cubes, units) = elementwise(&client, count(&gradient));
    of_branch_kernel::launch::<R>(
        &client,
        cubes,
        units,
        gradient.clone().into_array_arg(),
        scale.clone().map(CubeTensor::into_array_arg).into(),
        keep.clone().map(CubeTensor::into_array_arg).into(),
        of_branch.clone().into_array_arg(),
        dim,
        tokens * dim,
        dtype.into(),
    );
    let of_scale = branch.filter(|_| scale.is_some()).map(|branch| {
        let rows = batch * tokens;
        let cut = Cut::of(rows, dim);
        let sums = empty_of(&gradient, [cut.chunks, dim], DType::F32);
        of_scale_kernel::launch::<R>(
            &client,
            cut.cubes(),
            Cut::units(),
            contiguous(branch).into_array_arg(),
            keep.map(CubeTensor::into_array_arg).into(),
            gradient.into_array_arg(),
            sums.clone().into_array_arg(),
            rows,
            dim,
            tokens,
            cut.rows_of_a_chunk,
            dtype.into(),
        );
        column_sums(sums, [cut.chunks, dim], dtype)
    });
    (of_branch, of_scale)
}
