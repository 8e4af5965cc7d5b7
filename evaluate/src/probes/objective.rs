//! The mean loss of a linear map plus a penalty on its weights, intercepts without penalty: what logistic regressions of either
//! kind minimise by L-BFGS.
//!
//! Products go block by block of rows, so that features are read once an iteration, their sums are in f64, and results do not
//! depend on the number of threads. The search is preconditioned by the features' second moments: in their metric the loss bends
//! alike in all directions, which takes several times fewer iterations to the same gradient. Where the search stops is measured
//! on the gradient itself, as scikit-learn measures it.

use super::lbfgs::{Minimum, Stop, minimise};
use crate::matrix::{Matrix, Real, multiply};
use nalgebra::{Cholesky, DMatrix};
use rayon::prelude::*;

/// Rows of a product.
const ROWS: usize = 256;
/// Sums that are taken side by side, each `(dim + 1) * columns` values of f64.
const PARTS: usize = 32;
/// Rows that the moments are taken of, for each of the features' values; all, where there are fewer.
const MOMENT_ROWS: usize = 16;
/// What is added to the moments' diagonal, as a share of its mean.
const RIDGE: f64 = 1e-6;
/// Features wider than this are not preconditioned: the moments' inverse would be as large as the features.
const MOMENT_WIDTH: usize = 4096;

/// A loss of rows, summed, and its penalty: mean loss + 0.5 * penalty * ||W||^2.
pub(crate) struct Penalised<'a, T, F> {
    /// Shape `[images, dim]`.
    pub(crate) values: &'a [T],
    pub(crate) dim: usize,
    pub(crate) columns: usize,
    pub(crate) penalty: f64,
    /// The loss of the row with this index from its logits, which become the loss's gradient.
    pub(crate) residual: F,
}

