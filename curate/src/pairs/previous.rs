//! What an earlier search found, for a new one to resume from: pairs, occurrences of keypoints, the index, the
//! whitening.

use super::{Neighbours, Pair, read_pairs};
use crate::Result;
use crate::input::{Image, Vectors, Whitening};
use arrow::array::{BinaryArray, UInt64Array};
use lapidary_pipeline::stage::{Table, column, read_table};
use lapidary_schemas::tables::{COMPARED_FILE, INDEX_FILE, INDEXED_FILE, RARITY_FILE, WHITENING_FILE};
use std::collections::HashMap;
use std::path::PathBuf;

/// What an earlier search found among some of the images; they are not compared with each other again.
#[derive(Debug, Clone)]
pub(crate) struct KnownPairs {
    /// Whether each image is new since then.
    pub(crate) is_new: Vec<bool>,
    /// The pairs of the others.
    pub(crate) pairs: Vec<Pair>,
    /// For each image the counts of [`super::keypoints::Rarity`], empty for the new.
    pub(crate) occurrences: Vec<Vec<u8>>,
}

impl KnownPairs {
    /// Nothing was looked for before among `count` images.
    pub(crate) fn none(count: usize) -> Self {
        Self { is_new: vec![true; count], pairs: Vec::new(), occurrences: vec![Vec::new(); count] }
    }
}

/// Rows of the keypoints' counts read at a time: few, since Arrow counts their bytes in 31 bits.
const RARITY_ROWS: usize = 4096;

/// An earlier search among most of the images, or among some that have gone since.
#[derive(Debug)]
pub(crate) struct PreviousPairs {
    folder: PathBuf,
}

impl PreviousPairs {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Its whitening.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn whitening(&self) -> Result<Whitening> {
        Whitening::read(&self.folder.join(WHITENING_FILE))
    }

    /// The pairs that it found, for images by their new indices; those from `references_from` on are references, all of
    /// which it compared.
    ///
    /// # Errors
    /// When a table cannot be read.
    pub(crate) fn known(&self, images: &[Image], references_from: usize) -> Result<KnownPairs> {
        let mut known: HashMap<u64, u64> = HashMap::new();
        for batch in read_table(&self.folder.join(COMPARED_FILE), &["image_id", "digest"])? {
            let (ids, digests): (&UInt64Array, &UInt64Array) = (column(&batch, "image_id")?, column(&batch, "digest")?);
            known.extend(ids.values().iter().copied().zip(digests.values().iter().copied()));
        }
        // An image that was touched is a new one.
        let is_known = |image: &Image| known.get(&image.id.0) == Some(&image.digest_prefix());
        let is_new = |(index, image): (usize, &Image)| index < references_from && !is_known(image);
        let is_new: Vec<bool> = images.iter().enumerate().map(is_new).collect();
        let index_of: HashMap<u64, usize> =
            images.iter().enumerate().filter(|(i, _)| !is_new[*i]).map(|(i, image)| (image.id.0, i)).collect();
        let pairs = read_pairs(&self.folder, &index_of, 0.0)?;
        let mut occurrences = vec![Vec::new(); images.len()];
        let rarity = self.folder.join(RARITY_FILE);
        if rarity.is_file() {
            for batch in Table::open(&rarity, &[], RARITY_ROWS)? {
                let batch = batch?;
                let (ids, counts): (&UInt64Array, &BinaryArray) = (column(&batch, "image_id")?, column(&batch, "met")?);
                for (row, id) in ids.values().iter().enumerate() {
                    if let Some(index) = index_of.get(id) {
                        occurrences[*index] = counts.value(row).to_vec();
                    }
                }
            }
        }
        Ok(KnownPairs { is_new, pairs, occurrences })
    }

    /// Its index, with the vectors that it lacks added, and the image of each vector that it had; none when it searched
    /// exactly and wrote none. `is_new` are the images that it did not know as they are now.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn neighbours<'a>(
        &self,
        images: &[Image],
        is_new: &[bool],
        vectors: &'a Vectors,
    ) -> Result<Option<(Neighbours<'a>, Vec<u64>)>> {
        let path = self.folder.join(INDEX_FILE);
        if !path.is_file() {
            return Ok(None);
        }
        let is_known = images.iter().enumerate().filter(|(index, _)| !is_new[*index]);
        let index_of: HashMap<u64, u32> = is_known.map(|(index, image)| (image.id.0, index as u32)).collect();
        let (mut labels, mut indexed) = (Vec::new(), Vec::new());
        for batch in read_table(&self.folder.join(INDEXED_FILE), &[])? {
            let ids: &UInt64Array = column(&batch, "image_id")?;
            labels.extend(ids.values().iter().map(|id| index_of.get(id).copied()));
            indexed.extend(ids.values().iter().map(|id| if index_of.contains_key(id) { *id } else { u64::MAX }));
        }
        Ok(Some((Neighbours::restore(vectors, &path, labels)?, indexed)))
    }
}
