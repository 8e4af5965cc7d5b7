//! Candidates by embedding: images whose cosine is large, among the nearest neighbours of each or above a threshold.

use super::index::{Neighbours, QUERIES};
use crate::Result;
use crate::input::Vectors;
use lapidary_pipeline::interrupt;
use lapidary_pipeline::stage::Progress;
use lapidary_schemas::config::CurateConfig;
use rayon::prelude::*;
use serde_json::{Value, json};

/// The near pairs of a set, and statistics of the search.
#[derive(Debug, Clone, Default)]
pub struct NearPairs {
    /// Pairs `(a, b, cosine)` with `a < b`, sorted.
    pub pairs: Vec<(usize, usize, f32)>,
    /// The index that was searched: see [`Neighbours::name`].
    pub index: &'static str,
    /// The share of true nearest neighbours that it finds, on a sample.
    pub recall: f64,
    /// How many images have their nearest neighbour at a cosine from `i / NEAREST_BINS` on, below 0 counting as 0.
    pub nearest: Vec<u64>,
}

impl NearPairs {
    /// What a manifest keeps of the search.
    pub(crate) fn facts(&self) -> Value {
        json!({"index": self.index, "recall": self.recall, "nearest": self.nearest})
    }
}

/// Bins of [`NearPairs::nearest`].
pub const NEAREST_BINS: usize = 40;

/// Pairs with a cosine of at least `curate.copy_similarity_min`, among the `curate.neighbours` nearest of each; without
/// that limit where it is 0.
///
/// # Errors
/// When FAISS refuses, or on an interrupt.
pub fn pairs_above(vectors: &Vectors, config: &CurateConfig) -> Result<NearPairs> {
    let all: Vec<usize> = (0..vectors.len()).collect();
    let mut pairs = Vec::new();
    let mut near = pairs_of(&mut Neighbours::new(vectors, config)?, &all, config, |near| {
        pairs.extend_from_slice(near);
        Ok(())
    })?;
    // FAISS may give the two directions of a pair similarities that differ in their last bit.
    pairs.par_sort_unstable_by(|x, y| (x.0, x.1).cmp(&(y.0, y.1)).then(y.2.total_cmp(&x.2)));
    pairs.dedup_by_key(|(a, b, _)| (*a, *b));
    near.pairs = pairs;
    Ok(near)
}

