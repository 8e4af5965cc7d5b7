//! Attention by products of whole matrices of scores, for GPUs with units for such products: a sequence has a few hundred
//! tokens, so that a head's scores are small, and four large products take less time there than tiles on ordinary units. The
//! scores of some sequences at a time are in memory; of them nothing is kept but the log of each softmax's sum, and the
//! backward pass computes them again. Scores are stored in the type of the tokens; softmaxes are f32.
//!
//! A product is of matrices of one shape, so groups of a packing go one after another, with launches of their own.

use super::backward::own;
use crate::cube::launch::{contiguous, count, cubes, elementwise, empty, empty_of, units_for_row};
use crate::cube::sums::{LEAST, largest_of_cube, sum_over_cube};
use crate::packing::{Group, Packing};
use crate::reference::{heads_of, joined, split};
use crate::{float, tensor};
use burn::tensor::{DType, Tensor, TensorMetadata};
use burn_cubecl::cubecl;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement};
use cubecl::prelude::*;
use std::ops::Range;

/// Memory of the scores that are there at once: room for 64 images of ViT-S/16 at 224 px.
const SCORES_BYTES: usize = 64 << 20;

#[cube(launch)]
fn softmax_kernel<F: Float>(
    scores: &Array<F>,
    weights: &mut Array<F>,
    log_sums: &mut Array<f32>,
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
    let mut largest = f32::new(LEAST);
    let mut at = unit;
    while at < width {
        largest = max(largest, f32::cast_from(scores[start + at]));
        at += units;
    }
    let largest = largest_of_cube(largest, &mut scratch, units);
    let mut sum = 0.0f32;
    at = unit;
    while at < width {
        sum += (f32::cast_from(scores[start + at]) - largest).exp();
        at += units;
    }
    let sum = sum_over_cube(sum, &mut scratch, units);
    at = unit;
    while at < width {
        weights[start + at] = F::cast_from((f32::cast_from(scores[start + at]) - largest).exp() / sum);
        at += units;
    }
    if unit == 0 {
        log_sums[row] = largest + sum.ln();
    }
}

/// The softmaxes again, over their scores, and the gradients of the scores, over those of the softmaxes.
#[cube(launch)]
fn slopes_kernel<F: Float>(
    scores: &mut Array<F>,
    of_weights: &mut Array<F>,
    log_sums: &Array<f32>,
    own: &Array<f32>,
    width: usize,
    #[define(F)] _dtype: StorageType,
) {
    let at = ABSOLUTE_POS;
    if at >= scores.len() {
        terminate!();
    }
    let row = at / width;
    let weight = (f32::cast_from(scores[at]) - log_sums[row]).exp();
    let slope = weight * (f32::cast_from(of_weights[at]) - own[row]);
    scores[at] = F::cast_from(weight);
    of_weights[at] = F::cast_from(slope);
}

/// Sequences whose scores are in memory at once, with their rows: each group cut where it has more.
fn parts(packing: &Packing, heads: usize, dtype: DType) -> Vec<(Range<usize>, Group)> {
    let cut = |(rows, group): (Range<usize>, Group)| {
        let of_sequence = heads * group.tokens * group.tokens * dtype.size();
        let each = (SCORES_BYTES / of_sequence).max(1);
        (0..group.sequences).step_by(each).map(move |first| {
            let sequences = each.min(group.sequences - first);
            let start = rows.start + first * group.tokens;
            (start..start + sequences * group.tokens, Group { sequences, ..group })
        })
    };
    packing.ranges().flat_map(cut).collect()
}

