//! A logistic regression for each class, whether an image has it or not, all minimised together: what scikit-learn's
//! `OneVsRestClassifier(LogisticRegression(C))` fits one by one. The objective is the sum of theirs, which share no weight, so the
//! minimum is the same, and features are read once an iteration for all classes.

use crate::matrix::Real;
use crate::probes::{Minimum, Penalised, Stop, logits_of};
use lapidary_train::probe::Features;

/// Multiplications of a pass over the features up to which products are in f64.
const PRODUCTS_F64: usize = 1 << 26;

/// Weights and intercepts of each class.
#[derive(Debug, Clone)]
pub(super) struct OneVsRest {
    classes: usize,
    /// Shape `[dim + 1, classes]`: the last row is the intercepts.
    weights: Vec<f64>,
    /// Whether the search ended before its iterations were used up.
    pub(super) is_converged: bool,
}

impl OneVsRest {
    /// Fits to images that have these classes each, with a C, from other weights where there are any.
    pub(super) fn fit(
        train: &Features,
        (sets, classes): (&[Vec<u32>], usize),
        c: f64,
        stop: Stop,
        start: Option<&Self>,
    ) -> Self {
        if train.values.len().saturating_mul(classes) > PRODUCTS_F64 {
            return Self::fit_on(&train.values, train.dim, (sets, classes), c, stop, start);
        }
        let values: Vec<f64> = train.values.iter().map(|value| f64::from(*value)).collect();
        Self::fit_on(&values, train.dim, (sets, classes), c, stop, start)
    }

    fn fit_on<T: Real>(
        values: &[T],
        dim: usize,
        (sets, classes): (&[Vec<u32>], usize),
        c: f64,
        stop: Stop,
        start: Option<&Self>,
    ) -> Self {
        let positives = sets.iter().map(Vec::len).sum::<usize>();
        let share = (positives as f64 / (sets.len() * classes) as f64).clamp(1e-3, 0.5);
        let objective = Penalised {
            values,
            dim,
            columns: classes,
            penalty: 1.0 / (c * sets.len() as f64),
            residual: |row: usize, logits: &mut [T]| residual_from_logits(logits, &sets[row]),
        };
        let start = start.map_or_else(|| vec![0.0; (dim + 1) * classes], |start| start.weights.clone());
        let Minimum { point, is_converged, .. } = objective.minimise(start, stop, share * (1.0 - share));
        Self { classes, weights: point, is_converged }
    }

    /// The logit of each class, shape `[images, classes]`.
    pub(super) fn logits(&self, features: &Features) -> Vec<f32> {
        logits_of(&features.values, features.dim, &self.weights, self.classes)
    }
}

/// The sum of the losses of an image's logits, which become probabilities less 1 where the image has the class.
fn residual_from_logits<T: Real>(row: &mut [T], set: &[u32]) -> f64 {
    let mut loss = 0.0;
    for class in set {
        // log(1 + e^-x) is log(1 + e^x) - x.
        loss -= row[*class as usize].to_f64();
    }
    for value in row.iter_mut() {
        let logit = value.to_f64();
        let below = (-logit.abs()).exp();
        loss += logit.max(0.0) + below.ln_1p();
        *value = T::from_f64(if logit >= 0.0 { 1.0 } else { below } / (1.0 + below));
    }
    for class in set {
        row[*class as usize] = T::from_f64(row[*class as usize].to_f64() - 1.0);
    }
    loss
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::{features, label_sets, measures, numbers};

    #[test]
    fn logits_are_those_of_scikit_learns_regressions_one_by_one() {
        let (train, test) = (features(120, 12, 4, 0.3, 0.7), features(40, 12, 4, 1.1, 0.7));
        let sets = label_sets(120, 4);
        let stop = Stop { iterations: 5000, gradient_max: 1e-9 };
        for c in ["0.01", "1.0", "100.0"] {
            let expected = numbers(&measures()["one_vs_rest"][c]);
            let c: f64 = c.parse().expect("a number");
            let wide: Vec<f64> = train.values.iter().map(|value| f64::from(*value)).collect();
            let of_f64 = OneVsRest::fit_on(&wide, 12, (&sets, 4), c, stop, None);
            let of_f32 = OneVsRest::fit_on(&train.values, 12, (&sets, 4), c, stop, None);
            for (products, model, within) in [("f64", of_f64, 1e-4), ("f32", of_f32, 1e-2)] {
                let found = model.logits(&test);
                assert_eq!(found.len(), expected.len());
                let off = found.iter().zip(&expected).map(|(a, b)| (f64::from(*a) - b).abs() / b.abs().max(1.0));
                let off = off.fold(0.0, f64::max);
                println!("C {c}, {products}: logits within {off:.1e}");
                assert!(off < within, "C = {c}, {products}: {off}");
            }
        }
    }
}
