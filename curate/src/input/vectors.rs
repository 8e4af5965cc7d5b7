//! Vectors of unit length, and reading them from embeddings.

use super::{Alignment, Image};
use crate::{CurateError, Result};
use arrow::array::UInt64Array;
use lapidary_pipeline::stage::{Layout, Table, column, list_values};
use std::path::Path;

/// Rows of embeddings that are read at a time.
const EMBEDDINGS_READ: usize = 8192;

/// Unit vectors, row after row.
#[derive(Debug, Clone, Default)]
pub struct Vectors {
    /// Values a vector.
    pub dim: usize,
    /// The values, shape `[len, dim]`.
    pub values: Vec<f32>,
}

impl Vectors {
    /// The number of vectors.
    pub fn len(&self) -> usize {
        self.values.len() / self.dim.max(1)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// A vector.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.dim..(index + 1) * self.dim]
    }

    /// The dot product of two vectors: their cosine, as they are of unit length.
    pub fn cosine(&self, a: usize, b: usize) -> f32 {
        dot(self.row(a), self.row(b))
    }

    /// Keeps the vectors at these indices, which ascend, without another copy of them.
    pub fn retain(&mut self, indices: &[usize]) {
        for (to, from) in indices.iter().enumerate() {
            self.values.copy_within(from * self.dim..(from + 1) * self.dim, to * self.dim);
        }
        self.values.truncate(indices.len() * self.dim);
    }

    /// Makes room for `count` vectors, once their number of values is known.
    ///
    /// # Errors
    /// [`CurateError::Mismatch`] when it was another.
    fn make_room(&mut self, count: usize, dim: usize) -> Result<()> {
        if self.dim == 0 {
            *self = Self { dim, values: vec![0.0; dim * count] };
        }
        if self.dim != dim {
            return Err(CurateError::Mismatch(format!("embeddings of {dim} values after some of {}", self.dim)));
        }
        Ok(())
    }

    /// Writes a vector.
    fn put(&mut self, index: usize, vector: &[f32]) {
        self.values[index * self.dim..(index + 1) * self.dim].copy_from_slice(vector);
    }

    /// The vectors at these indices.
    pub fn select(&self, indices: &[usize]) -> Self {
        let mut values = Vec::with_capacity(indices.len() * self.dim);
        indices.iter().for_each(|index| values.extend_from_slice(self.row(*index)));
        Self { dim: self.dim, values }
    }
}

/// The dot product, summed in sixteen lanes so that the compiler makes vectors of it.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut sums = [0f32; LANES];
    let (mut xs, mut ys) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    for (x, y) in (&mut xs).zip(&mut ys) {
        for lane in 0..LANES {
            sums[lane] += x[lane] * y[lane];
        }
    }
    let rest: f32 = xs.remainder().iter().zip(ys.remainder()).map(|(x, y)| x * y).sum();
    sums.iter().sum::<f32>() + rest
}

/// Reads the embeddings of a folder, which must be those of `images`; they come out in the images' order.
///
/// # Errors
/// [`CurateError::Mismatch`] when ids differ, or a row is not a vector of unit length.
pub fn read_embeddings(folder: &Path, images: &[Image]) -> Result<Vectors> {
    let mut vectors = Vectors::default();
    let mut alignment = Alignment::new(images, "embedding");
    for shard in Layout::shards(folder)? {
        for batch in embeddings_of_shard(&shard)? {
            let (ids, read) = batch?;
            vectors.make_room(images.len(), read.dim)?;
            for (row, id) in ids.iter().enumerate() {
                vectors.put(alignment.index_of(*id)?, read.row(row));
            }
        }
    }
    alignment.require_all()?;
    Ok(vectors)
}

/// Reads the embeddings of some images of a folder, which ascend by id; they come out in that order. Memory is theirs alone.
///
/// # Errors
/// As [`read_embeddings`], and when one of the images has no embedding.
pub(crate) fn read_embeddings_of(folder: &Path, ids: &[u64]) -> Result<Vectors> {
    let (mut vectors, mut found) = (Vectors::default(), 0);
    for shard in Layout::shards_by_name(folder)? {
        Layout::bring(&shard)?;
        for batch in embeddings_of_shard(&shard)? {
            let (of_rows, read) = batch?;
            vectors.make_room(ids.len(), read.dim)?;
            for (row, id) in of_rows.iter().enumerate() {
                if let Ok(place) = ids.binary_search(id) {
                    vectors.put(place, read.row(row));
                    found += 1;
                }
            }
        }
    }
    if found != ids.len() {
        return Err(CurateError::Mismatch(format!("{found} embeddings of {} images are there", ids.len())));
    }
    Ok(vectors)
}

/// Reads a shard of embeddings in batches: ids, and a vector of unit length each.
///
/// # Errors
/// When the shard cannot be read. A batch is [`CurateError::Mismatch`] when a row is not a vector of unit length.
pub(crate) fn embeddings_of_shard(shard: &Path) -> Result<impl Iterator<Item = Result<(Vec<u64>, Vectors)>>> {
    let name = shard.display().to_string();
    let table = Table::open(shard, &["image_id", "embedding"], EMBEDDINGS_READ)?;
    Ok(table.map(move |batch| {
        let batch = batch?;
        let (values, dim) = list_values(&batch, "embedding")?;
        if let Some((row, wrong)) = values.chunks_exact(dim).enumerate().find_map(|(row, v)| Some((row, fault(v)?))) {
            return Err(CurateError::Mismatch(format!("row {row} of {name} {wrong}")));
        }
        let ids: &UInt64Array = column(&batch, "image_id")?;
        Ok((ids.values().to_vec(), Vectors { dim, values: values.to_vec() }))
    }))
}

/// What is wrong with a vector that should be of unit length.
fn fault(vector: &[f32]) -> Option<&'static str> {
    let square = vector.iter().map(|value| value * value).sum::<f32>();
    if !square.is_finite() {
        Some("is not finite")
    } else if square == 0.0 {
        Some("is zero")
    } else {
        ((square - 1.0).abs() > 1e-2).then_some("is not of unit length")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_unit_vector_is_named() {
        assert_eq!(fault(&[0.6, 0.8]), None);
        assert_eq!(fault(&[f32::NAN, 0.8]), Some("is not finite"));
        assert_eq!(fault(&[0.0, 0.0]), Some("is zero"));
        assert_eq!(fault(&[3.0, 4.0]), Some("is not of unit length"));
    }

    #[test]
    fn rows_are_retained_in_place() {
        let mut vectors = Vectors { dim: 2, values: (0..10).map(|v| v as f32).collect() };
        vectors.retain(&[0, 3, 4]);
        assert_eq!(vectors.values, [0.0, 1.0, 6.0, 7.0, 8.0, 9.0]);
    }
}
