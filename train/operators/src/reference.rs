//! Each operator in burn's own operations: what backends without one of their own use, and what tests compare with.

use super::{AdamwState, AdamwStep, AdamwValues, Float, Group, Packing, float, tensor};
use burn::tensor::activation::softmax;
use burn::tensor::backend::Backend;
use burn::tensor::ops::IntTensor;
use burn::tensor::{ElementConversion, Int, Tensor};
use std::f64::consts::{SQRT_2, TAU};
use std::ops::Range;

pub(crate) fn linear<B: Backend>(x: Float<B>, weight: Float<B>, bias: Option<Float<B>>) -> Float<B> {
    let mapped = tensor::<B, 2>(x).matmul(tensor(weight));
    float(match bias {
        Some(bias) => mapped + tensor::<B, 1>(bias).unsqueeze(),
        None => mapped,
    })
}

pub(crate) fn linear_backward<B: Backend>(
    x: Float<B>,
    weight: Float<B>,
    gradient: Float<B>,
    wanted: [bool; 3],
) -> [Option<Float<B>>; 3] {
    let (x, weight, gradient) = (tensor::<B, 2>(x), tensor::<B, 2>(weight), tensor::<B, 2>(gradient));
    let outputs = gradient.dims()[1];
    [
        wanted[0].then(|| float(gradient.clone().matmul(weight.transpose()))),
        wanted[1].then(|| float(x.transpose().matmul(gradient.clone()))),
        wanted[2].then(|| float(gradient.sum_dim(0).reshape([outputs]))),
    ]
}

pub(crate) fn bytes_of_words<B: Backend>(words: IntTensor<B>) -> Float<B> {
    let words = Tensor::<B, 1, Int>::from_primitive(words);
    let byte = |by: i32| words.clone().bitwise_right_shift_scalar(by.elem()).bitwise_and_scalar(255.elem()).float();
    float(Tensor::stack::<2>([0, 8, 16, 24].map(byte).to_vec(), 1).flatten::<1>(0, 1))
}

/// The normal distribution's probability below each value.
fn probability_below<B: Backend>(x: Tensor<B, 1>) -> Tensor<B, 1> {
    ((x / SQRT_2).erf() + 1.0) * 0.5
}

fn flat<B: Backend>(x: Float<B>) -> (Tensor<B, 1>, burn::tensor::Shape) {
    use burn::tensor::TensorMetadata;
    let shape = x.shape();
    let count = shape.num_elements();
    (tensor(B::float_reshape(x, [count].into())), shape)
}

pub(crate) fn gelu<B: Backend>(x: Float<B>) -> Float<B> {
    let (x, shape) = flat::<B>(x);
    B::float_reshape(float(x.clone() * probability_below(x)), shape)
}

/// x Phi(x) has the derivative Phi(x) + x phi(x).
pub(crate) fn gelu_backward<B: Backend>(x: Float<B>, gradient: Float<B>) -> Float<B> {
    let ((x, shape), (gradient, _)) = (flat::<B>(x), flat::<B>(gradient));
    let density = (x.clone() * x.clone() * -0.5).exp() / TAU.sqrt();
    let slope = probability_below(x.clone()) + x * density;
    B::float_reshape(float(gradient * slope), shape)
}

pub(crate) fn layer_norm<B: Backend>(x: Float<B>, scale: Float<B>, shift: Float<B>, epsilon: f64) -> [Float<B>; 2] {
    let x = tensor::<B, 2>(x);
    let mean = x.clone().mean_dim(1);
    let centred = x - mean.clone();
    let inverse = ((centred.clone() * centred.clone()).mean_dim(1) + epsilon).sqrt().recip();
    let normalised = centred * inverse.clone();
    let scaled = normalised * tensor::<B, 1>(scale).unsqueeze() + tensor::<B, 1>(shift).unsqueeze();
    [float(scaled), float(Tensor::cat(vec![mean, inverse], 1))]
}

