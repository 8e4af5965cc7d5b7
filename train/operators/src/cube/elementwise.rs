//! GELU and its slope, several values at a time; bytes out of words.

use super::launch::{contiguous, count, elementwise, empty, empty_of, vector_size};
use burn::tensor::{DType, TensorMetadata};
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

/// The normal distribution's probability below x, and its density there: the polynomial of the CPU's operator.
#[cube]
fn normal<N: Size>(x: Vector<f32, N>) -> (Vector<f32, N>, Vector<f32, N>) {
    let one = Vector::<f32, N>::new(1.0f32);
    let magnitude = x.abs() * Vector::new(0.707_106_77f32);
    let bell = (x * x * Vector::new(-0.5f32)).exp();
    let t = one / (one + magnitude * Vector::new(0.33f32));
    let mut sum = t * Vector::new(-0.135_928_84f32) + Vector::new(0.462_688_4f32);
    sum = sum * t + Vector::new(-0.355_439_25f32);
    sum = sum * t + Vector::new(0.412_541_9f32);
    sum = sum * t + Vector::new(0.045_010_48f32);
    sum = sum * t + Vector::new(0.201_923_88f32);
    sum = sum * t + Vector::new(0.182_837_23f32);
    sum = sum * t + Vector::new(0.186_366_11f32);
    let beyond = sum * t * bell * Vector::new(0.5f32);
    let below = select_many(x.less_than(Vector::new(0.0f32)), beyond, one - beyond);
    (below, bell * Vector::new(0.398_942_3f32))
}

#[cube(launch)]
fn gelu_kernel<F: Float, N: Size>(
    x: &Array<Vector<F, N>>,
    output: &mut Array<Vector<F, N>>,
    #[define(F)] _dtype: StorageType,
) {
    if ABSOLUTE_POS >= output.len() {
        terminate!();
    }
    let value = Vector::<f32, N>::cast_from(x[ABSOLUTE_POS]);
    let (below, _density) = normal::<N>(value);
    output[ABSOLUTE_POS] = Vector::cast_from(value * below);
}

#[cube(launch)]
fn gelu_backward_kernel<F: Float, N: Size>(
    x: &Array<Vector<F, N>>,
    gradient: &Array<Vector<F, N>>,
    output: &mut Array<Vector<F, N>>,
    #[define(F)] _dtype: StorageType,
) {
    if ABSOLUTE_POS >= output.len() {
        terminate!();
    }
    let value = Vector::<f32, N>::cast_from(x[ABSOLUTE_POS]);
    let (below, density) = normal::<N>(value);
    let slope = below + value * density;
    output[ABSOLUTE_POS] = Vector::cast_from(Vector::<f32, N>::cast_from(gradient[ABSOLUTE_POS]) * slope);
}

pub(super) fn gelu<R: CubeRuntime>(x: CubeTensor<R>) -> CubeTensor<R> {
    let x = contiguous(x);
    let output = empty(&x, x.shape());
    let size = vector_size(&output);
    let (cubes, units) = elementwise(&output.client, count(&output) / size);
    let (client, dtype) = (output.client.clone(), output.dtype.into());
    let written = output.clone().into_array_arg();
    gelu_kernel::launch::<R>(&client, cubes, units, size, x.into_array_arg(), written, dtype);
    output
}

pub(super) fn gelu_backward<R: CubeRuntime>(x: CubeTensor<R>, gradient: CubeTensor<R>) -> CubeTensor<R> {
    let (x, gradient) = (contiguous(x), contiguous(gradient));
    let output = empty(&x, x.shape());
    let size = vector_size(&output);
    let (cubes, units) = elementwise(&output.client, count(&output) / size);
    let (client, dtype) = (output.client.clone(), output.dtype.into());
    let (x, gradient, written) = (x.into_array_arg(), gradient.into_array_arg(), output.clone().into_array_arg());
    gelu_backward_kernel::launch::<R>(&client, cubes, units, size, x, gradient, written, dtype);
    output
}

#[cube(launch)]
fn bytes_kernel(words: &Array<i32>, output: &mut Array<f32>) {
    if ABSOLUTE_POS >= words.len() {
        terminate!();
    }
    let word = words[ABSOLUTE_POS];
    let first = 4 * ABSOLUTE_POS;
    output[first] = f32::cast_from(word & 255i32);
    output[first + 1] = f32::cast_from((word >> 8i32) & 255i32);
    output[first + 2] = f32::cast_from((word >> 16i32) & 255i32);
    output[first + 3] = f32::cast_from((word >> 24i32) & 255i32);
}

/// The bytes of words of 32 bits, the lowest first, as f32.
pub(super) fn bytes_of_words<R: CubeRuntime>(words: CubeTensor<R>) -> CubeTensor<R> {
    let words = contiguous(words);
    let output = empty_of(&words, [4 * count(&words)], DType::F32);
    let (cubes, units) = elementwise(&words.client, count(&words));
    let client = words.client.clone();
    bytes_kernel::launch::<R>(&client, cubes, units, words.into_array_arg(), output.clone().into_array_arg());
    output
}
