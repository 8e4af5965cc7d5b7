//! Gathering vectors: each row of a file is checked, counted, and laid where its image's place by id is.
//!
//! Rows come in any order and shards are written in the images' order, so the vectors lie in a nameless file on the disk
//! between the two; memory holds the ids and a batch. Rows in are images with a vector plus rows set aside, by kind.

use super::keys::{Images, Key};
use super::npy::DIM_MAX;
use super::vectors::VectorRows;
use crate::{PipelineError, Result, interrupt};
use serde::Serialize;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Images without a vector that an error names.
const NAMED: usize = 3;
/// A vector of a norm below this is zero.
const NORM_MIN: f64 = 1e-12;
/// What is as long as 1 to within this stays as it is.
const UNIT_WITHIN: f64 = 1e-6;

/// Rows by what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Counts {
    /// All rows.
    pub(super) rows: u64,
    /// Of an image of the source.
    pub(super) of_images: u64,
    /// Whose id or path no image of the source has.
    pub(super) unknown: u64,
    /// With a value that is not finite.
    pub(super) not_finite: u64,
    /// Of zeros alone.
    pub(super) zero: u64,
    /// Without a vector.
    pub(super) null: u64,
}

impl Counts {
    pub(super) fn set_aside(&self) -> u64 {
        self.unknown + self.not_finite + self.zero + self.null
    }

    /// What was set aside, for a reader.
    pub(super) fn text(&self) -> String {
        format!(
            "{} of no image here, {} not finite, {} zero, {} without a vector",
            self.unknown, self.not_finite, self.zero, self.null
        )
    }
}

/// Rows of a file that belong together.
pub(super) struct Batch {
    pub(super) keys: Vec<Key>,
    pub(super) vectors: VectorRows,
}

/// A vector for each image.
#[derive(Debug)]
pub(super) struct Gathered {
    pub(super) images: Images,
    /// Values a vector.
    pub(super) dim: usize,
    pub(super) counts: Counts,
    /// Vectors of unit length, f32, by their image's place.
    spool: File,
    spool_path: PathBuf,
}

/// Where rows are laid, and what is known of them so far.
struct Gathering<'a> {
    /// The file that the rows come from.
    path: &'a Path,
    images: Images,
    /// The row that named each image first.
    first_rows: Vec<Option<u64>>,
    has_vector: Vec<bool>,
    /// Values a vector, once one was there, and the row that had them.
    dim: Option<(usize, u64)>,
    counts: Counts,
    first_unknown: Option<String>,
    spool: File,
    spool_path: &'a Path,
}

/// Gathers the rows of `path`; `folder` is that of the images, and the vectors lie in the folder `scratch` meanwhile.
///
/// # Errors
/// When vectors are of different lengths, an image has two or none, no row is of an image, or the disk refuses.
pub(super) fn gather(
    path: &Path,
    folder: &Path,
    images: Images,
    batches: impl Iterator<Item = Result<Batch>>,
    scratch: &Path,
) -> Result<Gathered> {
    std::fs::create_dir_all(scratch).map_err(PipelineError::io("create folder", scratch))?;
    let spool_path = scratch.join(format!(".vectors-{}", std::process::id()));
    let options = File::options().read(true).write(true).create_new(true).open(&spool_path);
    let spool = options.map_err(PipelineError::io("create", &spool_path))?;
    // Nameless from here on: it goes with the process, however that ends.
    std::fs::remove_file(&spool_path).map_err(PipelineError::io("remove", &spool_path))?;
    let count = images.len();
    let mut gathering = Gathering {
        path,
        images,
        first_rows: vec![None; count],
        has_vector: vec![false; count],
        dim: None,
        counts: Counts::default(),
        first_unknown: None,
        spool,
        spool_path: &spool_path,
    };
    for batch in batches {
        interrupt::check()?;
        let Batch { keys, vectors } = batch?;
        for (key, vector) in keys.iter().zip(vectors.iter()) {
            gathering.add(key, vector)?;
        }
    }
    gathering.finish(folder)
}

