//! Nearest neighbours by cosine, through FAISS: exact for small sets, an inverted file for large ones.

use crate::input::Vectors;
use crate::{CurateError, Result};
use faiss::index::flat::FlatIndexImpl;
use faiss::index::ivf_flat::IVFFlatIndexImpl;
use faiss::{Index, MetricType};
use lapidary_pipeline::interrupt;
use lapidary_pipeline::stage::Progress;

/// Queries a call to FAISS; between calls an interrupt is noticed.
const QUERIES: usize = 4096;
/// Images an inverted list holds on average, and lists looked at for each query.
const IMAGES_A_LIST: usize = 128;
const LISTS_PROBED: u32 = 8;

/// Pairs `(a, b, cosine)` with `a < b` and a cosine of at least `similarity_min`, among the `k` nearest of each, sorted.
///
/// # Errors
/// When FAISS refuses, or on an interrupt.
pub fn pairs_above(
    vectors: &Vectors,
    k: usize,
    similarity_min: f32,
    flat_max_images: usize,
) -> Result<Vec<(usize, usize, f32)>> {
    let count = vectors.len();
    let dim = vectors.dim as u32;
    let mut index: Box<dyn Index> = if count <= flat_max_images {
        Box::new(FlatIndexImpl::new_ip(dim).map_err(CurateError::faiss("making a flat index"))?)
    } else {
        let lists = (count / IMAGES_A_LIST) as u32;
        let coarse = FlatIndexImpl::new_ip(dim).map_err(CurateError::faiss("making a coarse index"))?;
        let mut inverted = IVFFlatIndexImpl::new(coarse, dim, lists, MetricType::InnerProduct)
            .map_err(CurateError::faiss("making an inverted file"))?;
        inverted.set_nprobe(LISTS_PROBED);
        // What the coarse quantizer is trained on: enough for its lists, not everything.
        let sample: Vec<usize> = (0..count).step_by((count / (lists as usize * 40)).max(1)).collect();
        tracing::info!("training an inverted file of {lists} lists on {} embeddings", sample.len());
        inverted.train(&vectors.select(&sample).values).map_err(CurateError::faiss("training an inverted file"))?;
        Box::new(inverted)
    };
    index.add(&vectors.values).map_err(CurateError::faiss("adding embeddings"))?;
    let progress = Progress::new("neighbours", count as u64, "images");
    let mut pairs = Vec::new();
    for (chunk, queries) in vectors.values.chunks(QUERIES * vectors.dim).enumerate() {
        interrupt::check()?;
        let found = index.search(queries, k.min(count)).map_err(CurateError::faiss("searching"))?;
        let rows = found.labels.chunks(k.min(count)).zip(found.distances.chunks(k.min(count)));
        for (row, (labels, similarities)) in rows.enumerate() {
            let a = chunk * QUERIES + row;
            for (label, similarity) in labels.iter().zip(similarities) {
                if *similarity < similarity_min {
                    continue;
                }
                if let Some(b) = label.get().map(|b| b as usize).filter(|b| *b != a) {
                    pairs.push((a.min(b), a.max(b), *similarity));
                }
            }
        }
        progress.add((queries.len() / vectors.dim) as u64);
    }
    // FAISS may give the two directions of a pair similarities that differ in their last bit.
    pairs.sort_by(|x, y| (x.0, x.1).cmp(&(y.0, y.1)).then(y.2.total_cmp(&x.2)));
    pairs.dedup_by_key(|(a, b, _)| (*a, *b));
    Ok(pairs)
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
    fn twins_are_found_flat_and_through_lists() {
        let vectors = circle(600);
        let expected: Vec<(usize, usize)> = (0..300).map(|i| (2 * i, 2 * i + 1)).collect();
        for flat_max_images in [1000, 10] {
            let pairs = pairs_above(&vectors, 4, 0.999_99, flat_max_images).expect("searches");
            let found: Vec<(usize, usize)> = pairs.iter().map(|(a, b, _)| (*a, *b)).collect();
            assert_eq!(found, expected, "flat_max_images {flat_max_images}");
        }
    }
}
