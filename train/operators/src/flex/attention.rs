//! Self-attention by tiles of queries: a tile's scores are computed, turned into weights and used while they are in the cache.
//! The log of each softmax's sum is kept, from which the backward pass has the weights again (Dao et al. 2022). Groups of a
//! packing go one after another, the sequences of a group side by side on the threads.

use super::linear::{Matrix, Target, product};
use super::numbers::{exp, largest, sum};
use super::{contiguous, from_values, unwritten, values};
use crate::Packing;
use crate::threads::{for_chunks, for_chunks_of_two};
use burn_flex::FlexTensor;
use gemm::Parallelism;
use multiversion::multiversion;

/// Queries of a tile at most.
const TILE: usize = 64;

/// How a sequence's queries, keys and values lie: `[tokens, 3 * dim]`, each head by head.
#[derive(Clone, Copy)]
struct Sizes {
    tokens: usize,
    heads: usize,
    dim: usize,
}

impl Sizes {
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

    /// Queries (0), keys (1) or values (2) of some tokens of a head, within a sequence's.
    fn part(self, sequence: &[f32], which: usize, head: usize, first: usize, count: usize) -> Matrix<'_> {
        let from = first * 3 * self.dim + which * self.dim + head * self.width();
        Matrix::new(&sequence[from..], count, self.width(), 3 * self.dim)
    }

    /// Some tokens of a head of a sequence's `[tokens, dim]`.
    fn own(self, sequence: &[f32], head: usize, first: usize, count: usize) -> Matrix<'_> {
        Matrix::new(&sequence[first * self.dim + head * self.width()..], count, self.width(), self.dim)
    }
}

pub(super) fn forward(qkv: FlexTensor, packing: &Packing, heads: usize) -> [FlexTensor; 2] {
    let [rows, dim] = rows_and_dim(&qkv);
    let qkv = contiguous(qkv);
    let qkv = values(&qkv);
    let (mut mixed, mut log_sums) = (unwritten(rows * dim), unwritten(heads * rows));
    if dim > 0 {
        for (rows, group) in packing.ranges() {
            let sizes = Sizes { tokens: group.tokens, heads, dim };
            let of_sequence = group.tokens * dim;
            let qkv = &qkv[3 * dim * rows.start..];
            let mixed = &mut mixed[dim * rows.start..dim * rows.end];
            let log_sums = &mut log_sums[heads * rows.start..heads * rows.end];
            for_chunks_of_two((mixed, of_sequence), (log_sums, heads * group.tokens), |sequence, mixed, log_sums| {
                sequence_forward(sizes, &qkv[sequence * 3 * of_sequence..][..3 * of_sequence], mixed, log_sums);
            });
        }
    }
    [from_values(mixed, [rows, dim]), from_values(log_sums, [heads * rows])]
}

fn rows_and_dim(qkv: &FlexTensor) -> [usize; 2] {
    let shape = qkv.layout().shape();
    [shape[0], shape[1] / 3]
}

fn sequence_forward(sizes: Sizes, qkv: &[f32], mixed: &mut [f32], log_sums: &mut [f32]) {
    let Sizes { tokens, heads, dim } = sizes;
    let (width, tile) = (sizes.width(), sizes.tile());
    let mut scores = unwritten(tile * tokens);
    for head in 0..heads {
        let (keys, of_values) = (sizes.part(qkv, 1, head, 0, tokens), sizes.part(qkv, 2, head, 0, tokens));
        for first in (0..tokens).step_by(tile) {
            let count = tile.min(tokens - first);
            let scores = &mut scores[..count * tokens];
            let queries = sizes.part(qkv, 0, head, first, count);
            let target = Target { values: scores, row_stride: tokens, added_to: false };
            product(target, queries, keys.transposed(), sizes.scale(), Parallelism::None);
            softmax(scores, tokens, &mut log_sums[head * tokens + first..][..count]);
            let target = Target { values: &mut mixed[first * dim + head * width..], row_stride: dim, added_to: false };
            product(target, Matrix::new(scores, count, tokens, tokens), of_values, 1.0, Parallelism::None);
        }
    }
}

pub(super) fn backward(
    qkv: FlexTensor,
    (packing, heads): (&Packing, usize),
    output: FlexTensor,
    log_sums: FlexTensor,
    gradient: FlexTensor,
) -> FlexTensor {
    let [rows, dim] = rows_and_dim(&qkv);
    let [qkv, output, log_sums, gradient] = [qkv, output, log_sums, gradient].map(contiguous);
    let (qkv, output, log_sums, gradient) = (values(&qkv), values(&output), values(&log_sums), values(&gradient));
    let mut of_qkv = unwritten(rows * 3 * dim);
    if dim > 0 {
        for (rows, group) in packing.ranges() {
            let sizes = Sizes { tokens: group.tokens, heads, dim };
            let of_qkv = &mut of_qkv[3 * dim * rows.start..3 * dim * rows.end];
            for_chunks(of_qkv, group.tokens * 3 * dim, |sequence, of_qkv| {
                let start = rows.start + sequence * group.tokens;
                let end = start + group.tokens;
                sequence_backward(
                    sizes,
                    &qkv[3 * dim * start..3 * dim * end],
                    &output[dim * start..dim * end],
                    &log_sums[heads * start..heads * end],
                    &gradient[dim * start..dim * end],
                    of_qkv,
                );
            });
        }
    }
    from_values(of_qkv, [rows, 3 * dim])
}

fn sequence_backward(
    sizes: Sizes,
    qkv: &[f32],
    output: &[f32],
    log_sums: &[f32],
    gradient: &[f32],
    of_qkv: &mut [f32],
) {
    let Sizes { tokens, heads, dim } = sizes;
    let (width, tile, scale) = (sizes.width(), sizes.tile(), sizes.scale());
    let (mut weights, mut of_scores) = (unwritten(tile * tokens), unwritten(tile * tokens));
    for head in 0..heads {
        let (keys, of_values) = (sizes.part(qkv, 1, head, 0, tokens), sizes.part(qkv, 2, head, 0, tokens));
        for first in (0..tokens).step_by(tile) {
            let count = tile.min(tokens - first);
            let (weights, of_scores) = (&mut weights[..count * tokens], &mut of_scores[..count * tokens]);
            let queries = sizes.part(qkv, 0, head, first, count);
            let of_mixed = sizes.own(gradient, head, first, count);
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
