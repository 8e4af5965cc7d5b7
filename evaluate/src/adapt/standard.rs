//! Features with mean 0 and deviation 1 in each dimension: what heads learn from, and how a head learned so is written for
//! features as they are. Without it the features' own scale, which differs a hundredfold between objectives, decides how fast
//! a head learns.

use super::network::Head;
use burn::tensor::{Tensor, TensorData};
use lapidary_train::operators::Operators;
use lapidary_train::probe::Features;

/// Mean and deviation of each dimension over the images that are learned from.
#[derive(Debug, Clone)]
pub(crate) struct Standard {
    mean: Vec<f32>,
    inverse_deviation: Vec<f32>,
}

impl Standard {
    pub(crate) fn of(features: &Features) -> Self {
        let count = features.len().max(1) as f64;
        let moment = |of: &dyn Fn(usize, f64) -> f64| -> Vec<f64> {
            let mut sums = vec![0f64; features.dim];
            for row in features.values.chunks_exact(features.dim) {
                sums.iter_mut().zip(row).enumerate().for_each(|(i, (sum, value))| *sum += of(i, f64::from(*value)));
            }
            sums.into_iter().map(|sum| sum / count).collect()
        };
        let mean = moment(&|_, value| value);
        let variance = moment(&|i, value| (value - mean[i]).powi(2));
        Self {
            inverse_deviation: variance.iter().map(|v| (1.0 / v.sqrt().max(1e-6)) as f32).collect(),
            mean: mean.into_iter().map(|mean| mean as f32).collect(),
        }
    }

    pub(crate) fn apply(&self, features: &Features) -> Features {
        let mut scaled = features.clone();
        for row in scaled.values.chunks_exact_mut(features.dim) {
            for ((value, mean), scale) in row.iter_mut().zip(&self.mean).zip(&self.inverse_deviation) {
                *value = (*value - mean) * scale;
            }
        }
        scaled
    }

    /// The head of standardised features, for features as they are: its first map takes over the scaling.
    pub(crate) fn folded_into<B: Operators>(&self, head: Head<B>) -> Head<B> {
        head.with_first_map(|weight, bias| {
            let (dim, device) = (self.mean.len(), weight.device());
            let tensor = |values: Vec<f32>, shape: [usize; 2]| -> Tensor<B, 2> {
                Tensor::from_data(TensorData::new(values, shape), &device)
            };
            let weight = weight * tensor(self.inverse_deviation.clone(), [dim, 1]);
            let shift = tensor(self.mean.clone(), [1, dim]).matmul(weight.clone());
            let bias = bias.clone() - shift.reshape([bias.dims()[0]]);
            (weight, bias)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::features;
    use burn_flex::Flex;
    use lapidary_train::model::initialise;

    #[test]
    fn features_are_standardised_and_a_folded_head_says_of_raw_features_what_it_said_of_these() {
        let raw = features(60, 8, 4, 0.3, 3.0);
        let standard = Standard::of(&raw);
        let scaled = standard.apply(&raw);
        for i in 0..8 {
            let column: Vec<f64> = (0..60).map(|row| f64::from(scaled.row(row)[i])).collect();
            let mean = column.iter().sum::<f64>() / 60.0;
            let variance = column.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 60.0;
            assert!(mean.abs() < 1e-5 && (variance - 1.0).abs() < 1e-4, "{mean} {variance}");
        }
        let tensor = |features: &Features| {
            Tensor::<Flex, 2>::from_data(TensorData::new(features.values.clone(), [60, 8]), &Default::default())
        };
        for hidden in [None, Some(6)] {
            let head = initialise(Head::<Flex>::new(8, hidden, 4, &Default::default()), 1);
            let said = head.forward(tensor(&scaled), None);
            let folded = standard.folded_into(head).forward(tensor(&raw), None);
            assert!((said - folded).abs().max().into_scalar() < 1e-5);
        }
    }
}
