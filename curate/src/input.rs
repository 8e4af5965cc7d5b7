//! What the curation reads: embeddings, and what `images` says of each image without its bytes.

use crate::{CurateError, Result};
use arrow::array::{StringArray, UInt32Array, UInt64Array};
use lapidary_pipeline::PipelineError;
use lapidary_pipeline::stage::{Layout, Table, column, list_values};
use lapidary_schemas::ImageId;
use std::path::Path;

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

/// An image as the curation sees it; its index is its place by id.
#[derive(Debug, Clone, Default)]
pub struct Image {
    /// Its id.
    pub id: ImageId,
    /// BLAKE3 of its bytes, in hexadecimal.
    pub digest: String,
    /// Pixels across times pixels down.
    pub pixels: u64,
    /// The 64-bit DCT hash.
    pub phash: u64,
    /// Its path in the source.
    pub path: String,
}

impl Image {
    /// The first 8 bytes of its digest, big-endian.
    pub fn digest_prefix(&self) -> u64 {
        self.digest.get(..16).and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or(0)
    }
}

/// Images that one curation holds: indices, ranks and labels have 32 bits.
pub(crate) const IMAGES_MAX: usize = u32::MAX as usize;

/// Refuses more images than a curation holds.
///
/// # Errors
/// [`PipelineError::Usage`] with both numbers.
pub(crate) fn refuse_more_than(most: usize, images: usize) -> Result<()> {
    if images > most {
        let text = format!("{images} images; a curation holds at most {most}\nhint: curate them in parts");
        return Err(PipelineError::Usage(text).into());
    }
    Ok(())
}

/// Reads the images of a folder of shards.
///
/// # Errors
/// When a shard cannot be read, or there are more than [`IMAGES_MAX`].
pub fn read_images(folder: &Path) -> Result<Vec<Image>> {
    let mut images = Vec::new();
    for shard in Layout::shards(folder)? {
        let paths = read_paths(&shard)?;
        let mut paths = paths.into_iter();
        for batch in Table::open(&shard, &["image_id", "digest", "width", "height", "phash"], 65_536)? {
            let batch = batch?;
            let ids: &UInt64Array = column(&batch, "image_id")?;
            let digests: &StringArray = column(&batch, "digest")?;
            let widths: &UInt32Array = column(&batch, "width")?;
            let heights: &UInt32Array = column(&batch, "height")?;
            let hashes: &UInt64Array = column(&batch, "phash")?;
            for row in 0..batch.num_rows() {
                images.push(Image {
                    id: ImageId(ids.value(row)),
                    digest: digests.value(row).to_owned(),
                    pixels: u64::from(widths.value(row)) * u64::from(heights.value(row)),
                    phash: hashes.value(row),
                    path: paths.next().unwrap_or_default(),
                });
            }
        }
    }
    refuse_more_than(IMAGES_MAX, images.len())?;
    images.sort_by_key(|image| image.id);
    Ok(images)
}

/// The column `image.path`, without the bytes beside it.
fn read_paths(shard: &Path) -> Result<Vec<String>> {
    use parquet::arrow::ProjectionMask;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    let file = std::fs::File::open(shard).map_err(PipelineError::io("open", shard))?;
    let format = |e: &dyn std::fmt::Display| PipelineError::format(shard, e);
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| format(&e))?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), ["image.path"]);
    let mut paths = Vec::new();
    for batch in builder.with_projection(mask).build().map_err(|e| format(&e))? {
        let batch = batch.map_err(|e| format(&e))?;
        let image: &arrow::array::StructArray = column(&batch, "image")?;
        let column = image.column_by_name("path").and_then(|c| c.as_any().downcast_ref::<StringArray>());
        let column = column.ok_or_else(|| format(&"`image.path` is no text"))?;
        paths.extend(column.iter().map(|path| path.unwrap_or_default().to_owned()));
    }
    Ok(paths)
}

/// The places of images, as rows of a table that belongs to them ask for them: each once, in whatever order.
pub(crate) struct Places<'a> {
    images: &'a [Image],
    is_met: Vec<bool>,
    /// What the table's rows are called, for a reader.
    what: &'static str,
}

impl<'a> Places<'a> {
    /// Of images sorted by id.
    pub(crate) fn new(images: &'a [Image], what: &'static str) -> Self {
        Self { images, is_met: vec![false; images.len()], what }
    }

    /// The index of the image that a row is of.
    ///
    /// # Errors
    /// [`CurateError::Mismatch`] when there is no such image, or it was asked for before.
    pub(crate) fn of(&mut self, id: u64) -> Result<usize> {
        let place = self.images.binary_search_by_key(&id, |image| image.id.0).ok();
        let place = place.filter(|place| !std::mem::replace(&mut self.is_met[*place], true));
        place.ok_or_else(|| {
            CurateError::Mismatch(format!("the {} of image {id:016x} comes twice, or the image is gone", self.what))
        })
    }

    /// Holds that every image was asked for.
    ///
    /// # Errors
    /// [`CurateError::Mismatch`] with the first that was not.
    pub(crate) fn all_met(&self) -> Result<()> {
        match self.is_met.iter().position(|is_met| !is_met) {
            Some(left) => Err(CurateError::Mismatch(format!("image {} has no {}", self.images[left].id, self.what))),
            None => Ok(()),
        }
    }
}

/// Reads the embeddings of a folder, which must be those of `images`; they come out in the images' order.
///
/// # Errors
/// [`CurateError::Mismatch`] when ids differ, or a row is not a vector of unit length.
pub fn read_embeddings(folder: &Path, images: &[Image]) -> Result<Vectors> {
    let mut vectors = Vectors { dim: 0, values: Vec::new() };
    let mut places = Places::new(images, "embedding");
    for shard in Layout::shards(folder)? {
        for batch in Table::open(&shard, &["image_id", "embedding"], 8192)? {
            let batch = batch?;
            let (values, dim) = list_values(&batch, "embedding")?;
            if vectors.dim != 0 && vectors.dim != dim {
                return Err(CurateError::Mismatch(format!(
                    "{dim} values after {} in {}",
                    vectors.dim,
                    shard.display()
                )));
            }
            if vectors.dim == 0 {
                vectors = Vectors { dim, values: vec![0.0; dim * images.len()] };
            }
            if let Some((row, wrong)) = values.chunks_exact(dim).enumerate().find_map(|(row, v)| Some((row, fault(v)?)))
            {
                return Err(CurateError::Mismatch(format!("row {row} of {} {wrong}", shard.display())));
            }
            let ids: &UInt64Array = column(&batch, "image_id")?;
            for (id, vector) in ids.values().iter().zip(values.chunks_exact(dim)) {
                let start = places.of(*id)? * dim;
                vectors.values[start..start + dim].copy_from_slice(vector);
            }
        }
    }
    places.all_met()?;
    Ok(vectors)
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
    #[test]
    fn more_images_than_have_an_index_are_refused_by_number() {
        refuse_more_than(5, 5).expect("as many as there may be");
        let error = refuse_more_than(5, 6).expect_err("one more").to_string();
        assert!(error.contains("6 images") && error.contains("at most 5"), "{error}");
        assert!(u32::try_from(IMAGES_MAX).is_ok());
    }
}
