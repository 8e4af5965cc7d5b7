//! The checks on the first adapter, a GPU in software where there is no other; and the kernels against finite differences.

use super::ways::Sizes;
use super::*;
use crate::{GpuTensor, adapters, attention, cube, float, gelu, layer_norm, packed_attention, tensor};

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

/// A case whose first input lies apart: a part of a larger tensor, beginning in its midst, of `blocks` blocks with gaps.
struct Apart<C> {
    case: C,
    blocks: usize,
}

impl<C: Case> Case for Apart<C> {
    fn shapes(&self) -> Vec<Vec<usize>> {
        let mut shapes = self.case.shapes();
        shapes[0].insert(0, 3);
        shapes
    }

    fn run<B: TrainBackend>(&self, x: &[Tensor<B, 1>], constants: &Constants<B>) -> Tensor<B, 1> {
        let block = x[0].dims()[0] / 3 / self.blocks;
        let apart = x[0].clone().reshape([self.blocks, 3, block]).slice([0..self.blocks, 1..2, 0..block]);
        let mut inputs = x.to_vec();
        inputs[0] = apart.reshape([self.blocks * block]);
        self.case.run(&inputs, constants)
    }
}

/// burn slices without a copy where memory is aligned: a tensor then begins in the midst of its memory, and may have gaps.
#[test]
fn parts_of_larger_tensors_are_read_where_they_lie() {
    fn holds(name: &str, case: impl Case) {
        let Some(device) = gpu() else { return };
        let mut case = Apart { case, blocks: 1 };
        for blocks in [1, 2, 4] {
            case.blocks = blocks;
            let found = differentiated::<OnGpu>(&case, &device, DType::F32);
            let worst = worst(&found, &differentiated::<Cpu>(&case, &Default::default(), DType::F64));
            assert!(worst <= 5e-6, "{name} in {blocks} blocks: {worst}");
        }
    }
    // Blocks of 256 bytes and more, so that they are aligned.
    holds("gelu", Gelu(1024));
    holds("linear", Linear { rows: 16, inputs: 64, outputs: 32 });
    holds("layer norm", LayerNorm { rows: 16, width: 64 });
    holds("standardise", Standardise { rows: 16, width: 64 });
    holds("attention", Attention { batch: 4, tokens: 8, heads: 2, width: 32 });
    holds("packed attention", packed(&[[2, 12], [1, 8]], 2, 32));
    holds("residual", Residual { shape: [4, 8, 64], scale: true, keep: true });
    holds("cross-entropy", CrossEntropy { rows: 16, of_targets: 8, classes: 64 });
}

