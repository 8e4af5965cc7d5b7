//! Drift: whether the tree still fits, images having been added to it since it was built.
//!
//! Added images lie farther from the centroids than those that drew the centroids to themselves. So that one can be
//! held against the other, each image that the tree was built from counts as if its cluster had been made without it:
//! as the mean of the other `m - 1`, the centroid would lie `m / (m - 1)` times as far from it.

use super::Level;
use lapidary_schemas::config::CurateConfig;
use serde::{Deserialize, Serialize};

/// How far images lie from the centroids of their finest clusters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spread {
    pub(crate) images: u64,
    pub(crate) mean_squared_distance: f64,
}

impl Spread {
    /// Of images at these distances.
    pub(crate) fn of(distances: impl Iterator<Item = f32>) -> Self {
        distances.fold(Self::default(), |spread, distance| {
            spread.and(Self { images: 1, mean_squared_distance: f64::from(distance) * f64::from(distance) })
        })
    }

    /// Of the points that a level was built from, each left out of its own cluster. A point alone in its cluster is
    /// counted, but says nothing of distances.
    pub(crate) fn left_out(finest: &Level) -> Self {
        let mut sizes = vec![0u32; finest.centroids.len()];
        finest.assignment.iter().for_each(|cluster| sizes[*cluster as usize] += 1);
        let distances = finest.assignment.iter().zip(&finest.distances).filter_map(|(cluster, distance)| {
            let size = sizes[*cluster as usize] as f32;
            (size > 1.0).then(|| distance * size / (size - 1.0))
        });
        Self { images: finest.assignment.len() as u64, ..Self::of(distances) }
    }

    /// Of both.
    pub(crate) fn and(self, other: Self) -> Self {
        let images = self.images + other.images;
        let sum = |spread: Self| spread.images as f64 * spread.mean_squared_distance;
        Self { images, mean_squared_distance: (sum(self) + sum(other)) / images.max(1) as f64 }
    }
}

/// The images that the tree was built from, and those added since.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Drift {
    pub(crate) built_from: Spread,
    pub(crate) added: Spread,
}

impl Drift {
    /// Added images over those that the tree was built from.
    pub(crate) fn share(&self) -> f64 {
        self.added.images as f64 / self.built_from.images.max(1) as f64
    }

    /// Their mean squared distance over that of the others; 1 when nothing was added.
    pub(crate) fn ratio(&self) -> f64 {
        if self.added.images == 0 {
            return 1.0;
        }
        self.added.mean_squared_distance / self.built_from.mean_squared_distance.max(1e-12)
    }

    /// Why the tree should be built anew, if it should.
    pub(crate) fn passes(&self, config: &CurateConfig) -> Option<String> {
        if self.added.images > 0 && self.ratio() > config.drift_max {
            let (ratio, bound) = (self.ratio(), config.drift_max);
            return Some(format!("added images lie {ratio:.2} times as far from their centroids (drift_max {bound})"));
        }
        let (share, bound) = (self.share(), config.added_max);
        (share > bound).then(|| format!("{share:.2} times as many images were added (added_max {bound})"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_lies_as_far_as_what_is_added() {
        use crate::input::Vectors;
        // 40 clusters of 4 draws from one distribution, their centroids the means, and a fifth draw each.
        use lapidary_pipeline::random::{Purpose, RngExt, keyed};
        let mut rng = keyed(3, Purpose::Scene, 0, 0);
        let draws: Vec<[f32; 5]> = (0..40).map(|_| std::array::from_fn(|_| rng.random::<f32>())).collect();
        let means: Vec<f32> = draws.iter().map(|of| of[..4].iter().sum::<f32>() / 4.0).collect();
        let distances = draws.iter().zip(&means).flat_map(|(of, mean)| of[..4].iter().map(move |v| (v - mean).abs()));
        // And one point in a cluster of its own.
        let finest = Level {
            assignment: (0..161).map(|point| point / 4).collect(),
            distances: distances.chain([0.0]).collect(),
            centroids: Vectors { dim: 1, values: [&means[..], &[0.5]].concat() },
            fitted: Default::default(),
        };
        assert_eq!(Spread::left_out(&finest).images, 161);
        let added = Spread::of(draws.iter().zip(&means).map(|(of, mean)| (of[4] - mean).abs()));
        let ratio = Drift { built_from: Spread::left_out(&finest), added }.ratio();
        let naive = Drift { built_from: Spread::of(finest.distances.iter().copied()), added }.ratio();
        assert!((ratio - 1.0).abs() < 0.3 && naive > 1.3 * ratio, "{ratio}, {naive}");
    }

    #[test]
    fn drift_passes_by_distance_or_by_number() {
        let config = CurateConfig::default();
        let near = Spread::of([0.1f32, 0.3].into_iter());
        assert!((near.mean_squared_distance - 0.05).abs() < 1e-6 && near.images == 2);
        let built_from = near.and(near).and(near);
        assert_eq!((built_from.images, Drift { built_from, ..Drift::default() }.passes(&config)), (6, None));
        assert_eq!(Drift { built_from, added: near }.passes(&config), None);
        let far = Drift { built_from, added: Spread::of([0.6f32].into_iter()) }.passes(&config);
        assert!(far.is_some_and(|why| why.contains("times as far")));
        let many = Drift { built_from, added: near.and(near) }.passes(&config);
        assert!(many.is_some_and(|why| why.contains("times as many")));
    }
}
