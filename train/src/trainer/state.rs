//! A run's state in checkpoints: the networks, the optimiser's moments, what the objective remembers.

use super::Trainer;
use crate::checkpoint::{Checkpoint, Entry, Networks, Snapshot};
use crate::model::{HostTensor, disk_shape, from_disk, host_values, load, named_tensors, shapes, to_disk};
use crate::operators::{Operators, TrainBackend};
use crate::{Result, TrainError};
use burn::module::{AutodiffModule, Module};
use burn::tensor::Tensor;
use std::collections::BTreeMap;
use std::path::Path;

impl<B: TrainBackend> Trainer<B> {
    /// All state that makes the run, to be written while training goes on.
    pub fn snapshot(&self) -> Snapshot {
        let student = self.student.valid();
        let shapes = shapes(&student);
        let mut entries = parameter_entries("student", &student);
        if self.needs.has_teacher() {
            entries.extend(parameter_entries("teacher", &self.teacher));
        }
        entries.extend(self.fixed.entries());
        for (key, tensor) in self.optimiser.tensors() {
            let name = key.split_once('.').map_or("", |(_, name)| name);
            let shape = shapes.get(name).cloned().filter(|shape| shape.iter().product::<usize>() == tensor.dims()[0]);
            entries.push(entry(format!("{}.{key}", self.optimiser.name()), name, shape.unwrap_or(vec![1]), tensor));
        }
        for (name, tensor) in self.objective.state() {
            let shape = tensor.shape.clone();
            entries.push(Entry::new(format!("objective.{name}"), shape, move || tensor.values.clone()));
        }
        let distilled_from = self.fixed.frozen_digest().cloned();
        let networks = Networks { model: Some(self.config.model.clone()), distilled_from };
        Snapshot { step: self.step, skipped: self.skipped, networks, entries }
    }

    /// The same on the host.
    pub fn checkpoint(&self) -> Checkpoint {
        let Snapshot { step, skipped, networks, entries } = self.snapshot();
        let on_host = |entry: &Entry| {
            (entry.name().to_owned(), HostTensor { shape: entry.shape().to_vec(), values: entry.values() })
        };
        Checkpoint { step, skipped, networks, tensors: entries.iter().map(on_host).collect() }
    }

    /// Resumes from a checkpoint.
    ///
    /// # Errors
    /// [`TrainError::Checkpoint`] when it is of another network.
    pub fn restore(mut self, checkpoint: &Checkpoint, path: &Path) -> Result<Self> {
        self.rank.end_others();
        self.ahead = None;
        let fault = |detail: String| TrainError::Checkpoint { path: path.to_owned(), detail };
        self.student = load(self.student, &checkpoint.part("student."), &self.device).map_err(fault)?;
        if self.needs.has_teacher() {
            self.teacher = load(self.teacher, &checkpoint.part("teacher."), &self.device).map_err(fault)?;
        }
        self.fixed.restore(checkpoint, &self.teacher.backbone, &self.device).map_err(fault)?;
        let shapes = shapes(&self.student);
        let mut state = BTreeMap::new();
        for (key, tensor) in checkpoint.part(&format!("{}.", self.optimiser.name())) {
            let name = key.split_once('.').map_or("", |(_, name)| name);
            let shape = shapes.get(name).ok_or_else(|| fault(format!("tensor `{key}` is of no parameter")))?;
            let values = if tensor.shape == [1] && shape != &[1] {
                tensor.values
            } else {
                from_disk(name, shape, Some(&tensor)).map_err(fault)?
            };
            state.insert(key, values);
        }
        self.optimiser.restore(&state, &self.device);
        self.objective.restore(&checkpoint.part("objective."));
        (self.step, self.skipped) = (checkpoint.step, checkpoint.skipped);
        Ok(self)
    }
}

/// A network's parameters as they are written.
pub(super) fn parameter_entries<B: Operators, M: Module<B>>(prefix: &str, network: &M) -> Vec<Entry> {
    let mut shapes = shapes(network);
    named_tensors(network)
        .into_iter()
        .map(|(name, tensor)| {
            let shape = shapes.remove(&name).unwrap_or_default();
            entry(format!("{prefix}.{name}"), &name, shape, tensor)
        })
        .collect()
}

/// A flat tensor of the layout of parameter `name`, whose shape in memory is `shape`.
fn entry<B: Operators>(key: String, name: &str, shape: Vec<usize>, tensor: Tensor<B, 1>) -> Entry {
    let name = name.to_owned();
    Entry::new(key, disk_shape(&name, &shape), move || to_disk(&name, &shape, host_values(tensor.clone())).values)
}
