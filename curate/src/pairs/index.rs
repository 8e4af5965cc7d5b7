//! Nearest neighbours by cosine, through FAISS: exact for small sets, an inverted file for large ones, a graph beyond.
//!
//! Up to `curate.flat_max_images` the search is exact; above it an inverted file is searched (lists of about 256 images,
//! 8 looked at for each query, themselves found through a graph, so that a query costs much the same however many images
//! there are). It holds the vectors as they are up to `curate.inverted_max_images`, if they fit its share of memory; else
//! 8 bits a value, and where those do not fit either, 64 bytes a vector (product quantisation, Jegou et al. 2011). What
//! quantised vectors find is ranked again by the vectors themselves. What an approximate index misses is measured against
//! an exact search on a sample of the images.

use crate::input::{Vectors, dot};
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
/// Vectors that are added at a time.
const ADDED: usize = 1 << 16;
/// Fewer vectors than this do not train a product quantiser of 256 centroids a part.
const PRODUCT_QUANTISED_MIN: usize = 10_000;
/// Parts that a product quantiser cuts a vector into at most, a byte each.
const PARTS_MAX: usize = 64;
/// How much less than it is a quantised cosine may come out: a range is searched so much wider.
const QUANTISED_MARGIN: f32 = 0.02;
/// Neighbours in the background that a score is normalised by: SSCD's ranks 0 to 2.
const BACKGROUND_NEIGHBOURS: usize = 3;

/// An index over embeddings, searched for the nearest by cosine.
pub struct Neighbours<'a> {
    pub(super) vectors: &'a Vectors,
    index: IndexImpl,
    name: &'static str,
    /// Whether it gives the cosines of the vectors themselves.
    is_exact: bool,
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
        Self::within(vectors, config, usize::MAX)
    }

    /// The same, in an index of at most so many bytes, if there is one.
    ///
    /// # Errors
    /// When FAISS refuses.
    pub(crate) fn within(vectors: &'a Vectors, config: &CurateConfig, bytes: usize) -> Result<Self> {
        let count = vectors.len();
        let kind = Kind::of(count, vectors.dim, config, bytes);
        let mut index = match kind {
            Kind::Flat => index_factory(vectors.dim as u32, "Flat", MetricType::InnerProduct),
            Kind::Inverted(code) => inverted_file(vectors, code),
        }
        .map_err(CurateError::faiss("making an index"))?;
        for rows in vectors.values.chunks(ADDED * vectors.dim.max(1)) {
            interrupt::check()?;
            index.add(rows).map_err(CurateError::faiss("adding embeddings"))?;
        }
        let labels = (0..count as u32).map(Some).collect();
        Ok(Self { vectors, index, name: kind.name(), is_exact: kind.is_exact(), labels, offsets: vec![0.0; count] })
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
        Ok(Self { vectors, index, name: "restored", is_exact: false, labels, offsets: vec![0.0; vectors.len()] })
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

    /// `flat`, `inverted`, `inverted-8bit`, `inverted-pq`, or `restored` for one that was read from a file.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The `k` nearest of each query: indices and cosines, the nearest first; fewer where the index finds fewer.
    ///
    /// # Errors
    /// When FAISS refuses.
    pub fn of(&mut self, queries: &[f32], k: usize) -> Result<Vec<Vec<(usize, f32)>>> {
        let wanted = k.min(self.labels.len()).max(1);
        // What is ranked again is taken from twice as many.
        let k = if self.is_exact { wanted } else { (2 * wanted).min(self.labels.len()) };
        let found = self.index.search(queries, k).map_err(CurateError::faiss("searching"))?;
        let rows = found.labels.par_chunks(k).zip(found.distances.par_chunks(k));
        let row = |(labels, similarities): (&[faiss::Idx], &[f32])| -> Vec<(usize, f32)> {
            labels.iter().zip(similarities).filter_map(|(label, near)| Some((self.vector(*label)?, *near))).collect()
        };
        let rows = rows.map(row).zip(queries.par_chunks(self.vectors.dim));
        let ranked = rows.map(|(row, query)| {
            let mut row = self.ranked_again(query, row);
            row.truncate(wanted);
            row
        });
        Ok(ranked.collect())
    }

    /// All vectors whose cosine with a query is more than `least`, in the order of their indices.
    ///
    /// # Errors
    /// When FAISS refuses.
    pub fn above(&mut self, queries: &[f32], least: f32) -> Result<Vec<Vec<(usize, f32)>>> {
        let margin = if self.is_exact { 0.0 } else { QUANTISED_MARGIN };
        let found =
            self.index.range_search(queries, least - margin).map_err(CurateError::faiss("searching a range"))?;
        let (similarities, labels) = found.distance_and_labels();
        let row = |(limits, query): (&[usize], &[f32])| {
            let range = limits[0]..limits[1];
            let found = labels[range.clone()].iter().zip(&similarities[range]);
            let found = found.filter_map(|(label, near)| Some((self.vector(*label)?, *near))).collect();
            let mut found = self.ranked_again(query, found);
            found.retain(|(_, similarity)| *similarity > least);
            found.sort_unstable_by_key(|(vector, _)| *vector);
            found
        };
        Ok(found.lims().windows(2).zip(queries.chunks(self.vectors.dim)).map(row).collect())
    }

    /// What quantised vectors found, by the cosines of the vectors themselves, the nearest first.
    fn ranked_again(&self, query: &[f32], mut found: Vec<(usize, f32)>) -> Vec<(usize, f32)> {
        if !self.is_exact {
            found.iter_mut().for_each(|(vector, similarity)| *similarity = dot(query, self.vectors.row(*vector)));
            found.sort_unstable_by(|x, y| y.1.total_cmp(&x.1).then(x.0.cmp(&y.0)));
        }
        found
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

/// What an index holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The vectors, all of which are compared.
    Flat,
    /// Lists of vectors in a code.
    Inverted(Code),
}

/// How an inverted file holds a vector, as FAISS names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Code {
    /// As it is.
    Flat,
    /// In 8 bits a value.
    EightBits,
    /// In this many parts of a byte each (product quantisation).
    Parts(usize),
}

