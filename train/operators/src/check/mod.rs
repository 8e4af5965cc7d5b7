//! Kernels held to the operators they are of: on a GPU in f32, f16 and bf16, against the same operator in f64 on the CPU, which
//! `reference` states and tests hold to burn's own derivatives. Tests run this on a GPU in software, `gpu-check` on a card.

mod cases;
#[cfg(test)]
mod tests;
mod ways;

use crate::{
    AdamwStep, Gpu, GpuDevice, Group, Moving, Operators, Packing, TrainBackend, adamw, clip_divisor, moving_average,
    packed_bytes, sum_of_squares, unpack_bytes,
};
use burn::backend::Autodiff;
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Int, Tensor, TensorData};
use burn_flex::Flex;
pub use ways::{AttentionTimes, attention_times};

use cases::{Attention, CrossEntropy, Gelu, LayerNorm, Linear, PackedAttention, Residual, Standardise};

type Cpu = Autodiff<Flex>;
type OnGpu = Autodiff<Gpu>;

/// A kernel beside its operator.
#[derive(Debug, Clone)]
pub struct Check {
    /// The operator.
    pub operator: &'static str,
    /// The shapes of its inputs.
    pub shapes: String,
    /// The type of the values on the GPU.
    pub dtype: DType,
    /// The largest difference of an output or a gradient, as a part of its largest value; not finite where one is not.
    pub worst: f64,
    /// What it may be at most.
    pub bound: f64,
}

impl Check {
    /// Whether the kernel is right.
    pub fn holds(&self) -> bool {
        self.worst <= self.bound
    }
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

/// The largest difference as a part of the largest value.
fn off(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len(), "as many values as there are");
    let largest = expected.iter().fold(1e-3f64, |most, value| most.max(value.abs()));
    let differences = found.iter().zip(expected).map(|(found, expected)| (found - expected).abs() / largest);
    differences.fold(0.0, |most: f64, difference| if difference <= most { most } else { difference })
}

/// The largest of several such differences.
fn worst(found: &[Vec<f64>], expected: &[Vec<f64>]) -> f64 {
    assert_eq!(found.len(), expected.len(), "as many tensors as there are");
    let each = found.iter().zip(expected).map(|(found, expected)| off(found, expected));
    each.fold(0.0, |most: f64, difference| if difference <= most { most } else { difference })
}

/// What rounding may come to in a type: some steps of it.
fn rounding(dtype: DType) -> f64 {
    match dtype {
        DType::BF16 => 5e-2,
        DType::F16 => 6e-3,
        _ => 5e-6,
    }
}

/// Goes through the checks of a device.
struct Checks<'a, F> {
    device: &'a GpuDevice,
    report: F,
}

impl<F: FnMut(Check)> Checks<'_, F> {
    /// An operator in every type that the device has. burn may multiply matrices with fewer bits than f32 has.
    fn case(&mut self, operator: &'static str, case: &impl Case, multiplies: bool) {
        let expected = differentiated::<Cpu>(case, &Default::default(), DType::F64);
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            if !Gpu::supports_dtype(self.device, dtype) {
                continue;
            }
            let found = differentiated::<OnGpu>(case, self.device, dtype);
            let has_tensor_cores = self.device.is_cuda();
            let bound = if multiplies && has_tensor_cores { rounding(dtype).max(4e-3) } else { rounding(dtype) };
            let shapes = format!("{:?}", case.shapes());
            (self.report)(Check { operator, shapes, dtype, worst: worst(&found, &expected), bound });
        }
    }
}

