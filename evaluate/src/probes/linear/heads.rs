//! Linear classifiers of one input, one a learning rate, trained side by side by stochastic gradient descent: momentum 0.9, no
//! weight decay, the mean cross-entropy of a batch, weights from N(0, 0.01), biases from 0, as both references have them.
//!
//! All of them are one matrix, so that a step is two products; a classifier's steps do not depend on the others.

use crate::scores::Accuracy;
use burn::tensor::activation::softmax;
use burn::tensor::{Tensor, TensorData};
use lapidary_pipeline::random::{Purpose, Rng, RngExt, keyed};
use lapidary_train::operators::Operators;
use lapidary_train::probe::Features;

const MOMENTUM: f64 = 0.9;
const DEVIATION: f64 = 0.01;
/// Images of a product when classifiers are tested.
const TEST_ROWS: usize = 1024;

/// Classifiers of an input.
#[derive(Debug)]
pub(crate) struct Heads<B: Operators> {
    classes: usize,
    /// Shape `[inputs, heads * classes]`, head by head; and the biases, `[1, heads * classes]`.
    parameters: [Tensor<B, 2>; 2],
    velocities: [Tensor<B, 2>; 2],
    /// The learning rate of each column, shape `[1, heads * classes]`.
    rates: Tensor<B, 2>,
    heads: usize,
}

impl<B: Operators> Heads<B> {
    /// Classifiers with weights drawn by `seed` and `stream`, one a learning rate.
    pub(crate) fn new(
        inputs: usize,
        classes: usize,
        rates: &[f64],
        (seed, stream): (u64, u64),
        device: &B::Device,
    ) -> Self {
        let drawn: Vec<Vec<f32>> = (0..rates.len())
            .map(|head| {
                let mut rng = keyed(seed, Purpose::ProbeWeights, stream, head as u64);
                (0..inputs * classes).map(|_| (DEVIATION * standard_normal(&mut rng)) as f32).collect()
            })
            .collect();
        Self::with_weights(&drawn, classes, rates, device)
    }

    /// Classifiers with these weights, each of shape `[inputs, classes]`.
    pub(crate) fn with_weights(weights: &[Vec<f32>], classes: usize, rates: &[f64], device: &B::Device) -> Self {
        let (heads, inputs) = (rates.len(), weights.first().map_or(0, |first| first.len() / classes));
        let columns = heads * classes;
        let rows = (0..inputs).flat_map(|row| weights.iter().map(move |w| &w[row * classes..(row + 1) * classes]));
        let weights = Tensor::from_data(TensorData::new(rows.flatten().copied().collect(), [inputs, columns]), device);
        let zeros = |rows| Tensor::zeros([rows, columns], device);
        let by_column = rates.iter().flat_map(|rate| std::iter::repeat_n(*rate as f32, classes)).collect::<Vec<f32>>();
        Self {
            classes,
            parameters: [weights, zeros(1)],
            velocities: [zeros(inputs), zeros(1)],
            rates: Tensor::from_data(TensorData::new(by_column, [1, columns]), device),
            heads,
        }
    }

    /// A step on a batch, at a share of the learning rates.
    pub(crate) fn step(&mut self, batch: &Features, share: f64) {
        let (rows, device) = (batch.len(), self.rates.device());
        let inputs: Tensor<B, 2> = Tensor::from_data(TensorData::new(batch.values.clone(), [rows, batch.dim]), &device);
        let mut targets = vec![0f32; rows * self.classes];
        for (row, class) in targets.chunks_exact_mut(self.classes).zip(&batch.classes) {
            row[*class as usize] = 1.0;
        }
        let targets: Tensor<B, 3> = Tensor::from_data(TensorData::new(targets, [rows, 1, self.classes]), &device);
        let logits = self.logits(inputs.clone()).reshape([rows, self.heads, self.classes]);
        let residuals = (softmax(logits, 2) - targets) / rows as f64;
        let residuals = residuals.reshape([rows, self.heads * self.classes]);
        let gradients = [inputs.transpose().matmul(residuals.clone()), residuals.sum_dim(0)];
        let rates = self.rates.clone() * share;
        for ((parameter, velocity), gradient) in self.parameters.iter_mut().zip(&mut self.velocities).zip(gradients) {
            *velocity = velocity.clone() * MOMENTUM + gradient;
            *parameter = parameter.clone() - velocity.clone() * rates.clone();
        }
    }

    fn logits(&self, inputs: Tensor<B, 2>) -> Tensor<B, 2> {
        let [weights, biases] = self.parameters.clone();
        inputs.matmul(weights) + biases
    }

    /// The accuracy of each classifier.
    pub(crate) fn accuracies(&self, test: &Features) -> Vec<Accuracy> {
        let mut accuracies = vec![Accuracy::default(); self.heads];
        let chunks = test.values.chunks(TEST_ROWS * test.dim).zip(test.classes.chunks(TEST_ROWS));
        for (values, truths) in chunks {
            let inputs = TensorData::new(values.to_vec(), [truths.len(), test.dim]);
            let logits = self.logits(Tensor::from_data(inputs, &self.rates.device())).into_data().convert::<f32>();
            let logits = logits.to_vec::<f32>().expect("converted to f32 just before");
            for (row, truth) in logits.chunks_exact(self.heads * self.classes).zip(truths) {
                for (accuracy, scores) in accuracies.iter_mut().zip(row.chunks_exact(self.classes)) {
                    let scores: Vec<f64> = scores.iter().map(|score| f64::from(*score)).collect();
                    accuracy.count(&scores, *truth);
                }
            }
        }
        accuracies
    }

    /// Weights and biases of a classifier, shapes `[inputs, classes]` and `[classes]`.
    #[cfg(test)]
    pub(crate) fn of(&self, head: usize) -> (Vec<f32>, Vec<f32>) {
        let part = |tensor: &Tensor<B, 2>| {
            let [rows, _] = tensor.dims();
            let part = tensor.clone().slice([0..rows, head * self.classes..(head + 1) * self.classes]);
            part.into_data().to_vec::<f32>().expect("f32")
        };
        (part(&self.parameters[0]), part(&self.parameters[1]))
    }
}

/// A draw from the standard normal distribution (Box and Muller 1958).
fn standard_normal(rng: &mut impl Rng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()
}
