//! Every operator against burn's own operations and their own derivatives: values and gradients, at odd sizes, of tensors as
//! they lie, of none; and the same bits on any number of threads.

use super::{
    AdamwState, AdamwStep, AdamwValues, Moving, Packing, TrainBackend, adamw, attention, gelu, layer_norm, linear,
    moving_average, packed_attention, packed_bytes, reference, residual, soft_cross_entropy, standardise,
    sum_of_squares, unpack_bytes,
};
use super::{float, tensor};
use burn::tensor::activation::{log_softmax, softmax};
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Int, Tensor, TensorData};
use burn_flex::Flex;

mod attention;

type Cpu = burn::backend::Autodiff<Flex>;

/// Values of no pattern, some large.
fn drawn(count: usize, seed: usize) -> Vec<f64> {
    (0..count).map(|at| ((at * at + 7 * at + 31 * seed) as f64 * 0.37).sin() * (1.0 + (at % 5) as f64)).collect()
}

fn leaves(shapes: &[&[usize]], dtype: DType) -> Vec<Tensor<Cpu, 1>> {
    let leaf = |(seed, shape): (usize, &&[usize])| {
        let count = shape.iter().product();
        let data = TensorData::new(drawn(count, seed), [count]);
        Tensor::<Cpu, 1>::from_data(data, (&Default::default(), DType::F64)).cast(dtype).detach().require_grad()
    };
    shapes.iter().enumerate().map(leaf).collect()
}

fn host<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f64> {
    tensor.into_data().convert::<f64>().to_vec().expect("converted to f64")
}

/// Asserts that values differ by at most a part of the largest.
fn close(name: &str, found: &[f64], expected: &[f64], part: f64) {
    assert_eq!(found.len(), expected.len(), "{name}");
    let largest = expected.iter().fold(1e-3f64, |most, value| most.max(value.abs()));
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() <= part * largest, "{name}[{at}]: {found}, expected {expected}");
    }
}

/// The output of a function, and the gradients of its inputs under fixed gradients of the output.
fn differentiated<const D: usize>(
    inputs: &[Tensor<Cpu, 1>],
    f: impl Fn(&[Tensor<Cpu, 1>]) -> Tensor<Cpu, D>,
) -> Vec<Vec<f64>> {
    let output = f(inputs);
    let shape = output.dims();
    let weights = TensorData::new(drawn(shape.iter().product(), 99), shape);
    let weights = Tensor::<Cpu, D>::from_data(weights, (&Default::default(), DType::F64)).cast(output.dtype());
    let gradients = (output.clone() * weights).sum().backward();
    let of_inputs = inputs.iter().map(|input| host(input.grad(&gradients).expect("a leaf has its gradient")));
    std::iter::once(host(output)).chain(of_inputs).collect()
}

/// Asserts that an operator has the values and gradients of plain operations, whose own derivatives burn takes: in f32 to
/// rounding, in f64, where the operator's stated backward is used, closer.
fn holds<const D: usize>(
    name: &str,
    shapes: &[&[usize]],
    operator: impl Fn(&[Tensor<Cpu, 1>]) -> Tensor<Cpu, D>,
    plain: impl Fn(&[Tensor<Cpu, 1>]) -> Tensor<Cpu, D>,
) {
    let expected = differentiated(&leaves(shapes, DType::F64), &plain);
    for (dtype, part) in [(DType::F32, 3e-6), (DType::F64, 1e-6)] {
        let found = differentiated(&leaves(shapes, dtype), &operator);
        for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
            close(&format!("{name} {shapes:?} in {dtype:?}, {index}"), found, expected, part);
        }
    }
}

fn plain<B: Backend, const D: usize>(
    f: impl Fn(super::Float<B>) -> super::Float<B>,
) -> impl Fn(Tensor<B, D>) -> Tensor<B, D> {
    move |x| tensor(f(float(x)))
}

#[test]
fn gelu_is_burn_s_and_its_slope_that_of_the_error_function() {
    for count in [1, 7, 64, 1000, 33_000] {
        holds("gelu", &[&[count]], |x| gelu(x[0].clone()), |x| plain(reference::gelu::<Cpu>)(x[0].clone()));
    }
}