/// Checks every kernel of an operator, or of all, at odd sizes.
pub fn kernels(device: &GpuDevice, only: Option<&str>, report: impl FnMut(Check)) {
    let mut checks = Checks { device, report };
    let is_asked = |name: &str| only.is_none_or(|only| only == name);
    if is_asked("gelu") {
        [1, 37, 1000, 33_000].into_iter().for_each(|count| checks.case("gelu", &Gelu(count), false));
    }
    if is_asked("linear") {
        for (rows, inputs, outputs) in [(1, 1, 1), (3, 5, 7), (197, 64, 33), (1025, 32, 48)] {
            checks.case("linear", &Linear { rows, inputs, outputs }, true);
        }
    }
    if is_asked("layer norm") {
        for (rows, width) in [(1, 1), (2, 3), (37, 96), (1025, 17), (197, 384), (5, 1536)] {
            checks.case("layer norm", &LayerNorm { rows, width }, false);
        }
    }
    if is_asked("standardise") {
        for (rows, width) in [(5, 3), (37, 96), (1025, 17), (64, 1000)] {
            checks.case("standardise", &Standardise { rows, width }, false);
        }
    }
    if is_asked("attention") {
        // The last head is wider than tiles are made for.
        for (batch, tokens, heads, width) in [
            (1, 1, 1, 32),
            (2, 5, 3, 2),
            (2, 37, 2, 32),
            (1, 65, 3, 64),
            (1, 197, 2, 64),
            (1, 37, 1, 128),
            (1, 20, 2, 12),
            (1, 1025, 1, 32),
            (1, 9, 1, 160),
        ] {
            checks.case("attention", &Attention { batch, tokens, heads, width }, width > 128);
        }
    }
    if is_asked("packed attention") {
        for (groups, heads, width) in packings() {
            checks.case("packed attention", &packed(groups, heads, width), width > 128);
        }
    }
    if is_asked("residual") {
        for shape in [[1, 1, 1], [3, 5, 7], [2, 37, 96], [1, 1025, 33]] {
            for (scale, keep) in [(true, true), (true, false), (false, true)] {
                checks.case("residual", &Residual { shape, scale, keep }, false);
            }
        }
    }
    if is_asked("cross-entropy") {
        for (rows, of_targets, classes) in [(1, 1, 1), (6, 2, 5), (4, 4, 33), (9, 3, 1000), (37, 37, 257)] {
            checks.case("cross-entropy", &CrossEntropy { rows, of_targets, classes }, false);
        }
    }
    if is_asked("bytes") {
        for count in [1usize, 7, 1000, 33_001] {
            let bytes: Vec<u8> = (0..count).map(|at| (at * at + 7 * at + 128) as u8).collect();
            let expected: Vec<f64> = bytes.iter().map(|byte| f64::from(*byte)).collect();
            let words = packed_bytes(bytes.into_iter());
            let words = TensorData::new(words, [count.div_ceil(4)]);
            let found = host(unpack_bytes(Tensor::<Gpu, 1, Int>::from_data(words, device)));
            let worst = off(&found[..count], &expected);
            let shapes = format!("{count}");
            (checks.report)(Check { operator: "bytes", shapes, dtype: DType::F32, worst, bound: 0.0 });
        }
    }
    if is_asked("adamw") {
        for case in [(1, true, true), (37, false, true), (1025, true, false), (70_000, true, true)] {
            let expected = stepped::<Flex>(&Default::default(), DType::F64, case);
            let found = stepped::<Gpu>(device, DType::F32, case);
            let (shapes, bound) = (format!("{case:?}"), rounding(DType::F32));
            let worst = worst(&found, &expected);
            (checks.report)(Check { operator: "adamw", shapes, dtype: DType::F32, worst, bound });
        }
    }
}

/// Sequences and tokens of each group, heads and their width. The last head is wider than tiles are made for.
fn packings() -> [(&'static [[usize; 2]], usize, usize); 7] {
    [
        (&[[3, 37], [2, 197]], 2, 32),
        (&[[3, 37], [2, 197]], 1, 64),
        (&[[2, 5], [1, 65], [3, 1]], 1, 128),
        (&[[5, 1], [1, 1025], [2, 37]], 1, 32),
        (&[[2, 20], [3, 9]], 3, 12),
        (&[[1, 33], [2, 8], [1, 16], [4, 7]], 2, 7),
        (&[[2, 9], [1, 12]], 1, 160),
    ]
}

/// Attention of groups of so many sequences of so many tokens.
fn packed(groups: &[[usize; 2]], heads: usize, width: usize) -> PackedAttention {
    let group = |&[sequences, tokens]: &[usize; 2]| Group { sequences, tokens };
    PackedAttention { packing: Packing::new(groups.iter().map(group)), heads, width }
}

/// What a step of AdamW, a moving average, a sum of squares and clipping make of drawn values, with or without an average and a divisor;
/// last a tensor that another holds, which must stay as it was.
fn stepped<B: Operators>(
    device: &B::Device,
    dtype: DType,
    (count, averaged, divided): (usize, bool, bool),
) -> Vec<Vec<f64>> {
    let step = AdamwStep {
        beta_1: 0.9,
        beta_2: 0.999,
        keep: 0.99,
        rate: 0.1,
        inverse_deviation: 3.0,
        epsilon: 1e-8,
        momentum: 0.996,
    };
    let values = |seed| on::<B>(drawn(count, seed), device, dtype);
    let held = values(1);
    let square_of = |values: Tensor<B, 1>| values.clone() * values;
    let square = square_of(values(4));
    let moving = Moving { value: held.clone(), mean: values(3), square, average: averaged.then(|| values(8)) };
    let divisor = divided.then(|| on::<B>(vec![1.7], device, dtype));
    let moved = adamw(moving, values(2), divisor, &step);
    let average = moved.average.map_or_else(Vec::new, host);
    let both = moving_average(held.clone(), values(2), step.momentum);
    let squares = sum_of_squares(values(7));
    // Of small norms, which are not clipped, and of large ones.
    let divisors = clip_divisor(square_of(values(9)), 1.5);
    let found = [moved.value, moved.mean, moved.square].map(host);
    found.into_iter().chain([average, host(both), host(squares), host(divisors), host(held)]).collect()
}