impl Gathering<'_> {
    fn format(&self, detail: String) -> PipelineError {
        PipelineError::format(self.path, detail)
    }

    /// Adds a row. What is wrong with its vector counts before whose it is; what it names counts even so.
    fn add(&mut self, key: &Key, vector: Option<&[f32]>) -> Result<()> {
        let row = self.counts.rows;
        self.counts.rows += 1;
        if let Some(vector) = vector {
            self.check_length(vector.len(), row, key)?;
        }
        let place = self.images.place(key);
        if let Some(place) = place
            && let Some(first) = self.first_rows[place].replace(row)
        {
            let text = format!("image `{key}` has two vectors, in the rows {first} and {row} (counted from 0)");
            return Err(self.format(text));
        }
        let counts = &mut self.counts;
        let Some(vector) = vector else {
            counts.null += 1;
            return Ok(());
        };
        let norm = norm_of(vector);
        match place {
            _ if !norm.is_finite() => counts.not_finite += 1,
            _ if norm < NORM_MIN => counts.zero += 1,
            None => {
                counts.unknown += 1;
                self.first_unknown.get_or_insert_with(|| key.to_string());
            }
            Some(place) => {
                counts.of_images += 1;
                self.has_vector[place] = true;
                let bytes: Vec<u8> = unit(vector, norm).flat_map(f32::to_le_bytes).collect();
                let written = self.spool.write_all_at(&bytes, place as u64 * bytes.len() as u64);
                written.map_err(PipelineError::io("write", self.spool_path))?;
            }
        }
        Ok(())
    }

    fn check_length(&mut self, length: usize, row: u64, key: &Key) -> Result<()> {
        if !(1..=DIM_MAX).contains(&length) {
            let text = format!("the vector of `{key}` (row {row}) has {length} values; 1 to {DIM_MAX} are read");
            return Err(self.format(text));
        }
        let (dim, first) = *self.dim.get_or_insert((length, row));
        if length != dim {
            let text = format!("the vector of `{key}` (row {row}) has {length} values, that of row {first} has {dim}");
            return Err(self.format(text));
        }
        Ok(())
    }

    fn finish(self, folder: &Path) -> Result<Gathered> {
        let counts = self.counts;
        let Some((dim, _)) = self.dim else {
            return Err(self.format("it holds no vectors".to_owned()));
        };
        if counts.unknown == counts.rows {
            let first = self.first_unknown.as_deref().unwrap_or_default();
            return Err(self.format(format!(
                "none of its {} rows is of an image here; the first is of `{first}`\n\
                 hint: give ids or paths as `images` has them: `image_id`, and `path` in the source",
                counts.rows
            )));
        }
        let missing: Vec<usize> = (0..self.images.len()).filter(|place| !self.has_vector[*place]).collect();
        if !missing.is_empty() {
            let names = self.images.names(folder, &missing[..missing.len().min(NAMED)])?;
            let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            let more = if missing.len() > NAMED { ", ..." } else { "" };
            return Err(self.format(format!(
                "{} of {} images have no vector: {}{more}; of its {} rows {} were set aside: {}\n\
                 hint: every image is compared: give these vectors too, or take them out of the source and ingest again",
                missing.len(),
                self.images.len(),
                names.join(", "),
                counts.rows,
                counts.set_aside(),
                counts.text()
            )));
        }
        let spool_path = self.spool_path.to_owned();
        Ok(Gathered { images: self.images, dim, counts, spool: self.spool, spool_path })
    }
}

impl Gathered {
    /// Appends an image's vector.
    ///
    /// # Errors
    /// When there is no such image, or the disk refuses.
    pub(super) fn append(&self, id: u64, values: &mut Vec<f32>) -> Result<()> {
        let place = self.images.place_of_id(id);
        let place = place.ok_or_else(|| PipelineError::Internal(format!("image {id:016x} came after its vectors")))?;
        let row_bytes = self.dim * size_of::<f32>();
        let mut bytes = vec![0; row_bytes];
        let read = self.spool.read_exact_at(&mut bytes, place as u64 * row_bytes as u64);
        read.map_err(PipelineError::io("read", &self.spool_path))?;
        values.extend(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)));
        Ok(())
    }
}

/// The length of a vector; not finite when one of its values is not.
fn norm_of(vector: &[f32]) -> f64 {
    vector.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>().sqrt()
}

/// A vector of length 1; one that has it already keeps its bits, so that vectors come back as they went out.
fn unit(vector: &[f32], norm: f64) -> impl Iterator<Item = f32> {
    let norm = if (norm - 1.0).abs() <= UNIT_WITHIN { 1.0 } else { norm };
    vector.iter().map(move |v| (f64::from(*v) / norm) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_of_unit_length_keeps_its_bits() {
        let vector = [0.6f32, 0.8];
        assert_eq!(unit(&vector, norm_of(&vector)).collect::<Vec<_>>(), vector);
        assert_eq!(unit(&[3.0, 4.0], 5.0).collect::<Vec<_>>(), vector);
        assert!(!norm_of(&[f32::NAN, 1.0]).is_finite() && !norm_of(&[f32::INFINITY]).is_finite());
        assert!(norm_of(&[f32::MAX; 9]).is_finite(), "its square is no f32");
    }
}
