//! Hierarchical k-means with resampling (Vo et al. 2024).
//!
//! Level 1 clusters the images, each next level the centroids below. At each level a first k-means is followed by
//! rounds of k-means on the points closest to each centroid, which flattens the density that centroids follow
//! (`spec/curation.md` section 1, described there in our own words).

use super::assignment::assign;
use super::kmeans::lloyd;
use crate::Result;
use crate::input::Vectors;
use lapidary_pipeline::PipelineError;
use lapidary_pipeline::random::{Purpose, Rng, SliceRandom, keyed};
use lapidary_schemas::config::CurateConfig;
use serde::{Deserialize, Serialize};

/// A level of the tree.
#[derive(Debug, Clone)]
pub struct Level {
    /// Its centroids.
    pub centroids: Vectors,
    /// The cluster of each point of the level below (images below level 1).
    pub assignment: Vec<u32>,
    /// Each point's L2 distance to its cluster's centroid.
    pub distances: Vec<f32>,
    /// What the centroids were fitted on.
    pub fitted: Fitted,
}

/// The points that k-means moved centroids by, a sample of a level's or all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Fitted {
    /// How many they were.
    pub points: usize,
    /// Their mean squared distance to the nearest centroid, before the last update.
    pub mean_squared_distance: f64,
}

impl Level {
    /// The mean squared distance of all points to their centroids: what `Fitted` has, of the whole.
    pub fn mean_squared_distance(&self) -> f64 {
        let sum: f64 = self.distances.iter().map(|distance| f64::from(*distance).powi(2)).sum();
        sum / self.distances.len().max(1) as f64
    }
}

/// Clusters vectors level by level, the finest first; clusters that end up empty are left out.
///
/// # Errors
/// When FAISS refuses, or on an interrupt.
pub fn cluster(vectors: &Vectors, config: &CurateConfig, seed: u64) -> Result<Vec<Level>> {
    cluster_sample(vectors, vectors.len(), config, seed)
}

/// The same of a sample of so many images: as many clusters as these would have.
///
/// # Errors
/// As [`cluster`], and when the sample has fewer vectors than there are to be clusters.
pub(crate) fn cluster_sample(vectors: &Vectors, images: usize, config: &CurateConfig, seed: u64) -> Result<Vec<Level>> {
    let mut levels: Vec<Level> = Vec::new();
    let sizes = level_sizes(images, config)?;
    if let Some(finest) = sizes.first().filter(|finest| **finest > vectors.len()) {
        let text = format!(
            "the tree is fitted on {} of {images} images, fewer than its {finest} finest clusters\nhint: raise \
             curate.tree_max_images, or give fewer clusters (curate.clusters)",
            vectors.len()
        );
        return Err(PipelineError::Usage(text).into());
    }
    for (number, k) in sizes.into_iter().enumerate() {
        let points = levels.last().map_or(vectors, |level| &level.centroids);
        tracing::info!("clustering level {}: {} points into {k}", number + 1, points.len());
        let level = cluster_level(points, k, config, seed, number as u64)?;
        levels.push(level);
    }
    Ok(levels)
}

/// Clusters a level: as configured, or 2 sqrt(n) and then the square root of that.
///
/// # Errors
/// When a level is to have more clusters than there are points.
fn level_sizes(points: usize, config: &CurateConfig) -> Result<Vec<usize>> {
    if config.clusters.is_empty() {
        let finest = (2.0 * (points as f64).sqrt()).round().clamp(1.0, points.max(1) as f64);
        return Ok(vec![finest as usize, finest.sqrt().round() as usize]);
    }
    let mut most = points;
    for size in &config.clusters {
        if *size > most || *size == 0 {
            let text = format!(
                "curate.clusters is {:?}, but a level of {size} clusters cannot be made of {most} points\nhint: give each \
                 level fewer clusters than the one before it, the first fewer than the {points} kept images",
                config.clusters
            );
            return Err(PipelineError::Usage(text).into());
        }
        most = *size;
    }
    Ok(config.clusters.clone())
}

fn cluster_level(points: &Vectors, k: usize, config: &CurateConfig, seed: u64, number: u64) -> Result<Level> {
    let (mut centroids, mut fitted) = kmeans(points, k, config, keyed(seed, Purpose::Centroids, number, 0))?;
    let share = if config.resample_points > 0 { config.resample_points } else { points.len() / k / 2 };
    if share > 1 {
        for round in 1..=u64::from(config.resample_rounds) {
            let (assignment, distances) = assign(points, &centroids)?;
            let sample = nearest_of_each(&assignment, &distances, k, share);
            if sample.len() < k {
                break;
            }
            let rng = keyed(seed, Purpose::Centroids, number, round);
            (centroids, fitted) = kmeans(&points.select(&sample), k, config, rng)?;
        }
    }
    let (assignment, distances) = assign(points, &centroids)?;
    Ok(Level { fitted, ..without_empty(centroids, assignment, distances) })
}

