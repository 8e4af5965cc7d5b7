//! Checkpoints: all that makes a run, in one safetensors file with its digest in a sidecar.
//!
//! Tensors have timm's names and PyTorch's shapes. A checkpoint is written tensor by tensor (see [`Snapshot`]) under a temporary
//! name, synced, renamed; the digest is checked on loading, and a damaged checkpoint is passed over for the one before it. The
//! same state gives the same bytes. A value that is not finite is neither saved nor resumed from: a run does not recover from
//! one. Checkpoints of version 1 are read as well.

mod keep;
mod snapshot;
mod version_1;

pub use keep::{Keep, prune, remove_halves};
pub use snapshot::{Entry, Snapshot};

use crate::model::HostTensor;
use crate::{Result, TrainError};
use lapidary_pipeline::PipelineError;
use lapidary_pipeline::stage::{digest_of_bytes, write_json};
use lapidary_schemas::Digest;
use lapidary_schemas::config::ModelConfig;
use safetensors::tensor::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The checkpoint that a finished run ends with.
pub const FINAL: &str = "final";

/// A run's state after a number of steps.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// Steps done.
    pub step: usize,
    /// How many of them were skipped.
    pub skipped: Skipped,
    /// Which networks it is of.
    pub networks: Networks,
    /// Tensors by name, prefixed `student.`, `teacher.`, `adamw.` or `lars.`, and `objective.`.
    pub tensors: BTreeMap<String, HostTensor>,
}

/// Steps whose loss or gradients were not finite, and which changed nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// All of them.
    pub steps: usize,
    /// Those since the last step that was taken.
    pub in_a_row: usize,
}

impl Skipped {
    /// The counts after one more step.
    pub(crate) fn and(self, skipped: bool) -> Self {
        if skipped { Self { steps: self.steps + 1, in_a_row: self.in_a_row + 1 } } else { Self { in_a_row: 0, ..self } }
    }
}

/// Which networks a state is of, as far as it is said: early checkpoints say nothing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Networks {
    /// The backbones'. Whoever reads the file as weights needs it: shapes do not tell the attention heads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelConfig>,
    /// The digest of the frozen teacher's weights, which are an input and not in the checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distilled_from: Option<Digest>,
}

/// What stands beside a checkpoint.
#[derive(Debug, Serialize, Deserialize)]
struct Sidecar {
    step: usize,
    digest: Digest,
    /// k-NN accuracy of the teacher, where it was measured: the best checkpoint is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    score: Option<f64>,
}

/// What a checkpoint says of itself, within its digest.
#[derive(Debug, Serialize, Deserialize)]
struct About {
    format: String,
    step: usize,
    /// Left out when no step was skipped.
    #[serde(default, skip_serializing_if = "is_nothing")]
    skipped: Skipped,
    #[serde(flatten)]
    networks: Networks,
}

fn is_nothing(skipped: &Skipped) -> bool {
    *skipped == Skipped::default()
}

/// Names and shapes are timm's and PyTorch's.
const FORMAT: &str = "lapidary checkpoint 2";
/// Names and shapes are burn's.
const FORMAT_1: &str = "lapidary checkpoint 1";
/// The key of [`About`] in the file's metadata.
const ABOUT: &str = "lapidary";

impl Checkpoint {
    /// The tensors under a prefix, without it.
    pub fn part(&self, prefix: &str) -> BTreeMap<String, HostTensor> {
        let strip = |(name, tensor): (&String, &HostTensor)| {
            name.strip_prefix(prefix).map(|rest| (rest.to_owned(), tensor.clone()))
        };
        self.tensors.iter().filter_map(strip).collect()
    }

    /// The same as a snapshot, to be written.
    pub fn snapshot(&self) -> Snapshot {
        let entry = |(name, tensor): (&String, &HostTensor)| {
            let tensor = tensor.clone();
            Entry::new(name.clone(), tensor.shape.clone(), move || tensor.values.clone())
        };
        let entries = self.tensors.iter().map(entry).collect();
        Snapshot { step: self.step, skipped: self.skipped, networks: self.networks.clone(), entries }
    }

    /// The first tensor that holds a value that is not finite.
    pub(crate) fn not_finite(&self) -> Option<&str> {
        let broken = |tensor: &HostTensor| tensor.values.iter().any(|value| !value.is_finite());
        self.tensors.iter().find(|(_, tensor)| broken(tensor)).map(|(name, _)| name.as_str())
    }

    /// Reads `NAME.safetensors`, checked against its digest.
    ///
    /// # Errors
    /// [`TrainError::Checkpoint`] when it is damaged or not one of ours, [`TrainError::BrokenState`] when it holds a value that
    /// is not finite.
    pub fn load(folder: &Path, name: &str) -> Result<Self> {
        let checkpoint = Self::load_as_it_is(folder, name)?;
        match checkpoint.not_finite() {
            Some(tensor) => Err(TrainError::BrokenState { path: file(folder, name), tensor: tensor.to_owned() }),
            None => Ok(checkpoint),
        }
    }

