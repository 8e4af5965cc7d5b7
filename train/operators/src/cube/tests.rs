//! Every kernel on a GPU, a software one where there is no other, against the same operator in f64 on the CPU, which `reference`
//! states and the tests of `operators` hold to burn's own derivatives; and against finite differences.

use crate::{AdamwStep, Moving, TrainBackend, adamw, moving_average, sum_of_squares};
use crate::{Gpu, GpuDevice, adapters};
use crate::{attention, gelu, layer_norm, linear, residual, soft_cross_entropy};
use burn::backend::Autodiff;
use burn::tensor::activation::softmax;
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor, TensorData};

type Cpu = Autodiff<burn_flex::Flex>;
type OnGpu = Autodiff<Gpu>;

/// The first adapter. Where Vulkan has none the tests of this module say so and end.
fn gpu() -> Option<GpuDevice> {
    let device = adapters::adapters().expect("built with wgpu").first().map(adapters::Adapter::device);
    if device.is_none() {
        eprintln!("skipped: Vulkan knows no adapter (Debian's mesa-vulkan-drivers has one in software)");
    }
    device
}

/// An operator with its shapes, on any backend.
trait Case {
    fn shapes(&self) -> Vec<Vec<usize>>;
    fn run<B: TrainBackend>(&self, inputs: &[Tensor<B, 1>], constants: &Constants<B>) -> Tensor<B, 1>;
}

/// Makes tensors of which no gradient is taken.
struct Constants<B: Backend> {
    device: B::Device,
    dtype: DType,
}

impl<B: Backend> Constants<B> {
    fn drawn(&self, count: usize, seed: usize) -> Tensor<B, 1> {
        on::<B>(drawn(count, seed), &self.device, self.dtype)
    }
}

/// Values of no pattern between -1.5 and 1.5.
fn drawn(count: usize, seed: usize) -> Vec<f64> {
    (0..count).map(|at| 1.5 * ((at * at + 7 * at + 31 * seed) as f64 * 0.37).sin()).collect()
}

fn on<B: Backend>(values: Vec<f64>, device: &B::Device, dtype: DType) -> Tensor<B, 1> {
    let count = values.len();
    if dtype == DType::F64 {
        return Tensor::from_data(TensorData::new(values, [count]), (device, DType::F64));
    }
    let values: Vec<f32> = values.into_iter().map(|value| value as f32).collect();
    Tensor::<B, 1>::from_data(TensorData::new(values, [count]), (device, DType::F32)).cast(dtype)
}

fn host<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f64> {
    tensor.into_data().convert::<f64>().to_vec().expect("converted to f64")
}

/// The output, and the gradients of all inputs under fixed gradients of the output.
fn differentiated<B: TrainBackend>(case: &impl Case, device: &B::Device, dtype: DType) -> Vec<Vec<f64>> {
    let counts = case.shapes().into_iter().map(|shape| shape.iter().product::<usize>());
    let leaf = |(seed, count)| on::<B>(drawn(count, seed), device, dtype).require_grad();
    let inputs: Vec<Tensor<B, 1>> = counts.enumerate().map(leaf).collect();
    let output = case.run(&inputs, &Constants { device: device.clone(), dtype });
    let weights = on::<B>(drawn(output.dims()[0], 99), device, output.dtype());
    let gradients = (output.clone() * weights).sum().backward();
    let of_inputs = inputs.iter().map(|input| host(input.grad(&gradients).expect("a leaf has its gradient")));
    std::iter::once(host(output)).chain(of_inputs).collect()
}

/// Asserts that values differ by at most a part of the largest.
fn close(name: &str, found: &[f64], expected: &[f64], part: f64) {
    assert_eq!(found.len(), expected.len(), "{name}");
    let largest = expected.iter().fold(1e-3f64, |most, value| most.max(value.abs()));
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() <= part * largest, "{name}[{at}]: {found}, expected {expected}");
    }
}

/// Asserts that a kernel has the operator's values and gradients, in f32 to rounding, in f16 to its rounding.
fn holds(name: &str, case: impl Case) {
    let Some(device) = gpu() else { return };
    let expected = differentiated::<Cpu>(&case, &Default::default(), DType::F64);
    for (dtype, part) in [(DType::F32, 5e-6), (DType::F16, 6e-3)] {
        if !Gpu::supports_dtype(&device, dtype) {
            eprintln!("skipped: {name} in {dtype:?}, which this GPU has not");
            continue;
        }
        let found = differentiated::<OnGpu>(&case, &device, dtype);
        for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
            close(&format!("{name} {:?} in {dtype:?}, {index}", case.shapes()), found, expected, part);
        }
    }
}

