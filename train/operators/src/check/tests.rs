//! The checks on the first adapter, a GPU in software where there is no other; and the kernels against finite differences.

use super::*;
use crate::{adapters, attention, gelu, layer_norm};

/// The first adapter. Where Vulkan has none the tests of this module say so and end.
fn gpu() -> Option<GpuDevice> {
    let device = adapters::adapters().ok().and_then(|adapters| adapters.first().map(adapters::Adapter::device));
    if device.is_none() {
        eprintln!("skipped: Vulkan knows no adapter (Debian's mesa-vulkan-drivers has one in software)");
    }
    device
}

fn hold(operator: &str) {
    let Some(device) = gpu() else { return };
    let mut count = 0;
    kernels(&device, Some(operator), |check| {
        count += 1;
        assert!(check.holds(), "{check:?}");
    });
    assert!(count >= 4, "`{operator}` is checked");
}

/// Asserts that a kernel's gradients are the slopes between values a small step apart, which f64 on the CPU gives.
fn slopes_hold(name: &str, case: &impl Case) {
    const STEP: f64 = 1e-5;
    let Some(device) = gpu() else { return };
    let found = differentiated::<OnGpu>(case, &device, DType::F32);
    let counts: Vec<usize> = case.shapes().into_iter().map(|shape| shape.iter().product()).collect();
    let inputs: Vec<Vec<f64>> = counts.iter().enumerate().map(|(seed, count)| drawn(*count, seed)).collect();
    let cpu = Default::default();
    let weighted = |inputs: &[Vec<f64>]| -> f64 {
        let inputs: Vec<_> = inputs.iter().map(|values| on::<Cpu>(values.clone(), &cpu, DType::F64)).collect();
        let output = host(case.run::<Cpu>(&inputs, &Constants { device: cpu, dtype: DType::F64 }));
        output.iter().zip(drawn(output.len(), 99)).map(|(value, weight)| value * weight).sum()
    };
    for (index, of_input) in found[1..].iter().enumerate() {
        let slope = |at: usize| {
            let moved = |by: f64| {
                let mut inputs = inputs.clone();
                inputs[index][at] += by;
                weighted(&inputs)
            };
            (moved(STEP) - moved(-STEP)) / (2.0 * STEP)
        };
        let expected: Vec<f64> = (0..counts[index]).map(slope).collect();
        let off = off(of_input, &expected);
        assert!(off <= 2e-5, "{name}, input {index}: {off}");
    }
}

#[test]
fn gelu_on_a_gpu() {
    hold("gelu");
    slopes_hold("gelu", &Gelu(50));
}

#[test]
fn linear_maps_on_a_gpu() {
    hold("linear");
    slopes_hold("linear", &Linear { rows: 3, inputs: 4, outputs: 5 });
}

#[test]
fn layer_norm_on_a_gpu() {
    hold("layer norm");
    slopes_hold("layer norm", &LayerNorm { rows: 4, width: 9 });
}

#[test]
fn columns_are_standardised_on_a_gpu() {
    hold("standardise");
    slopes_hold("standardise", &Standardise { rows: 6, width: 5 });
}

#[test]
fn attention_on_a_gpu_at_any_number_of_tokens_and_head_width() {
    hold("attention");
    slopes_hold("attention", &Attention { batch: 1, tokens: 5, heads: 2, width: 3 });
}

#[test]
fn residuals_on_a_gpu() {
    hold("residual");
    slopes_hold("residual", &Residual { shape: [2, 3, 4], scale: true, keep: true });
}

#[test]
fn cross_entropy_on_a_gpu() {
    hold("cross-entropy");
    slopes_hold("cross-entropy", &CrossEntropy { rows: 4, of_targets: 2, classes: 5 });
}

#[test]
fn steps_of_adamw_and_sums_on_a_gpu_leave_shared_tensors_alone() {
    hold("adamw");
}

#[test]
fn large_scores_overflow_nowhere_on_a_gpu() {
    let Some(device) = gpu() else { return };
    let qkv = Tensor::<OnGpu, 3>::full([1, 3, 12], 1e4, &device).require_grad();
    let mixed = attention(qkv.clone(), 2);
    let gradients = mixed.clone().sum().backward();
    assert!(host(mixed).iter().all(|value| (value - 1e4).abs() < 1.0));
    assert!(host(qkv.grad(&gradients).expect("a leaf")).iter().all(|value| value.is_finite()));
}

#[test]
fn nothing_comes_of_nothing_on_a_gpu() {
    let Some(device) = gpu() else { return };
    let empty = |shape: [usize; 2]| Tensor::<Gpu, 2>::zeros(shape, &device);
    let ones = |count: usize| Tensor::<Gpu, 1>::ones([count], &device);
    assert_eq!(gelu(empty([0, 3])).dims(), [0, 3]);
    assert_eq!(layer_norm(empty([0, 3]), ones(3), ones(3), 1e-6).dims(), [0, 3]);
    assert_eq!(attention(Tensor::<Gpu, 3>::zeros([0, 5, 12], &device), 2).dims(), [0, 5, 4]);
}

#[test]
fn the_same_input_gives_the_same_bits_on_a_gpu() {
    let Some(device) = gpu() else { return };
    let case = Attention { batch: 2, tokens: 77, heads: 2, width: 32 };
    let once = differentiated::<OnGpu>(&case, &device, DType::F32);
    assert_eq!(once, differentiated::<OnGpu>(&case, &device, DType::F32));
}

/// burn#5162: on Vulkan and Metal a backward pass that reaches parameters alone, whose input has no gradient, gave NaN.
#[test]
fn gradients_of_parameters_alone_are_those_of_the_cpu() {
    let Some(device) = gpu() else { return };
    fn of_weight<B: TrainBackend>(device: &B::Device) -> Vec<f64> {
        let input = on::<B>(drawn(6 * 5, 1), device, DType::F32).reshape([6, 5]);
        let weight = on::<B>(drawn(5 * 4, 2), device, DType::F32).reshape([5, 4]).detach().require_grad();
        let mapped = burn::tensor::activation::gelu(input.matmul(weight.clone()));
        host(weight.grad(&(mapped.clone() * mapped).sum().backward()).expect("a leaf"))
    }
    let found = off(&of_weight::<OnGpu>(&device), &of_weight::<Cpu>(&Default::default()));
    // burn's own gelu has the slope of its tanh form, on both.
    assert!(found < 1e-3, "{found}");
}
