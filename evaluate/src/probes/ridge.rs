//! Ridge regression in closed form after google-research/big_vision's few-shot evaluation (`evaluators/fewshot_lsr.py`):
//! standardised features (deviation + 1e-5), a constant feature of 100 that makes a bias with next to no penalty, targets +1 for
//! the image's class and -1 for all others, the class of the highest score is the answer.
//!
//! The smaller of two systems is solved by its eigenvalues: X'X of `dim + 1` rows where there are as many images, else XX'. Of
//! many images only X'X is in memory, and a block of standardised rows a part. Arithmetic is in f64. Results do not depend on the
//! number of threads.

use crate::matrix::{Matrix, multiply};
use lapidary_train::probe::{Accuracy, Features};
use nalgebra::{DMatrix, SymmetricEigen};
use rayon::prelude::*;

/// What the reference adds to the deviation of a feature.
const DEVIATION_EPS: f64 = 1e-5;
/// The constant feature.
const BIAS: f64 = 100.0;
/// Rows of a product.
const ROWS: usize = 256;
/// Sums that are taken side by side.
const PARTS: usize = 16;

/// Weights, with what features are standardised by.
#[derive(Debug, Clone)]
pub(crate) struct Ridge {
    scale: Standard,
    classes: usize,
    /// Shape `[dim + 1, classes]`: the last row is that of the constant feature.
    weights: Vec<f64>,
}

impl Ridge {
    /// Solves (X'X + l2 I) W = X'Y.
    pub(crate) fn fit(train: &Features, classes: usize, l2: f64) -> Self {
        let scale = Standard::of(train);
        let weights = if train.len() > train.dim {
            by_features(train, classes, l2, &scale)
        } else {
            by_images(train, classes, l2, &scale)
        };
        // nalgebra's matrices lie column by column.
        let weights = weights.transpose().as_slice().to_vec();
        Self { scale, classes, weights }
    }

    /// The score of each class, shape `[images, classes]`.
    fn scores(&self, features: &Features) -> Vec<f64> {
        let mut scores = vec![0.0; features.len() * self.classes];
        scores.par_chunks_mut(ROWS * self.classes).zip(features.values.par_chunks(ROWS * features.dim)).for_each(
            |(scores, values)| {
                let rows = self.scale.rows(values);
                let weights = Matrix::new(&self.weights, self.classes);
                multiply(scores, Matrix::new(&rows, features.dim + 1), weights, false);
            },
        );
        scores
    }

    /// Counts right answers.
    pub(crate) fn accuracy(&self, test: &Features) -> Accuracy {
        let mut accuracy = Accuracy::default();
        let scores = self.scores(test);
        scores.chunks_exact(self.classes).zip(&test.classes).for_each(|(row, truth)| accuracy.count(row, *truth));
        accuracy
    }
}

/// (X'X + l2 I)^-1 X'Y.
fn by_features(train: &Features, classes: usize, l2: f64, scale: &Standard) -> DMatrix<f64> {
    let wide = train.dim + 1;
    let rows = train.len().div_ceil(PARTS).next_multiple_of(ROWS);
    let parts: Vec<(Vec<f64>, Vec<f64>)> = train
        .values
        .par_chunks(rows * train.dim)
        .zip(train.classes.par_chunks(rows))
        .map(|(values, labels)| {
            let (mut gram, mut moments) = (vec![0.0; wide * wide], vec![0.0; wide * classes]);
            for (values, labels) in values.chunks(ROWS * train.dim).zip(labels.chunks(ROWS)) {
                let (rows, targets) = (scale.rows(values), targets(labels, classes));
                let rows = Matrix::new(&rows, wide);
                multiply(&mut gram, rows.transposed(), rows, true);
                multiply(&mut moments, rows.transposed(), Matrix::new(&targets, classes), true);
            }
            (gram, moments)
        })
        .collect();
    let (mut gram, mut moments) = (DMatrix::zeros(wide, wide), DMatrix::zeros(wide, classes));
    for (part_gram, part_moments) in &parts {
        gram += DMatrix::from_row_slice(wide, wide, part_gram);
        moments += DMatrix::from_row_slice(wide, classes, part_moments);
    }
    solve(gram, &moments, l2)
}

