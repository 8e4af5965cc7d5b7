//! k-means by Lloyd's iterations: FAISS finds the nearest centroids, means and empty clusters are ours.
//!
//! The rules are those of FAISS's own clustering (`spec/curation.md` section 4): it starts from points drawn at random,
//! and an empty cluster becomes a copy of a large one, both nudged apart. Ours starts from any centroids that it is
//! given, sums in f64 and in the order of the points, so that no number of threads changes it, and can be interrupted.

use super::assignment::assign_squared;
use crate::input::Vectors;
use crate::{CurateError, Result};
use faiss::Index;
use faiss::index::flat::FlatIndexImpl;
use lapidary_pipeline::random::{Rng, RngExt};
use rayon::prelude::*;

/// A cluster that is split gives each half this share more or less in every other value.
const NUDGE: f32 = 1.0 / 1024.0;

/// Centroids, and the sum of squared distances to the nearest of them before each update.
#[derive(Debug, Clone)]
pub struct Lloyd {
    /// Shape `[k, dim]`.
    pub centroids: Vectors,
    /// One value an iteration.
    pub objectives: Vec<f64>,
}

/// Updates `centroids` so many times, or until no point changes its cluster.
///
/// # Errors
/// When FAISS refuses, or on an interrupt.
pub fn lloyd(points: &Vectors, centroids: Vectors, iterations: u32, rng: &mut impl Rng) -> Result<Lloyd> {
    let mut state = Lloyd { centroids, objectives: Vec::new() };
    let mut index = FlatIndexImpl::new_l2(points.dim as u32).map_err(CurateError::faiss("making a flat index"))?;
    let mut before: Vec<u32> = Vec::new();
    for _ in 0..iterations {
        index.reset().map_err(CurateError::faiss("emptying an index"))?;
        index.add(&state.centroids.values).map_err(CurateError::faiss("adding centroids"))?;
        let (assignment, squared) = assign_squared(points, &mut index)?;
        state.objectives.push(squared.iter().map(|squared| f64::from(*squared)).sum());
        if assignment == before {
            break;
        }
        let mut sizes = move_to_means(points, &assignment, &mut state.centroids);
        split_large(&mut state.centroids, &mut sizes, points.len(), rng);
        before = assignment;
    }
    Ok(state)
}

/// Moves each centroid to the mean of its points, and returns how many they are. One without points stays.
fn move_to_means(points: &Vectors, assignment: &[u32], centroids: &mut Vectors) -> Vec<usize> {
    let mut members: Vec<Vec<u32>> = vec![Vec::new(); centroids.len()];
    for (point, cluster) in assignment.iter().enumerate() {
        members[*cluster as usize].push(point as u32);
    }
    let dim = points.dim;
    centroids.values.par_chunks_exact_mut(dim).zip(&members).filter(|(_, members)| !members.is_empty()).for_each_init(
        || vec![0f64; dim],
        |sums, (centroid, members)| {
            sums.fill(0.0);
            for point in members {
                let row = points.row(*point as usize);
                sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
            }
            let count = members.len() as f64;
            centroid.iter_mut().zip(&*sums).for_each(|(value, sum)| *value = (sum / count) as f32);
        },
    );
    members.iter().map(Vec::len).collect()
}

/// Gives each empty cluster half of another, which is drawn the more likely the larger it is.
fn split_large(centroids: &mut Vectors, sizes: &mut [usize], points: usize, rng: &mut impl Rng) {
    let (k, dim) = (centroids.len(), centroids.dim);
    for empty in 0..k {
        if sizes[empty] > 0 {
            continue;
        }
        let mut donor = 0;
        for trial in 0.. {
            donor = trial % k;
            if trial > 10 * k {
                donor = (0..k).max_by_key(|cluster| sizes[*cluster]).unwrap_or(0);
                break;
            }
            let chance = (sizes[donor] as f64 - 1.0) / (points as f64 - k as f64).max(1.0);
            if rng.random::<f64>() < chance {
                break;
            }
        }
        for value in 0..dim {
            let nudge = if value % 2 == 0 { NUDGE } else { -NUDGE };
            let of_donor = centroids.values[donor * dim + value];
            centroids.values[empty * dim + value] = of_donor * (1.0 + nudge);
            centroids.values[donor * dim + value] = of_donor * (1.0 - nudge);
        }
        sizes[empty] = sizes[donor] / 2;
        sizes[donor] -= sizes[empty];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapidary_pipeline::random::{Purpose, keyed};
    use proptest::prelude::*;

    fn rng() -> impl Rng {
        keyed(1, Purpose::Centroids, 0, 0)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn the_objective_never_grows(values in prop::collection::vec(-1f32..1.0, 240), k in 1usize..9) {
            let points = Vectors { dim: 4, values };
            let first: Vec<usize> = (0..k).collect();
            let found = lloyd(&points, points.select(&first), 12, &mut rng()).expect("clusters");
            for pair in found.objectives.windows(2) {
                prop_assert!(pair[1] <= pair[0] * (1.0 + 1e-5) + 1e-5, "{:?}", found.objectives);
            }
        }
    }

    #[test]
    fn an_empty_cluster_takes_half_of_the_largest() {
        // Fifty points near 1 and one far off; the third centroid is nobody's nearest.
        let mut values: Vec<f32> = (0..50).flat_map(|i| [1.0 + 0.001 * i as f32, 1.0]).collect();
        values.extend([-9.0, -9.0]);
        let points = Vectors { dim: 2, values };
        let start = Vectors { dim: 2, values: vec![1.0, 1.0, -9.0, -9.0, 50.0, 50.0] };
        let once = lloyd(&points, start.clone(), 1, &mut rng()).expect("clusters").centroids;
        let mean = [1.0 + 0.001 * 24.5, 1.0];
        let near = |row: &[f32], to: [f32; 2]| row.iter().zip(to).all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(near(once.row(2), [mean[0] * (1.0 + NUDGE), mean[1] * (1.0 - NUDGE)]), "{:?}", once.row(2));
        assert!(near(once.row(0), [mean[0] * (1.0 - NUDGE), mean[1] * (1.0 + NUDGE)]), "{:?}", once.row(0));
        let settled = lloyd(&points, start, 30, &mut rng()).expect("clusters");
        let mut index = FlatIndexImpl::new_l2(2).expect("an index");
        index.add(&settled.centroids.values).expect("adds");
        let (assignment, _) = assign_squared(&points, &mut index).expect("assigns");
        assert_eq!((0..3).filter(|cluster| assignment.contains(cluster)).count(), 3, "none is empty");
    }
}
