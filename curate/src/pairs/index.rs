//! Nearest neighbours by cosine, through FAISS: exact for small sets, an inverted file for large ones, a graph beyond.
//!
//! Up to `curate.flat_max_images` the search is exact; up to `curate.inverted_max_images` an inverted file is searched
//! (lists of about 256 images, 8 looked at for each query, themselves found through a graph, so that a query costs much
//! the same however many images there are); above it an HNSW graph over the images (32 neighbours a node). What an
//! approximate index misses is measured against an exact search on a sample of the images.

use crate::input::Vectors;
use crate::{CurateError, Result};
use faiss::index::IndexImpl;
use faiss::index::autotune::ParameterSpace;
use faiss::index::io::{read_index, write_index};
use faiss::{Index, MetricType, index_factory};
use lapidary_pipeline::interrupt;
use lapidary_schemas::config::CurateConfig;
use rayon::prelude::*;
use std::path::Path;

/// Queries a call to FAISS; between calls an interrupt is noticed.
pub(super) const QUERIES: usize = 4096;
/// Images an inverted list holds on average, and lists looked at for each query.
const IMAGES_A_LIST: usize = 256;
const LISTS_PROBED: usize = 8;
/// Images a list that the lists' centroids are trained on.
const TRAINED_A_LIST: usize = 20;
/// Queries and neighbours that recall is measured on.
const RECALL_QUERIES: usize = 100;
const RECALL_NEIGHBOURS: usize = 10;
/// Neighbours in the background that a score is normalised by: SSCD's ranks 0 to 2.
const BACKGROUND_NEIGHBOURS: usize = 3;

/// An index over embeddings, searched for the nearest by cosine.
pub struct Neighbours<'a> {
    pub(super) vectors: &'a Vectors,
    index: IndexImpl,
    name: &'static str,
    /// Which vector each of the index is; none where it is gone since the index was written.
    labels: Vec<Option<u32>>,
    /// What is taken off the similarities of each vector before they are held against a threshold.
    pub(super) offsets: Vec<f32>,
}

impl<'a> Neighbours<'a> {
    /// Indexes vectors, which are of unit length.
    ///
    /// # Errors
    /// When FAISS refuses.
    pub fn new(vectors: &'a Vectors, config: &CurateConfig) -> Result<Self> {
        let count = vectors.len();
        let dim = vectors.dim as u32;
        let name = name_for(count, config);
        let mut index = match name {
            "flat" => index_factory(dim, "Flat", MetricType::InnerProduct),
            "inverted" => inverted_file(vectors),
            _ => index_factory(dim, "HNSW32,Flat", MetricType::InnerProduct),
        }
        .map_err(CurateError::faiss("making an index"))?;
        index.add(&vectors.values).map_err(CurateError::faiss("adding embeddings"))?;
        Ok(Self { vectors, index, name, labels: (0..count as u32).map(Some).collect(), offsets: vec![0.0; count] })
    }

    /// Resumes from an index that was written; `labels` says which vector each of its own is. The vectors that it lacks
    /// are added.
    ///
    /// # Errors
    /// When the file is no index, or not one of so many vectors of this length.
    pub(crate) fn restore(vectors: &'a Vectors, path: &Path, mut labels: Vec<Option<u32>>) -> Result<Self> {
        let mut index = read_index(path.to_string_lossy()).map_err(CurateError::faiss("reading an index"))?;
        if index.d() as usize != vectors.dim || index.ntotal() as usize != labels.len() {
            let text = format!("`{}` holds {} vectors of {} values", path.display(), index.ntotal(), index.d());
            return Err(CurateError::Mismatch(text));
        }
        let mut is_there = vec![false; vectors.len()];
        labels.iter().flatten().for_each(|vector| is_there[*vector as usize] = true);
        let lacking: Vec<usize> = (0..vectors.len()).filter(|vector| !is_there[*vector]).collect();
        index.add(&vectors.select(&lacking).values).map_err(CurateError::faiss("adding embeddings"))?;
        labels.extend(lacking.iter().map(|vector| Some(*vector as u32)));
        Ok(Self { vectors, index, name: "restored", labels, offsets: vec![0.0; vectors.len()] })
    }

    /// Normalises scores by a background of images that are copies of none of the vectors: what a vector has in common
    /// with its nearest there it has with anything (SSCD, Pizzi et al. 2022). It never changes the order of a vector's
    /// neighbours.
    ///
    /// # Errors
    /// When the background is of another length, or FAISS refuses.
    pub fn normalise(&mut self, background: &Vectors, config: &CurateConfig) -> Result<()> {
        if background.dim != self.vectors.dim {
            let (theirs, ours) = (background.dim, self.vectors.dim);
            return Err(CurateError::Mismatch(format!("a background of {theirs} values, embeddings of {ours}")));
        }
        let mut nearest = Neighbours::new(background, config)?;
        let mut offsets = Vec::with_capacity(self.vectors.len());
        for queries in self.vectors.values.chunks(QUERIES * self.vectors.dim) {
            interrupt::check()?;
            for found in nearest.of(queries, BACKGROUND_NEIGHBOURS)? {
                let sum: f32 = found.iter().map(|(_, similarity)| similarity).sum();
                offsets.push(config.background_weight * sum / found.len().max(1) as f32);
            }
        }
        self.offsets = offsets;
        Ok(())
    }

