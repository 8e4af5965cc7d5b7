//! LayerNorm.

use super::numbers::sum;
use super::{contiguous, from_values, reused, unwritten, values};
use crate::threads::for_chunks_of_two;
use burn_flex::FlexTensor;
use multiversion::multiversion;

/// Rows of a block: what a thread takes, and what the gradients of scale and shift are first summed over.
const ROWS: usize = 128;

pub(super) fn forward(x: FlexTensor, scale: FlexTensor, shift: FlexTensor, epsilon: f32) -> [FlexTensor; 2] {
    let [x, scale, shift] = [x, scale, shift].map(contiguous);
    let width = x.layout().shape()[1];
    let (x, scale, shift) = (values(&x), values(&scale), values(&shift));
    let rows = x.len().checked_div(width).unwrap_or(0);
    let (mut y, mut statistics) = (unwritten(rows * width), unwritten(rows * 2));
    if rows > 0 {
        for_chunks_of_two((&mut y, ROWS * width), (&mut statistics, ROWS * 2), |index, y, statistics| {
            let x = &x[index * ROWS * width..][..y.len()];
            normalise(x, scale, shift, epsilon, y, statistics);
        });
    }
    [from_values(y, [rows, width]), from_values(statistics, [rows, 2])]
}

pub(super) fn backward(
    x: FlexTensor,
    scale: FlexTensor,
    statistics: FlexTensor,
    gradient: FlexTensor,
) -> [FlexTensor; 3] {
    let [x, scale, statistics, mut gradient] = [x, scale, statistics, gradient].map(contiguous);
    let width = x.layout().shape()[1];
    let (x, scale, statistics) = (values(&x), values(&scale), values(&statistics));
    let rows = x.len().checked_div(width).unwrap_or(0);
    if rows == 0 {
        let zeros = || from_values(vec![0.0; width], [width]);
        return [gradient, zeros(), zeros()];
    }
    // Each block's own sums, added up in order.
    let mut sums = vec![0f32; rows.div_ceil(ROWS) * 2 * width];
    let block = |index: usize, gradient: &mut [f32], sums: &mut [f32]| {
        let first = index * ROWS;
        let x = &x[first * width..][..gradient.len()];
        let (of_scale, of_shift) = sums.split_at_mut(width);
        slope(x, scale, &statistics[first * 2..], gradient, of_scale, of_shift);
    };
    let of_x = if let Some(values) = reused(&mut gradient) {
        for_chunks_of_two((values, ROWS * width), (&mut sums, 2 * width), block);
        gradient
    } else {
        let mut copy = values(&gradient).to_vec();
        for_chunks_of_two((&mut copy, ROWS * width), (&mut sums, 2 * width), block);
        from_values(copy, [rows, width])
    };
    let mut total = vec![0f32; 2 * width];
    for block in sums.chunks_exact(2 * width) {
        total.iter_mut().zip(block).for_each(|(total, value)| *total += value);
    }
    let of_shift = total.split_off(width);
    [of_x, from_values(total, [width]), from_values(of_shift, [width])]
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq+fma", "x86_64+avx2+fma"))]
fn normalise(x: &[f32], scale: &[f32], shift: &[f32], epsilon: f32, y: &mut [f32], statistics: &mut [f32]) {
    let width = scale.len();
    let rows = x.chunks_exact(width).zip(y.chunks_exact_mut(width)).zip(statistics.chunks_exact_mut(2));
    for ((x, y), statistics) in rows {
        let mean = sum(x, x, |x, _| x) / width as f32;
        let variance = sum(x, x, |x, _| (x - mean) * (x - mean)) / width as f32;
        let inverse = 1.0 / (variance + epsilon).sqrt();
        for column in 0..width {
            y[column] = (x[column] - mean) * inverse * scale[column] + shift[column];
        }
        (statistics[0], statistics[1]) = (mean, inverse);
    }
}

/// Turns the gradient of the output into that of the input, and adds to those of scale and shift.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq+fma", "x86_64+avx2+fma"))]
fn slope(
    x: &[f32],
    scale: &[f32],
    statistics: &[f32],
    gradient: &mut [f32],
    of_scale: &mut [f32],
    of_shift: &mut [f32],
) {
    let width = scale.len();
    let (of_scale, of_shift) = (&mut of_scale[..width], &mut of_shift[..width]);
    let rows = x.chunks_exact(width).zip(gradient.chunks_exact_mut(width)).zip(statistics.chunks_exact(2));
    for ((x, gradient), statistics) in rows {
        let (mean, inverse) = (statistics[0], statistics[1]);
        for column in 0..width {
            of_scale[column] += gradient[column] * (x[column] - mean) * inverse;
            of_shift[column] += gradient[column];
            gradient[column] *= scale[column];
        }
        let level = sum(gradient, gradient, |gradient, _| gradient) / width as f32;
        let along = sum(x, gradient, |x, gradient| (x - mean) * inverse * gradient) / width as f32;
        for column in 0..width {
            gradient[column] = (gradient[column] - level - (x[column] - mean) * inverse * along) * inverse;
        }
    }
}