/// What each token attends to, `[rows, dim]`, and the logs of the softmaxes' sums, `[heads * rows]`, in f32.
pub(super) fn forward<R: CubeRuntime, F: FloatElement, I: IntElement, B: BoolElement>(
    qkv: CubeTensor<R>,
    packing: &Packing,
    heads: usize,
) -> [CubeTensor<R>; 2] {
    type Of<R, F, I, B, const D: usize> = Tensor<CubeBackend<R, F, I, B>, D>;
    let [_, all] = qkv.shape().dims();
    let (client, dtype) = (qkv.client.clone(), qkv.dtype);
    let whole: Of<R, F, I, B, 2> = tensor(qkv);
    let (mut mixed, mut log_sums) = (Vec::new(), Vec::new());
    for (rows, Group { sequences, tokens }) in parts(packing, heads, dtype) {
        let of_part = whole.clone().slice([rows.clone()]).reshape([sequences, tokens, all]);
        let [q, k, v] = split(float(of_part), heads);
        let scores = contiguous(float(q.matmul(k.swap_dims(2, 3))));
        let weights = empty(&scores, scores.shape());
        let of_rows = empty_of(&scores, [heads * rows.len()], DType::F32);
        let units = units_for_row(tokens);
        softmax_kernel::launch::<R>(
            &client,
            cubes(&client, heads * rows.len()),
            CubeDim::new_1d(units as u32),
            scores.into_array_arg(),
            weights.clone().into_array_arg(),
            of_rows.clone().into_array_arg(),
            heads * rows.len(),
            tokens,
            units,
            dtype.into(),
        );
        let weights: Of<R, F, I, B, 4> = tensor(weights);
        mixed.push(joined(weights.matmul(v)).flatten::<2>(0, 1));
        log_sums.push(tensor(of_rows));
    }
    let log_sums: Of<R, F, I, B, 1> = Tensor::cat(log_sums, 0);
    [contiguous(float(Tensor::cat(mixed, 0))), contiguous(float(log_sums))]
}

/// The gradient of queries, keys and values, `[rows, 3 * dim]`.
pub(super) fn backward<R: CubeRuntime, F: FloatElement, I: IntElement, B: BoolElement>(
    qkv: CubeTensor<R>,
    (packing, heads): (&Packing, usize),
    output: CubeTensor<R>,
    log_sums: CubeTensor<R>,
    gradient: CubeTensor<R>,
) -> CubeTensor<R> {
    type Of<R, F, I, B, const D: usize> = Tensor<CubeBackend<R, F, I, B>, D>;
    let [_, all] = qkv.shape().dims();
    let (dim, width) = (all / 3, all / 3 / heads);
    let (client, dtype) = (qkv.client.clone(), qkv.dtype);
    let [qkv, gradient] = [qkv, gradient].map(contiguous);
    let own: Of<R, F, I, B, 1> = tensor(own(contiguous(output), gradient.clone(), packing, heads));
    let [qkv, gradient] = [qkv, gradient].map(|values| -> Of<R, F, I, B, 2> { tensor(values) });
    let log_sums: Of<R, F, I, B, 1> = tensor(log_sums);
    let mut of_qkv = Vec::new();
    for (rows, Group { sequences, tokens }) in parts(packing, heads, dtype) {
        let of_part = qkv.clone().slice([rows.clone()]).reshape([sequences, tokens, all]);
        let [q, k, v] = split(float(of_part), heads);
        let of_mixed = gradient.clone().slice([rows.clone()]).reshape([sequences, tokens, dim]);
        let of_mixed = heads_of(of_mixed, heads);
        let scores = contiguous(float(q.clone().matmul(k.clone().swap_dims(2, 3))));
        let of_weights = contiguous(float(of_mixed.clone().matmul(v.swap_dims(2, 3))));
        let of_rows =
            |values: &Of<R, F, I, B, 1>| contiguous(float(values.clone().slice(heads * rows.start..heads * rows.end)));
        let (number, units) = elementwise(&client, count(&scores));
        slopes_kernel::launch::<R>(
            &client,
            number,
            units,
            scores.clone().into_array_arg(),
            of_weights.clone().into_array_arg(),
            of_rows(&log_sums).into_array_arg(),
            of_rows(&own).into_array_arg(),
            tokens,
            dtype.into(),
        );
        let weights: Of<R, F, I, B, 4> = tensor(scores);
        let slopes: Of<R, F, I, B, 4> = tensor(of_weights);
        let of_v = weights.swap_dims(2, 3).matmul(of_mixed);
        let of_q = slopes.clone().matmul(k) * (width as f64).powf(-0.5);
        let of_k = slopes.swap_dims(2, 3).matmul(q);
        of_qkv.push(Tensor::cat(vec![joined(of_q), joined(of_k), joined(of_v)], 2).flatten::<2>(0, 1));
    }
    contiguous(float(Tensor::cat(of_qkv, 0)))
}
