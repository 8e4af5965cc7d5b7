//! The operators on GPUs: kernels in CubeCL, one source for CUDA, Vulkan and Metal. f32, f16 and bf16 are read and written; what
//! is computed in between, statistics and losses are f32. No kernel assumes how many lanes a subgroup has, none uses atomics:
//! the same input gives the same bits on one device. Matrix products are burn's.

mod attention;
mod cross_entropy;
mod elementwise;
mod launch;
mod norm;
mod optimiser;
mod residual;
mod standardise;
mod sums;

pub(crate) use attention::Attention;
#[cfg(feature = "cuda")]
pub(crate) use launch::writable;

use super::{AdamwState, AdamwStep, AdamwValues, Float, Operators, Packing, reference};
use burn::tensor::ops::IntTensor;
use burn::tensor::{DType, TensorMetadata};
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement};

impl<R, F, I, BT> Operators for CubeBackend<R, F, I, BT>
where
    R: CubeRuntime,
    F: FloatElement,
    I: IntElement,
    BT: BoolElement,
{
    crate::collective::of_ranks!();

    fn linear_map(x: Float<Self>, weight: Float<Self>, bias: Option<Float<Self>>) -> Float<Self> {
        match bias {
            Some(bias) if are_served(&[&x, &weight, &bias]) => {
                residual::add_bias(reference::linear::<Self>(x, weight, None), bias)
            }
            bias => reference::linear::<Self>(x, weight, bias),
        }
    }

    fn linear_map_backward(
        x: Float<Self>,
        weight: Float<Self>,
        gradient: Float<Self>,
        wanted: [bool; 3],
    ) -> [Option<Float<Self>>; 3] {
        if !wanted[2] || !are_served(&[&x, &weight, &gradient]) {
            return reference::linear_backward::<Self>(x, weight, gradient, wanted);
        }
        let shape = gradient.shape().dims();
        let of_bias = sums::column_sums(gradient.clone(), shape, gradient.dtype);
        let [of_x, of_weight, _] =
            reference::linear_backward::<Self>(x, weight, gradient, [wanted[0], wanted[1], false]);
        [of_x, of_weight, Some(of_bias)]
    }

    fn exact_gelu(x: Float<Self>) -> Float<Self> {
        match are_served(&[&x]) {
            true => elementwise::gelu(x),
            false => reference::gelu::<Self>(x),
        }
    }

    fn exact_gelu_backward(x: Float<Self>, gradient: Float<Self>) -> Float<Self> {
        match are_served(&[&x, &gradient]) {
            true => elementwise::gelu_backward(x, gradient),
            false => reference::gelu_backward::<Self>(x, gradient),
        }
    }

    fn normalise_rows(x: Float<Self>, scale: Float<Self>, shift: Float<Self>, epsilon: f64) -> [Float<Self>; 2] {
        match are_served(&[&x, &scale, &shift]) {
            true => norm::forward(x, scale, shift, epsilon as f32),
            false => reference::layer_norm::<Self>(x, scale, shift, epsilon),
        }
    }

    fn normalise_rows_backward(
        x: Float<Self>,
        scale: Float<Self>,
        statistics: Float<Self>,
        gradient: Float<Self>,
    ) -> [Float<Self>; 3] {
        match are_served(&[&x, &scale, &gradient]) {
            true => norm::backward(x, scale, statistics, gradient),
            false => reference::layer_norm_backward::<Self>(x, scale, statistics, gradient),
        }
    }

    fn standardise_columns(x: Float<Self>, epsilon: f64) -> [Float<Self>; 2] {
        match are_served(&[&x]) {
            true => standardise::forward(x, epsilon as f32),
            false => reference::standardise::<Self>(x, epsilon),
        }
    }

    fn standardise_columns_backward(x: Float<Self>, statistics: Float<Self>, gradient: Float<Self>) -> Float<Self> {
        match are_served(&[&x, &gradient]) {
            true => standardise::backward(x, statistics, gradient),
            false => reference::standardise_backward::<Self>(x, statistics, gradient),
        }
    }

    fn self_attention(qkv: Float<Self>, packing: &Packing, heads: usize) -> [Float<Self>; 2] {
        match are_served(&[&qkv]) {
            true => Attention::of(&qkv, packing, heads).forward::<R, F, I, BT>(qkv, packing, heads),
            false => reference::attention::<Self>(qkv, packing, heads),
        }
    }

    fn self_attention_backward(
        qkv: Float<Self>,
        (packing, heads): (&Packing, usize),
        output: Float<Self>,
        log_sums: Float<Self>,
        gradient: Float<Self>,
    ) -> Float<Self> {
        let how = Attention::of(&qkv, packing, heads);
        match are_served(&[&qkv, &output, &gradient]) {
            true => how.backward::<R, F, I, BT>(qkv, (packing, heads), output, log_sums, gradient),
            false => reference::attention_backward::<Self>(qkv, (packing, heads), output, log_sums, gradient),
        }
    }

    fn scaled_residual(
        tokens: Float<Self>,
        branch: Float<Self>,
        scale: Option<Float<Self>>,
        keep: Option<Float<Self>>,
    ) -> Float<Self> {
        let all = [Some(&tokens), Some(&branch), scale.as_ref(), keep.as_ref()];
        match are_served(&all.into_iter().flatten().collect::<Vec<_>>()) {
            true => residual::forward(tokens, branch, scale, keep),
            false => reference::residual::<Self>(tokens, branch, scale, keep),
        }
    }

    fn scaled_residual_backward(
        branch: Option<Float<Self>>,
        scale: Option<Float<Self>>,
        keep: Option<Float<Self>>,
        gradient: Float<Self>,
    ) -> (Float<Self>, Option<Float<Self>>) {
        let all = [branch.as_ref(), scale.as_ref(), keep.as_ref(), Some(&gradient)];
        match are_served(&all.into_iter().flatten().collect::<Vec<_>>()) {
            true => residual::backward(branch, scale, keep, gradient),
            false => reference::residual_backward::<Self>(branch, scale, keep, gradient),
        }
    }

    fn row_cross_entropy(logits: Float<Self>, targets: Float<Self>, temperature: f64) -> [Float<Self>; 2] {
        match are_served(&[&logits, &targets]) {
            true => cross_entropy::forward(logits, targets, temperature as f32),
            false => reference::cross_entropy::<Self>(logits, targets, temperature),
        }
    }

    fn row_cross_entropy_backward(
        logits: Float<Self>,
        targets: Float<Self>,
        log_sums: Float<Self>,
        gradient: Float<Self>,
        temperature: f64,
    ) -> Float<Self> {
        match are_served(&[&logits, &targets]) {
            true => cross_entropy::backward(logits, targets, log_sums, gradient, temperature as f32),
            false => reference::cross_entropy_backward::<Self>(logits, targets, log_sums, gradient, temperature),
        }
    }

    fn adamw(values: AdamwValues<Self>, step: &AdamwStep) -> AdamwState<Self> {
        let AdamwValues { state, gradient, divisor } = values;
        let all = [Some(&state.value), Some(&state.mean), Some(&state.square), Some(&gradient)];
        let all: Vec<_> = all.into_iter().chain([state.average.as_ref(), divisor.as_ref()]).flatten().collect();
        match are_f32(&all) {
            true => optimiser::adamw::<Self, R>(state, gradient, divisor, step),
            false => reference::adamw::<Self>(AdamwValues { state, gradient, divisor }, step),
        }
    }

    fn bytes_of_words(words: IntTensor<Self>) -> Float<Self> {
        match words.dtype == DType::I32 && u32::try_from(launch::count(&words)).is_ok() {
            true => elementwise::bytes_of_words(words),
            false => reference::bytes_of_words::<Self>(words),
        }
    }

    fn sum_of_squares(x: Float<Self>) -> Float<Self> {
        match are_f32(&[&x]) {
            true => sums::sum_of_squares(x),
            false => reference::sum_of_squares::<Self>(x),
        }
    }

    fn clip_divisor(square: Float<Self>, norm_max: f64) -> Float<Self> {
        match are_f32(&[&square]) {
            true => optimiser::clip_divisor(square, norm_max),
            false => reference::clip_divisor::<Self>(square, norm_max),
        }
    }

    fn moving_average(old: Float<Self>, new: Float<Self>, momentum: f64) -> Float<Self> {
        match are_f32(&[&old, &new]) {
            true => optimiser::moving_average(old, new, momentum),
            false => reference::moving_average::<Self>(old, new, momentum),
        }
    }
}

/// Whether kernels are for such tensors: of one of three types, the same for all, and with indices of 32 bits.
fn are_served<R: CubeRuntime>(tensors: &[&CubeTensor<R>]) -> bool {
    let dtype = tensors[0].dtype;
    matches!(dtype, DType::F32 | DType::F16 | DType::BF16)
        && tensors.iter().all(|tensor| tensor.dtype == dtype && u32::try_from(launch::count(tensor)).is_ok())
}

fn are_f32<R: CubeRuntime>(tensors: &[&CubeTensor<R>]) -> bool {
    tensors[0].dtype == DType::F32 && are_served(tensors)
}
