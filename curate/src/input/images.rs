//! Images as the curation sees them: what `images` says of each, without its bytes.

use crate::{CurateError, Result};
use arrow::array::{StringArray, UInt32Array, UInt64Array};
use lapidary_pipeline::PipelineError;
use lapidary_pipeline::stage::{Layout, Table, column};
use lapidary_schemas::ImageId;
use std::path::Path;

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

/// The index of an image among images sorted by id.
///
/// # Errors
/// [`CurateError::Mismatch`] when there is no such image.
pub(crate) fn index_of(images: &[Image], id: u64) -> Result<usize> {
    let found = images.binary_search_by_key(&id, |image| image.id.0);
    found.map_err(|_| CurateError::Mismatch(format!("image {id:016x} is in the curation, but not among the images")))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_images_than_have_an_index_are_refused_by_number() {
        refuse_more_than(5, 5).expect("as many as there may be");
        let error = refuse_more_than(5, 6).expect_err("one more").to_string();
        assert!(error.contains("6 images") && error.contains("at most 5"), "{error}");
        assert!(u32::try_from(IMAGES_MAX).is_ok());
    }
}
