//! A run's state on its way to disk: tensors are read from the device one at a time, while the file is written, so that nothing
//! but the tensor at hand is in memory twice. The handles that a snapshot holds stay as they are when training goes on.

use super::{ABOUT, About, FORMAT, Networks, Sidecar, Skipped, file, write_sidecar};
use crate::{Result, TrainError};
use lapidary_pipeline::PipelineError;
use lapidary_pipeline::stage::write_hashed;
use safetensors::tensor::{Dtype, View, serialize_to_file};
use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// A tensor that is read when it is written.
pub struct Entry {
    name: String,
    shape: Vec<usize>,
    read: Box<dyn Fn() -> Vec<f32> + Send + Sync>,
}

impl Entry {
    /// A tensor of a shape, as on disk, whose values `read` gives.
    pub fn new(name: String, shape: Vec<usize>, read: impl Fn() -> Vec<f32> + Send + Sync + 'static) -> Self {
        Self { name, shape, read: Box::new(read) }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its shape on disk.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Its values, row-major.
    pub fn values(&self) -> Vec<f32> {
        (self.read)()
    }
}

/// A run's state after a number of steps.
pub struct Snapshot {
    /// Steps done.
    pub step: usize,
    /// How many of them were skipped.
    pub skipped: Skipped,
    /// Which networks it is of.
    pub networks: Networks,
    /// The tensors of a [`super::Checkpoint`].
    pub entries: Vec<Entry>,
}

/// A tensor as the file's writer asks for it.
struct Lazy<'a> {
    entry: &'a Entry,
    broken: AtomicBool,
}

impl View for &Lazy<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.entry.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let values = self.entry.values();
        if values.iter().any(|value| !value.is_finite()) {
            self.broken.store(true, Ordering::Relaxed);
        }
        Cow::Owned(values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    fn data_len(&self) -> usize {
        4 * self.entry.shape.iter().product::<usize>()
    }
}

impl Snapshot {
    /// Writes `NAME.safetensors` and its sidecar, with a score where there is one.
    ///
    /// # Errors
    /// [`TrainError::BrokenState`] when a value is not finite, and nothing is left of it; when the disk refuses.
    pub fn save(&self, folder: &Path, name: &str, score: Option<f64>) -> Result<()> {
        self.write(folder, name, score, false)
    }

    /// The same, finite or not: for a dump.
    pub(crate) fn save_as_it_is(&self, folder: &Path, name: &str) -> Result<()> {
        self.write(folder, name, None, true)
    }

    fn write(&self, folder: &Path, name: &str, score: Option<f64>, as_it_is: bool) -> Result<()> {
        std::fs::create_dir_all(folder).map_err(PipelineError::io("create folder", folder))?;
        let path = file(folder, name);
        let lazy: Vec<Lazy<'_>> =
            self.entries.iter().map(|entry| Lazy { entry, broken: AtomicBool::new(false) }).collect();
        // A single entry, because the order of a hash map is not repeatable.
        let (step, skipped, networks) = (self.step, self.skipped, self.networks.clone());
        let about = About { format: FORMAT.to_owned(), step, skipped, networks };
        let about = serde_json::to_string(&about).map_err(|e| PipelineError::format(&path, e))?;
        let metadata = HashMap::from([(ABOUT.to_owned(), about)]);
        let digest = write_hashed(&path, |temporary| {
            let views = lazy.iter().map(|lazy| (lazy.entry.name.as_str(), lazy));
            serialize_to_file(views, Some(metadata), temporary)
                .map_err(|e| TrainError::Checkpoint { path: path.clone(), detail: e.to_string() })?;
            match lazy.iter().find(|lazy| lazy.broken.load(Ordering::Relaxed)) {
                Some(lazy) if !as_it_is => {
                    Err(TrainError::BrokenState { path: path.clone(), tensor: lazy.entry.name.clone() })
                }
                _ => Ok(()),
            }
        })?;
        write_sidecar(folder, name, &Sidecar { step: self.step, digest, score })
    }
}
