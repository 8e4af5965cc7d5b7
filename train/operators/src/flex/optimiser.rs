//! AdamW with clipping, weight decay and the moving average in one pass over a parameter; the moving average alone.

use super::{contiguous, from_values, reused, values};
use crate::threads::for_chunks;
use crate::{AdamwState, AdamwStep, AdamwValues};
use burn::tensor::TensorData;
use burn_flex::{Flex, FlexTensor};
use multiversion::multiversion;

/// Values a thread takes at a time.
const CHUNK: usize = 1 << 15;

/// The values of a tensor to be written over: its own where nobody else has them, else a copy.
fn owned(tensor: FlexTensor) -> FlexTensor {
    let mut tensor = contiguous(tensor);
    if reused(&mut tensor).is_some() {
        return tensor;
    }
    let shape = tensor.layout().shape().clone();
    FlexTensor::from_data(TensorData::new(values(&tensor).to_vec(), shape))
}

/// What belongs to a chunk of a parameter.
struct Chunk<'a> {
    value: &'a mut [f32],
    gradient: &'a [f32],
    mean: &'a mut [f32],
    square: &'a mut [f32],
    average: Option<&'a mut [f32]>,
}

pub(super) fn adamw(all: AdamwValues<Flex>, step: &AdamwStep) -> AdamwState<Flex> {
    let AdamwValues { state: AdamwState { value, mean, square, average }, gradient, divisor } = all;
    let [mut value, mut mean, mut square] = [value, mean, square].map(owned);
    let mut average = average.map(owned);
    let gradient = contiguous(gradient);
    let clip = divisor.map_or(1.0, |divisor| 1.0 / values(&contiguous(divisor))[0]);
    let own = "it was made its own";
    let parts = [&mut value, &mut mean, &mut square].map(|tensor| reused(tensor).expect(own).chunks_mut(CHUNK));
    let [of_value, of_mean, of_square] = parts;
    let mut of_average = average.as_mut().map(|average| reused(average).expect(own).chunks_mut(CHUNK));
    let chunks = of_value.zip(values(&gradient).chunks(CHUNK)).zip(of_mean.zip(of_square));
    let mut chunks: Vec<Chunk<'_>> = chunks
        .map(|((value, gradient), (mean, square))| {
            let average = of_average.as_mut().and_then(Iterator::next);
            Chunk { value, gradient, mean, square, average }
        })
        .collect();
    for_chunks(&mut chunks, 1, |_, chunks| chunks.iter_mut().for_each(|chunk| chunk.step(clip, step)));
    drop(chunks);
    AdamwState { value, mean, square, average }
}

impl Chunk<'_> {
    /// While the values are in the cache they enter the average.
    fn step(&mut self, clip: f32, step: &AdamwStep) {
        adamw_of(self, clip, step);
        if let Some(average) = &mut self.average {
            average_of(average, self.value, step.momentum);
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq+fma", "x86_64+avx2+fma"))]
fn adamw_of(chunk: &mut Chunk<'_>, clip: f32, step: &AdamwStep) {
    let AdamwStep { beta_1, beta_2, keep, rate, inverse_deviation, epsilon, momentum: _ } = *step;
    let [old_mean, old_square] = [beta_1 as f32, beta_2 as f32];
    let [new_mean, new_square] = [(1.0 - beta_1) as f32, (1.0 - beta_2) as f32];
    let [keep, rate] = [keep as f32, rate as f32];
    let [inverse_deviation, epsilon] = [inverse_deviation as f32, epsilon as f32];
    let count = chunk.value.len();
    let (gradient, mean, square) = (&chunk.gradient[..count], &mut chunk.mean[..count], &mut chunk.square[..count]);
    for place in 0..count {
        let slope = gradient[place] * clip;
        mean[place] = mean[place] * old_mean + slope * new_mean;
        square[place] = square[place] * old_square + slope * slope * new_square;
        let change = mean[place] / (square[place].sqrt() * inverse_deviation + epsilon);
        chunk.value[place] = chunk.value[place] * keep - change * rate;
    }
}

pub(super) fn moving_average(old: FlexTensor, new: FlexTensor, momentum: f64) -> FlexTensor {
    let new = contiguous(new);
    let new = values(&new);
    let mut old = owned(old);
    let average = |index: usize, old: &mut [f32]| average_of(old, &new[index * CHUNK..][..old.len()], momentum);
    for_chunks(reused(&mut old).expect("it was made its own"), CHUNK, average);
    old
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq+fma", "x86_64+avx2+fma"))]
fn average_of(old: &mut [f32], new: &[f32], momentum: f64) {
    let (momentum, share) = (momentum as f32, (1.0 - momentum) as f32);
    for (old, new) in old.iter_mut().zip(new) {
        *old = *old * momentum + new * share;
    }
}

/// Each chunk's sum in f32 by lanes, those sums in f64, in order.
pub(super) fn sum_of_squares(x: FlexTensor) -> FlexTensor {
    let x = contiguous(x);
    let x = values(&x);
    let mut sums = vec![0f32; x.len().div_ceil(CHUNK)];
    for_chunks(&mut sums, 1, |index, sum| {
        let first = index * CHUNK;
        sum[0] = squares_of(&x[first..x.len().min(first + CHUNK)]);
    });
    let sum: f64 = sums.iter().map(|sum| f64::from(*sum)).sum();
    from_values(vec![sum as f32], [1])
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq+fma", "x86_64+avx2+fma"))]
fn squares_of(values: &[f32]) -> f32 {
    let mut lanes = [0f32; 64];
    let whole = values.chunks_exact(lanes.len());
    let rest: f32 = whole.remainder().iter().map(|value| value * value).sum();
    for values in whole {
        for (lane, value) in lanes.iter_mut().zip(values) {
            *lane += value * value;
        }
    }
    lanes.iter().sum::<f32>() + rest
}
