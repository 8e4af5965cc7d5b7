//! GELU.

use super::numbers::normal;
use super::{contiguous, reused, unwritten, values};
use crate::threads::for_chunks;
use burn::tensor::TensorData;
use burn_flex::FlexTensor;
use multiversion::multiversion;

/// Values a thread takes at a time.
const CHUNK: usize = 1 << 15;

pub(super) fn gelu(x: FlexTensor) -> FlexTensor {
    let shape = x.layout().shape().clone();
    let x = contiguous(x);
    let x = values(&x);
    let mut y = unwritten(x.len());
    for_chunks(&mut y, CHUNK, |index, y| gelu_of(&x[index * CHUNK..][..y.len()], y));
    FlexTensor::from_data(TensorData::new(y, shape))
}

pub(super) fn gelu_backward(x: FlexTensor, gradient: FlexTensor) -> FlexTensor {
    let x = contiguous(x);
    let x = values(&x);
    let mut gradient = contiguous(gradient);
    let slope = |index: usize, gradient: &mut [f32]| gelu_slope(&x[index * CHUNK..][..gradient.len()], gradient);
    if let Some(values) = reused(&mut gradient) {
        for_chunks(values, CHUNK, slope);
        return gradient;
    }
    let mut copy = values(&gradient).to_vec();
    for_chunks(&mut copy, CHUNK, slope);
    FlexTensor::from_data(TensorData::new(copy, gradient.layout().shape().clone()))
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq+fma", "x86_64+avx2+fma"))]
fn gelu_of(x: &[f32], y: &mut [f32]) {
    for (x, y) in x.iter().zip(y) {
        *y = x * normal(*x).0;
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq+fma", "x86_64+avx2+fma"))]
fn gelu_slope(x: &[f32], gradient: &mut [f32]) {
    for (x, gradient) in x.iter().zip(gradient) {
        let (below, density) = normal(*x);
        *gradient *= below + x * density;
    }
}
