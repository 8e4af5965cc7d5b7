//! The silhouette (Rousseeuw 1987) by Euclidean distance: whether images are nearer to those of their own class than to those of
//! the nearest other class. -1 to 1. Distances are computed block by block, never all at once.

use crate::matrix::{Matrix, multiply};
use lapidary_train::probe::Features;
use rayon::prelude::*;

/// Images of a block of distances.
const BLOCK: usize = 256;

/// The mean silhouette of images by their labels; none when all have one label or each has its own. An image alone with its label
/// counts 0.
pub(crate) fn silhouette(features: &Features, labels: &[u32]) -> Option<f64> {
    let classes = labels.iter().max().map_or(0, |label| *label as usize + 1);
    let mut counts = vec![0usize; classes];
    labels.iter().for_each(|label| counts[*label as usize] += 1);
    let present = counts.iter().filter(|count| **count > 0).count();
    if present < 2 || present >= labels.len() {
        return None;
    }
    let values: Vec<f64> = features.values.iter().map(|value| f64::from(*value)).collect();
    let squares: Vec<f64> = values.chunks_exact(features.dim).map(|row| row.iter().map(|v| v * v).sum()).collect();
    let firsts: Vec<usize> = (0..labels.len()).step_by(BLOCK).collect();
    let sums = firsts.into_par_iter().map(|first| {
        let last = (first + BLOCK).min(labels.len());
        let by_class = distances_by_class(first..last, &values, features.dim, &squares, (labels, classes));
        let of = |(row, label): (&[f64], &u32)| of_image(row, *label as usize, &counts);
        by_class.chunks_exact(classes).zip(&labels[first..last]).map(of).sum::<f64>()
    });
    Some(sums.collect::<Vec<f64>>().into_iter().sum::<f64>() / labels.len() as f64)
}

/// The summed distances of some images to the images of each class, shape `[range, classes]`.
fn distances_by_class(
    range: std::ops::Range<usize>,
    values: &[f64],
    dim: usize,
    squares: &[f64],
    (labels, classes): (&[u32], usize),
) -> Vec<f64> {
    let rows = &values[range.start * dim..range.end * dim];
    let mut sums = vec![0f64; range.len() * classes];
    let mut products = vec![0f64; range.len() * BLOCK];
    for (block, columns) in values.chunks(BLOCK * dim).enumerate() {
        let count = columns.len() / dim;
        let products = &mut products[..range.len() * count];
        multiply(products, Matrix::new(rows, dim), Matrix::new(columns, dim).transposed(), false);
        for (at, (products, sums)) in products.chunks_exact(count).zip(sums.chunks_exact_mut(classes)).enumerate() {
            let image = range.start + at;
            for (other, product) in (block * BLOCK..).zip(products) {
                if other != image {
                    let squared = squares[image] + squares[other] - 2.0 * product;
                    sums[labels[other] as usize] += squared.max(0.0).sqrt();
                }
            }
        }
    }
    sums
}

/// (b - a) / max(a, b): a the mean distance to its own class, b to the nearest other.
fn of_image(distances: &[f64], label: usize, counts: &[usize]) -> f64 {
    if counts[label] == 1 {
        return 0.0;
    }
    let own = distances[label] / (counts[label] - 1) as f64;
    let others = distances.iter().zip(counts).enumerate().filter(|(class, (_, count))| *class != label && **count > 0);
    let nearest = others.map(|(_, (sum, count))| sum / *count as f64).fold(f64::INFINITY, f64::min);
    let greatest = own.max(nearest);
    if greatest > 0.0 { (nearest - own) / greatest } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::{features, golden};

    #[test]
    fn means_are_scikit_learns() {
        let features = features(200, 8, 5, 0.3, 0.8);
        let mut labels = features.classes.clone();
        let golden = &golden()["silhouette"];
        for name in ["classes", "one_alone"] {
            let found = silhouette(&features, &labels).expect("five classes");
            let expected = golden[name].as_f64().expect("a number");
            assert!((found - expected).abs() < 1e-9, "{name}: {found} against {expected}");
            labels[0] = 5;
        }
    }

    #[test]
    fn blocks_and_threads_do_not_count() {
        // Three blocks, the last one part filled.
        let features = features(600, 8, 5, 0.3, 0.8);
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
            pool.install(|| silhouette(&features, &features.classes))
        };
        let plainly = |index: usize| {
            let distance = |other: usize| {
                let pairs = features.row(index).iter().zip(features.row(other));
                pairs.map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum::<f64>().sqrt()
            };
            let mean = |class: u32| {
                let of_class = (0..600).filter(|other| *other != index && features.classes[*other] == class);
                let distances: Vec<f64> = of_class.map(distance).collect();
                distances.iter().sum::<f64>() / distances.len() as f64
            };
            let own = mean(features.classes[index]);
            let others = (0..5).filter(|class| *class != features.classes[index]).map(mean);
            let nearest = others.fold(f64::INFINITY, f64::min);
            (nearest - own) / own.max(nearest)
        };
        let expected = (0..600).map(plainly).sum::<f64>() / 600.0;
        assert_eq!(run(1), run(3));
        assert!((run(1).expect("five classes") - expected).abs() < 1e-9);
    }

    #[test]
    fn one_class_and_a_class_each_have_none() {
        let features = features(4, 8, 2, 0.3, 0.8);
        assert_eq!(silhouette(&features, &[0; 4]), None);
        assert_eq!(silhouette(&features, &[0, 1, 2, 3]), None);
    }
}
