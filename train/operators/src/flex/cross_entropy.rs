//! Cross-entropy of logits to distributions: the log-softmax is never in memory.

use super::numbers::{exp, largest, sum};
use super::{contiguous, from_values, unwritten, values};
use crate::threads::{for_chunks, for_chunks_of_two};
use burn_flex::FlexTensor;
use multiversion::multiversion;

/// Rows and classes.
fn sizes(tensor: &FlexTensor) -> [usize; 2] {
    let shape = tensor.layout().shape();
    [shape[0], shape[1]]
}

pub(super) fn forward(logits: FlexTensor, targets: FlexTensor, temperature: f32) -> [FlexTensor; 2] {
    let ([rows, classes], [of_targets, _]) = (sizes(&logits), sizes(&targets));
    let [logits, targets] = [logits, targets].map(contiguous);
    let (logits, targets) = (values(&logits), values(&targets));
    let (mut losses, mut log_sums) = (unwritten(rows), unwritten(rows));
    for_chunks_of_two((&mut losses, 1), (&mut log_sums, 1), |row, loss, log_sum| {
        let target = &targets[row % of_targets * classes..][..classes];
        (loss[0], log_sum[0]) = row_loss(&logits[row * classes..][..classes], target, 1.0 / temperature);
    });
    [from_values(losses, [rows]), from_values(log_sums, [rows])]
}

pub(super) fn backward(
    logits: FlexTensor,
    targets: FlexTensor,
    log_sums: FlexTensor,
    gradient: FlexTensor,
    temperature: f32,
) -> FlexTensor {
    let ([rows, classes], [of_targets, _]) = (sizes(&logits), sizes(&targets));
    let [logits, targets, log_sums, gradient] = [logits, targets, log_sums, gradient].map(contiguous);
    let (logits, targets, log_sums, gradient) =
        (values(&logits), values(&targets), values(&log_sums), values(&gradient));
    let mut of_logits = unwritten(rows * classes);
    if !of_logits.is_empty() {
        for_chunks(&mut of_logits, classes, |row, of_logits| {
            let target = &targets[row % of_targets * classes..][..classes];
            let logits = &logits[row * classes..][..classes];
            row_slope(logits, target, log_sums[row], gradient[row], 1.0 / temperature, of_logits);
        });
    }
    from_values(of_logits, [rows, classes])
}

/// A row's cross-entropy and the log of its softmax's sum. The products are with logits less the log-sum, so that nothing
/// large cancels.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq+fma", "x86_64+avx2+fma"))]
fn row_loss(logits: &[f32], target: &[f32], scale: f32) -> (f32, f32) {
    let most = largest(logits) * scale;
    let log_sum = most + sum(logits, logits, |logit, _| exp(logit * scale - most)).ln();
    (-sum(logits, target, |logit, target| target * (logit * scale - log_sum)), log_sum)
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq+fma", "x86_64+avx2+fma"))]
fn row_slope(logits: &[f32], target: &[f32], log_sum: f32, gradient: f32, scale: f32, of_logits: &mut [f32]) {
    let mass = sum(target, target, |target, _| target);
    let gradient = gradient * scale;
    for ((of_logit, logit), target) in of_logits.iter_mut().zip(logits).zip(target) {
        *of_logit = (exp(logit * scale - log_sum) * mass - target) * gradient;
    }
}
