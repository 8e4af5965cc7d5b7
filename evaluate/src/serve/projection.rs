//! Vectors on their two main axes: the first two principal components, by power iteration on a sample.
//!
//! Jolliffe, Principal Component Analysis (2002), section 3. A map for the eye needs no more digits than a screen has.

use rayon::prelude::*;

/// Vectors that the axes are found from, at least, where there are so many.
pub(super) const SAMPLE: usize = 5000;
const ITERATIONS: usize = 40;

/// The two directions of most variance, and the mean that they cross in.
pub(super) struct Axes {
    mean: Vec<f64>,
    axes: [Vec<f64>; 2],
}

impl Axes {
    /// Those of a sample, which holds vectors of `dim` values one after the other; none of no vector.
    pub(super) fn of(sample: &[f32], dim: usize) -> Option<Self> {
        if dim == 0 || sample.len() < dim {
            return None;
        }
        let sample: Vec<&[f32]> = sample.chunks_exact(dim).collect();
        let mut mean = vec![0f64; dim];
        sample.iter().for_each(|vector| mean.iter_mut().zip(*vector).for_each(|(m, v)| *m += f64::from(*v)));
        mean.iter_mut().for_each(|m| *m /= sample.len() as f64);
        let first = axis(&sample, &mean, None);
        let second = axis(&sample, &mean, Some(&first));
        Some(Self { mean, axes: [first, second] })
    }

    /// The coordinates of vectors that lie one after the other.
    pub(super) fn places(&self, vectors: &[f32]) -> Vec<(f64, f64)> {
        let [first, second] = &self.axes;
        let place = |vector: &[f32]| (along(vector, &self.mean, first), along(vector, &self.mean, second));
        vectors.par_chunks_exact(self.mean.len()).map(place).collect()
    }
}

fn along(vector: &[f32], mean: &[f64], axis: &[f64]) -> f64 {
    vector.iter().zip(mean).zip(axis).map(|((value, mean), axis)| (f64::from(*value) - mean) * axis).sum()
}

/// The direction of most variance, orthogonal to one that was found; its largest value is positive.
fn axis(sample: &[&[f32]], mean: &[f64], found: Option<&[f64]>) -> Vec<f64> {
    let dim = mean.len();
    // A start that no data is likely to be orthogonal to.
    let mut axis: Vec<f64> = (0..dim).map(|i| 1.0 + (i as f64 * 0.731).sin()).collect();
    for _ in 0..ITERATIONS {
        remove(&mut axis, found);
        scale_to_one(&mut axis);
        // Summed in the order of the sample, so that threads change nothing.
        let weights: Vec<f64> = sample.par_iter().map(|vector| along(vector, mean, &axis)).collect();
        let mut next = vec![0f64; dim];
        for (vector, weight) in sample.iter().zip(&weights) {
            next.iter_mut()
                .zip(*vector)
                .zip(mean)
                .for_each(|((next, value), mean)| *next += weight * (f64::from(*value) - mean));
        }
        if next.iter().all(|value| value.abs() < 1e-300) {
            break;
        }
        axis = next;
    }
    remove(&mut axis, found);
    scale_to_one(&mut axis);
    let largest =
        axis.iter().copied().fold(0.0, |most: f64, value| if value.abs() > most.abs() { value } else { most });
    if largest < 0.0 {
        axis.iter_mut().for_each(|value| *value = -*value);
    }
    axis
}

fn remove(axis: &mut [f64], found: Option<&[f64]>) {
    if let Some(found) = found {
        let part: f64 = axis.iter().zip(found).map(|(a, b)| a * b).sum();
        axis.iter_mut().zip(found).for_each(|(a, b)| *a -= part * b);
    }
}

fn scale_to_one(axis: &mut [f64]) {
    let length = axis.iter().map(|value| value * value).sum::<f64>().sqrt();
    if length > 0.0 {
        axis.iter_mut().for_each(|value| *value /= length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nalgebra::DMatrix;

    #[test]
    fn the_axes_are_those_of_the_covariance() {
        let (count, dim) = (300, 6);
        let value = |row: usize, column: usize| {
            let (a, b) = ((row as f64 * 0.37).sin() * 3.0, (row as f64 * 1.93).cos() * 1.5);
            let noise = ((row * 7 + column * 13) as f64 * 0.618).sin() * 0.2;
            (a * (column as f64 + 1.0) / 6.0 + b * if column.is_multiple_of(2) { 1.0 } else { -1.0 } + noise + 5.0)
                as f32
        };
        let values: Vec<f32> = (0..count).flat_map(|row| (0..dim).map(move |column| value(row, column))).collect();
        let places = Axes::of(&values, dim).expect("axes").places(&values);
        let data = DMatrix::from_fn(count, dim, |row, column| f64::from(values[row * dim + column]));
        let means: Vec<f64> = data.column_iter().map(|column| column.mean()).collect();
        let centred = DMatrix::from_fn(count, dim, |row, column| data[(row, column)] - means[column]);
        let eigen = (centred.transpose() * &centred).symmetric_eigen();
        let mut order: Vec<usize> = (0..dim).collect();
        order.sort_by(|a, b| eigen.eigenvalues[*b].total_cmp(&eigen.eigenvalues[*a]));
        for (which, component) in order.into_iter().take(2).enumerate() {
            let expected = &centred * eigen.eigenvectors.column(component);
            let ours: Vec<f64> = places.iter().map(|place| if which == 0 { place.0 } else { place.1 }).collect();
            let sign = if expected[0] * ours[0] < 0.0 { -1.0 } else { 1.0 };
            let worst = ours.iter().zip(expected.iter()).map(|(a, b)| (a - sign * b).abs()).fold(0.0, f64::max);
            assert!(worst < 1e-3, "component {which}: {worst}");
        }
    }

    #[test]
    fn vectors_that_are_all_one_and_none_do_not_panic() {
        assert!(Axes::of(&[], 3).is_none() && Axes::of(&[], 0).is_none());
        let axes = Axes::of(&[1.0; 12], 3).expect("axes");
        assert!(axes.places(&[1.0; 12]).iter().all(|(x, y)| x.abs() < 1e-9 && y.abs() < 1e-9));
    }
}