/// X' (XX' + l2 I)^-1 Y, the same by the matrix inversion lemma.
fn by_images(train: &Features, classes: usize, l2: f64, scale: &Standard) -> DMatrix<f64> {
    let rows = DMatrix::from_row_slice(train.len(), train.dim + 1, &scale.rows(&train.values));
    let targets = DMatrix::from_row_slice(train.len(), classes, &targets(&train.classes, classes));
    rows.tr_mul(&solve(&rows * rows.transpose(), &targets, l2))
}

/// (S + l2 I)^-1 right, by the eigenvalues of the symmetric S.
fn solve(system: DMatrix<f64>, right: &DMatrix<f64>, l2: f64) -> DMatrix<f64> {
    let eigen = SymmetricEigen::new(system);
    let mut turned = eigen.eigenvectors.tr_mul(right);
    for (mut row, value) in turned.row_iter_mut().zip(&eigen.eigenvalues) {
        // A matrix of products has no negative eigenvalue but by rounding.
        row /= value.max(0.0) + l2;
    }
    eigen.eigenvectors * turned
}

/// +1 for the class, -1 for all others, shape `[labels, classes]`.
fn targets(labels: &[u32], classes: usize) -> Vec<f64> {
    let mut targets = vec![-1.0; labels.len() * classes];
    targets.chunks_exact_mut(classes).zip(labels).for_each(|(row, label)| row[*label as usize] = 1.0);
    targets
}

/// Mean and inverse deviation of each feature.
#[derive(Debug, Clone)]
struct Standard {
    mean: Vec<f64>,
    inverse: Vec<f64>,
}

impl Standard {
    fn of(features: &Features) -> Self {
        let count = features.len() as f64;
        let sum = |of: &dyn Fn(usize, f64) -> f64| {
            let mut sums = vec![0f64; features.dim];
            for row in features.values.chunks_exact(features.dim) {
                let values = row.iter().enumerate().map(|(column, value)| of(column, f64::from(*value)));
                sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
            }
            sums.into_iter().map(|sum| sum / count).collect::<Vec<f64>>()
        };
        let mean = sum(&|_, value| value);
        let variance = sum(&|column, value| (value - mean[column]).powi(2));
        Self { inverse: variance.into_iter().map(|v| 1.0 / (v.sqrt() + DEVIATION_EPS)).collect(), mean }
    }

    /// Standardised rows with the constant feature behind, shape `[images, dim + 1]`.
    fn rows(&self, values: &[f32]) -> Vec<f64> {
        let dim = self.mean.len();
        let mut rows = Vec::with_capacity(values.len() / dim * (dim + 1));
        for row in values.chunks_exact(dim) {
            let scaled = row.iter().zip(&self.mean).zip(&self.inverse);
            rows.extend(scaled.map(|((value, mean), inverse)| (f64::from(*value) - mean) * inverse));
            rows.push(BIAS);
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::{features, golden, numbers};

    #[test]
    fn scores_are_numpys_by_features_and_by_images() {
        for (rows, width) in [(120, 12), (20, 30)] {
            let (train, test) = (features(rows, width, 4, 0.3, 0.7), features(40, width, 4, 1.1, 0.7));
            let scores = Ridge::fit(&train, 4, 10.0).scores(&test);
            let expected = numbers(&golden()["ridge"][rows.to_string()]["scores"]);
            assert_eq!(scores.len(), expected.len());
            let greatest = scores.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            println!("{rows} images of width {width}: scores within {greatest:.1e}");
            assert!(greatest < 1e-8, "{rows} images: {greatest}");
        }
    }

    #[test]
    fn a_constant_feature_and_a_class_without_labels_are_no_trouble() {
        let mut train = features(120, 12, 4, 0.3, 2.0);
        train.values.chunks_exact_mut(12).for_each(|row| row[3] = 5.0);
        let ridge = Ridge::fit(&train, 6, 10.0);
        let accuracy = ridge.accuracy(&train);
        assert!(ridge.weights[3 * 6..4 * 6].iter().all(|w| w.abs() < 1e-9), "what does not vary says nothing");
        assert!(ridge.weights.iter().all(|w| w.is_finite()) && accuracy.top1() > 0.7, "{accuracy:?}");
        let scores = ridge.scores(&train);
        assert!(scores.chunks_exact(6).all(|row| row[4..].iter().all(|score| (score + 1.0).abs() < 1e-2)), "always -1");
    }
}