/// k-means on at most `curate.kmeans_max_points` points a cluster, drawn at random, from as many of them as there are
/// clusters.
fn kmeans(points: &Vectors, k: usize, config: &CurateConfig, mut rng: impl Rng) -> Result<(Vectors, Fitted)> {
    if k >= points.len() {
        return Ok((points.clone(), Fitted { points: points.len(), mean_squared_distance: 0.0 }));
    }
    let most = k.saturating_mul(config.kmeans_max_points.max(1)).min(points.len());
    let mut drawn: Vec<usize> = (0..points.len()).collect();
    let (chosen, _) = drawn.partial_shuffle(&mut rng, most);
    let first = points.select(&chosen[..k]);
    let sample = if most < points.len() {
        chosen.sort_unstable();
        Some(points.select(chosen))
    } else {
        None
    };
    let found = lloyd(sample.as_ref().unwrap_or(points), first, config.kmeans_iterations, &mut rng)?;
    let sum = found.objectives.last().copied().unwrap_or_default();
    Ok((found.centroids, Fitted { points: most, mean_squared_distance: sum / most.max(1) as f64 }))
}

/// The `share` points of each cluster that are nearest to its centroid, by index.
fn nearest_of_each(assignment: &[u32], distances: &[f32], k: usize, share: usize) -> Vec<usize> {
    let mut members: Vec<Vec<usize>> = vec![Vec::new(); k];
    for (point, cluster) in assignment.iter().enumerate() {
        members[*cluster as usize].push(point);
    }
    let mut sample = Vec::new();
    for mut points in members {
        points.sort_by(|a, b| distances[*a].total_cmp(&distances[*b]).then(a.cmp(b)));
        sample.extend(points.into_iter().take(share));
    }
    sample.sort_unstable();
    sample
}

fn without_empty(centroids: Vectors, mut assignment: Vec<u32>, distances: Vec<f32>) -> Level {
    let mut used: Vec<u32> = assignment.clone();
    used.sort_unstable();
    used.dedup();
    let mut renumbered = vec![0u32; centroids.len()];
    for (new, old) in used.iter().enumerate() {
        renumbered[*old as usize] = new as u32;
    }
    assignment.iter_mut().for_each(|cluster| *cluster = renumbered[*cluster as usize]);
    let kept: Vec<usize> = used.iter().map(|cluster| *cluster as usize).collect();
    Level { centroids: centroids.select(&kept), assignment, distances, fitted: Fitted::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clear_clusters_are_found_again_and_nothing_is_empty() {
        // Five clumps of 60, at the corners of a simplex.
        let mut values = Vec::new();
        for point in 0..300 {
            let clump = point / 60;
            let mut vector = [0f32; 5];
            vector[clump] = 1.0;
            vector[(clump + 1 + point % 4) % 5] += 0.002 * (point % 7) as f32;
            values.extend(vector);
        }
        let vectors = Vectors { dim: 5, values };
        let config = CurateConfig { clusters: vec![25, 2], resample_rounds: 2, ..CurateConfig::default() };
        let levels = cluster(&vectors, &config, 3).expect("clusters");
        assert_eq!(levels.len(), 2);
        assert_eq!(levels[1].assignment.len(), levels[0].centroids.len());
        for (level, points) in levels.iter().zip([300, levels[0].centroids.len()]) {
            assert_eq!(level.assignment.len(), points);
            for cluster in 0..level.centroids.len() as u32 {
                assert!(level.assignment.contains(&cluster));
            }
        }
        let clump_of = |point: usize| point / 60;
        for (a, first) in levels[0].assignment.iter().enumerate() {
            for (b, second) in levels[0].assignment.iter().enumerate() {
                assert!(first != second || clump_of(a) == clump_of(b), "a cluster mixes clumps");
            }
        }
    }

    #[test]
    fn a_sample_has_the_clusters_of_all_and_one_that_is_too_small_is_refused() {
        let values = (0..400).flat_map(|point| [(point % 20) as f32, (point / 20) as f32]).collect();
        let sample = Vectors { dim: 2, values };
        let config = CurateConfig::default();
        let finest = cluster_sample(&sample, 10_000, &config, 1).expect("clusters")[0].centroids.len();
        assert!((180..=200).contains(&finest), "{finest} of 2 sqrt(10,000), less those that are empty");
        let error = cluster_sample(&sample, 1_000_000, &config, 1).expect_err("2,000 of 400").to_string();
        assert!(error.contains("curate.tree_max_images") && error.contains("2000"), "{error}");
    }

    #[test]
    fn more_clusters_than_points_are_refused_and_the_default_never_requests_them() {
        let requested = |clusters: &[usize]| CurateConfig { clusters: clusters.to_vec(), ..CurateConfig::default() };
        assert_eq!(level_sizes(400, &requested(&[40, 6, 2])).expect("fits"), [40, 6, 2]);
        for clusters in [&[401][..], &[40, 41], &[40, 0]] {
            let error = level_sizes(400, &requested(clusters)).expect_err("too many").to_string();
            assert!(error.contains("curate.clusters"), "{error}");
        }
        for points in 1..50 {
            assert!(level_sizes(points, &CurateConfig::default()).expect("fits")[0] <= points);
        }
        assert_eq!(level_sizes(400, &CurateConfig::default()).expect("fits"), [40, 6]);
    }
}