#[test]
fn linear_maps_are_products_with_a_bias_added() {
    for (rows, inputs, outputs) in [(1, 1, 1), (3, 5, 7), (37, 96, 33), (197, 64, 300), (130, 1, 513)] {
        let shapes: [&[usize]; 3] = [&[rows, inputs], &[inputs, outputs], &[outputs]];
        let parts =
            |x: &[Tensor<Cpu, 1>]| (x[0].clone().reshape([rows, inputs]), x[1].clone().reshape([inputs, outputs]));
        holds(
            "linear",
            &shapes,
            |x| linear(parts(x).0, parts(x).1, Some(x[2].clone())),
            |x| parts(x).0.matmul(parts(x).1) + x[2].clone().unsqueeze(),
        );
        holds(
            "linear without a bias",
            &shapes[..2],
            |x| linear(parts(x).0, parts(x).1, None),
            |x| parts(x).0.matmul(parts(x).1),
        );
    }
}

#[test]
fn matrices_that_lie_transposed_or_cut_out_are_multiplied_as_they_are() {
    holds(
        "linear of a transposed weight and of some rows",
        &[&[9, 12], &[8, 12], &[8]],
        |x| {
            let rows = x[0].clone().reshape([9, 12]).slice([2..7, 0..12]);
            linear(rows, x[1].clone().reshape([8, 12]).transpose(), Some(x[2].clone()))
        },
        |x| {
            let rows = x[0].clone().reshape([9, 12]).slice([2..7, 0..12]);
            rows.matmul(x[1].clone().reshape([8, 12]).transpose()) + x[2].clone().unsqueeze()
        },
    );
    holds(
        "gelu of a transposed matrix",
        &[&[6, 11]],
        |x| gelu(x[0].clone().reshape([6, 11]).transpose()),
        |x| plain(reference::gelu::<Cpu>)(x[0].clone().reshape([6, 11]).transpose()),
    );
    holds(
        "layer norm of columns that were swapped",
        &[&[5, 4, 6], &[5], &[5]],
        |x| layer_norm(x[0].clone().reshape([5, 4, 6]).swap_dims(0, 2), x[1].clone(), x[2].clone(), 1e-6),
        |x| plain_layer_norm(x[0].clone().reshape([5, 4, 6]).swap_dims(0, 2), x[1].clone(), x[2].clone(), 1e-6),
    );
}

fn plain_layer_norm<B: Backend, const D: usize>(
    x: Tensor<B, D>,
    scale: Tensor<B, 1>,
    shift: Tensor<B, 1>,
    epsilon: f64,
) -> Tensor<B, D> {
    let centred = x.clone() - x.mean_dim(D - 1);
    let variance = (centred.clone() * centred.clone()).mean_dim(D - 1);
    centred / (variance + epsilon).sqrt() * scale.unsqueeze() + shift.unsqueeze()
}

#[test]
fn layer_norm_is_over_the_last_dimension() {
    for (rows, width) in [(1, 1), (2, 3), (37, 96), (300, 17), (5, 384)] {
        holds(
            "layer norm",
            &[&[rows, width], &[width], &[width]],
            |x| layer_norm(x[0].clone().reshape([rows, width]), x[1].clone(), x[2].clone(), 1e-2),
            |x| plain_layer_norm(x[0].clone().reshape([rows, width]), x[1].clone(), x[2].clone(), 1e-2),
        );
    }
}

#[test]
fn columns_are_standardised_over_the_batch() {
    let plain = |x: Tensor<Cpu, 2>| {
        let centred = x.clone() - x.mean_dim(0);
        let variance = (centred.clone() * centred.clone()).mean_dim(0);
        centred / (variance + 1e-2).sqrt()
    };
    // Of two rows each value is its column's sign, and its gradient a difference of nearly equal numbers.
    for (rows, width) in [(1, 1), (5, 3), (37, 96), (300, 17)] {
        holds(
            "standardise",
            &[&[rows, width]],
            |x| standardise(x[0].clone().reshape([rows, width]), 1e-2),
            |x| plain(x[0].clone().reshape([rows, width])),
        );
    }
}

