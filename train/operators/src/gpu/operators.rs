//! The kernels of `cube`, on the GPU whose tensors they are given.

use super::delegate::{Inner, Outer, Which};
use super::{Gpu, GpuDevice, GpuTensor};
use crate::cube::Attention;
use crate::{AdamwState, AdamwStep, AdamwValues, Operators, Packing, Ranks};

/// Runs `body` with `B` the backend of `by` and `R` its runtime.
macro_rules! on {
    ($by:expr, $backend:ident, $runtime:ident => $body:expr) => {
        match $by.which() {
            #[cfg(feature = "cuda")]
            Which::Cuda => {
                type $backend = super::OnCuda;
                type $runtime = super::CudaRuntime;
                $body
            }
            #[cfg(feature = "wgpu")]
            Which::Wgpu => {
                type $backend = super::OnWgpu;
                type $runtime = super::WgpuRuntime;
                $body
            }
        }
    };
}

impl Operators for Gpu {
    crate::collective::of_ranks!();

    fn collectives(devices: &[GpuDevice]) -> Vec<Ranks<Self>> {
        #[cfg(feature = "cuda")]
        if let Some(ranks) = crate::collective::over_nccl(devices) {
            return ranks;
        }
        crate::collective::threads::<Self>(devices)
    }

    super::delegate::delegate! {
        x => linear_map(x: GpuTensor, weight: GpuTensor, bias: Option<GpuTensor>) -> GpuTensor;
        x => exact_gelu(x: GpuTensor) -> GpuTensor;
        x => exact_gelu_backward(x: GpuTensor, gradient: GpuTensor) -> GpuTensor;
        x => normalise_rows(x: GpuTensor, scale: GpuTensor, shift: GpuTensor, epsilon: f64) -> [GpuTensor; 2];
        x => normalise_rows_backward(
            x: GpuTensor,
            scale: GpuTensor,
            statistics: GpuTensor,
            gradient: GpuTensor,
        ) -> [GpuTensor; 3];
        x => standardise_columns(x: GpuTensor, epsilon: f64) -> [GpuTensor; 2];
        x => standardise_columns_backward(x: GpuTensor, statistics: GpuTensor, gradient: GpuTensor) -> GpuTensor;
        qkv => self_attention(qkv: GpuTensor, packing: &Packing, heads: usize) -> [GpuTensor; 2];
        qkv => self_attention_backward(
            qkv: GpuTensor,
            packing_and_heads: (&Packing, usize),
            output: GpuTensor,
            log_sums: GpuTensor,
            gradient: GpuTensor,
        ) -> GpuTensor;
        tokens => scaled_residual(
            tokens: GpuTensor,
            branch: GpuTensor,
            scale: Option<GpuTensor>,
            keep: Option<GpuTensor>,
        ) -> GpuTensor;
        gradient => scaled_residual_backward(
            branch: Option<GpuTensor>,
            scale: Option<GpuTensor>,
            keep: Option<GpuTensor>,
            gradient: GpuTensor,
        ) -> (GpuTensor, Option<GpuTensor>);
        logits => row_cross_entropy(logits: GpuTensor, targets: GpuTensor, temperature: f64) -> [GpuTensor; 2];
        logits => row_cross_entropy_backward(
            logits: GpuTensor,
            targets: GpuTensor,
            log_sums: GpuTensor,
            gradient: GpuTensor,
            temperature: f64,
        ) -> GpuTensor;
        words => bytes_of_words(words: GpuTensor) -> GpuTensor;
        x => sum_of_squares(x: GpuTensor) -> GpuTensor;
        square => clip_divisor(square: GpuTensor, norm_max: f64) -> GpuTensor;
        old => moving_average(old: GpuTensor, new: GpuTensor, momentum: f64) -> GpuTensor;
    }

    fn linear_map_backward(
        x: GpuTensor,
        weight: GpuTensor,
        gradient: GpuTensor,
        wanted: [bool; 3],
    ) -> [Option<GpuTensor>; 3] {
        on!(x, B, R => {
            let (x, weight, gradient) = (Inner::<R>::inner(x), Inner::<R>::inner(weight), Inner::<R>::inner(gradient));
            B::linear_map_backward(x, weight, gradient, wanted).outer()
        })
    }

    fn adamw(values: AdamwValues<Self>, step: &AdamwStep) -> AdamwState<Self> {
        let AdamwValues { state: AdamwState { value, mean, square, average }, gradient, divisor } = values;
        on!(value, B, R => {
            let [value, mean, square, gradient] = [value, mean, square, gradient].map(Inner::<R>::inner);
            let (average, divisor) = (Inner::<R>::inner(average), Inner::<R>::inner(divisor));
            let state = AdamwState { value, mean, square, average };
            let AdamwState { value, mean, square, average } = B::adamw(AdamwValues { state, gradient, divisor }, step);
            AdamwState {
                value: value.outer(),
                mean: mean.outer(),
                square: square.outer(),
                average: average.outer(),
            }
        })
    }
}

/// Attention in a way that is chosen here, for checks.
impl Gpu {
    pub(crate) fn attention_by(how: Attention, qkv: GpuTensor, packing: &Packing, heads: usize) -> [GpuTensor; 2] {
        on!(qkv, _B, R => how.forward::<R, f32, i32, u32>(Inner::<R>::inner(qkv), packing, heads).outer())
    }

    pub(crate) fn attention_backward_by(
        how: Attention,
        packing_and_heads: (&Packing, usize),
        [qkv, output, log_sums, gradient]: [GpuTensor; 4],
    ) -> GpuTensor {
        on!(qkv, _B, R => {
            let [qkv, output, log_sums, gradient] = [qkv, output, log_sums, gradient].map(Inner::<R>::inner);
            how.backward::<R, f32, i32, u32>(qkv, packing_and_heads, output, log_sums, gradient).outer()
        })
    }
}
