//! Principal components: the directions that rows differ most along.

use crate::matrix::{Matrix, multiply};
use nalgebra::{DMatrix, SymmetricEigen};

/// A basis of directions.
#[derive(Debug, Clone)]
pub(super) struct Pca {
    mean: Vec<f64>,
    /// Shape `[components, dim]`, the one of most variance first.
    directions: Vec<f64>,
    /// The variance along each, n - 1 in the denominator as in scikit-learn.
    #[cfg(test)]
    variance: Vec<f64>,
}

impl Pca {
    /// Of rows `[rows, dim]`, so many directions (as many as there are, if they are fewer). The greatest weight of a direction is
    /// positive, so that signs do not hang on the solver.
    pub(super) fn fit(values: &[f32], dim: usize, components: usize) -> Self {
        let rows = values.len() / dim;
        let mut mean = vec![0f64; dim];
        for row in values.chunks_exact(dim) {
            mean.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value) / rows as f64);
        }
        let mut covariance = vec![0f64; dim * dim];
        // A block of rows at a time, so that no second copy of the values is in memory.
        for block in values.chunks(4096 * dim) {
            let centred = centred(block, &mean);
            let block = Matrix::new(&centred, dim);
            multiply(&mut covariance, block.transposed(), block, true);
        }
        let scale = 1.0 / rows.saturating_sub(1).max(1) as f64;
        let eigen = SymmetricEigen::new(DMatrix::from_vec(dim, dim, covariance) * scale);
        let mut order: Vec<usize> = (0..dim).collect();
        order.sort_by(|a, b| eigen.eigenvalues[*b].total_cmp(&eigen.eigenvalues[*a]).then(a.cmp(b)));
        order.truncate(components);
        let directions = order.iter().flat_map(|index| {
            let direction = eigen.eigenvectors.column(*index);
            let greatest =
                direction.iter().copied().fold(0.0, |most: f64, w| if w.abs() > most.abs() { w } else { most });
            direction.iter().map(|weight| weight * greatest.signum()).collect::<Vec<f64>>()
        });
        Self {
            directions: directions.collect(),
            #[cfg(test)]
            variance: order.iter().map(|index| eigen.eigenvalues[*index]).collect(),
            mean,
        }
    }

    /// The rows' places along the directions, shape `[rows, components]`.
    pub(super) fn coordinates(&self, values: &[f32]) -> Vec<f64> {
        let dim = self.mean.len();
        let components = self.directions.len() / dim;
        let mut out = Vec::with_capacity(values.len() / dim * components);
        for block in values.chunks(4096 * dim) {
            let mut places = vec![0f64; block.len() / dim * components];
            let centred = centred(block, &self.mean);
            multiply(&mut places, Matrix::new(&centred, dim), Matrix::new(&self.directions, dim).transposed(), false);
            out.extend(places);
        }
        out
    }
}

fn centred(values: &[f32], mean: &[f64]) -> Vec<f64> {
    values.chunks_exact(mean.len()).flat_map(|row| row.iter().zip(mean).map(|(v, mean)| f64::from(*v) - mean)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seeing::golden::{agree, golden, numbers, wave};

    #[test]
    fn directions_are_scikit_learns() {
        let (values, golden) = (wave(40 * 7, 0.3), golden()["pca"].clone());
        let pca = Pca::fit(&values, 7, 3);
        agree("variance", &pca.variance, &numbers(&golden["variance"]), 1e-9);
        agree("coordinates", &pca.coordinates(&values), &numbers(&golden["coordinates"]), 1e-6);
    }

    #[test]
    fn rows_that_are_alike_or_fewer_than_directions_have_places_too() {
        let pca = Pca::fit(&[1.0, 2.0, 1.0, 2.0], 2, 3);
        assert_eq!(pca.coordinates(&[1.0, 2.0]), [0.0, 0.0]);
        assert!(pca.variance.iter().all(|variance| *variance == 0.0));
        assert!(Pca::fit(&[3.0], 1, 2).coordinates(&[3.0, 4.0]).iter().all(|place| place.is_finite()));
    }
}
