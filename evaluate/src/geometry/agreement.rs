//! How well clusters agree with classes: accuracy under the best assignment of clusters to classes, normalised mutual information
//! (by the arithmetic mean of entropies), adjusted Rand index (Hubert and Arabie 1985) and Fowlkes-Mallows index. As
//! scikit-learn's, special cases too.

use super::assignment::assign;
use serde::{Deserialize, Serialize};

/// Agreement of clusters with classes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    /// Share of images in the cluster that is assigned to their class, each cluster to one class at most (0 to 1).
    pub acc: f64,
    /// Normalised mutual information (0 to 1).
    pub nmi: f64,
    /// Adjusted Rand index (at most 1; 0 is chance).
    pub ari: f64,
    /// Fowlkes-Mallows index (0 to 1).
    pub fmi: f64,
}

impl Agreement {
    /// Of classes and clusters, image by image; neither may be empty.
    pub(crate) fn between(classes: &[u32], clusters: &[u32]) -> Self {
        let table = Contingency::of(classes, clusters);
        Self { acc: table.accuracy(), nmi: table.nmi(), ari: table.ari(), fmi: table.fmi() }
    }
}

/// How many images of each class lie in each cluster.
struct Contingency {
    /// Shape `[rows, columns]`.
    counts: Vec<u64>,
    columns: usize,
    images: u64,
    of_class: Vec<u64>,
    of_cluster: Vec<u64>,
}

impl Contingency {
    fn of(classes: &[u32], clusters: &[u32]) -> Self {
        let highest = |labels: &[u32]| labels.iter().max().map_or(0, |label| *label as usize + 1);
        let (rows, columns) = (highest(classes), highest(clusters));
        let mut counts = vec![0u64; rows * columns];
        for (class, cluster) in classes.iter().zip(clusters) {
            counts[*class as usize * columns + *cluster as usize] += 1;
        }
        let of_class = counts.chunks_exact(columns.max(1)).map(|row| row.iter().sum()).collect();
        let of_cluster = (0..columns).map(|column| counts.iter().skip(column).step_by(columns).sum()).collect();
        Self { counts, columns, images: classes.len() as u64, of_class, of_cluster }
    }

    fn accuracy(&self) -> f64 {
        let side = self.of_class.len().max(self.columns);
        let mut costs = vec![0f64; side * side];
        for (row, counts) in self.counts.chunks_exact(self.columns).enumerate() {
            let costs = &mut costs[row * side..][..self.columns];
            costs.iter_mut().zip(counts).for_each(|(cost, count)| *cost = -(*count as f64));
        }
        let columns = assign(&costs, side);
        let matched: f64 = columns.iter().enumerate().map(|(row, column)| -costs[row * side + column]).sum();
        matched / self.images as f64
    }

    fn nmi(&self) -> f64 {
        let images = self.images as f64;
        let parts = |counts: &[u64]| counts.iter().filter(|count| **count > 0).count();
        if parts(&self.of_class) == 1 && parts(&self.of_cluster) == 1 {
            return 1.0;
        }
        let entropy = |counts: &[u64]| -> f64 {
            let shares = counts.iter().filter(|count| **count > 0).map(|count| *count as f64 / images);
            shares.map(|share| -share * share.ln()).sum()
        };
        let mut shared = 0.0;
        for (row, of_class) in self.counts.chunks_exact(self.columns).zip(&self.of_class) {
            for (count, of_cluster) in row.iter().zip(&self.of_cluster).filter(|(count, _)| **count > 0) {
                let (count, expected) = (*count as f64, *of_class as f64 * *of_cluster as f64 / images);
                shared += count / images * (count / expected).ln();
            }
        }
        if shared <= f64::EPSILON {
            return 0.0;
        }
        shared / (0.5 * (entropy(&self.of_class) + entropy(&self.of_cluster)))
    }

    /// Ordered pairs of images that share a class and a cluster, a class, a cluster.
    fn pairs(&self) -> [f64; 3] {
        let of = |counts: &[u64]| counts.iter().map(|count| count * count.saturating_sub(1)).sum::<u64>() as f64;
        [of(&self.counts), of(&self.of_class), of(&self.of_cluster)]
    }

    fn ari(&self) -> f64 {
        let [both, of_class, of_cluster] = self.pairs();
        let all = self.images as f64 * (self.images as f64 - 1.0);
        if both == of_class && both == of_cluster {
            return 1.0;
        }
        let expected = of_class * of_cluster / all;
        (both - expected) / (0.5 * (of_class + of_cluster) - expected)
    }

    fn fmi(&self) -> f64 {
        let [both, of_class, of_cluster] = self.pairs();
        if both == 0.0 { 0.0 } else { both / (of_class * of_cluster).sqrt() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::golden;

    #[test]
    fn figures_are_scikit_learns() {
        let truth: Vec<u32> = (0..150).map(|i| (7 * i + i / 3) % 5).collect();
        let clusters: Vec<u32> = (0..150).map(|i| (i * i / 3) % 6).collect();
        let found = serde_json::to_value(Agreement::between(&truth, &clusters)).expect("plain");
        for (name, expected) in golden()["agreement"].as_object().expect("by name") {
            let (found, expected) = (found[name].as_f64().expect("a number"), expected.as_f64().expect("a number"));
            assert!((found - expected).abs() < 1e-12, "{name}: {found} against {expected}");
        }
    }

    #[test]
    fn renamed_classes_agree_wholly_and_one_cluster_says_nothing() {
        let classes = [0, 0, 1, 1, 2, 2];
        let same = Agreement::between(&classes, &[2, 2, 0, 0, 1, 1]);
        assert!([same.acc, same.nmi, same.ari, same.fmi].iter().all(|value| (value - 1.0).abs() < 1e-12), "{same:?}");
        let one = Agreement::between(&classes, &[0; 6]);
        assert_eq!((one.acc, one.nmi, one.ari), (2.0 / 6.0, 0.0, 0.0));
    }
}