pub(crate) fn layer_norm_backward<B: Backend>(
    x: Float<B>,
    scale: Float<B>,
    statistics: Float<B>,
    gradient: Float<B>,
) -> [Float<B>; 3] {
    let (x, gradient, statistics) = (tensor::<B, 2>(x), tensor::<B, 2>(gradient), tensor::<B, 2>(statistics));
    let [rows, width] = x.dims();
    let part = |index: usize| statistics.clone().slice([0..rows, index..index + 1]);
    let normalised = (x - part(0)) * part(1);
    let of_scale = (gradient.clone() * normalised.clone()).sum_dim(0).reshape([width]);
    let of_shift = gradient.clone().sum_dim(0).reshape([width]);
    let scaled = gradient * tensor::<B, 1>(scale).unsqueeze();
    let along = normalised.clone() * (scaled.clone() * normalised).mean_dim(1);
    let of_x = (scaled.clone() - scaled.mean_dim(1) - along) * part(1);
    [float(of_x), float(of_scale), float(of_shift)]
}

pub(crate) fn standardise<B: Backend>(x: Float<B>, epsilon: f64) -> [Float<B>; 2] {
    let x = tensor::<B, 2>(x);
    let mean = x.clone().mean_dim(0);
    let centred = x - mean.clone();
    let inverse = ((centred.clone() * centred.clone()).mean_dim(0) + epsilon).sqrt().recip();
    [float(centred * inverse.clone()), float(Tensor::cat(vec![mean, inverse], 0))]
}

pub(crate) fn standardise_backward<B: Backend>(x: Float<B>, statistics: Float<B>, gradient: Float<B>) -> Float<B> {
    let (x, gradient, statistics) = (tensor::<B, 2>(x), tensor::<B, 2>(gradient), tensor::<B, 2>(statistics));
    let width = x.dims()[1];
    let part = |index: usize| statistics.clone().slice([index..index + 1, 0..width]);
    let standardised = (x - part(0)) * part(1);
    let along = standardised.clone() * (gradient.clone() * standardised).mean_dim(0);
    float((gradient.clone() - gradient.mean_dim(0) - along) * part(1))
}

/// Queries, keys and values, `[batch, heads, tokens, head width]` each; the queries over the root of that width.
pub(crate) fn split<B: Backend>(qkv: Float<B>, heads: usize) -> [Tensor<B, 4>; 3] {
    let qkv = tensor::<B, 3>(qkv);
    let [batch, tokens, all] = qkv.dims();
    let dim = all / 3;
    let part = |index: usize| {
        let part = qkv.clone().slice([0..batch, 0..tokens, index * dim..(index + 1) * dim]);
        part.reshape([batch, tokens, heads, dim / heads]).swap_dims(1, 2)
    };
    [part(0) * (dim as f64 / heads as f64).powf(-0.5), part(1), part(2)]
}

/// Heads side by side again: `[batch, heads, tokens, width]` to `[batch, tokens, heads * width]`.
pub(crate) fn joined<B: Backend>(heads: Tensor<B, 4>) -> Tensor<B, 3> {
    let [batch, count, tokens, width] = heads.dims();
    heads.swap_dims(1, 2).reshape([batch, tokens, count * width])
}

/// And apart: `[batch, tokens, heads * width]` to `[batch, heads, tokens, width]`.
pub(crate) fn heads_of<B: Backend>(values: Tensor<B, 3>, heads: usize) -> Tensor<B, 4> {
    let [batch, tokens, dim] = values.dims();
    values.reshape([batch, tokens, heads, dim / heads]).swap_dims(1, 2)
}

/// Some rows as sequences, `[sequences, tokens, width]`.
fn sequences<B: Backend>(values: &Tensor<B, 2>, rows: Range<usize>, group: Group) -> Tensor<B, 3> {
    let width = values.dims()[1];
    values.clone().slice([rows]).reshape([group.sequences, group.tokens, width])
}

