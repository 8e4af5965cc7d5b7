//! The images that were compared: with the pairs, all that groups are made of.

use super::{Pair, read_pairs};
use crate::Result;
use crate::fingerprints::Prints;
use crate::input::Image;
use crate::input::columns::{LIMITS, batches, f32s, texts, u64s, write_batches};
use arrow::array::{Array, Float32Array, StringArray, UInt64Array};
use lapidary_pipeline::stage::{StageRun, column, read_table};
use lapidary_schemas::ImageId;
use lapidary_schemas::tables::{self, COMPARED_FILE};
use std::collections::HashMap;
use std::path::Path;

/// Images that were compared, the source's own first, then references: images of evaluation sets.
#[derive(Debug, Clone, Default)]
pub(crate) struct Compared {
    /// Read back, their digests are cut to the first 8 bytes.
    pub(crate) images: Vec<Image>,
    /// Pixels across and down of each working image.
    pub(crate) sizes: Vec<(f32, f32)>,
    /// The names of the sources that references come from, by the first of their images.
    pub(crate) references: Vec<(usize, String)>,
    /// The first reference.
    pub(crate) references_from: usize,
}

impl Compared {
    /// The images of a search, of which those from `references_from` on are references.
    pub(crate) fn new(
        images: Vec<Image>,
        prints: &Prints,
        references: Vec<(usize, String)>,
        references_from: usize,
    ) -> Self {
        let sizes = prints.summaries().iter().map(|summary| summary.size).collect();
        Self { images, sizes, references, references_from }
    }

    /// The source that a reference comes from.
    pub(crate) fn source_of(&self, image: usize) -> Option<&str> {
        let source = self.references.iter().rev().find(|(first, _)| *first <= image);
        source.map(|(_, name)| name.as_str())
    }

    /// Writes them.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn write(&self, run: &mut StageRun) -> Result<()> {
        let batches = batches(self.images.len(), |row| self.images[row].path.len() + 64, LIMITS);
        let written = write_batches(&run.path(COMPARED_FILE), &tables::compared(), batches, |rows| {
            let (images, sizes) = (&self.images[rows.clone()], &self.sizes[rows.clone()]);
            vec![
                u64s(images.iter().map(|image| Some(image.id.0))),
                u64s(images.iter().map(|image| Some(image.digest_prefix()))),
                u64s(images.iter().map(|image| Some(image.pixels))),
                f32s(sizes.iter().map(|size| Some(size.0))),
                f32s(sizes.iter().map(|size| Some(size.1))),
                texts(images.iter().map(|image| Some(image.path.as_str()))),
                texts(rows.map(|row| self.source_of(row))),
            ]
        })?;
        run.note_table(COMPARED_FILE, written);
        Ok(())
    }

    /// Reads them from a folder.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let mut found = Self::default();
        for batch in read_table(&folder.join(COMPARED_FILE), &[])? {
            let u64s = |name: &str| column::<UInt64Array>(&batch, name);
            let (ids, digests, pixels) = (u64s("image_id")?, u64s("digest")?, u64s("pixels")?);
            let widths: &Float32Array = column(&batch, "working_width_px")?;
            let heights: &Float32Array = column(&batch, "working_height_px")?;
            let (paths, sources): (&StringArray, &StringArray) = (column(&batch, "path")?, column(&batch, "source")?);
            for row in 0..batch.num_rows() {
                let place = found.images.len();
                if sources.is_valid(row) && found.source_of(place) != Some(sources.value(row)) {
                    found.references.push((place, sources.value(row).to_owned()));
                }
                found.images.push(Image {
                    id: ImageId(ids.value(row)),
                    digest: format!("{:016x}", digests.value(row)),
                    pixels: pixels.value(row),
                    path: paths.value(row).to_owned(),
                    ..Image::default()
                });
                found.sizes.push((widths.value(row), heights.value(row)));
            }
        }
        found.references_from = found.references.first().map_or(found.images.len(), |(first, _)| *first);
        Ok(found)
    }

    /// Reads the pairs of the same folder with at least that score, sorted by images.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub(crate) fn read_pairs(&self, folder: &Path, score_min: f32) -> Result<Vec<Pair>> {
        let index_of: HashMap<u64, usize> = self.images.iter().enumerate().map(|(i, image)| (image.id.0, i)).collect();
        read_pairs(folder, &index_of, score_min)
    }
}
