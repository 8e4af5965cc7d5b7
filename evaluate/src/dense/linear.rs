//! Linear segmentation: one linear layer from a patch's token to the labels of its pixels.
//!
//! Protocol: tokens standardised by the train patches; cross-entropy of every pixel with its patch's logits, pixels of crowds left
//! out (so a patch's target is the share of each label in it); 500 steps of Adam (0.9, 0.999) over 2,048 patches drawn by seed, rate
//! 0.01 falling by a cosine to 0, no penalty. Nothing is chosen, so nothing is held out.

use super::Tokens;
use burn::tensor::activation::softmax;
use burn::tensor::{Tensor, TensorData};
use lapidary_pipeline::interrupt;
use lapidary_pipeline::random::{Purpose, RngExt, keyed};
use lapidary_train::operators::Operators;
use std::f64::consts::PI;

const STEPS: usize = 500;
const BATCH: usize = 2048;
const RATE: f64 = 1e-2;
const BETAS: (f64, f64) = (0.9, 0.999);
const EPSILON: f64 = 1e-8;

/// A layer that is learned.
pub(super) struct LinearHead {
    mean: Vec<f32>,
    /// 1 over the deviation.
    scale: Vec<f32>,
    /// Shape `[dim + 1, labels]`: the last row is the bias.
    weights: Vec<f32>,
    labels: usize,
}

impl LinearHead {
    /// Learns from patches and the share of each label in them, shape `[patches, labels]`.
    ///
    /// # Errors
    /// When the user interrupts.
    pub(super) fn fit<B: Operators>(
        train: &Tokens,
        shares: &[f32],
        labels: usize,
        seed: u64,
        device: &B::Device,
    ) -> crate::Result<Self> {
        let (mean, scale) = statistics(train);
        let mut head = Self { mean, scale, weights: Vec::new(), labels };
        let mut weights = Tensor::<B, 2>::zeros([train.dim + 1, labels], device);
        let (mut mean, mut square) = (weights.clone(), weights.clone());
        for step in 0..STEPS {
            interrupt::check()?;
            let mut rng = keyed(seed, Purpose::PatchBatch, step as u64, 0);
            let rows: Vec<usize> = (0..BATCH.min(train.len())).map(|_| rng.random_range(0..train.len())).collect();
            let inputs = head.inputs::<B>(rows.iter().map(|row| train.row(*row)), device);
            let targets: Vec<f32> = rows.iter().flat_map(|row| &shares[row * labels..][..labels]).copied().collect();
            let targets: Tensor<B, 2> = Tensor::from_data(TensorData::new(targets, [rows.len(), labels]), device);
            // A patch counts by its pixels that count.
            let counted = targets.clone().sum_dim(1);
            let residual = softmax(inputs.clone().matmul(weights.clone()), 1) * counted - targets;
            let gradient = inputs.transpose().matmul(residual) / rows.len() as f64;
            mean = mean * BETAS.0 + gradient.clone() * (1.0 - BETAS.0);
            square = square * BETAS.1 + gradient.clone() * gradient * (1.0 - BETAS.1);
            let unbiased = |beta: f64| 1.0 - beta.powi(step as i32 + 1);
            let rate = RATE * 0.5 * (1.0 + (PI * step as f64 / STEPS as f64).cos()) / unbiased(BETAS.0);
            let deviation = (square.clone() / unbiased(BETAS.1)).sqrt() + EPSILON;
            weights = weights - mean.clone() / deviation * rate;
        }
        head.weights = weights.into_data().convert::<f32>().into_vec::<f32>().expect("converted to f32 just before");
        Ok(head)
    }

    /// The logits of patches, shape `[patches, labels]`.
    pub(super) fn logits<B: Operators>(&self, tokens: &[f32], device: &B::Device) -> Vec<f32> {
        let dim = self.mean.len();
        let weights = TensorData::new(self.weights.clone(), [dim + 1, self.labels]);
        let inputs = self.inputs::<B>(tokens.chunks_exact(dim), device);
        let logits = inputs.matmul(Tensor::from_data(weights, device)).into_data().convert::<f32>();
        logits.into_vec::<f32>().expect("converted to f32 just before")
    }

    /// Standardised tokens and ones.
    fn inputs<'a, B: Operators>(&self, rows: impl Iterator<Item = &'a [f32]>, device: &B::Device) -> Tensor<B, 2> {
        let mut values = Vec::new();
        for row in rows {
            values
                .extend(row.iter().zip(self.mean.iter().zip(&self.scale)).map(|(v, (mean, scale))| (v - mean) * scale));
            values.push(1.0);
        }
        let width = self.mean.len() + 1;
        let rows = values.len() / width;
        Tensor::from_data(TensorData::new(values, [rows, width]), device)
    }
}

/// Each channel's mean, and 1 over its deviation.
fn statistics(tokens: &Tokens) -> (Vec<f32>, Vec<f32>) {
    let count = tokens.len().max(1) as f64;
    let mut sums = vec![(0f64, 0f64); tokens.dim];
    for row in tokens.values.chunks_exact(tokens.dim) {
        for ((sum, squares), value) in sums.iter_mut().zip(row) {
            *sum += f64::from(*value);
            *squares += f64::from(*value) * f64::from(*value);
        }
    }
    let scale = |(sum, squares): &(f64, f64)| {
        let variance = (squares / count - (sum / count).powi(2)).max(0.0);
        (1.0 / variance.sqrt().max(1e-6)) as f32
    };
    (sums.iter().map(|(sum, _)| (sum / count) as f32).collect(), sums.iter().map(scale).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn_flex::Flex;

    #[test]
    fn labels_that_a_line_tells_apart_are_learned_in_their_shares() {
        // The first channel says the label; a patch in the middle is half of each.
        let channel = |i: usize| ((i * 37) % 21) as f32 / 10.0 - 1.0;
        let values = (0..600).flat_map(|i| [channel(i) * 50.0 + 7.0, (i as f32 * 0.7).sin()]).collect();
        let train = Tokens { dim: 2, values };
        let shares: Vec<f32> = (0..600)
            .flat_map(|i| match channel(i) {
                c if c < -0.05 => [1.0, 0.0, 0.0],
                c if c > 0.05 => [0.0, 1.0, 0.0],
                // A crowd over half of the patch.
                _ => [0.25, 0.25, 0.0],
            })
            .collect();
        let head = LinearHead::fit::<Flex>(&train, &shares, 3, 1, &Default::default()).expect("fits");
        let logits = head.logits::<Flex>(&train.values, &Default::default());
        let right = logits.chunks_exact(3).zip(shares.chunks_exact(3)).filter(|(logits, shares)| {
            let best = (0..3).fold(0, |best, label| if logits[label] > logits[best] { label } else { best });
            shares[best] > 0.2
        });
        assert_eq!(right.count(), 600);
        let middle = logits.chunks_exact(3).zip(0..).find(|(_, i)| channel(*i).abs() < 0.05).expect("one").0;
        assert!((middle[0] - middle[1]).abs() < 0.7, "{middle:?}");
        assert!(middle[2] < middle[0] - 2.0, "a label that is nowhere: {middle:?}");
    }
}
