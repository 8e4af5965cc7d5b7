//! Self-attention by tiles of queries: a tile's scores are computed, turned into weights and used while they are in the cache.
//! The log of each softmax's sum is kept, from which the backward pass has the weights again (Dao et al. 2022).

use super::linear::{Matrix, Target, product};
use super::numbers::{exp, largest, sum};
use super::{contiguous, from_values, unwritten, values};
use crate::threads::{for_chunks, for_chunks_of_two};
use burn_flex::FlexTensor;
use gemm::Parallelism;
use multiversion::multiversion;

/// Queries of a tile at most.
const TILE: usize = 64;

/// How an image's queries, keys and values lie: `[tokens, 3 * dim]`, each head by head.
#[derive(Clone, Copy)]
struct Packed {
    tokens: usize,
    heads: usize,
    dim: usize,
}

impl Packed {
    fn of(qkv: &FlexTensor, heads: usize) -> (usize, Self) {
        let shape = qkv.layout().shape();
        (shape[0], Self { tokens: shape[1], heads, dim: shape[2] / 3 })
    }

    fn width(self) -> usize {
        self.dim / self.heads
    }

    fn scale(self) -> f32 {
        (self.width() as f32).powf(-0.5)
    }

    /// Queries a tile, so that tiles are of nearly one size.
    fn tile(self) -> usize {
        self.tokens.div_ceil(self.tokens.div_ceil(TILE))
    }

    /// Queries (0), keys (1) or values (2) of some tokens of a head, within an image's.
    fn part(self, image: &[f32], which: usize, head: usize, first: usize, count: usize) -> Matrix<'_> {
        let from = first * 3 * self.dim + which * self.dim + head * self.width();
        Matrix::new(&image[from..], count, self.width(), 3 * self.dim)
    }

    /// Some tokens of a head of an image's `[tokens, dim]`.
    fn own(self, image: &[f32], head: usize, first: usize, count: usize) -> Matrix<'_> {
        Matrix::new(&image[first * self.dim + head * self.width()..], count, self.width(), self.dim)
    }
}

pub(super) fn forward(qkv: FlexTensor, heads: usize) -> [FlexTensor; 2] {
    let (batch, packed) = Packed::of(&qkv, heads);
    let Packed { tokens, dim, .. } = packed;
    let qkv = contiguous(qkv);
    let qkv = values(&qkv);
    let (mut mixed, mut log_sums) = (unwritten(batch * tokens * dim), unwritten(batch * heads * tokens));
    if !mixed.is_empty() {
        for_chunks_of_two((&mut mixed, tokens * dim), (&mut log_sums, heads * tokens), |image, mixed, log_sums| {
            image_forward(packed, &qkv[image * tokens * 3 * dim..][..tokens * 3 * dim], mixed, log_sums);
        });
    }
    [from_values(mixed, [batch, tokens, dim]), from_values(log_sums, [batch, heads, tokens])]
}

fn image_forward(packed: Packed, qkv: &[f32], mixed: &mut [f32], log_sums: &mut [f32]) {
    let Packed { tokens, heads, dim } = packed;
    let (width, tile) = (packed.width(), packed.tile());
    let mut scores = unwritten(tile * tokens);
    for head in 0..heads {
        let (keys, of_values) = (packed.part(qkv, 1, head, 0, tokens), packed.part(qkv, 2, head, 0, tokens));
        for first in (0..tokens).step_by(tile) {
            let count = tile.min(tokens - first);
            let scores = &mut scores[..count * tokens];
            let queries = packed.part(qkv, 0, head, first, count);
            let target = Target { values: scores, row_stride: tokens, added_to: false };
            product(target, queries, keys.transposed(), packed.scale(), Parallelism::None);
            softmax(scores, tokens, &mut log_sums[head * tokens + first..][..count]);
            let target = Target { values: &mut mixed[first * dim + head * width..], row_stride: dim, added_to: false };
            product(target, Matrix::new(scores, count, tokens, tokens), of_values, 1.0, Parallelism::None);
        }
    }
}

