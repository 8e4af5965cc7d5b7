//! k-means (Lloyd 1982) from a seeded k-means++ start (Arthur and Vassilvitskii 2007), for evaluation alone: a few thousand
//! images, as many clusters as classes. Curation has its own, hierarchical, in `curate`.
//!
//! Products are in f32 block by block, sums of centroids in f64 in the order of images: the same whatever the number of threads.

use crate::matrix::{Matrix, multiply};
use lapidary_pipeline::random::{Purpose, RngExt, keyed};
use lapidary_train::probe::Features;
use rayon::prelude::*;

/// Images of a product.
const ROWS: usize = 256;
/// Iterations at most.
const ITERATIONS: usize = 100;
/// Starts, of which that of the least inertia is kept.
const STARTS: u64 = 3;

/// Clusters of features.
#[derive(Debug, Clone)]
pub(crate) struct Clusters {
    /// The cluster of each image.
    pub(crate) labels: Vec<u32>,
    /// The sum of squared distances to the centroids.
    pub(crate) inertia: f64,
}

/// The best of three seeded starts; `k` is at most the number of images.
pub(crate) fn kmeans(features: &Features, k: usize, seed: u64) -> Clusters {
    let starts = (0..STARTS).map(|start| lloyd(features, plus_plus(features, k, seed, start)));
    // Of equal ones the first.
    starts.reduce(|best, next| if next.inertia < best.inertia { next } else { best }).expect("there are three starts")
}

/// The first centroids: an image at random, then images with a chance in proportion to the squared distance to the nearest.
fn plus_plus(features: &Features, k: usize, seed: u64, start: u64) -> Vec<f32> {
    let mut rng = keyed(seed, Purpose::Centroids, start, features.len() as u64);
    let first = rng.random_range(0..features.len());
    let mut centroids = features.row(first).to_vec();
    let mut nearest = vec![f64::INFINITY; features.len()];
    while centroids.len() < k * features.dim {
        let newest = &centroids[centroids.len() - features.dim..];
        nearest.par_iter_mut().enumerate().for_each(|(index, nearest)| {
            *nearest = nearest.min(squared_distance(features.row(index), newest));
        });
        let total: f64 = nearest.iter().sum();
        let mut left = rng.random::<f64>() * total;
        let chosen = nearest.iter().position(|distance| {
            left -= distance;
            left < 0.0
        });
        // Where all images lie on centroids, or by rounding: the last.
        centroids.extend_from_slice(features.row(chosen.unwrap_or(features.len() - 1)));
    }
    centroids
}

/// Lloyd's iterations from given centroids, shape `[k, dim]`, until no image changes its cluster. A cluster that is left empty
/// takes the image that lies farthest from its centroid.
fn lloyd(features: &Features, mut centroids: Vec<f32>) -> Clusters {
    let dim = features.dim;
    let mut labels: Vec<u32> = Vec::new();
    for _ in 0..ITERATIONS {
        let assigned = nearest_centroids(features, &centroids);
        if assigned == labels {
            break;
        }
        labels = assigned;
        centroids = means(features, &labels, centroids.len() / dim, &centroids);
    }
    let distance = |(index, label): (usize, &u32)| {
        squared_distance(features.row(index), &centroids[*label as usize * dim..][..dim])
    };
    let inertia = labels.iter().enumerate().map(distance).sum();
    Clusters { labels, inertia }
}

/// The nearest centroid of each image, of equally near ones the first.
fn nearest_centroids(features: &Features, centroids: &[f32]) -> Vec<u32> {
    let dim = features.dim;
    let half_squares: Vec<f32> =
        centroids.chunks_exact(dim).map(|c| 0.5 * c.iter().map(|v| v * v).sum::<f32>()).collect();
    let of_block = |rows: &[f32]| {
        let k = half_squares.len();
        let mut products = vec![0f32; rows.len() / dim * k];
        multiply(&mut products, Matrix::new(rows, dim), Matrix::new(centroids, dim).transposed(), false);
        let nearest = |row: &[f32]| {
            let closeness = |cluster: &usize| row[*cluster] - half_squares[*cluster];
            (1..k).fold(0, |best, cluster| if closeness(&cluster) > closeness(&best) { cluster } else { best }) as u32
        };
        products.chunks_exact(k).map(nearest).collect::<Vec<u32>>()
    };
    features.values.par_chunks(ROWS * dim).map(of_block).collect::<Vec<_>>().concat()
}