    /// The same, finite or not: for a dump.
    pub(crate) fn load_as_it_is(folder: &Path, name: &str) -> Result<Self> {
        let path = file(folder, name);
        let fault = |detail: String| TrainError::Checkpoint { path: path.clone(), detail };
        let sidecar = read_sidecar(folder, name)?;
        let whole = std::fs::read(&path).map_err(PipelineError::io("read", &path))?;
        if digest_of_bytes(&whole) != sidecar.digest {
            return Err(fault("it does not match its digest; it was damaged or cut short".to_owned()));
        }
        let parsed = SafeTensors::deserialize(&whole).map_err(|e| fault(e.to_string()))?;
        let (_, metadata) = SafeTensors::read_metadata(&whole).map_err(|e| fault(e.to_string()))?;
        let about = metadata.metadata().as_ref().and_then(|entries| entries.get(ABOUT));
        let about = about.ok_or_else(|| fault("it does not say what it is".to_owned()))?;
        let about: About = serde_json::from_str(about).map_err(|e| fault(e.to_string()))?;
        let mut tensors = BTreeMap::new();
        for (name, view) in parsed.tensors() {
            if view.dtype() != Dtype::F32 {
                return Err(fault(format!("tensor `{name}` is {:?}, not F32", view.dtype())));
            }
            let words = view.data().chunks_exact(4);
            let values = words.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            tensors.insert(name, HostTensor { shape: view.shape().to_vec(), values });
        }
        let tensors = match about.format.as_str() {
            FORMAT => tensors,
            FORMAT_1 => version_1::converted(tensors),
            other => {
                let known = format!("it is of format `{other}`; this version reads `{FORMAT_1}` and `{FORMAT}`");
                return Err(fault(known));
            }
        };
        Ok(Self { step: about.step, skipped: about.skipped, networks: about.networks, tensors })
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

fn read_sidecar(folder: &Path, name: &str) -> Result<Sidecar> {
    let path = folder.join(format!("{name}.json"));
    let text = std::fs::read(&path).map_err(PipelineError::io("read", &path))?;
    let fault = |e: serde_json::Error| TrainError::Checkpoint { path: path.clone(), detail: e.to_string() };
    serde_json::from_slice(&text).map_err(fault)
}

fn write_sidecar(folder: &Path, name: &str, sidecar: &Sidecar) -> Result<()> {
    Ok(write_json(&folder.join(format!("{name}.json")), sidecar)?)
}

fn file(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.safetensors"))
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
        let skipped = Skipped { steps: step / 2, in_a_row: 0 };
        Checkpoint {
            step,
            skipped,
            networks: Networks::default(),
            tensors: BTreeMap::from([("student.a".to_owned(), tensor)]),
        }
    }

    #[test]
    fn the_same_state_gives_the_same_bytes_and_reads_back() {
        let folder = tempfile::tempdir().expect("a folder");
        checkpoint(7).snapshot().save(folder.path(), "a", None).expect("saves");
        checkpoint(7).snapshot().save(folder.path(), "b", None).expect("saves");
        let read = |name: &str| std::fs::read(folder.path().join(name)).expect("reads");
        assert_eq!(read("a.safetensors"), read("b.safetensors"));
        assert_eq!(Checkpoint::load(folder.path(), "a").expect("loads"), checkpoint(7));
        assert_eq!(checkpoint(7).part("student.").keys().collect::<Vec<_>>(), ["a"]);
    }

    #[test]
    fn a_damaged_checkpoint_is_passed_over_and_old_ones_go() {
        let folder = tempfile::tempdir().expect("a folder");
        for step in [1, 2, 3] {
            checkpoint(step).snapshot().save(folder.path(), &step_name(step), None).expect("saves");
        }
        prune(folder.path(), Keep { last: 2, every_steps: 0 }).expect("prunes");
        assert_eq!(names(folder.path()).len(), 2);
        let newest = folder.path().join("step-00000003.safetensors");
        let mut bytes = std::fs::read(&newest).expect("reads");
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        std::fs::write(&newest, bytes).expect("writes");
        assert_eq!(Checkpoint::latest(folder.path()).expect("one is whole").step, 2);
        checkpoint(4).snapshot().save(folder.path(), FINAL, None).expect("saves");
        prune(folder.path(), Keep { last: 2, every_steps: 0 }).expect("prunes");
        assert_eq!(names(folder.path()), [FINAL]);
    }
    #[test]
    fn a_value_that_is_not_finite_is_neither_saved_nor_resumed_from() {
        let temporary = tempfile::tempdir().expect("a folder");
        let folder = temporary.path();
        checkpoint(1).snapshot().save(folder, &step_name(1), None).expect("saves");
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut broken = checkpoint(2);
            broken.tensors.get_mut("student.a").expect("it is there").values[1] = value;
            let error = broken.snapshot().save(folder, &step_name(2), None).expect_err("refuses");
            assert!(error.to_string().contains("`student.a`"), "{error}");
            assert_eq!(names(folder), [step_name(1)], "nothing is written, and the older one stays");
            // As a version without this check could have left one.
            broken.snapshot().save_as_it_is(folder, &step_name(2)).expect("saves");
            assert!(Checkpoint::load(folder, &step_name(2)).is_err());
            assert_eq!(Checkpoint::latest(folder).expect("the older one").step, 1);
            for extension in ["json", "safetensors"] {
                std::fs::remove_file(folder.join(step_name(2)).with_extension(extension)).expect("removes");
            }
        }
    }
}
