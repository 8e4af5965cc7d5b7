//! How features fill the sphere: uniformity and alignment (Wang and Isola 2020) and the deviation of each channel (Chen and He
//! 2021), all of L2-normalised features.

use crate::matrix::{Matrix, multiply};
use lapidary_train::probe::Features;
use rayon::prelude::*;

/// Images of a block of distances.
const BLOCK: usize = 256;

/// log of the mean of exp(-2 ||x - y||^2) over all pairs of different images: 0 when all are one point, about -4 when they are
/// uniform; none of fewer than two images. `features` are of unit length.
pub(crate) fn uniformity(features: &Features) -> Option<f64> {
    let images = features.len();
    if images < 2 {
        return None;
    }
    let dim = features.dim;
    let values: Vec<f64> = features.values.iter().map(|value| f64::from(*value)).collect();
    let blocks: Vec<&[f64]> = values.chunks(BLOCK * dim).collect();
    let of_block = |(at, rows): (usize, &&[f64])| {
        // Each pair once: blocks from this one on, and in this one only images further on.
        let mut sum = 0.0;
        for (other, columns) in blocks.iter().enumerate().skip(at) {
            let count = columns.len() / dim;
            let mut products = vec![0f64; rows.len() / dim * count];
            multiply(&mut products, Matrix::new(rows, dim), Matrix::new(columns, dim).transposed(), false);
            for (row, products) in products.chunks_exact(count).enumerate() {
                let skipped = if other == at { row + 1 } else { 0 };
                sum += products[skipped..].iter().map(|product| (4.0 * (product - 1.0)).exp()).sum::<f64>();
            }
        }
        sum
    };
    let sums: Vec<f64> = blocks.par_iter().enumerate().map(of_block).collect();
    let pairs = images as f64 * (images as f64 - 1.0) / 2.0;
    Some((sums.into_iter().sum::<f64>() / pairs).ln())
}

/// The mean of ||x - x'||^2 over all pairs of views of an image, 0 to 4; none of fewer than two views. `features` are of unit
/// length, shape `[views * images, dim]`, view by view.
pub(crate) fn alignment(features: &Features, views: usize) -> Option<f64> {
    let images = features.len() / views.max(1);
    if views < 2 || images == 0 {
        return None;
    }
    let distance = |image: usize, a: usize, b: usize| -> f64 {
        let pairs = features.row(a * images + image).iter().zip(features.row(b * images + image));
        pairs.map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum()
    };
    let of_image = |image| (0..views).map(|b| (0..b).map(|a| distance(image, a, b)).sum::<f64>()).sum::<f64>();
    let sum: f64 = (0..images).map(of_image).sum();
    Some(sum / (images * views * (views - 1) / 2) as f64)
}

/// The deviation (of a sample) of each channel of features of unit length, times the root of their width: 1 when they point
/// everywhere alike, 0 in a channel that has collapsed. Shape `[dim]`.
pub(crate) fn channel_std(features: &Features) -> Vec<f64> {
    let (count, dim) = (features.len() as f64, features.dim);
    let deviation = |channel: usize| {
        let values = || features.values.iter().skip(channel).step_by(dim).map(|value| f64::from(*value));
        let mean = values().sum::<f64>() / count;
        let squares: f64 = values().map(|value| (value - mean).powi(2)).sum();
        (squares / (count - 1.0).max(1.0)).sqrt() * (dim as f64).sqrt()
    };
    (0..dim).into_par_iter().map(deviation).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::{features, golden, numbers};

    #[test]
    fn figures_are_numpys() {
        let (first, second) = (features(90, 10, 3, 0.3, 0.5).normalised(), features(90, 10, 3, 0.35, 0.5).normalised());
        let golden = &golden()["spread"];
        let expected = |name: &str| golden[name].as_f64().expect("a number");
        let found = uniformity(&first).expect("90 images");
        assert!((found - expected("uniformity")).abs() < 1e-6, "{found} against {}", expected("uniformity"));
        let mut both = first.clone();
        both.values.extend(&second.values);
        both.classes.extend(&second.classes);
        let found = alignment(&both, 2).expect("two views");
        assert!((found - expected("alignment")).abs() < 1e-6, "{found} against {}", expected("alignment"));
        for (found, expected) in channel_std(&first).iter().zip(numbers(&golden["std"])) {
            assert!((found - expected).abs() < 1e-6, "{found} against {expected}");
        }
    }

    #[test]
    fn a_point_is_aligned_and_not_uniform() {
        let point = Features { dim: 2, values: [0.6, 0.8].repeat(600), classes: vec![0; 600] };
        assert!(uniformity(&point).expect("many").abs() < 1e-6);
        assert_eq!(alignment(&point, 3), Some(0.0));
        assert!(channel_std(&point).iter().all(|std| *std < 1e-6));
        assert_eq!((uniformity(&point.select(&[0])), alignment(&point, 1)), (None, None));
    }

    #[test]
    fn pairs_are_counted_once_across_blocks() {
        let features = features(600, 10, 3, 0.3, 0.5).normalised();
        let mut sum = 0.0;
        for (a, b) in (0..600).flat_map(|a| (0..a).map(move |b| (a, b))) {
            let pairs = features.row(a).iter().zip(features.row(b));
            sum += (-2.0 * pairs.map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum::<f64>()).exp();
        }
        let expected = (sum / (600.0 * 599.0 / 2.0)).ln();
        let found = uniformity(&features).expect("many");
        assert!((found - expected).abs() < 1e-5, "{found} against {expected}");
    }
}
