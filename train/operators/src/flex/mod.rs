//! The operators on the CPU, in f32; other types have burn's operations. Loops are compiled for several generations of
//! processors; sums run over blocks of a fixed size, so that bits do not depend on the number of threads.

mod attention;
mod cross_entropy;
mod elementwise;
mod linear;
mod norm;
mod numbers;
mod optimiser;
mod residual;

pub use numbers::exp;

use super::{AdamwState, AdamwStep, AdamwValues, Float, Operators, Packing, reference};
use burn::tensor::{DType, TensorData};
use burn_flex::{Flex, FlexTensor};

impl Operators for Flex {
    const ON_HOST: bool = true;

    crate::collective::of_ranks!();

    fn linear_map(x: FlexTensor, weight: FlexTensor, bias: Option<FlexTensor>) -> FlexTensor {
        match in_f32(&x) {
            true => linear::forward(&x, &weight, bias.as_ref()),
            false => reference::linear::<Self>(x, weight, bias),
        }
    }

    fn linear_map_backward(
        x: FlexTensor,
        weight: FlexTensor,
        gradient: FlexTensor,
        wanted: [bool; 3],
    ) -> [Option<FlexTensor>; 3] {
        match in_f32(&x) {
            true => linear::backward(&x, &weight, &gradient, wanted),
            false => reference::linear_backward::<Self>(x, weight, gradient, wanted),
        }
    }

    fn exact_gelu(x: FlexTensor) -> FlexTensor {
        match in_f32(&x) {
            true => elementwise::gelu(x),
            false => reference::gelu::<Self>(x),
        }
    }

    fn exact_gelu_backward(x: FlexTensor, gradient: FlexTensor) -> FlexTensor {
        match in_f32(&x) {
            true => elementwise::gelu_backward(x, gradient),
            false => reference::gelu_backward::<Self>(x, gradient),
        }
    }

    fn normalise_rows(x: FlexTensor, scale: FlexTensor, shift: FlexTensor, epsilon: f64) -> [FlexTensor; 2] {
        match in_f32(&x) {
            true => norm::forward(x, scale, shift, epsilon as f32),
            false => reference::layer_norm::<Self>(x, scale, shift, epsilon),
        }
    }

    fn normalise_rows_backward(
        x: FlexTensor,
        scale: FlexTensor,
        statistics: FlexTensor,
        gradient: FlexTensor,
    ) -> [FlexTensor; 3] {
        match in_f32(&x) {
            true => norm::backward(x, scale, statistics, gradient),
            false => reference::layer_norm_backward::<Self>(x, scale, statistics, gradient),
        }
    }

    fn self_attention(qkv: FlexTensor, packing: &Packing, heads: usize) -> [FlexTensor; 2] {
        match in_f32(&qkv) {
            true => attention::forward(qkv, packing, heads),
            false => reference::attention::<Self>(qkv, packing, heads),
        }
    }

    fn self_attention_backward(
        qkv: FlexTensor,
        packing_and_heads: (&Packing, usize),
        output: FlexTensor,
        log_sums: FlexTensor,
        gradient: FlexTensor,
    ) -> FlexTensor {
        match in_f32(&qkv) {
            true => attention::backward(qkv, packing_and_heads, output, log_sums, gradient),
            false => reference::attention_backward::<Self>(qkv, packing_and_heads, output, log_sums, gradient),
        }
    }

    fn scaled_residual(
        tokens: FlexTensor,
        branch: FlexTensor,
        scale: Option<FlexTensor>,
        keep: Option<FlexTensor>,
    ) -> FlexTensor {
        match in_f32(&tokens) {
            true => residual::forward(tokens, branch, scale, keep),
            false => reference::residual::<Self>(tokens, branch, scale, keep),
        }
    }

    fn scaled_residual_backward(
        branch: Option<FlexTensor>,
        scale: Option<FlexTensor>,
        keep: Option<FlexTensor>,
        gradient: FlexTensor,
    ) -> (FlexTensor, Option<FlexTensor>) {
        match in_f32(&gradient) {
            true => residual::backward(branch, scale, keep, gradient),
            false => reference::residual_backward::<Self>(branch, scale, keep, gradient),
        }
    }

    fn row_cross_entropy(logits: FlexTensor, targets: FlexTensor, temperature: f64) -> [FlexTensor; 2] {
        match in_f32(&logits) {
            true => cross_entropy::forward(logits, targets, temperature as f32),
            false => reference::cross_entropy::<Self>(logits, targets, temperature),
        }
    }

    fn row_cross_entropy_backward(
        logits: FlexTensor,
        targets: FlexTensor,
        log_sums: FlexTensor,
        gradient: FlexTensor,
        temperature: f64,
    ) -> FlexTensor {
        match in_f32(&logits) {
            true => cross_entropy::backward(logits, targets, log_sums, gradient, temperature as f32),
            false => reference::cross_entropy_backward::<Self>(logits, targets, log_sums, gradient, temperature),
        }
    }

    fn adamw(values: AdamwValues<Self>, step: &AdamwStep) -> AdamwState<Self> {
        match in_f32(&values.state.value) {
            true => optimiser::adamw(values, step),
            false => reference::adamw::<Self>(values, step),
        }
    }

    fn sum_of_squares(x: FlexTensor) -> FlexTensor {
        match in_f32(&x) {
            true => optimiser::sum_of_squares(x),
            false => reference::sum_of_squares::<Self>(x),
        }
    }

    fn moving_average(old: Float<Self>, new: Float<Self>, momentum: f64) -> Float<Self> {
        match in_f32(&old) {
            true => optimiser::moving_average(old, new, momentum),
            false => reference::moving_average::<Self>(old, new, momentum),
        }
    }
}

fn in_f32(tensor: &FlexTensor) -> bool {
    tensor.dtype() == DType::F32
}

/// The tensor with its values in a row, copied where they are not.
fn contiguous(tensor: FlexTensor) -> FlexTensor {
    if tensor.as_slice::<f32>().is_some() { tensor } else { tensor.to_contiguous() }
}

/// The values of a contiguous tensor.
fn values(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice().expect("it was made contiguous")
}

fn from_values<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

/// Room for values that are all written before they are read.
#[allow(unsafe_code, reason = "zeroing costs a pass over memory; every caller fills all of it")]
fn unwritten(count: usize) -> Vec<f32> {
    let mut values = Vec::with_capacity(count);
    // SAFETY: the capacity is `count`, every bit pattern is an f32, and callers write each value before reading it.
    #[allow(clippy::uninit_vec, reason = "see above")]
    unsafe {
        values.set_len(count);
    }
    values
}

/// The values of a tensor to be written over, where it has them for itself and they are all of its memory; else room for as
/// many.
fn reused(tensor: &mut FlexTensor) -> Option<&mut [f32]> {
    let count = tensor.layout().num_elements();
    let whole = tensor.as_slice::<f32>().is_some() && tensor.layout().start_offset() == 0;
    tensor.try_storage_mut::<f32>().filter(|values| whole && values.len() == count)
}