pub(crate) fn attention<B: Backend>(qkv: Float<B>, packing: &Packing, heads: usize) -> [Float<B>; 2] {
    let qkv = tensor::<B, 2>(qkv);
    let [rows, all] = qkv.dims();
    let (mut mixed, mut log_sums) = (Vec::new(), Vec::new());
    for (rows, group) in packing.ranges() {
        let [q, k, v] = split::<B>(float(sequences(&qkv, rows, group)), heads);
        let scores = q.matmul(k.swap_dims(2, 3));
        let most = scores.clone().max_dim(3);
        log_sums.push(((scores.clone() - most.clone()).exp().sum_dim(3).log() + most).flatten::<1>(0, 3));
        mixed.push(joined(softmax(scores, 3).matmul(v)).flatten::<2>(0, 1));
    }
    if mixed.is_empty() {
        let dtype = qkv.dtype();
        let of_sums = Tensor::<B, 1>::empty([heads * rows], (&qkv.device(), dtype));
        return [float(Tensor::<B, 2>::empty([rows, all / 3], (&qkv.device(), dtype))), float(of_sums)];
    }
    [float(Tensor::cat(mixed, 0)), float(Tensor::cat(log_sums, 0))]
}

pub(crate) fn attention_backward<B: Backend>(
    qkv: Float<B>,
    (packing, heads): (&Packing, usize),
    output: Float<B>,
    log_sums: Float<B>,
    gradient: Float<B>,
) -> Float<B> {
    let [qkv, output, gradient] = [qkv, output, gradient].map(tensor::<B, 2>);
    let log_sums = tensor::<B, 1>(log_sums);
    let mut of_qkv = Vec::new();
    for (rows, group) in packing.ranges() {
        let [q, k, v] = split::<B>(float(sequences(&qkv, rows.clone(), group)), heads);
        let width = q.dims()[3];
        let [output, gradient] = [&output, &gradient].map(|of| heads_of(sequences(of, rows.clone(), group), heads));
        let of_rows = log_sums.clone().slice(heads * rows.start..heads * rows.end);
        let log_sums = of_rows.reshape([group.sequences, heads, group.tokens, 1]);
        let weights = (q.clone().matmul(k.clone().swap_dims(2, 3)) - log_sums).exp();
        let of_v = weights.clone().swap_dims(2, 3).matmul(gradient.clone());
        let own = (gradient.clone() * output).sum_dim(3);
        let of_scores = weights * (gradient.matmul(v.swap_dims(2, 3)) - own);
        let of_q = of_scores.clone().matmul(k) * (width as f64).powf(-0.5);
        let of_k = of_scores.swap_dims(2, 3).matmul(q);
        of_qkv.push(Tensor::cat(vec![joined(of_q), joined(of_k), joined(of_v)], 2).flatten::<2>(0, 1));
    }
    if of_qkv.is_empty() { float(qkv) } else { float(Tensor::cat(of_qkv, 0)) }
}

/// What a branch is multiplied by, `[batch or 1, 1, dim or 1]`.
fn factor<B: Backend>(scale: Option<Float<B>>, keep: Option<Float<B>>) -> Option<Tensor<B, 3>> {
    let scale = scale.map(|scale| tensor::<B, 1>(scale).unsqueeze::<3>());
    let keep = keep.map(|keep| {
        let keep = tensor::<B, 1>(keep);
        let batch = keep.dims()[0];
        keep.reshape([batch, 1, 1])
    });
    match (scale, keep) {
        (Some(scale), Some(keep)) => Some(scale * keep),
        (scale, keep) => scale.or(keep),
    }
}

pub(crate) fn residual<B: Backend>(
    tokens: Float<B>,
    branch: Float<B>,
    scale: Option<Float<B>>,
    keep: Option<Float<B>>,
) -> Float<B> {
    let (tokens, branch) = (tensor::<B, 3>(tokens), tensor::<B, 3>(branch));
    float(match factor::<B>(scale, keep) {
        Some(factor) => tokens + branch * factor,
        None => tokens + branch,
    })
}