/// Asserts that a kernel's gradients are the slopes between values a small step apart, which f64 on the CPU gives.
fn slopes_hold(name: &str, case: impl Case) {
    const STEP: f64 = 1e-5;
    let Some(device) = gpu() else { return };
    let found = differentiated::<OnGpu>(&case, &device, DType::F32);
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
        close(&format!("{name}, slopes of input {index}"), of_input, &expected, 2e-5);
    }
}

struct Gelu(usize);

impl Case for Gelu {
    fn shapes(&self) -> Vec<Vec<usize>> {
        vec![vec![self.0]]
    }

    fn run<B: TrainBackend>(&self, x: &[Tensor<B, 1>], _: &Constants<B>) -> Tensor<B, 1> {
        gelu(x[0].clone() * 2.0)
    }
}

#[test]
fn gelu_on_a_gpu() {
    [1, 37, 1000, 33_000].into_iter().for_each(|count| holds("gelu", Gelu(count)));
    slopes_hold("gelu", Gelu(50));
}

struct Linear {
    rows: usize,
    inputs: usize,
    outputs: usize,
}

impl Case for Linear {
    fn shapes(&self) -> Vec<Vec<usize>> {
        vec![vec![self.rows, self.inputs], vec![self.inputs, self.outputs], vec![self.outputs]]
    }

    fn run<B: TrainBackend>(&self, x: &[Tensor<B, 1>], _: &Constants<B>) -> Tensor<B, 1> {
        let rows = x[0].clone().reshape([self.rows, self.inputs]);
        let weight = x[1].clone().reshape([self.inputs, self.outputs]);
        linear(rows, weight, Some(x[2].clone())).reshape([self.rows * self.outputs])
    }
}

#[test]
fn linear_maps_on_a_gpu() {
    for (rows, inputs, outputs) in [(1, 1, 1), (3, 5, 7), (197, 64, 33), (1025, 32, 48)] {
        holds("linear", Linear { rows, inputs, outputs });
    }
    slopes_hold("linear", Linear { rows: 3, inputs: 4, outputs: 5 });
}

struct LayerNorm {
    rows: usize,
    width: usize,
}

impl Case for LayerNorm {
    fn shapes(&self) -> Vec<Vec<usize>> {
        vec![vec![self.rows, self.width], vec![self.width], vec![self.width]]
    }

    fn run<B: TrainBackend>(&self, x: &[Tensor<B, 1>], _: &Constants<B>) -> Tensor<B, 1> {
        let rows = x[0].clone().reshape([self.rows, self.width]);
        layer_norm(rows, x[1].clone(), x[2].clone(), 1e-2).reshape([self.rows * self.width])
    }
}

#[test]
fn layer_norm_on_a_gpu() {
    for (rows, width) in [(1, 1), (2, 3), (37, 96), (1025, 17), (197, 384), (5, 1536)] {
        holds("layer norm", LayerNorm { rows, width });
    }
    slopes_hold("layer norm", LayerNorm { rows: 4, width: 9 });
}

struct Attention {
    batch: usize,
    tokens: usize,
    heads: usize,
    width: usize,
}

impl Case for Attention {
    fn shapes(&self) -> Vec<Vec<usize>> {
        vec![vec![self.batch, self.tokens, 3 * self.heads * self.width]]
    }

    fn run<B: TrainBackend>(&self, x: &[Tensor<B, 1>], _: &Constants<B>) -> Tensor<B, 1> {
        let qkv = x[0].clone().reshape([self.batch, self.tokens, 3 * self.heads * self.width]);
        attention(qkv, self.heads).reshape([self.batch * self.tokens * self.heads * self.width])
    }
}

