//! Logistic regression as scikit-learn's `LogisticRegression` has it: the minimum of C * (sum of losses) + 0.5 ||W||^2 by L-BFGS,
//! intercepts without penalty, softmax over the classes that have labels.
//!
//! Two classes have one vector of weights there, whose penalty is twice that of a softmax's two; so C is halved here, which gives
//! the same probabilities. What is minimised is the objective over C n. Products of small problems are in f64, of large ones in
//! f32 (see [`PRODUCTS_F64`]).
//!
//! A class without a label has no weights and is never an answer.

use super::lbfgs::{Minimum, Stop};
use super::objective::{Penalised, logits_of};
use crate::matrix::Real;
use lapidary_train::probe::{Accuracy, Features};
use std::collections::BTreeSet;

/// Multiplications of a pass over the features (images x dim x classes) up to which products are in f64. Beyond, they are in f32,
/// twice as fast: the loss's minimum is found within 1e-7, and so many images leave little to its rounding.
const PRODUCTS_F64: usize = 1 << 26;

/// A logistic regression: weights and intercepts of the classes that have labels.
#[derive(Debug, Clone)]
pub struct Logistic {
    /// The classes, ascending.
    present: Vec<u32>,
    /// Shape `[dim + 1, present]`: the last row is the intercepts.
    weights: Vec<f64>,
    /// Iterations that L-BFGS took.
    pub(crate) iterations: usize,
    /// Whether it ended before its iterations were used up.
    pub(crate) is_converged: bool,
}

impl Logistic {
    /// Fits to `train` with a C, from other weights of the same classes where there are any.
    pub fn fit(train: &Features, c: f64, stop: Stop, start: Option<&Self>) -> Self {
        let present: BTreeSet<u32> = train.classes.iter().copied().collect();
        if train.values.len().saturating_mul(present.len()) > PRODUCTS_F64 {
            return Self::fit_on(&train.values, train, c, stop, start);
        }
        let values: Vec<f64> = train.values.iter().map(|value| f64::from(*value)).collect();
        Self::fit_on(&values, train, c, stop, start)
    }

    /// The same on the features' values in the precision of products.
    fn fit_on<T: Real>(values: &[T], train: &Features, c: f64, stop: Stop, start: Option<&Self>) -> Self {
        let present: Vec<u32> = train.classes.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
        let labels = train.classes.iter().map(|class| present.binary_search(class).expect("collected just before"));
        let labels: Vec<usize> = labels.collect();
        let halved = if present.len() == 2 { c / 2.0 } else { c };
        let penalty = 1.0 / (halved * train.len() as f64);
        let objective = Penalised {
            values,
            dim: train.dim,
            columns: present.len(),
            penalty,
            residual: |row: usize, logits: &mut [T]| residual_from_logits(logits, labels[row]),
        };
        // That of equally likely classes.
        let share = 1.0 / present.len() as f64;
        let curvature = share * (1.0 - share);
        let start = start.filter(|start| start.present == present);
        let zeros = || vec![0.0; (train.dim + 1) * present.len()];
        let start = start.map_or_else(zeros, |start| start.weights.clone());
        let Minimum { point, iterations, is_converged } = objective.minimise(start, stop, curvature.max(f64::EPSILON));
        Self { present, weights: point, iterations, is_converged }
    }

    /// The logits of each image, shape `[images, present]`.
    fn logits(&self, features: &Features) -> Vec<f32> {
        logits_of(&features.values, features.dim, &self.weights, self.present.len())
    }

    /// Iterations that the search took.
    pub fn iterations(&self) -> usize {
        self.iterations
    }

    /// The class of the highest logit of each image; of equal ones the lowest.
    pub fn predictions(&self, features: &Features) -> Vec<u32> {
        let best =
            |logits: &[f32]| (0..logits.len()).fold(0, |best, i| if logits[i] > logits[best] { i } else { best });
        self.logits(features).chunks_exact(self.present.len()).map(|logits| self.present[best(logits)]).collect()
    }

    /// Counts right answers among `classes` classes.
    pub(crate) fn accuracy(&self, test: &Features, classes: usize) -> Accuracy {
        let mut accuracy = Accuracy::default();
        let mut scores = vec![f64::NEG_INFINITY; classes];
        for (logits, truth) in self.logits(test).chunks_exact(self.present.len()).zip(&test.classes) {
            if self.present.binary_search(truth).is_err() {
                accuracy.tested += 1;
                continue;
            }
            for (class, logit) in self.present.iter().zip(logits) {
                scores[*class as usize] = f64::from(*logit);
            }
            accuracy.count(&scores, *truth);
        }
        accuracy
    }
}