#[test]
fn bytes_come_out_of_words_on_a_gpu() {
    hold("bytes");
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
fn packed_attention_on_a_gpu_at_any_number_of_tokens_and_head_width() {
    hold("packed attention");
    slopes_hold("packed attention", &packed(&[[1, 3], [2, 2], [1, 1]], 2, 3));
}

/// On a GPU without units for matrices products are never chosen, and are tested all the same.
#[test]
fn attention_by_products_is_attention_by_tiles() {
    let Some(device) = gpu() else { return };
    let batches: [(&[[usize; 2]], usize, usize); 9] = [
        (&[[1, 1]], 1, 32),
        (&[[2, 5]], 3, 2),
        (&[[3, 37]], 2, 32),
        (&[[1, 197]], 2, 64),
        (&[[1, 65]], 1, 128),
        // In two parts of its sequences.
        (&[[9, 1025]], 2, 8),
        (&[[3, 37], [2, 197]], 2, 32),
        (&[[5, 1], [1, 1025], [2, 37]], 1, 8),
        (&[[2, 20], [3, 9]], 3, 12),
    ];
    for (groups, heads, width) in batches {
        let PackedAttention { packing, heads, width } = packed(groups, heads, width);
        let sizes = Sizes { packing, heads, width };
        for dtype in [DType::F32, DType::F16] {
            let of = |how| in_one_call(&sizes, how, &sizes.inputs(&device, dtype));
            let (tiles, products) = (of(cube::Attention::Tiles), of(cube::Attention::Products));
            let worst = worst(&products, &tiles);
            assert!(worst <= rounding(dtype), "{sizes:?} in {dtype:?}: {worst}");
        }
    }
    let times = attention_times(&device, DType::F32, 1, 1);
    println!("{times:?}");
}

/// What comes out, the logs of the softmaxes' sums, and the gradient of queries, keys and values.
fn in_one_call(sizes: &Sizes, how: cube::Attention, inputs: &[GpuTensor; 2]) -> Vec<Vec<f64>> {
    let [output, log_sums, of_qkv] = sizes.run(how, inputs.clone());
    vec![host(tensor::<Gpu, 2>(output)), host(tensor::<Gpu, 1>(log_sums)), host(tensor::<Gpu, 2>(of_qkv))]
}

/// The same with a call for each group.
fn in_calls_of_groups(sizes: &Sizes, how: cube::Attention, inputs: &[GpuTensor; 2]) -> Vec<Vec<f64>> {
    let mut joined = vec![Vec::new(); 3];
    for (rows, Group { sequences, tokens }) in sizes.packing.ranges() {
        let of_group = Sizes { packing: Packing::batch(sequences, tokens), ..sizes.clone() };
        let part = |values: &GpuTensor| float(tensor::<Gpu, 2>(values.clone()).slice([rows.clone()]));
        let parts = in_one_call(&of_group, how, &[part(&inputs[0]), part(&inputs[1])]);
        joined.iter_mut().zip(parts).for_each(|(joined, part)| joined.extend(part));
    }
    joined
}

/// By tiles each cube does for a packed sequence what it does for one of a batch, in the same order; by products the calls are
/// the same.
#[test]
fn sequences_packed_on_a_gpu_have_the_bits_of_calls_of_their_own() {
    let Some(device) = gpu() else { return };
    for (groups, heads, width) in packings().into_iter().filter(|(_, _, width)| *width <= 128) {
        let PackedAttention { packing, heads, width } = packed(groups, heads, width);
        let sizes = Sizes { packing, heads, width };
        for (how, dtype) in [
            (cube::Attention::Tiles, DType::F32),
            (cube::Attention::Tiles, DType::F16),
            (cube::Attention::Products, DType::F32),
        ] {
            let inputs = sizes.inputs(&device, dtype);
            let (packed, apart) = (in_one_call(&sizes, how, &inputs), in_calls_of_groups(&sizes, how, &inputs));
            assert_eq!(packed, apart, "{how:?} of {sizes:?} in {dtype:?}");
            assert_eq!(packed, in_one_call(&sizes, how, &inputs), "{how:?} of {sizes:?} in {dtype:?}, again");
        }
    }
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
    assert_eq!(packed_attention(empty([0, 12]), &Packing::new([]), 2).dims(), [0, 4]);
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

/// What a batch in pieces does with rows: burn's slices are views of the same memory where it is aligned.
#[test]
fn rows_that_are_parted_and_joined_are_those_of_the_cpu() {
    let Some(device) = gpu() else { return };
    for (views, images, width) in [(2, 24, 32), (2, 24, 33), (1, 24, 64), (3, 10, 16), (2, 6, 128), (2, 64, 96)] {
        let values = drawn(views * images * width, 3);
        let half = images / 2;
        let rows: Tensor<Gpu, 2> = on(values.clone(), &device, DType::F32).reshape([views * images, width]);
        let part = |from: usize, to: usize| {
            let part = rows.clone().reshape([views, images, width]).slice([0..views, from..to, 0..width]);
            part.reshape([views * (to - from), width])
        };
        let expected = |from: usize, to: usize| -> Vec<f64> {
            let row = |view: usize, image: usize| &values[(view * images + image) * width..][..width];
            (0..views).flat_map(|view| (from..to).flat_map(move |image| row(view, image).to_vec())).collect()
        };
        let close = |found: Tensor<Gpu, 2>, expected: &[f64], what: &str| {
            let off = off(&host(found), expected);
            assert!(off < 5e-6, "{what} of {views} views of {images} images, width {width}: {off}");
        };
        close(part(0, half), &expected(0, half), "the first part");
        close(part(half, images), &expected(half, images), "the second part");
        // In place where nothing else holds the memory: not over the other part.
        let (first, second) = (part(0, half) * 2.0, part(half, images) + 1.0);
        let twice: Vec<f64> = expected(0, half).iter().map(|value| 2.0 * value).collect();
        let more: Vec<f64> = expected(half, images).iter().map(|value| value + 1.0).collect();
        close(first, &twice, "the first part, doubled");
        close(second, &more, "the second part and 1");
        let apart = [part(0, half), part(half, images)];
        let apart = apart.map(|part| {
            let rows = part.dims()[0];
            part.reshape([views, rows / views, width])
        });
        let joined = Tensor::cat(apart.to_vec(), 1).reshape([views * images, width]);
        close(joined, &values, "both parts joined");
        // A matrix that is a part of another, and its transpose, in products.
        let weight: Tensor<Gpu, 2> = on(drawn(width * 8, 5), &device, DType::F32).reshape([width, 8]);
        let cpu =
            |rows: usize, values: Vec<f64>| on::<Flex>(values, &Default::default(), DType::F64).reshape([rows, width]);
        let of_weight = on::<Flex>(drawn(width * 8, 5), &Default::default(), DType::F64).reshape([width, 8]);
        let rows_of_part = views * (images - half);
        let second = cpu(rows_of_part, expected(half, images));
        close(
            part(half, images).matmul(weight),
            &host(second.clone().matmul(of_weight)),
            "a product of the second part",
        );
        let squared = part(half, images).transpose().matmul(part(half, images));
        close(squared, &host(second.clone().transpose().matmul(second)), "the second part's products with itself");
    }
}