#[test]
fn attention_on_a_gpu_at_any_number_of_tokens_and_head_width() {
    let sizes = [
        (1, 1, 1, 32),
        (2, 5, 3, 2),
        (2, 37, 2, 32),
        (1, 65, 3, 64),
        (1, 197, 2, 64),
        (1, 37, 1, 128),
        (1, 20, 2, 12),
        (1, 9, 1, 160),
        (1, 1025, 1, 32),
    ];
    for (batch, tokens, heads, width) in sizes {
        holds("attention", Attention { batch, tokens, heads, width });
    }
    slopes_hold("attention", Attention { batch: 1, tokens: 5, heads: 2, width: 3 });
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

struct Residual {
    shape: [usize; 3],
    scale: bool,
    keep: bool,
}

impl Case for Residual {
    fn shapes(&self) -> Vec<Vec<usize>> {
        let mut shapes = vec![self.shape.to_vec(), self.shape.to_vec()];
        if self.scale {
            shapes.push(vec![self.shape[2]]);
        }
        shapes
    }

    fn run<B: TrainBackend>(&self, x: &[Tensor<B, 1>], constants: &Constants<B>) -> Tensor<B, 1> {
        let keep = self.keep.then(|| constants.drawn(self.shape[0], 5));
        let [tokens, branch] = [0, 1].map(|index| x[index].clone().reshape(self.shape));
        residual(tokens, branch, x.get(2).cloned(), keep).reshape([self.shape.iter().product::<usize>()])
    }
}

#[test]
fn residuals_on_a_gpu() {
    for shape in [[1, 1, 1], [3, 5, 7], [2, 37, 96], [1, 1025, 33]] {
        for (scale, keep) in [(true, true), (true, false), (false, true)] {
            holds("residual", Residual { shape, scale, keep });
        }
    }
    slopes_hold("residual", Residual { shape: [2, 3, 4], scale: true, keep: true });
}

struct CrossEntropy {
    rows: usize,
    of_targets: usize,
    classes: usize,
}

impl Case for CrossEntropy {
    fn shapes(&self) -> Vec<Vec<usize>> {
        vec![vec![self.rows, self.classes]]
    }

    fn run<B: TrainBackend>(&self, x: &[Tensor<B, 1>], constants: &Constants<B>) -> Tensor<B, 1> {
        let targets = constants.drawn(self.of_targets * self.classes, 8).reshape([self.of_targets, self.classes]);
        let logits = x[0].clone().reshape([self.rows, self.classes]);
        soft_cross_entropy(logits, softmax(targets, 1) * 1.5, 0.3)
    }
}

#[test]
fn cross_entropy_on_a_gpu() {
    for (rows, of_targets, classes) in [(1, 1, 1), (6, 2, 5), (4, 4, 33), (9, 3, 1000), (37, 37, 257)] {
        holds("cross-entropy", CrossEntropy { rows, of_targets, classes });
    }
    slopes_hold("cross-entropy", CrossEntropy { rows: 4, of_targets: 2, classes: 5 });
}

#[test]
fn steps_of_adamw_and_sums_on_a_gpu_leave_shared_tensors_alone() {
    let Some(device) = gpu() else { return };
    let step = AdamwStep {
        beta_1: 0.9,
        beta_2: 0.999,
        keep: 0.99,
        rate: 0.1,
        inverse_deviation: 3.0,
        epsilon: 1e-8,
        momentum: 0.996,
    };
    fn stepped<B: crate::Operators>(
        device: &B::Device,
        dtype: DType,
        (count, averaged, divided): (usize, bool, bool),
        step: &AdamwStep,
    ) -> Vec<Vec<f64>> {
        let values = |seed| on::<B>(drawn(count, seed), device, dtype);
        let held = values(1);
        let moving = Moving {
            value: held.clone(),
            mean: values(3),
            square: values(4) * values(4),
            average: averaged.then(|| values(8)),
        };
        let divisor = divided.then(|| on::<B>(vec![1.7], device, dtype));
        let moved = adamw(moving, values(2), divisor, step);
        let average = moved.average.map_or_else(Vec::new, host);
        let both = moving_average(held.clone(), values(2), step.momentum);
        let mut all = vec![host(moved.value), host(moved.mean), host(moved.square), average, host(both)];
        all.push(host(sum_of_squares(values(7))));
        all.push(host(held));
        all
    }
    for case in [(1, true, true), (37, false, true), (1025, true, false), (70_000, true, true)] {
        let expected = stepped::<burn_flex::Flex>(&Default::default(), DType::F64, case, &step);
        let found = stepped::<Gpu>(&device, DType::F32, case, &step);
        for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
            close(&format!("{case:?}, {index}"), found, expected, 3e-6);
        }
    }
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