/// The mean of each cluster.
fn means(features: &Features, labels: &[u32], k: usize, centroids: &[f32]) -> Vec<f32> {
    let dim = features.dim;
    let (mut sums, mut counts) = (vec![0f64; k * dim], vec![0usize; k]);
    for (index, label) in labels.iter().enumerate() {
        counts[*label as usize] += 1;
        let sums = &mut sums[*label as usize * dim..][..dim];
        sums.iter_mut().zip(features.row(index)).for_each(|(sum, value)| *sum += f64::from(*value));
    }
    let mut empty: Vec<usize> = (0..k).filter(|cluster| counts[*cluster] == 0).collect();
    if !empty.is_empty() {
        let distance = |(index, label): (usize, &u32)| {
            (squared_distance(features.row(index), &centroids[*label as usize * dim..][..dim]), index)
        };
        let mut farthest: Vec<(f64, usize)> = labels.iter().enumerate().map(distance).collect();
        farthest.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        for (cluster, (_, index)) in empty.drain(..).zip(farthest) {
            let row = features.row(index);
            sums[cluster * dim..][..dim].iter_mut().zip(row).for_each(|(sum, value)| *sum = f64::from(*value));
            counts[cluster] = 1;
        }
    }
    sums.iter().enumerate().map(|(at, sum)| (sum / counts[at / dim] as f64) as f32).collect()
}

fn squared_distance(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::{features, golden};
    use serde_json::Value;

    #[test]
    fn clusters_from_the_same_start_are_scikit_learns() {
        let features = features(200, 8, 5, 0.3, 0.8);
        let clusters = lloyd(&features, features.values[..5 * 8].to_vec());
        let golden = &golden()["kmeans"];
        assert_eq!(Value::from(clusters.labels.clone()), golden["labels"]);
        let inertia = golden["inertia"].as_f64().expect("a number");
        assert!((clusters.inertia / inertia - 1.0).abs() < 1e-6, "{} against {inertia}", clusters.inertia);
    }

    #[test]
    fn a_seed_repeats_and_three_starts_are_as_good_as_one() {
        let features = features(200, 8, 5, 0.3, 0.8);
        let clusters = kmeans(&features, 5, 1);
        assert_eq!(clusters.labels, kmeans(&features, 5, 1).labels);
        let given = lloyd(&features, features.values[..5 * 8].to_vec());
        assert!(clusters.inertia <= given.inertia * 1.05, "{} against {}", clusters.inertia, given.inertia);
        for start in 0..STARTS {
            assert!(clusters.inertia <= lloyd(&features, plus_plus(&features, 5, 1, start)).inertia);
        }
    }

    #[test]
    fn equal_images_and_as_many_clusters_as_images_are_no_trouble() {
        let same = Features { dim: 2, values: vec![1.0; 12], classes: vec![0; 6] };
        let clusters = kmeans(&same, 3, 1);
        assert!(clusters.inertia == 0.0 && clusters.labels.iter().all(|label| *label < 3), "{clusters:?}");
        let apart = Features { dim: 1, values: (0..6).map(|i| i as f32).collect(), classes: vec![0; 6] };
        let clusters = kmeans(&apart, 6, 1);
        assert_eq!(clusters.inertia, 0.0);
        let mut labels = clusters.labels;
        labels.sort_unstable();
        assert_eq!(labels, [0, 1, 2, 3, 4, 5]);
    }
}