/// The same, of pairs with one of `queried` at least, which are handed on as they are found, some twice.
pub(super) fn pairs_of(
    neighbours: &mut Neighbours<'_>,
    queried: &[usize],
    config: &CurateConfig,
    mut hand_on: impl FnMut(&[(usize, usize, f32)]) -> Result<()>,
) -> Result<NearPairs> {
    let vectors = neighbours.vectors;
    let mut nearest_bins = vec![0u64; NEAREST_BINS];
    let progress = Progress::new("neighbours", queried.len() as u64, "images");
    for chunk in queried.chunks(QUERIES) {
        interrupt::check()?;
        let queries = vectors.select(chunk).values;
        let mut pairs = Vec::new();
        let rows = match config.neighbours {
            // A range is open: what lies at the threshold itself belongs to it here.
            0 => {
                let offsets = chunk.iter().map(|a| neighbours.offsets[*a]);
                let lowest = offsets.min_by(f32::total_cmp).unwrap_or(0.0);
                neighbours.above(&queries, (config.copy_similarity_min + lowest).next_down())?
            }
            k => neighbours.of(&queries, k)?,
        };
        for (a, found) in chunk.iter().zip(rows) {
            let others = || found.iter().filter(|(b, _)| b != a);
            if let Some(nearest) = others().map(|(_, similarity)| *similarity).max_by(f32::total_cmp) {
                let bin = (nearest.max(0.0) * NEAREST_BINS as f32) as usize;
                nearest_bins[bin.min(NEAREST_BINS - 1)] += 1;
            }
            let near =
                others().filter(|(_, similarity)| neighbours.score(*a, *similarity) >= config.copy_similarity_min);
            pairs.extend(near.map(|(b, similarity)| (*a.min(b), *a.max(b), *similarity)));
        }
        hand_on(&pairs)?;
        progress.add(chunk.len() as u64);
    }
    drop(progress);
    let recall = neighbours.recall()?;
    if neighbours.name() != "flat" {
        tracing::info!("recall of the {} index: {recall:.3}", neighbours.name());
    }
    Ok(NearPairs { pairs: Vec::new(), index: neighbours.name(), recall, nearest: nearest_bins })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Points on a circle, a degree apart, each with a twin.
    pub(in crate::pairs) fn circle(count: usize) -> Vectors {
        let angle = |i: usize| (i / 2) as f32 * 2.0f32.to_radians() * 180.0 / count as f32;
        let values = (0..count).flat_map(|i| [angle(i).cos(), angle(i).sin()]).collect();
        Vectors { dim: 2, values }
    }

    #[test]
    fn twins_are_found_by_every_index_and_recall_is_measured() {
        let vectors = circle(600);
        let expected: Vec<(usize, usize)> = (0..300).map(|i| (2 * i, 2 * i + 1)).collect();
        for (flat, inverted, name) in [(1000, 1000, "flat"), (10, 1000, "inverted")] {
            let config = CurateConfig {
                neighbours: 4,
                copy_similarity_min: 0.999_99,
                flat_max_images: flat,
                inverted_max_images: inverted,
                ..CurateConfig::default()
            };
            let near = pairs_above(&vectors, &config).expect("searches");
            assert_eq!(near.nearest.iter().sum::<u64>(), 600);
            let found: Vec<(usize, usize)> = near.pairs.iter().map(|(a, b, _)| (*a, *b)).collect();
            assert_eq!(found, expected, "{name}");
            let mut neighbours = Neighbours::new(&vectors, &config).expect("an index");
            assert_eq!(neighbours.name(), name);
            let ranged = pairs_above(&vectors, &CurateConfig { neighbours: 0, ..config }).expect("searches");
            assert_eq!(ranged.pairs, near.pairs, "by range, {name}");
            assert!(neighbours.recall().expect("searches") > 0.9, "{name}");
        }
    }

    /// spec/curation.md section 8, test 13: block by block the same pairs come out as of the whole at once.
    #[test]
    fn a_range_searched_in_blocks_holds_what_comparing_all_finds() {
        use lapidary_pipeline::random::{Purpose, Rng, keyed};
        let mut rng = keyed(5, Purpose::Scene, 0, 0);
        let count = QUERIES + 700;
        let mut values: Vec<f32> = (0..count * 8).map(|_| rng.next_u32() as f32 / u32::MAX as f32 - 0.5).collect();
        for vector in values.chunks_exact_mut(8) {
            let norm = vector.iter().map(|v| v * v).sum::<f32>().sqrt();
            vector.iter_mut().for_each(|v| *v /= norm);
        }
        let vectors = Vectors { dim: 8, values };
        let config = CurateConfig { neighbours: 0, copy_similarity_min: 0.9, ..CurateConfig::default() };
        let found = pairs_above(&vectors, &config).expect("searches").pairs;
        // Sums in another order differ in their last bits: pairs that near the threshold may be on either side.
        let dense = |least: f32| -> Vec<(usize, usize)> {
            let row = |a: usize| (a + 1..count).map(move |b| (a, b));
            (0..count).flat_map(row).filter(|(a, b)| vectors.cosine(*a, *b) >= least).collect()
        };
        let found: Vec<(usize, usize)> = found.into_iter().map(|(a, b, _)| (a, b)).collect();
        assert!(found.len() > 1000, "{}", found.len());
        assert!(dense(0.9 + 1e-6).iter().all(|pair| found.binary_search(pair).is_ok()), "none is missed");
        let loose = dense(0.9 - 1e-6);
        assert!(found.iter().all(|pair| loose.binary_search(pair).is_ok()), "none is invented");
    }
}
