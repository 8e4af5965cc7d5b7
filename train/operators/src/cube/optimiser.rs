//! AdamW with weight decay, the clipped gradient and the teacher's moving average, in one pass and in place.

use super::launch::{contiguous, count, elementwise, empty, vector_size, writable};
use crate::{AdamwState, AdamwStep};
use burn::tensor::TensorMetadata;
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

/// The numbers of a step, as [`AdamwStep`] has them, and what each moving mean takes of the new: 1 less what it keeps, which is
/// rounded once, not twice.
#[derive(CubeType, CubeLaunch)]
struct Step {
    beta_1: f32,
    rest_1: f32,
    beta_2: f32,
    rest_2: f32,
    keep: f32,
    rate: f32,
    inverse_deviation: f32,
    epsilon: f32,
    momentum: f32,
    rest: f32,
}

#[cube(launch)]
fn adamw_kernel<N: Size>(
    value: &mut Array<Vector<f32, N>>,
    mean: &mut Array<Vector<f32, N>>,
    square: &mut Array<Vector<f32, N>>,
    average: &mut ComptimeOption<Array<Vector<f32, N>>>,
    gradient: &Array<Vector<f32, N>>,
    divisor: &ComptimeOption<Array<f32>>,
    step: &Step,
) {
    let at = ABSOLUTE_POS;
    if at >= value.len() {
        terminate!();
    }
    #[comptime]
    let divisor = match divisor {
        ComptimeOption::Some(divisor) => divisor[0],
        ComptimeOption::None => f32::new(1.0),
    };
    let slope = gradient[at] / Vector::new(divisor);
    let of_square = square[at] * Vector::new(step.beta_2) + slope * slope * Vector::new(step.rest_2);
    let of_mean = mean[at] * Vector::new(step.beta_1) + slope * Vector::new(step.rest_1);
    let denominator = of_square.sqrt() * Vector::new(step.inverse_deviation) + Vector::new(step.epsilon);
    let of_value = value[at] * Vector::new(step.keep) - of_mean / denominator * Vector::new(step.rate);
    value[at] = of_value;
    mean[at] = of_mean;
    square[at] = of_square;
    #[comptime]
    if let ComptimeOption::Some(average) = average {
        average[at] = average[at] * Vector::new(step.momentum) + of_value * Vector::new(step.rest);
    }
}

/// A step of AdamW on tensors in f32, which are written over where nothing else holds them.
pub(super) fn adamw<B, R>(
    state: AdamwState<B>,
    gradient: CubeTensor<R>,
    divisor: Option<CubeTensor<R>>,
    step: &AdamwStep,
) -> AdamwState<B>
where
    R: CubeRuntime,
    B: Backend<FloatTensorPrimitive = CubeTensor<R>>,
{
    let [value, mean, square] = [state.value, state.mean, state.square].map(writable);
    let (average, gradient) = (state.average.map(writable), contiguous(gradient));
    let size = vector_size(&value);
    let (cubes, units) = elementwise(&value.client, count(&value) / size);
    let client = value.client.clone();
    let written = |tensor: &FloatTensor<B>| tensor.clone().into_array_arg();
    adamw_kernel::launch::<R>(
        &client,
        cubes,
        units,
        size,
        written(&value),
        written(&mean),
        written(&square),
        average.as_ref().map(written).into(),
        gradient.into_array_arg(),
        divisor.map(|divisor| contiguous(divisor).into_array_arg()).into(),
        StepLaunch::new(
            step.beta_1 as f32,
            (1.0 - step.beta_1) as f32,
            step.beta_2 as f32,
            (1.0 - step.beta_2) as f32,
            step.keep as f32,
            step.rate as f32,
            step.inverse_deviation as f32,
            step.epsilon as f32,
            step.momentum as f32,
            (1.0 - step.momentum) as f32,
        ),
    );
    AdamwState { value, mean, square, average }
}

#[cube(launch)]
fn clip_divisor_kernel(square: &Array<f32>, divisor: &mut Array<f32>, norm_max: f32) {
    let at = ABSOLUTE_POS;
    if at >= square.len() {
        terminate!();
    }
    let over = (square[at].sqrt() + 1e-6) / norm_max;
    divisor[at] = select(over < 1.0, 1.0, over);
}

/// What gradients in f32 are divided by, of the squares of their norms.
pub(super) fn clip_divisor<R: CubeRuntime>(square: CubeTensor<R>, norm_max: f64) -> CubeTensor<R> {
    let square = contiguous(square);
    let divisor = empty(&square, square.shape());
    let (cubes, units) = elementwise(&square.client, count(&square));
    let client = square.client.clone();
    clip_divisor_kernel::launch::<R>(
        &client,
        cubes,
        units,
        square.into_array_arg(),
        divisor.clone().into_array_arg(),
        norm_max as f32,
    );
    divisor
}

#[cube(launch)]
fn moving_average_kernel<N: Size>(
    old: &mut Array<Vector<f32, N>>,
    new: &Array<Vector<f32, N>>,
    momentum: f32,
    rest: f32,
) {
    let at = ABSOLUTE_POS;
    if at >= old.len() {
        terminate!();
    }
    old[at] = old[at] * Vector::new(momentum) + new[at] * Vector::new(rest);
}

/// `old * momentum + new * (1 - momentum)` of tensors in f32, in the place of the old where nothing else holds it.
pub(super) fn moving_average<R: CubeRuntime>(old: CubeTensor<R>, new: CubeTensor<R>, momentum: f64) -> CubeTensor<R> {
    let (old, new) = (writable(old), contiguous(new));
    let size = vector_size(&old);
    let (cubes, units) = elementwise(&old.client, count(&old) / size);
    let client = old.client.clone();
    moving_average_kernel::launch::<R>(
        &client,
        cubes,
        units,
        size,
        old.clone().into_array_arg(),
        new.into_array_arg(),
        momentum as f32,
        (1.0 - momentum) as f32,
    );
    old
}