impl<T: Real, F: Fn(usize, &mut [T]) -> f64 + Sync> Penalised<'_, T, F> {
    fn images(&self) -> usize {
        self.values.len() / self.dim
    }

    /// The minimum from `start`, shape `[dim + 1, columns]`, the last row of which is the intercepts. `curvature` is what the
    /// loss's second derivative by a logit is at most or so.
    pub(crate) fn minimise(&self, start: Vec<f64>, stop: Stop, curvature: f64) -> Minimum {
        let inverse = (self.dim < MOMENT_WIDTH).then(|| self.inverse_moments(curvature)).flatten();
        let f = |weights: &[f64], gradient: &mut [f64]| self.at(weights, gradient);
        match inverse {
            None => minimise(start, stop, None, f),
            Some(inverse) => {
                let precondition = |gradient: &[f64]| {
                    let mut scaled = vec![0.0; gradient.len()];
                    multiply(
                        &mut scaled,
                        Matrix::new(&inverse, self.dim + 1),
                        Matrix::new(gradient, self.columns),
                        false,
                    );
                    scaled
                };
                minimise(start, stop, Some(&precondition), f)
            }
        }
    }

    /// The inverse of curvature * X'X / n + penalty, of evenly spaced rows with a 1 behind each; none where it has none.
    fn inverse_moments(&self, curvature: f64) -> Option<Vec<f64>> {
        let (wide, images) = (self.dim + 1, self.images());
        let every = images.div_ceil(MOMENT_ROWS * wide).max(1);
        let rows: Vec<T> = (0..images)
            .step_by(every)
            .flat_map(|row| self.values[row * self.dim..(row + 1) * self.dim].iter().copied().chain([T::ONE]))
            .collect();
        let count = rows.len() / wide;
        let parts: Vec<Vec<T>> = rows
            .par_chunks(count.div_ceil(PARTS).next_multiple_of(ROWS) * wide)
            .map(|rows| {
                let mut moments = vec![T::from_f64(0.0); wide * wide];
                multiply(&mut moments, Matrix::new(rows, wide).transposed(), Matrix::new(rows, wide), false);
                moments
            })
            .collect();
        let mut moments = vec![0f64; wide * wide];
        for part in &parts {
            moments.iter_mut().zip(part).for_each(|(sum, value)| *sum += value.to_f64());
        }
        let mut system = DMatrix::from_vec(wide, wide, moments) * (curvature / count as f64);
        let ridge = RIDGE * system.trace() / wide as f64;
        for index in 0..wide {
            system[(index, index)] += ridge + if index < self.dim { self.penalty } else { 0.0 };
        }
        // A symmetric matrix lies alike by rows and by columns.
        Cholesky::new(system).map(|factors| factors.inverse().as_slice().to_vec())
    }

    /// The value, and the gradient written.
    fn at(&self, weights: &[f64], gradient: &mut [f64]) -> f64 {
        let images = self.images();
        let narrowed: Vec<T> = weights.iter().map(|w| T::from_f64(*w)).collect();
        // As many rows a part whatever the number of threads.
        let rows = images.div_ceil(PARTS).next_multiple_of(ROWS);
        let parts: Vec<(f64, Vec<f64>)> = self
            .values
            .par_chunks(rows * self.dim)
            .enumerate()
            .map(|(part, values)| self.part(part * rows, values, &narrowed))
            .collect();
        let mut loss = 0.0;
        gradient.fill(0.0);
        for (part_loss, part) in &parts {
            loss += part_loss;
            gradient.iter_mut().zip(part).for_each(|(sum, value)| *sum += value);
        }
        let (penalised, _) = weights.split_at(self.dim * self.columns);
        gradient.iter_mut().for_each(|g| *g /= images as f64);
        gradient.iter_mut().zip(penalised).for_each(|(g, w)| *g += self.penalty * w);
        loss / images as f64 + 0.5 * self.penalty * penalised.iter().map(|w| w * w).sum::<f64>()
    }

    /// The summed loss of the rows from `first` on and its gradient.
    fn part(&self, first: usize, values: &[T], weights: &[T]) -> (f64, Vec<f64>) {
        let (dim, count) = (self.dim, self.columns);
        let (mut loss, mut sums) = (0.0, vec![0f64; (dim + 1) * count]);
        let mut logits = vec![T::from_f64(0.0); ROWS * count];
        let mut products = vec![T::from_f64(0.0); dim * count];
        for (block, values) in values.chunks(ROWS * dim).enumerate() {
            let residuals = &mut logits[..values.len() / dim * count];
            write_logits(residuals, values, dim, weights, count);
            let (sums, intercepts) = sums.split_at_mut(dim * count);
            for (row, index) in residuals.chunks_exact_mut(count).zip(first + block * ROWS..) {
                loss += (self.residual)(index, row);
                intercepts.iter_mut().zip(&*row).for_each(|(sum, residual)| *sum += residual.to_f64());
            }
            multiply(&mut products, Matrix::new(values, dim).transposed(), Matrix::new(residuals, count), false);
            sums.iter_mut().zip(&products).for_each(|(sum, product)| *sum += product.to_f64());
        }
        (loss, sums)
    }
}

/// Logits of some rows, shape `[rows, columns]`, by weights of shape `[dim + 1, columns]`.
fn write_logits<T: Real>(logits: &mut [T], rows: &[T], dim: usize, weights: &[T], columns: usize) {
    let (weights, intercepts) = weights.split_at(dim * columns);
    logits.chunks_exact_mut(columns).for_each(|row| row.copy_from_slice(intercepts));
    multiply(logits, Matrix::new(rows, dim), Matrix::new(weights, columns), true);
}

/// The logits of all rows.
pub(crate) fn logits_of(values: &[f32], dim: usize, weights: &[f64], columns: usize) -> Vec<f32> {
    let weights: Vec<f32> = weights.iter().map(|w| *w as f32).collect();
    let mut logits = vec![0f32; values.len() / dim * columns];
    logits
        .par_chunks_mut(ROWS * columns)
        .zip(values.par_chunks(ROWS * dim))
        .for_each(|(logits, rows)| write_logits(logits, rows, dim, &weights, columns));
    logits
}