pub(crate) fn residual_backward<B: Backend>(
    branch: Option<Float<B>>,
    scale: Option<Float<B>>,
    keep: Option<Float<B>>,
    gradient: Float<B>,
) -> (Float<B>, Option<Float<B>>) {
    let gradient = tensor::<B, 3>(gradient);
    let of_scale = branch.filter(|_| scale.is_some()).map(|branch| {
        let kept = match factor::<B>(None, keep.clone()) {
            Some(keep) => tensor::<B, 3>(branch) * keep,
            None => tensor::<B, 3>(branch),
        };
        let dim = kept.dims()[2];
        float::<B, 1>((kept * gradient.clone()).sum_dim(0).sum_dim(1).reshape([dim]))
    });
    let of_branch = match factor::<B>(scale, keep) {
        Some(factor) => gradient * factor,
        None => gradient,
    };
    (float(of_branch), of_scale)
}

/// Targets for as many rows as there are logits.
fn for_rows<B: Backend>(targets: Float<B>, rows: usize) -> Tensor<B, 2> {
    let targets = tensor::<B, 2>(targets);
    let times = rows / targets.dims()[0].max(1);
    targets.repeat_dim(0, times)
}

pub(crate) fn cross_entropy<B: Backend>(logits: Float<B>, targets: Float<B>, temperature: f64) -> [Float<B>; 2] {
    let logits = tensor::<B, 2>(logits) / temperature;
    let rows = logits.dims()[0];
    let targets = for_rows::<B>(targets, rows);
    let most = logits.clone().max_dim(1);
    let log_sums = (logits.clone() - most.clone()).exp().sum_dim(1).log() + most;
    let losses = (targets * (logits - log_sums.clone())).sum_dim(1).neg();
    [float(losses.reshape([rows])), float(log_sums.reshape([rows]))]
}

pub(crate) fn cross_entropy_backward<B: Backend>(
    logits: Float<B>,
    targets: Float<B>,
    log_sums: Float<B>,
    gradient: Float<B>,
    temperature: f64,
) -> Float<B> {
    let logits = tensor::<B, 2>(logits) / temperature;
    let rows = logits.dims()[0];
    let targets = for_rows::<B>(targets, rows);
    let column = |values: Float<B>| tensor::<B, 1>(values).reshape([rows, 1]);
    let shares = (logits - column(log_sums)).exp();
    let slope = shares * targets.clone().sum_dim(1) - targets;
    float(slope * (column(gradient) / temperature))
}

pub(crate) fn adamw<B: Backend>(values: AdamwValues<B>, step: &AdamwStep) -> AdamwState<B> {
    let AdamwStep { beta_1, beta_2, keep, rate, inverse_deviation, epsilon, momentum } = *step;
    let AdamwValues { state, gradient, divisor } = values;
    let [value, gradient, mean, square] = [state.value, gradient, state.mean, state.square].map(tensor::<B, 1>);
    let gradient = match divisor {
        Some(divisor) => gradient / tensor::<B, 1>(divisor),
        None => gradient,
    };
    let square = square * beta_2 + gradient.clone() * gradient.clone() * (1.0 - beta_2);
    let mean = mean * beta_1 + gradient * (1.0 - beta_1);
    let denominator = square.clone().sqrt() * inverse_deviation + epsilon;
    let value = float(value * keep - mean.clone() / denominator * rate);
    let average = state.average.map(|old| moving_average::<B>(old, value.clone(), momentum));
    AdamwState { value, mean: float(mean), square: float(square), average }
}

pub(crate) fn sum_of_squares<B: Backend>(x: Float<B>) -> Float<B> {
    let x = tensor::<B, 1>(x);
    float((x.clone() * x).sum())
}

pub(crate) fn clip_divisor<B: Backend>(square: Float<B>, norm_max: f64) -> Float<B> {
    float(((tensor::<B, 1>(square).sqrt() + 1e-6) / norm_max).clamp_min(1.0))
}

pub(crate) fn moving_average<B: Backend>(old: Float<B>, new: Float<B>, momentum: f64) -> Float<B> {
    float(tensor::<B, 1>(old) * momentum + tensor::<B, 1>(new) * (1.0 - momentum))
}
