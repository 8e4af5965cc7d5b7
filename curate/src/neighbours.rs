//! Nearest neighbours by cosine, through FAISS: exact for small sets, an inverted file for large ones, a graph beyond.
//!
//! Up to `curate.flat_max_images` the search is exact; up to `curate.inverted_max_images` an inverted file is asked (lists of
//! about 256 images, 8 looked at for each query, themselves found through a graph, so that a query costs much the same
//! however many images there are); above it an HNSW graph over the images (32 neighbours a node). What an approximate
//! index misses is measured against an exact search on a sample of the images.

use crate::input::Vectors;
use crate::{CurateError, Result};
use faiss::index::IndexImpl;
use faiss::index::autotune::ParameterSpace;
use faiss::index::flat::FlatIndexImpl;
use faiss::{Index, MetricType, index_factory};
use lapidary_pipeline::interrupt;
use lapidary_pipeline::stage::Progress;
use lapidary_schemas::config::CurateConfig;
use rayon::prelude::*;

/// Queries a call to FAISS; between calls an interrupt is noticed.
const QUERIES: usize = 4096;
/// Images an inverted list holds on average, and lists looked at for each query.
const IMAGES_A_LIST: usize = 256;
const LISTS_PROBED: usize = 8;
/// Images a list that the lists' centroids are trained on.
const TRAINED_A_LIST: usize = 20;
/// Queries and neighbours that recall is measured on.
const RECALL_QUERIES: usize = 200;
const RECALL_NEIGHBOURS: usize = 10;

/// An index over embeddings, to be asked for the nearest by cosine.
pub struct Neighbours<'a> {
    vectors: &'a Vectors,
    index: Box<dyn Index>,
    name: &'static str,
}

impl<'a> Neighbours<'a> {
    /// Indexes vectors, which are of unit length.
    ///
    /// # Errors
    /// When FAISS refuses.
    pub fn new(vectors: &'a Vectors, config: &CurateConfig) -> Result<Self> {
        let count = vectors.len();
        let dim = vectors.dim as u32;
        let (mut index, name): (Box<dyn Index>, _) = if count <= config.flat_max_images {
            (Box::new(FlatIndexImpl::new_ip(dim).map_err(CurateError::faiss("making a flat index"))?), "flat")
        } else if count <= config.inverted_max_images {
            (Box::new(inverted_file(vectors)?), "inverted")
        } else {
            let graph = index_factory(dim, "HNSW32,Flat", MetricType::InnerProduct);
            (Box::new(graph.map_err(CurateError::faiss("making a graph"))?), "hnsw")
        };
        index.add(&vectors.values).map_err(CurateError::faiss("adding embeddings"))?;
        Ok(Self { vectors, index, name })
    }

    /// `flat`, `inverted` or `hnsw`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The `k` nearest of each query: indices and cosines, the nearest first; fewer where the index finds fewer.
    ///
    /// # Errors
    /// When FAISS refuses.
    pub fn of(&mut self, queries: &[f32], k: usize) -> Result<Vec<Vec<(usize, f32)>>> {
        let k = k.min(self.vectors.len()).max(1);
        let found = self.index.search(queries, k).map_err(CurateError::faiss("searching"))?;
        let rows = found.labels.chunks(k).zip(found.distances.chunks(k));
        let row = |(labels, similarities): (&[faiss::Idx], &[f32])| {
            let found = labels.iter().zip(similarities);
            found.filter_map(|(label, similarity)| label.get().map(|label| (label as usize, *similarity))).collect()
        };
        Ok(rows.map(row).collect())
    }

    /// The share of the true nearest neighbours that the index finds, on a sample; 1 where the search is exact.
    ///
    /// # Errors
    /// When FAISS refuses.
    pub fn recall(&mut self) -> Result<f64> {
        if self.name == "flat" {
            return Ok(1.0);
        }
        let vectors = self.vectors;
        let sample: Vec<usize> = (0..vectors.len()).step_by(vectors.len().div_ceil(RECALL_QUERIES)).collect();
        let found = self.of(&vectors.select(&sample).values, RECALL_NEIGHBOURS)?;
        let hits: usize = sample
            .par_iter()
            .zip(&found)
            .map(|(query, found)| {
                let mut exact: Vec<(f32, usize)> =
                    (0..vectors.len()).map(|other| (vectors.cosine(*query, other), other)).collect();
                exact.select_nth_unstable_by(RECALL_NEIGHBOURS - 1, |a, b| b.0.total_cmp(&a.0));
                // A tie at the last place counts for either.
                let least = exact[RECALL_NEIGHBOURS - 1].0 - 1e-6;
                found.iter().filter(|(_, similarity)| *similarity >= least).count().min(RECALL_NEIGHBOURS)
            })
            .sum();
        Ok(hits as f64 / (sample.len() * RECALL_NEIGHBOURS) as f64)
    }
}

