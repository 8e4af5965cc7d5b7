//! The probe `quick`: multinomial logistic regression on standardised frozen features, by full-batch gradient descent with
//! momentum 0.9 and a cosine to 0; the learning rate is chosen on a held-out fifth of each class, never on the test set. It is
//! nobody's protocol: compare its figures with each other only.

use super::held_out::held_out;
use crate::scores::Accuracy;
use burn::tensor::activation::softmax;
use burn::tensor::{Tensor, TensorData};
use lapidary_train::operators::Operators;
use lapidary_train::probe::Features;
use std::f64::consts::PI;

const MOMENTUM: f64 = 0.9;
/// Share of each class that chooses the learning rate.
const HELD_OUT: f64 = 0.2;

/// A probe's result.
#[derive(Debug, Clone, PartialEq)]
pub struct Linear {
    /// Accuracy on the test images.
    pub accuracy: Accuracy,
    /// The learning rate that was chosen.
    pub learning_rate: f64,
    /// Labels that chose it; 0 where no class has two, then it is the first.
    pub held_out: usize,
}

/// Trains on all of `train` with the best of the learning rates and tests on `test`.
///
/// # Panics
/// When no learning rate is given.
pub fn probe<B: Operators>(
    train: &Features,
    test: &Features,
    classes: usize,
    steps: usize,
    learning_rates: &[f64],
    seed: u64,
    device: &B::Device,
) -> Linear {
    let scale = Standard::of(train);
    let (train, test) = (scale.apply(train), scale.apply(test));
    let (held, rest) = held_out(&train.classes, HELD_OUT, seed);
    let (held, rest) = (train.select(&held), train.select(&rest));
    let mut best = (-1.0, learning_rates[0]);
    for rate in learning_rates.iter().filter(|_| learning_rates.len() > 1 && !held.is_empty()) {
        let weights = fit::<B>(&rest, classes, steps, *rate, device);
        let top1 = score(&weights, &held, classes, device).top1();
        if top1 > best.0 {
            best = (top1, *rate);
        }
    }
    let weights = fit::<B>(&train, classes, steps, best.1, device);
    let accuracy = score(&weights, &test, classes, device);
    Linear { accuracy, learning_rate: best.1, held_out: held.len() }
}

/// Mean and standard deviation of each feature.
pub(super) struct Standard {
    mean: Vec<f32>,
    deviation: Vec<f32>,
}

impl Standard {
    pub(super) fn of(features: &Features) -> Self {
        let count = features.len().max(1) as f64;
        let mut sums = vec![(0f64, 0f64); features.dim];
        for row in features.values.chunks_exact(features.dim) {
            for ((sum, squares), value) in sums.iter_mut().zip(row) {
                *sum += f64::from(*value);
                *squares += f64::from(*value) * f64::from(*value);
            }
        }
        let mean = sums.iter().map(|(sum, _)| (sum / count) as f32).collect();
        let variance = |(sum, squares): &(f64, f64)| (squares / count - (sum / count).powi(2)).max(0.0);
        Self { mean, deviation: sums.iter().map(|s| (variance(s).sqrt() as f32).max(1e-6)).collect() }
    }

    pub(super) fn apply(&self, features: &Features) -> Features {
        let mut scaled = features.clone();
        for row in scaled.values.chunks_exact_mut(features.dim) {
            for ((value, mean), deviation) in row.iter_mut().zip(&self.mean).zip(&self.deviation) {
                *value = (*value - mean) / deviation;
            }
        }
        scaled
    }
}

/// Weights, shape `[dim + 1, classes]`: the last row is the bias.
fn fit<B: Operators>(train: &Features, classes: usize, steps: usize, rate: f64, device: &B::Device) -> Tensor<B, 2> {
    let inputs = with_ones::<B>(train, device);
    let mut targets = vec![0f32; train.len() * classes];
    for (row, class) in targets.chunks_exact_mut(classes).zip(&train.classes) {
        row[*class as usize] = 1.0;
    }
    let targets: Tensor<B, 2> = Tensor::from_data(TensorData::new(targets, [train.len(), classes]), device);
    let mut weights = Tensor::<B, 2>::zeros([train.dim + 1, classes], device);
    let mut velocity = weights.clone();
    let backwards = inputs.clone().transpose();
    for step in 0..steps {
        let rate = rate * 0.5 * (1.0 + (PI * step as f64 / steps as f64).cos());
        let residual = softmax(inputs.clone().matmul(weights.clone()), 1) - targets.clone();
        let gradient = backwards.clone().matmul(residual) / train.len() as f64;
        velocity = velocity * MOMENTUM + gradient;
        weights = weights - velocity.clone() * rate;
    }
    weights
}

fn score<B: Operators>(weights: &Tensor<B, 2>, test: &Features, classes: usize, device: &B::Device) -> Accuracy {
    let logits = with_ones::<B>(test, device).matmul(weights.clone()).into_data().convert::<f32>();
    let logits = logits.to_vec::<f32>().expect("converted to f32 just before");
    let mut accuracy = Accuracy::default();
    for (row, truth) in logits.chunks_exact(classes).zip(&test.classes) {
        let row: Vec<f64> = row.iter().map(|v| f64::from(*v)).collect();
        accuracy.count(&row, *truth);
    }
    accuracy
}

fn with_ones<B: Operators>(features: &Features, device: &B::Device) -> Tensor<B, 2> {
    let rows = features.values.chunks_exact(features.dim);
    let values: Vec<f32> = rows.flat_map(|row| row.iter().copied().chain([1.0])).collect();
    Tensor::from_data(TensorData::new(values, [features.len(), features.dim + 1]), device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn_flex::Flex;

    #[test]
    fn classes_that_a_line_separates_are_learned() {
        let features = |offset: f32| {
            let values = (0..60).flat_map(|i| {
                let along = (i as f32 * 0.7 + offset).sin() * 5.0;
                let across = if i % 2 == 0 { 0.4 } else { -0.4 };
                [along + across, along - across]
            });
            Features { dim: 2, values: values.collect(), classes: (0..60).map(|i| i % 2).collect() }
        };
        let linear = probe::<Flex>(&features(0.0), &features(0.3), 2, 200, &[0.01, 1.0], 1, &Default::default());
        assert!(linear.accuracy.top1() > 0.98, "{linear:?}");
    }

    #[test]
    fn few_labels_a_class_still_choose_and_one_a_class_takes_the_first_rate() {
        let features = |count: usize| {
            let values = (0..count).flat_map(|i| [if i % 2 == 0 { 1.0 } else { -1.0 }, i as f32 * 0.1]);
            Features { dim: 2, values: values.collect(), classes: (0..count).map(|i| (i % 2) as u32).collect() }
        };
        let of = |count| probe::<Flex>(&features(count), &features(60), 2, 100, &[1e-12, 1.0], 1, &Default::default());
        for count in [4, 6, 8] {
            let linear = of(count);
            assert_eq!(linear.held_out, 2, "one of each class");
            assert!(linear.accuracy.top1() > 0.5, "{count}: {linear:?}");
        }
        let one_each = of(2);
        assert_eq!((one_each.held_out, one_each.learning_rate), (0, 1e-12));
    }
}