impl Kind {
    /// The first that is allowed for so many vectors and fits so many bytes; else the smallest.
    fn of(count: usize, dim: usize, config: &CurateConfig, bytes: usize) -> Self {
        // A number of 8 bytes goes with each vector.
        let fits = |a_vector: usize| count.saturating_mul(a_vector + 8) <= bytes;
        // The search is exact up to there, whatever the budget.
        if count <= config.flat_max_images {
            return Self::Flat;
        }
        Self::Inverted(if count <= config.inverted_max_images && fits(4 * dim) {
            Code::Flat
        } else if fits(dim) || count < PRODUCT_QUANTISED_MIN {
            Code::EightBits
        } else {
            // The most parts that divide a vector, of 64.
            (1..=PARTS_MAX).rev().find(|parts| dim.is_multiple_of(*parts)).map_or(Code::EightBits, Code::Parts)
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Flat => "flat",
            Self::Inverted(Code::Flat) => "inverted",
            Self::Inverted(Code::EightBits) => "inverted-8bit",
            Self::Inverted(Code::Parts(_)) => "inverted-pq",
        }
    }

    fn is_exact(self) -> bool {
        matches!(self, Self::Flat | Self::Inverted(Code::Flat))
    }
}

fn inverted_file(vectors: &Vectors, code: Code) -> faiss::error::Result<IndexImpl> {
    let lists = (vectors.len() / IMAGES_A_LIST).max(1);
    let code = match code {
        Code::Flat => "Flat".to_owned(),
        Code::EightBits => "SQ8".to_owned(),
        Code::Parts(parts) => format!("PQ{parts}"),
    };
    let described = format!("IVF{lists}_HNSW32,{code}");
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
    fn the_index_is_the_first_that_fits() {
        let config = CurateConfig { flat_max_images: 100, inverted_max_images: 50_000, ..CurateConfig::default() };
        let named = |count, bytes| Kind::of(count, 96, &config, bytes).name();
        assert_eq!((named(100, usize::MAX), named(100, 1)), ("flat", "flat"));
        assert_eq!(named(101, usize::MAX), "inverted");
        assert_eq!(named(50_001, usize::MAX), "inverted-8bit");
        assert_eq!(named(20_000, 20_000 * 300), "inverted-8bit");
        assert_eq!(named(20_000, 20_000 * 100), "inverted-pq");
        assert_eq!(named(200, 1), "inverted-8bit", "too few for a product quantiser");
        assert_eq!(Kind::of(20_000, 96, &config, 1), Kind::Inverted(Code::Parts(48)), "the most parts that divide it");
    }

    #[test]
    fn quantised_vectors_find_what_the_vectors_themselves_do() {
        use lapidary_pipeline::random::{Purpose, Rng, keyed};
        let mut rng = keyed(6, Purpose::Scene, 0, 0);
        // Pairs of near vectors among random ones.
        let (count, dim) = (10_200, 16);
        let mut values: Vec<f32> = Vec::with_capacity(count * dim);
        for vector in 0..count {
            let before = values.len().saturating_sub(dim);
            for value in 0..dim {
                let noise = rng.next_u32() as f32 / u32::MAX as f32 - 0.5;
                values.push(if vector % 2 == 1 { values[before + value] + 0.04 * noise } else { noise });
            }
        }
        for vector in values.chunks_exact_mut(dim) {
            let norm = vector.iter().map(|v| v * v).sum::<f32>().sqrt();
            vector.iter_mut().for_each(|v| *v /= norm);
        }
        let vectors = Vectors { dim, values };
        let config = CurateConfig { flat_max_images: 10, ..CurateConfig::default() };
        let twin = |vector: usize| if vector % 2 == 1 { vector - 1 } else { vector + 1 };
        for (bytes, name) in [(usize::MAX, "inverted"), (count * 30, "inverted-8bit"), (1, "inverted-pq")] {
            let mut index = Neighbours::within(&vectors, &config, bytes).expect("an index");
            assert_eq!(index.name(), name);
            let asked: Vec<usize> = (0..count).step_by(7).collect();
            let rows = index.of(&vectors.select(&asked).values, 8).expect("searches");
            let mut hits = 0;
            for (vector, row) in asked.iter().zip(&rows) {
                assert_eq!(row[0].0, *vector, "{name}: itself first");
                let near = row.iter().find(|(other, _)| *other == twin(*vector));
                hits += usize::from(near.is_some());
                let exact =
                    |(other, similarity): &(usize, f32)| (similarity - vectors.cosine(*vector, *other)).abs() < 1e-5;
                assert!(row.iter().all(exact), "{name}: cosines of the vectors themselves");
            }
            assert!(hits as f32 > 0.97 * asked.len() as f32, "{name}: {hits} of {} twins", asked.len());
            let recall = index.recall().expect("searches");
            assert!(recall > 0.5, "{name}: {recall} of the ten nearest, where eight in ten are random");
            let ranged = index.above(vectors.row(40), 0.99).expect("searches");
            assert_eq!(ranged[0].iter().map(|(other, _)| *other).collect::<Vec<_>>(), [40, 41], "{name}");
        }
    }

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
