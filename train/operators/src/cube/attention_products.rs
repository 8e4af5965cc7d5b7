//! Self-attention by products of whole matrices of scores, for GPUs with units for such products: an image has a few hundred
//! tokens, so that a head's scores are small, and four large products take less time there than tiles on ordinary units. The
//! scores of some images at a time are in memory; of them nothing is kept but the log of each softmax's sum, and the backward
//! pass computes them again. Scores are stored in the type of the tokens; softmaxes are f32.

use super::attention::own;
use super::cross_entropy::{LEAST, largest_of_cube};
use super::launch::{contiguous, count, cubes, elementwise, empty, empty_of, units_for_row};
use super::sums::sum_over_cube;
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

/// Images whose scores are in memory at once, range by range.
fn groups(images: usize, of_image: usize) -> impl Iterator<Item = Range<usize>> {
    let each = (SCORES_BYTES / of_image.max(1)).max(1);
    (0..images).step_by(each).map(move |first| first..(first + each).min(images))
}

/// What each token attends to, and the log of each softmax's sum, in f32.
pub(super) fn forward<R: CubeRuntime, F: FloatElement, I: IntElement, B: BoolElement>(
    qkv: CubeTensor<R>,
    heads: usize,
) -> [CubeTensor<R>; 2] {
    type Of<R, F, I, B, const D: usize> = Tensor<CubeBackend<R, F, I, B>, D>;
    let [images, tokens, all] = qkv.shape().dims();
    let (client, dtype) = (qkv.client.clone(), qkv.dtype);
    if count(&qkv) == 0 {
        return [empty(&qkv, [images, tokens, all / 3]), empty_of(&qkv, [images, heads, tokens], DType::F32)];
    }
    let whole: Of<R, F, I, B, 3> = tensor(qkv);
    let (mut mixed, mut log_sums) = (Vec::new(), Vec::new());
    for images in groups(images, heads * tokens * tokens * dtype.size()) {
        let count_of_images = images.len();
        let [q, k, v] = split(float(whole.clone().slice([images])), heads);
        let scores = contiguous(float(q.matmul(k.swap_dims(2, 3))));
        let rows = count_of_images * heads * tokens;
        let weights = empty(&scores, scores.shape());
        let of_rows = empty_of(&scores, [count_of_images, heads, tokens], DType::F32);
        let units = units_for_row(tokens);
        softmax_kernel::launch::<R>(
            &client,
            cubes(&client, rows),
            CubeDim::new_1d(units as u32),
            scores.into_array_arg(),
            weights.clone().into_array_arg(),
            of_rows.clone().into_array_arg(),
            rows,
            tokens,
            units,
            dtype.into(),
        );
        let weights: Of<R, F, I, B, 4> = tensor(weights);
        mixed.push(joined(weights.matmul(v)));
        log_sums.push(tensor(of_rows));
    }
    let log_sums: Of<R, F, I, B, 3> = Tensor::cat(log_sums, 0);
    [contiguous(float(Tensor::cat(mixed, 0))), contiguous(float(log_sums))]
}

/// The gradient of queries, keys and values.
pub(super) fn backward<R: CubeRuntime, F: FloatElement, I: IntElement, B: BoolElement>(
    qkv: CubeTensor<R>,
    heads: usize,
    output: CubeTensor<R>,
    log_sums: CubeTensor<R>,
    gradient: CubeTensor<R>,
) -> CubeTensor<R> {
    type Of<R, F, I, B, const D: usize> = Tensor<CubeBackend<R, F, I, B>, D>;
    let [images, tokens, all] = qkv.shape().dims();
    let width = all / 3 / heads;
    if count(&qkv) == 0 {
        return empty(&qkv, [images, tokens, all]);
    }
    let (client, dtype) = (qkv.client.clone(), qkv.dtype);
    let [qkv, gradient] = [qkv, gradient].map(contiguous);
    let own: Of<R, F, I, B, 3> = tensor(own(contiguous(output), gradient.clone(), heads));
    let qkv: Of<R, F, I, B, 3> = tensor(qkv);
    let gradient: Of<R, F, I, B, 3> = tensor(gradient);
    let log_sums: Of<R, F, I, B, 3> = tensor(log_sums);
    let mut of_qkv = Vec::new();
    for images in groups(images, heads * tokens * tokens * dtype.size()) {
        let [q, k, v] = split(float(qkv.clone().slice([images.clone()])), heads);
        let gradient = heads_of(gradient.clone().slice([images.clone()]), heads);
        let scores = contiguous(float(q.clone().matmul(k.clone().swap_dims(2, 3))));
        let of_weights = contiguous(float(gradient.clone().matmul(v.swap_dims(2, 3))));
        let part = |of_rows: &Of<R, F, I, B, 3>| contiguous(float(of_rows.clone().slice([images.clone()])));
        let (number, units) = elementwise(&client, count(&scores));
        slopes_kernel::launch::<R>(
            &client,
            number,
            units,
            scores.clone().into_array_arg(),
            of_weights.clone().into_array_arg(),
            part(&log_sums).into_array_arg(),
            part(&own).into_array_arg(),
            tokens,
            dtype.into(),
        );
        let weights: Of<R, F, I, B, 4> = tensor(scores);
        let slopes: Of<R, F, I, B, 4> = tensor(of_weights);
        let of_v = weights.swap_dims(2, 3).matmul(gradient);
        let of_q = slopes.clone().matmul(k) * (width as f64).powf(-0.5);
        let of_k = slopes.swap_dims(2, 3).matmul(q);
        of_qkv.push(Tensor::cat(vec![joined(of_q), joined(of_k), joined(of_v)], 2));
    }
    contiguous(float(Tensor::cat(of_qkv, 0)))
}