fn inverted_file(vectors: &Vectors) -> Result<IndexImpl> {
    let lists = (vectors.len() / IMAGES_A_LIST).max(1);
    let described = format!("IVF{lists}_HNSW32,Flat");
    let mut inverted = index_factory(vectors.dim as u32, described, MetricType::InnerProduct)
        .map_err(CurateError::faiss("making an inverted file"))?;
    ParameterSpace::new()
        .and_then(|space| space.set_index_parameter(&inverted, "nprobe", LISTS_PROBED as f64))
        .map_err(CurateError::faiss("setting the lists to look at"))?;
    // What the lists' centroids are trained on: enough for them, not everything.
    let step = (vectors.len() / (lists * TRAINED_A_LIST)).max(1);
    let sample: Vec<usize> = (0..vectors.len()).step_by(step).collect();
    tracing::info!("training an inverted file of {lists} lists on {} embeddings", sample.len());
    inverted.train(&vectors.select(&sample).values).map_err(CurateError::faiss("training an inverted file"))?;
    Ok(inverted)
}

/// The near pairs of a set, and what was seen on the way to them.
#[derive(Debug, Clone, Default)]
pub struct NearPairs {
    /// Pairs `(a, b, cosine)` with `a < b`, sorted.
    pub pairs: Vec<(usize, usize, f32)>,
    /// The index that was asked: `flat`, `inverted` or `hnsw`.
    pub index: &'static str,
    /// The share of true nearest neighbours that it finds, on a sample.
    pub recall: f64,
    /// How many images have their nearest neighbour at a cosine from `i / NEAREST_BINS` on, below 0 counting as 0.
    pub nearest: Vec<u64>,
}

/// Bins of [`NearPairs::nearest`].
pub const NEAREST_BINS: usize = 40;

/// Pairs with a cosine of at least `curate.copy_similarity_min`, among the `curate.neighbours` nearest of each.
///
/// # Errors
/// When FAISS refuses, or on an interrupt.
pub fn pairs_above(vectors: &Vectors, config: &CurateConfig) -> Result<NearPairs> {
    let mut near_pairs =
        NearPairs { index: "flat", recall: 1.0, nearest: vec![0; NEAREST_BINS], ..NearPairs::default() };
    if vectors.len() < 2 {
        return Ok(near_pairs);
    }
    let mut neighbours = Neighbours::new(vectors, config)?;
    let progress = Progress::new("neighbours", vectors.len() as u64, "images");
    let mut pairs = Vec::new();
    for (chunk, queries) in vectors.values.chunks(QUERIES * vectors.dim).enumerate() {
        interrupt::check()?;
        for (row, found) in neighbours.of(queries, config.neighbours)?.into_iter().enumerate() {
            let a = chunk * QUERIES + row;
            if let Some((_, nearest)) = found.iter().find(|(b, _)| *b != a) {
                let bin = (nearest.max(0.0) * NEAREST_BINS as f32) as usize;
                near_pairs.nearest[bin.min(NEAREST_BINS - 1)] += 1;
            }
            let near = found.into_iter().filter(|(b, similarity)| *b != a && *similarity >= config.copy_similarity_min);
            pairs.extend(near.map(|(b, similarity)| (a.min(b), a.max(b), similarity)));
        }
        progress.add((queries.len() / vectors.dim) as u64);
    }
    drop(progress);
    (near_pairs.index, near_pairs.recall) = (neighbours.name(), neighbours.recall()?);
    if near_pairs.index != "flat" {
        tracing::info!("recall of the {} index: {:.3}", near_pairs.index, near_pairs.recall);
    }
    // FAISS may give the two directions of a pair similarities that differ in their last bit.
    pairs.sort_by(|x, y| (x.0, x.1).cmp(&(y.0, y.1)).then(y.2.total_cmp(&x.2)));
    pairs.dedup_by_key(|(a, b, _)| (*a, *b));
    near_pairs.pairs = pairs;
    Ok(near_pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Points on a circle, a degree apart, each with a twin.
    fn circle(count: usize) -> Vectors {
        let angle = |i: usize| (i / 2) as f32 * 2.0f32.to_radians() * 180.0 / count as f32;
        let values = (0..count).flat_map(|i| [angle(i).cos(), angle(i).sin()]).collect();
        Vectors { dim: 2, values }
    }

    #[test]
    fn twins_are_found_by_every_index_and_recall_is_measured() {
        let vectors = circle(600);
        let expected: Vec<(usize, usize)> = (0..300).map(|i| (2 * i, 2 * i + 1)).collect();
        for (flat, inverted, name) in [(1000, 1000, "flat"), (10, 1000, "inverted"), (10, 10, "hnsw")] {
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
            assert!(neighbours.recall().expect("searches") > 0.9, "{name}");
        }
    }
}
