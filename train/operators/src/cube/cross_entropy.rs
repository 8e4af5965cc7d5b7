//! The cross-entropy of rows to their distributions: a cube a row, which reads it once.

use super::launch::{contiguous, count, cubes, empty, empty_of, units_for_row};
use super::sums::{LEAST, largest_of_cube, sum_over_cube};
use burn::tensor::{DType, TensorMetadata};
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

/// Each unit goes over its part of the row once, with sums relative to the largest logit that it has seen; they are made
/// relative to the largest of the row before they are added.
#[cube(launch)]
fn cross_entropy_kernel<F: Float>(
    logits: &Array<F>,
    targets: &Array<F>,
    losses: &mut Array<f32>,
    log_sums: &mut Array<f32>,
    rows: usize,
    rows_of_targets: usize,
    classes: usize,
    inverse_temperature: f32,
    #[comptime] units: usize,
    #[define(F)] _dtype: StorageType,
) {
    let row = CUBE_POS;
    if row >= rows {
        terminate!();
    }
    let mut scratch = SharedMemory::<f32>::new(units);
    let unit = UNIT_POS as usize;
    let (start, start_of_target) = (row * classes, (row % rows_of_targets) * classes);

    let mut largest = f32::new(LEAST);
    let mut sum = 0.0f32;
    let mut along = 0.0f32;
    let mut total = 0.0f32;
    let mut at = unit;
    while at < classes {
        let logit = f32::cast_from(logits[start + at]) * inverse_temperature;
        let target = f32::cast_from(targets[start_of_target + at]);
        if logit > largest {
            let lower = largest - logit;
            sum *= lower.exp();
            if total != 0.0f32 {
                along += total * lower;
            }
            largest = logit;
        }
        let beyond = logit - largest;
        sum += beyond.exp();
        along += target * beyond;
        total += target;
        at += units;
    }
    let of_row = largest_of_cube(largest, &mut scratch, units);
    if total != 0.0f32 {
        along += total * (largest - of_row);
    }
    sum *= (largest - of_row).exp();
    let log_sum = sum_over_cube(sum, &mut scratch, units).ln();
    let along = sum_over_cube(along, &mut scratch, units);
    let total = sum_over_cube(total, &mut scratch, units);
    if unit == 0 {
        losses[row] = log_sum * total - along;
        log_sums[row] = log_sum + of_row;
    }
}

/// The cross-entropy of each row and the log of each softmax's sum, in f32.
pub(super) fn forward<R: CubeRuntime>(
    logits: CubeTensor<R>,
    targets: CubeTensor<R>,
    temperature: f32,
) -> [CubeTensor<R>; 2] {
    let [logits, targets] = [logits, targets].map(contiguous);
    let [rows, classes] = logits.shape().dims();
    let [of_targets, _] = targets.shape().dims();
    let (losses, log_sums) = (empty_of(&logits, [rows], DType::F32), empty_of(&logits, [rows], DType::F32));
    if count(&logits) == 0 {
        return [losses, log_sums];
    }
    let (client, units, dtype) = (logits.client.clone(), units_for_row(classes), logits.dtype.into());
    cross_entropy_kernel::launch::<R>(
        &client,
        cubes(&client, rows),
        CubeDim::new_1d(units as u32),
        logits.into_array_arg(),
        targets.into_array_arg(),
        losses.clone().into_array_arg(),
        log_sums.clone().into_array_arg(),
        rows,
        of_targets,
        classes,
        1.0 / temperature,
        units,
        dtype,
    );
    [losses, log_sums]
}

#[cube(launch)]
fn cross_entropy_backward_kernel<F: Float>(
    logits: &Array<F>,
    targets: &Array<F>,
    log_sums: &Array<f32>,
    gradient: &Array<f32>,
    of_logits: &mut Array<F>,
    rows: usize,
    rows_of_targets: usize,
    classes: usize,
    inverse_temperature: f32,
    #[comptime] units: usize,
    #[define(F)] _dtype: StorageType,
) {
    let row = CUBE_POS;
    if row >= rows {
        terminate!();
    }
    let mut scratch = SharedMemory::<f32>::new(units);
    let unit = UNIT_POS as usize;
    let (start, start_of_target) = (row * classes, (row % rows_of_targets) * classes);
    let mut total = 0.0f32;
    let mut at = unit;
    while at < classes {
        total += f32::cast_from(targets[start_of_target + at]);
        at += units;
    }
    let total = sum_over_cube(total, &mut scratch, units);
    let (log_sum, slope) = (log_sums[row], gradient[row] * inverse_temperature);
    at = unit;
    while at < classes {
        let share = (f32::cast_from(logits[start + at]) * inverse_temperature - log_sum).exp();
        let target = f32::cast_from(targets[start_of_target + at]);
        of_logits[start + at] = F::cast_from((share * total - target) * slope);
        at += units;
    }
}

/// The gradient of the logits, of their type.
pub(super) fn backward<R: CubeRuntime>(
    logits: CubeTensor<R>,
    targets: CubeTensor<R>,
    log_sums: CubeTensor<R>,
    gradient: CubeTensor<R>,
    temperature: f32,
) -> CubeTensor<R> {
    let [logits, targets, log_sums, gradient] = [logits, targets, log_sums, gradient].map(contiguous);
    let [rows, classes] = logits.shape().dims();
    let [of_targets, _] = targets.shape().dims();
    let of_logits = empty(&logits, [rows, classes]);
    if count(&logits) == 0 {
        return of_logits;
    }
    let (client, units, dtype) = (logits.client.clone(), units_for_row(classes), logits.dtype.into());
    cross_entropy_backward_kernel::launch::<R>(
        &client,
        cubes(&client, rows),
        CubeDim::new_1d(units as u32),
        logits.into_array_arg(),
        targets.into_array_arg(),
        log_sums.into_array_arg(),
        gradient.into_array_arg(),
        of_logits.clone().into_array_arg(),
        rows,
        of_targets,
        classes,
        1.0 / temperature,
        units,
        dtype,
    );
    of_logits
}