#[test]
fn a_branch_is_scaled_by_channel_and_by_image() {
    let plain =
        |tokens: Tensor<Cpu, 3>, branch: Tensor<Cpu, 3>, scale: Option<Tensor<Cpu, 1>>, keep: Tensor<Cpu, 3>| {
            let branch = scale.map_or(branch.clone(), |scale| branch * scale.unsqueeze());
            tokens + branch * keep
        };
    for [batch, tokens, dim] in [[1, 1, 1], [3, 5, 7], [2, 37, 96]] {
        let shape = [batch, tokens, dim];
        let keep = |dtype| {
            let data = TensorData::new(drawn(batch, 5), [batch]);
            Tensor::<Cpu, 1>::from_data(data, (&Default::default(), DType::F64)).cast(dtype)
        };
        let both = |x: &[Tensor<Cpu, 1>]| (x[0].clone().reshape(shape), x[1].clone().reshape(shape));
        holds(
            "residual with a scale",
            &[&shape, &shape, &[dim]],
            |x| residual(both(x).0, both(x).1, Some(x[2].clone()), Some(keep(x[0].dtype()))),
            |x| plain(both(x).0, both(x).1, Some(x[2].clone()), keep(x[0].dtype()).reshape([batch, 1, 1])),
        );
        holds(
            "residual with a scale alone",
            &[&shape, &shape, &[dim]],
            |x| residual(both(x).0, both(x).1, Some(x[2].clone()), None),
            |x| both(x).0 + both(x).1 * x[2].clone().unsqueeze(),
        );
        holds(
            "residual of images that are kept",
            &[&shape, &shape],
            |x| residual(both(x).0, both(x).1, None, Some(keep(x[0].dtype()))),
            |x| plain(both(x).0, both(x).1, None, keep(x[0].dtype()).reshape([batch, 1, 1])),
        );
    }
}

#[test]
fn cross_entropy_is_that_of_the_log_softmax_with_targets_for_several_rows_each() {
    for (rows, of_targets, classes) in [(1, 1, 1), (6, 2, 5), (4, 4, 33), (9, 3, 1000)] {
        let targets = |dtype| {
            let data = TensorData::new(drawn(of_targets * classes, 8), [of_targets, classes]);
            let targets = Tensor::<Cpu, 2>::from_data(data, (&Default::default(), DType::F64));
            (softmax(targets, 1) * 1.5).cast(dtype)
        };
        holds(
            "cross-entropy",
            &[&[rows, classes]],
            |x| soft_cross_entropy(x[0].clone().reshape([rows, classes]), targets(x[0].dtype()), 0.3),
            |x| {
                let targets = targets(x[0].dtype()).repeat_dim(0, rows / of_targets);
                let log_shares = log_softmax(x[0].clone().reshape([rows, classes]) / 0.3, 1);
                (targets * log_shares).sum_dim(1).neg().reshape([rows])
            },
        );
    }
}

#[test]
fn nothing_comes_of_nothing() {
    let device = Default::default();
    let empty = |shape: [usize; 2]| Tensor::<Flex, 2>::zeros(shape, &device);
    let ones = |count: usize| Tensor::<Flex, 1>::ones([count], &device);
    assert_eq!(linear(empty([0, 3]), empty([3, 2]), Some(ones(2))).dims(), [0, 2]);
    assert_eq!(host(linear(empty([2, 0]), empty([0, 3]), None)), [0.0; 6]);
    assert_eq!(host(linear(empty([2, 0]), empty([0, 3]), Some(ones(3)))), [1.0; 6]);
    assert_eq!(gelu(empty([0, 3])).dims(), [0, 3]);
    assert_eq!(layer_norm(empty([0, 3]), ones(3), ones(3), 1e-6).dims(), [0, 3]);
    assert_eq!(attention(Tensor::<Flex, 3>::zeros([0, 5, 12], &device), 2).dims(), [0, 5, 4]);
    assert_eq!(packed_attention(empty([0, 12]), &Packing::new([]), 2).dims(), [0, 4]);
    assert_eq!(host(sum_of_squares(Tensor::<Flex, 1>::zeros([0], &device))), [0.0]);
}

/// What all operators make of the same inputs, bit by bit.
fn bits() -> Vec<u32> {
    fn of<B: TrainBackend>() -> Vec<u32> {
        let device = Default::default();
        let values = |count: usize, seed| {
            let values: Vec<f32> = drawn(count, seed).into_iter().map(|value| value as f32).collect();
            Tensor::<B, 1>::from_data(TensorData::new(values, [count]), &device).require_grad()
        };
        let (x, weight, bias) = (values(300 * 288, 1), values(288 * 288, 2), values(288, 3));
        let mapped = linear(x.clone().reshape([300, 288]), weight.clone().reshape([288, 288]), Some(bias.clone()));
        let normed = layer_norm(mapped, bias.clone(), bias.clone(), 1e-6);
        let output = gelu(attention(normed.reshape([4, 75, 288]), 3));
        let gradients = output.clone().sum().backward();
        let inner = [x, weight, bias].map(|leaf| leaf.grad(&gradients).expect("a leaf"));
        let squares = sum_of_squares(inner[0].clone());
        let values = |tensor: Tensor<B::InnerBackend, 1>| tensor.into_data().to_vec::<f32>().expect("f32");
        let count = output.dims().iter().product::<usize>();
        let output = output.inner().reshape([count]);
        let all = inner.into_iter().chain([squares, output]).flat_map(values);
        all.map(f32::to_bits).collect()
    }
    of::<Cpu>()
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        pool.install(bits)
    };
    let one = on(1);
    assert_eq!(one, on(2));
    assert_eq!(one, on(3));
    assert_eq!(one, super::on_one_thread(bits));
}

