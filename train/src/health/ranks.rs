//! Effective ranks of features: RankMe and LiDAR. Both are the exponential of an entropy of a spectrum; the spectrum is that of
//! the smaller Gram matrix, so that it costs min(rows, width)^3.

use nalgebra::{Cholesky, DMatrix, SymmetricEigen};

/// Added to each share of a spectrum before its logarithm (both papers).
const SPECTRUM_EPS: f64 = 1e-7;
/// Added to the diagonal of LiDAR's scatter within images (Thilak et al. 2024).
const WITHIN_DELTA: f64 = 1e-4;
/// Rows that are looked at: more say little more, and cost.
pub(crate) const ROWS_MAX: usize = 1024;

/// exp(-sum p ln p), p the values' shares plus epsilon; 1 of nothing, since all is then in one point.
fn effective_rank(spectrum: impl Iterator<Item = f64> + Clone) -> f64 {
    let total: f64 = spectrum.clone().sum();
    if total <= 0.0 {
        return 1.0;
    }
    let entropy: f64 = spectrum
        .map(|value| {
            let share = value / total + SPECTRUM_EPS;
            -share * share.ln()
        })
        .sum();
    entropy.exp()
}

/// The eigenvalues of `rows^T rows` that may differ from 0, min(rows, width) of them, none negative.
fn gram_eigenvalues(rows: &DMatrix<f64>) -> Vec<f64> {
    let gram = if rows.nrows() < rows.ncols() { rows * rows.transpose() } else { rows.tr_mul(rows) };
    SymmetricEigen::new(gram).eigenvalues.iter().map(|value| value.max(0.0)).collect()
}

/// RankMe (Garrido et al. 2023, eq. 1 and 2): exp of the entropy of the normalised singular values.
pub fn rankme(rows: &DMatrix<f64>) -> f64 {
    let eigenvalues = gram_eigenvalues(rows);
    effective_rank(eigenvalues.iter().map(|value| value.sqrt()))
}

/// The same of rows whose mean is taken off.
pub(crate) fn centred_rank(rows: &DMatrix<f64>) -> f64 {
    rankme(&centred(rows))
}

fn centred(rows: &DMatrix<f64>) -> DMatrix<f64> {
    let mean = rows.row_mean();
    DMatrix::from_fn(rows.nrows(), rows.ncols(), |row, column| rows[(row, column)] - mean[column])
}

/// LiDAR (Thilak et al. 2024): the effective rank of the linear discriminant of images, whose views are a class. Scatters are
/// means over images and views; that within images gets `1e-4` on its diagonal.
///
/// # Shapes
/// - rows: `[views * images, width]`, view by view
pub fn lidar(rows: &DMatrix<f64>, views: usize) -> f64 {
    let (images, width) = (rows.nrows() / views, rows.ncols());
    let means = DMatrix::from_fn(images, width, |image, column| {
        (0..views).map(|view| rows[(view * images + image, column)]).sum::<f64>() / views as f64
    });
    let residuals =
        DMatrix::from_fn(views * images, width, |row, column| rows[(row, column)] - means[(row % images, column)]);
    let mut within = residuals.tr_mul(&residuals) / (views * images) as f64;
    (0..width).for_each(|i| within[(i, i)] += WITHIN_DELTA);
    let Some(cholesky) = Cholesky::new(within) else { return f64::NAN };
    // The spectrum of within^-1 between is that of the rows of the means, whitened by the Cholesky factor.
    let between = centred(&means).transpose() / (images as f64).sqrt();
    let Some(whitened) = cholesky.l().solve_lower_triangular(&between) else { return f64::NAN };
    effective_rank(gram_eigenvalues(&whitened).into_iter())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_directions_count_each_and_a_point_counts_once() {
        let identity = DMatrix::<f64>::identity(6, 9);
        assert!((rankme(&identity) - 6.0).abs() < 1e-4);
        assert!((rankme(&identity.transpose()) - 6.0).abs() < 1e-4);
        let point = DMatrix::from_fn(8, 3, |_, column| column as f64 + 1.0);
        assert!((rankme(&point) - 1.0).abs() < 1e-3);
        assert_eq!(centred_rank(&point), 1.0);
        assert_eq!(lidar(&point, 2), 1.0);
    }
}
