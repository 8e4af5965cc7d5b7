//! Checkpoints: all that makes a run, in one safetensors file with its digest beside it.
//!
//! Written under a temporary name, synced, renamed; the digest is checked on loading, and a damaged checkpoint is passed
//! over for the one before it. The same state gives the same bytes.

use crate::model::HostTensor;
use crate::{Result, TrainError};
use lapidary_pipeline::PipelineError;
use lapidary_pipeline::stage::{digest_of_bytes, write_json, write_synced};
use lapidary_schemas::Digest;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// The checkpoint that a finished run ends with.
pub const FINAL: &str = "final";
const KEPT: usize = 2;

/// A run's state after a number of steps.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// Steps done.
    pub step: usize,
    /// Tensors by name, prefixed `student.`, `teacher.`, `adamw.` and `objective.`.
    pub tensors: BTreeMap<String, HostTensor>,
}

/// What stands beside a checkpoint.
#[derive(Debug, Serialize, Deserialize)]
struct Beside {
    step: usize,
    digest: Digest,
}

impl Checkpoint {
    /// The tensors under a prefix, without it.
    pub fn part(&self, prefix: &str) -> BTreeMap<String, HostTensor> {
        let strip = |(name, tensor): (&String, &HostTensor)| {
            name.strip_prefix(prefix).map(|rest| (rest.to_owned(), tensor.clone()))
        };
        self.tensors.iter().filter_map(strip).collect()
    }

    /// Writes the checkpoint as `NAME.safetensors`.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn save(&self, folder: &Path, name: &str) -> Result<()> {
        std::fs::create_dir_all(folder).map_err(PipelineError::io("create folder", folder))?;
        let path = folder.join(format!("{name}.safetensors"));
        let fault =
            |e: safetensors::SafeTensorError| TrainError::Checkpoint { path: path.clone(), detail: e.to_string() };
        let bytes: BTreeMap<&String, Vec<u8>> = self
            .tensors
            .iter()
            .map(|(name, tensor)| (name, tensor.values.iter().flat_map(|v| v.to_le_bytes()).collect()))
            .collect();
        let mut views = Vec::with_capacity(bytes.len());
        for (name, bytes) in &bytes {
            let shape = self.tensors[*name].shape.clone();
            views.push((name.as_str(), TensorView::new(Dtype::F32, shape, bytes).map_err(fault)?));
        }
        // A single entry, because the order of a hash map is not repeatable.
        let about = serde_json::json!({"format": "lapidary checkpoint 1", "step": self.step}).to_string();
        let metadata = HashMap::from([("lapidary".to_owned(), about)]);
        let whole = safetensors::serialize(views, Some(metadata)).map_err(fault)?;
        write_synced(&path, &whole)?;
        write_json(&folder.join(format!("{name}.json")), &Beside { step: self.step, digest: digest_of_bytes(&whole) })?;
        Ok(())
    }

    /// Reads `NAME.safetensors`, checked against its digest.
    ///
    /// # Errors
    /// [`TrainError::Checkpoint`] when it is damaged or not one of ours.
    pub fn load(folder: &Path, name: &str) -> Result<Self> {
        let path = folder.join(format!("{name}.safetensors"));
        let fault = |detail: String| TrainError::Checkpoint { path: path.clone(), detail };
        let beside = folder.join(format!("{name}.json"));
        let beside = std::fs::read(&beside).map_err(PipelineError::io("read", &beside))?;
        let beside: Beside = serde_json::from_slice(&beside).map_err(|e| fault(e.to_string()))?;
        let whole = std::fs::read(&path).map_err(PipelineError::io("read", &path))?;
        if digest_of_bytes(&whole) != beside.digest {
            return Err(fault("it does not match its digest; it was damaged or cut short".to_owned()));
        }
        let parsed = SafeTensors::deserialize(&whole).map_err(|e| fault(e.to_string()))?;
        let mut tensors = BTreeMap::new();
        for (name, view) in parsed.tensors() {
            if view.dtype() != Dtype::F32 {
                return Err(fault(format!("tensor `{name}` is {:?}, not F32", view.dtype())));
            }
            let words = view.data().chunks_exact(4);
            let values = words.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            tensors.insert(name, HostTensor { shape: view.shape().to_vec(), values });
        }
        Ok(Self { step: beside.step, tensors })
    }

    /// The checkpoint with the most steps that is whole, if any.
    pub fn latest(folder: &Path) -> Option<Self> {
        let mut names = names(folder);
        names.sort_by_key(|name| (name == FINAL, name.clone()));
        names.iter().rev().find_map(|name| match Self::load(folder, name) {
            Ok(checkpoint) => Some(checkpoint),
            Err(error) => {
                tracing::warn!("passed over: {error}");
                None
            }
        })
    }
}

/// Removes all but the newest checkpoints, or all but the final one once there is one.
///
/// # Errors
/// When a file cannot be removed.
pub fn prune(folder: &Path) -> Result<()> {
    let mut names = names(folder);
    names.sort();
    let kept = if names.iter().any(|name| name == FINAL) {
        vec![FINAL.to_owned()]
    } else {
        names.iter().rev().take(KEPT).cloned().collect()
    };
    for name in names.iter().filter(|name| !kept.contains(name)) {
        for extension in ["safetensors", "json"] {
            let path: PathBuf = folder.join(format!("{name}.{extension}"));
            std::fs::remove_file(&path).map_err(PipelineError::io("remove", &path))?;
        }
    }
    Ok(())
}

/// The name of the checkpoint after `step` steps; names sort by steps.
pub fn step_name(step: usize) -> String {
    format!("step-{step:08}")
}

/// Checkpoints whose digest was written, which is the last thing that is.
fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.path().file_name()?.to_str()?.strip_suffix(".json").map(str::to_owned))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(step: usize) -> Checkpoint {
        let tensor = HostTensor { shape: vec![2, 1], values: vec![step as f32, -0.5] };
        Checkpoint { step, tensors: BTreeMap::from([("student.a".to_owned(), tensor)]) }
    }

    #[test]
    fn the_same_state_gives_the_same_bytes_and_reads_back() {
        let folder = tempfile::tempdir().expect("a folder");
        checkpoint(7).save(folder.path(), "a").expect("saves");
        checkpoint(7).save(folder.path(), "b").expect("saves");
        let read = |name: &str| std::fs::read(folder.path().join(name)).expect("reads");
        assert_eq!(read("a.safetensors"), read("b.safetensors"));
        assert_eq!(Checkpoint::load(folder.path(), "a").expect("loads"), checkpoint(7));
        assert_eq!(checkpoint(7).part("student.").keys().collect::<Vec<_>>(), ["a"]);
    }

    #[test]
    fn a_damaged_checkpoint_is_passed_over_and_old_ones_go() {
        let folder = tempfile::tempdir().expect("a folder");
        for step in [1, 2, 3] {
            checkpoint(step).save(folder.path(), &step_name(step)).expect("saves");
        }
        prune(folder.path()).expect("prunes");
        assert_eq!(names(folder.path()).len(), 2);
        let newest = folder.path().join("step-00000003.safetensors");
        let mut bytes = std::fs::read(&newest).expect("reads");
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        std::fs::write(&newest, bytes).expect("writes");
        assert_eq!(Checkpoint::latest(folder.path()).expect("one is whole").step, 2);
        checkpoint(4).save(folder.path(), FINAL).expect("saves");
        prune(folder.path()).expect("prunes");
        assert_eq!(names(folder.path()), [FINAL]);
    }
}