#[test]
fn a_step_of_adamw_is_that_of_plain_operations_and_leaves_shared_tensors_alone() {
    for count in [1, 33, 70_000] {
        let values = |seed| {
            let values: Vec<f32> = drawn(count, seed).into_iter().map(|value| value as f32).collect();
            Tensor::<Flex, 1>::from_data(TensorData::new(values, [count]), &Default::default())
        };
        let square = values(4) * values(4);
        let divisor = Tensor::<Flex, 1>::full([1], 1.7, &Default::default());
        let step = AdamwStep {
            beta_1: 0.9,
            beta_2: 0.999,
            keep: 0.99,
            rate: 0.1,
            inverse_deviation: 3.0,
            epsilon: 1e-8,
            momentum: 0.9,
        };
        for average in [None, Some(values(8))] {
            let (value, mean, square) = (values(1), values(3), square.clone());
            let shared = value.clone();
            let of_reference = AdamwState::<Flex> {
                value: float(value.clone()),
                mean: float(mean.clone()),
                square: float(square.clone()),
                average: average.clone().map(float),
            };
            let gradient = float(values(2));
            let all = AdamwValues { state: of_reference, gradient, divisor: Some(float(divisor.clone())) };
            let expected = reference::adamw::<Flex>(all, &step);
            let moving = Moving { value, mean, square, average };
            let found = adamw(moving, values(2), Some(divisor.clone()), &step);
            assert_eq!(host(shared), host(values(1)), "what another holds stays");
            let flat = |value| host(tensor::<Flex, 1>(value));
            close("value", &host(found.value), &flat(expected.value), 3e-6);
            close("mean", &host(found.mean), &flat(expected.mean), 3e-6);
            close("square", &host(found.square), &flat(expected.square), 3e-6);
            assert_eq!(found.average.is_some(), expected.average.is_some());
            if let (Some(found), Some(expected)) = (found.average, expected.average) {
                close("average", &host(found), &flat(expected), 3e-6);
            }
        }
        let (old, new) = (values(5), values(6));
        let expected = host(old.clone() * 0.996 + new.clone() * (1.0 - 0.996));
        close("moving average", &host(moving_average(old.clone(), new, 0.996)), &expected, 1e-6);
        assert_eq!(host(old), host(values(5)));
        let expected: f64 = host(values(7)).iter().map(|value| value * value).sum();
        close("sum of squares", &host(sum_of_squares(values(7))), &[expected], 1e-6);
    }
}

/// More values than 32 bits count: by hand, as it takes 18 GB (`cargo test --release --workspace --lib -- --ignored huge`).
#[test]
#[ignore = "it takes 18 GB of memory"]
fn a_huge_tensor_is_indexed_to_its_end() {
    let count = (1usize << 31) + 12_345;
    let mut values = vec![0f32; count];
    values[count - 1] = 2.0;
    let x = Tensor::<Flex, 1>::from_data(TensorData::new(values, [count]), &Default::default());
    let y = gelu(x);
    let last = host(y.slice(count - 2..count));
    close("gelu", &last, &[0.0, 2.0 * 0.977_249_87], 1e-6);
}

#[test]
fn packed_bytes_are_the_bytes_again() {
    for count in [0usize, 1, 3, 4, 5, 1001] {
        let bytes: Vec<u8> = (0..count).map(|at| (at * at + 130) as u8).collect();
        let words = packed_bytes(bytes.iter().copied());
        assert_eq!(words.len(), count.div_ceil(4));
        let words = Tensor::<Cpu, 1, Int>::from_data(TensorData::new(words, [count.div_ceil(4)]), &Default::default());
        let found = host(unpack_bytes(words));
        assert!(found.iter().zip(&bytes).all(|(found, byte)| *found == f64::from(*byte)), "{count}");
        assert!(found[count..].iter().all(|filled| *filled == 0.0));
    }
}