    /// What a similarity of a vector counts for.
    pub fn score(&self, vector: usize, similarity: f32) -> f32 {
        similarity - self.offsets[vector]
    }

    /// Writes the index to a file.
    ///
    /// # Errors
    /// When FAISS refuses.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        write_index(&self.index, path.to_string_lossy()).map_err(CurateError::faiss("writing an index"))
    }

    /// `flat`, `inverted`, `hnsw`, or `restored` for one that was read from a file.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The `k` nearest of each query: indices and cosines, the nearest first; fewer where the index finds fewer.
    ///
    /// # Errors
    /// When FAISS refuses.
    pub fn of(&mut self, queries: &[f32], k: usize) -> Result<Vec<Vec<(usize, f32)>>> {
        let k = k.min(self.labels.len()).max(1);
        let found = self.index.search(queries, k).map_err(CurateError::faiss("searching"))?;
        let rows = found.labels.chunks(k).zip(found.distances.chunks(k));
        let row = |(labels, similarities): (&[faiss::Idx], &[f32])| {
            labels.iter().zip(similarities).filter_map(|(label, near)| Some((self.vector(*label)?, *near))).collect()
        };
        Ok(rows.map(row).collect())
    }

    /// All vectors whose cosine with a query is more than `least`, in the order of their indices.
    ///
    /// # Errors
    /// When FAISS refuses.
    pub fn above(&mut self, queries: &[f32], least: f32) -> Result<Vec<Vec<(usize, f32)>>> {
        let found = self.index.range_search(queries, least).map_err(CurateError::faiss("searching a range"))?;
        let (similarities, labels) = found.distance_and_labels();
        let row = |limits: &[usize]| {
            let range = limits[0]..limits[1];
            let found = labels[range.clone()].iter().zip(&similarities[range]);
            let mut found: Vec<(usize, f32)> =
                found.filter_map(|(label, near)| Some((self.vector(*label)?, *near))).collect();
            found.sort_unstable_by_key(|(vector, _)| *vector);
            found
        };
        Ok(found.lims().windows(2).map(row).collect())
    }

    fn vector(&self, label: faiss::Idx) -> Option<usize> {
        self.labels[label.get()? as usize].map(|vector| vector as usize)
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

/// The index that serves so many images.
fn name_for(count: usize, config: &CurateConfig) -> &'static str {
    match count {
        _ if count <= config.flat_max_images => "flat",
        _ if count <= config.inverted_max_images => "inverted",
        _ => "hnsw",
    }
}

fn inverted_file(vectors: &Vectors) -> faiss::error::Result<IndexImpl> {
    let lists = (vectors.len() / IMAGES_A_LIST).max(1);
    let described = format!("IVF{lists}_HNSW32,Flat");
    let mut inverted = index_factory(vectors.dim as u32, described, MetricType::InnerProduct)?;
    ParameterSpace::new()?.set_index_parameter(&inverted, "nprobe", LISTS_PROBED as f64)?;
    // What the lists' centroids are trained on: enough for them, not everything.
    let step = (vectors.len() / (lists * TRAINED_A_LIST)).max(1);
    let sample: Vec<usize> = (0..vectors.len()).step_by(step).collect();
    tracing::info!("training an inverted file of {lists} lists on {} embeddings", sample.len());
    inverted.train(&vectors.select(&sample).values)?;
    Ok(inverted)
}

#[cfg(test)]
mod tests {
    use super::super::embeddings::tests::circle;
    use super::*;

    #[test]
    fn an_index_is_written_and_resumed_from() {
        let vectors = circle(600);
        let config = CurateConfig { neighbours: 4, flat_max_images: 10, ..CurateConfig::default() };
        let temporary = tempfile::tempdir().expect("a folder");
        let path = temporary.path().join("index");
        // The first 400 in another order, of which one is gone since.
        let first: Vec<usize> = (0..400).rev().collect();
        Neighbours::new(&vectors.select(&first), &config).expect("an index").write(&path).expect("writes");
        let labels = first.iter().map(|vector| (*vector != 7).then_some(*vector as u32)).collect();
        let mut restored = Neighbours::restore(&vectors, &path, labels).expect("reads");
        for (vector, twin) in [(42, 43), (401, 400), (599, 598), (6, 7)] {
            // One that is gone still takes a place.
            let found = &restored.of(vectors.row(vector), 3).expect("searches")[0];
            assert!(found.iter().any(|(other, _)| *other == twin), "{vector}: {found:?}");
        }
        assert!(Neighbours::restore(&vectors, &path, vec![None; 3]).is_err(), "of another number of vectors");
    }
}