/// The loss of a row of logits, which becomes probabilities less the one-hot label.
fn residual_from_logits<T: Real>(row: &mut [T], label: usize) -> f64 {
    let of_label = row[label].to_f64();
    let (greatest, sum) = T::exponentials(row);
    T::scale(row, 1.0 / sum);
    row[label] = T::from_f64(row[label].to_f64() - 1.0);
    sum.ln() - (of_label - greatest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::{features, golden, numbers};

    const TIGHT: Stop = Stop { iterations: 5000, gradient_max: 1e-8 };

    fn probabilities(model: &Logistic, test: &Features) -> Vec<f64> {
        let logits = model.logits(test);
        let rows = logits.chunks_exact(model.present.len()).flat_map(|row| {
            let exps: Vec<f64> = row.iter().map(|logit| f64::from(*logit).exp()).collect();
            let sum: f64 = exps.iter().sum();
            exps.into_iter().map(move |e| e / sum)
        });
        rows.collect()
    }

    /// C sum of losses + 0.5 ||W||^2 as scikit-learn counts it: of two classes the one vector is the difference.
    fn objective(model: &Logistic, train: &Features, c: f64) -> f64 {
        let count = model.present.len();
        let p = probabilities(model, train);
        let of = |(row, class): (&[f64], &u32)| -row[*class as usize].ln();
        let loss: f64 = p.chunks_exact(count).zip(&train.classes).map(of).sum();
        let weights = &model.weights[..train.dim * count];
        let squares: f64 = match count {
            2 => weights.chunks_exact(2).map(|pair| (pair[0] - pair[1]).powi(2)).sum(),
            _ => weights.iter().map(|w| w * w).sum(),
        };
        c * loss + 0.5 * squares
    }

    #[test]
    fn probabilities_and_loss_are_scikit_learns() {
        for classes in [2, 4] {
            let (train, test) = (features(120, 12, classes, 0.3, 0.7), features(40, 12, classes, 1.1, 0.7));
            for c in ["0.01", "1.0", "100.0"] {
                let expected = &golden()["logistic"][classes.to_string()][c];
                let c: f64 = c.parse().expect("a number");
                let expected_p = numbers(&expected["probabilities"]);
                let expected_loss = expected["loss"].as_f64().expect("a number");
                let wide: Vec<f64> = train.values.iter().map(|value| f64::from(*value)).collect();
                let models = [
                    ("f64", Logistic::fit_on(&wide, &train, c, TIGHT, None), 2e-5),
                    ("f32", Logistic::fit_on(&train.values, &train, c, TIGHT, None), 1e-3),
                ];
                for (products, model, within) in models {
                    let found = probabilities(&model, &test);
                    let off = found.iter().zip(&expected_p).map(|(p, q)| (p - q).abs()).fold(0.0, f64::max);
                    let loss = objective(&model, &train, c);
                    let loss_off = (loss / expected_loss - 1.0).abs();
                    println!(
                        "{classes} classes, C {c}, {products}: probabilities within {off:.1e}, loss {loss_off:.1e}"
                    );
                    assert!(off < within, "{classes} classes, C = {c}, {products}: {off}");
                    assert!(loss_off < 1e-6, "{classes} classes, C = {c}, {products}: {loss} against {expected_loss}");
                    let best =
                        |p: &[f64]| (0..classes).fold(0, |best, class| if p[class] > p[best] { class } else { best });
                    let answers = |p: &[f64]| p.chunks_exact(classes).map(best).collect::<Vec<_>>();
                    assert_eq!(answers(&found), answers(&expected_p), "{classes} classes, C = {c}, {products}");
                }
            }
        }
    }

    #[test]
    fn a_warm_start_ends_where_a_cold_one_does() {
        let train = features(120, 12, 4, 0.3, 0.7);
        let before = Logistic::fit(&train, 0.01, TIGHT, None);
        let (cold, warm) = (Logistic::fit(&train, 1.0, TIGHT, None), Logistic::fit(&train, 1.0, TIGHT, Some(&before)));
        let both = probabilities(&cold, &train).into_iter().zip(probabilities(&warm, &train));
        assert!(both.into_iter().all(|(a, b)| (a - b).abs() < 2e-5));
    }

    #[test]
    fn weights_are_bit_for_bit_the_same_with_1_and_3_threads() {
        let train = features(3000, 12, 4, 0.3, 0.7);
        let fit = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
            let stop = Stop { iterations: 20, gradient_max: 1e-8 };
            pool.install(|| Logistic::fit(&train, 1.0, stop, None).weights)
        };
        assert_eq!(fit(1), fit(3));
    }

    #[test]
    fn a_class_without_a_label_is_no_answer() {
        let mut train = features(120, 12, 4, 0.3, 0.7);
        let kept: Vec<usize> = (0..120).filter(|i| train.classes[*i] != 1).collect();
        train = train.select(&kept);
        let model = Logistic::fit(&train, 1.0, TIGHT, None);
        assert!(model.is_converged && model.present == [0, 2, 3]);
        let only_absent = Features { dim: 12, values: vec![0.5; 12], classes: vec![1] };
        assert_eq!(model.accuracy(&only_absent, 4), Accuracy { tested: 1, first: 0, in_five: 0 });
        assert!(model.accuracy(&train, 4).top1() > 0.5);
    }
}