pub(super) fn backward(
    qkv: FlexTensor,
    heads: usize,
    output: FlexTensor,
    log_sums: FlexTensor,
    gradient: FlexTensor,
) -> FlexTensor {
    let (batch, packed) = Packed::of(&qkv, heads);
    let Packed { tokens, dim, .. } = packed;
    let [qkv, output, log_sums, gradient] = [qkv, output, log_sums, gradient].map(contiguous);
    let (qkv, output, log_sums, gradient) = (values(&qkv), values(&output), values(&log_sums), values(&gradient));
    let mut of_qkv = unwritten(batch * tokens * 3 * dim);
    if !of_qkv.is_empty() {
        for_chunks(&mut of_qkv, tokens * 3 * dim, |image, of_qkv| {
            let own = image * tokens * dim..(image + 1) * tokens * dim;
            let (output, gradient) = (&output[own.clone()], &gradient[own]);
            let log_sums = &log_sums[image * heads * tokens..][..heads * tokens];
            image_backward(
                packed,
                &qkv[image * tokens * 3 * dim..][..tokens * 3 * dim],
                output,
                log_sums,
                gradient,
                of_qkv,
            );
        });
    }
    from_values(of_qkv, [batch, tokens, 3 * dim])
}

fn image_backward(packed: Packed, qkv: &[f32], output: &[f32], log_sums: &[f32], gradient: &[f32], of_qkv: &mut [f32]) {
    let Packed { tokens, heads, dim } = packed;
    let (width, tile, scale) = (packed.width(), packed.tile(), packed.scale());
    let (mut weights, mut of_scores) = (unwritten(tile * tokens), unwritten(tile * tokens));
    for head in 0..heads {
        let (keys, of_values) = (packed.part(qkv, 1, head, 0, tokens), packed.part(qkv, 2, head, 0, tokens));
        for first in (0..tokens).step_by(tile) {
            let count = tile.min(tokens - first);
            let (weights, of_scores) = (&mut weights[..count * tokens], &mut of_scores[..count * tokens]);
            let queries = packed.part(qkv, 0, head, first, count);
            let of_mixed = packed.own(gradient, head, first, count);
            let whole = |values| Target { values, row_stride: tokens, added_to: false };
            product(whole(&mut *weights), queries, keys.transposed(), scale, Parallelism::None);
            product(whole(&mut *of_scores), of_mixed, of_values.transposed(), 1.0, Parallelism::None);
            for row in 0..count {
                let place = (first + row) * dim + head * width;
                let own = sum(&output[place..][..width], &gradient[place..][..width], |a, b| a * b);
                let log_sum = log_sums[head * tokens + first + row];
                let row = row * tokens..(row + 1) * tokens;
                slopes(&mut weights[row.clone()], &mut of_scores[row], log_sum, own);
            }
            let weights = Matrix::new(weights, count, tokens, tokens);
            let of_scores = Matrix::new(of_scores, count, tokens, tokens);
            for (which, token, added_to, left, right, scale) in [
                (0, first, false, of_scores, keys, scale),
                (1, 0, first > 0, of_scores.transposed(), queries, scale),
                (2, 0, first > 0, weights.transposed(), of_mixed, 1.0),
            ] {
                let from = token * 3 * dim + which * dim + head * width;
                let target = Target { values: &mut of_qkv[from..], row_stride: 3 * dim, added_to };
                product(target, left, right, scale, Parallelism::None);
            }
        }
    }
}

/// Turns rows of scores into weights, and says the log of each row's sum of exponentials.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq+fma", "x86_64+avx2+fma"))]
fn softmax(scores: &mut [f32], tokens: usize, log_sums: &mut [f32]) {
    for (row, log_sum) in scores.chunks_exact_mut(tokens).zip(log_sums) {
        let most = largest(row);
        for score in row.iter_mut() {
            *score = exp(*score - most);
        }
        let sum = sum(row, row, |weight, _| weight);
        let share = 1.0 / sum;
        for weight in row.iter_mut() {
            *weight *= share;
        }
        *log_sum = most + sum.ln();
    }
}

/// Turns a row of scores into weights, and that of the gradients of weights into those of scores.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq+fma", "x86_64+avx2+fma"))]
fn slopes(weights: &mut [f32], of_scores: &mut [f32], log_sum: f32, own: f32) {
    for (weight, of_score) in weights.iter_mut().zip(of_scores) {
        *weight = exp(*weight - log_sum);
        *of_score = *weight * (*of_score - own);
    }
}
