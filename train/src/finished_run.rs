//! A finished run: its manifest, its network's configuration, its weights.

use crate::checkpoint::{Checkpoint, FINAL};
use crate::frozen::FrozenVit;
use crate::model::{HostTensor, Network, NetworkConfig, Vit, load};
use crate::operators::Operators;
use crate::pretrain::CHECKPOINTS;
use crate::{Result, TrainError};
use lapidary_pipeline::PipelineError;
use lapidary_pipeline::stage::{Layout, require_manifest};
use lapidary_schemas::Manifest;
use lapidary_schemas::config::{ModelConfig, ObjectiveConfig, ObjectiveKind};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Tensors by their names.
pub type Tensors = BTreeMap<String, HostTensor>;

/// A finished run.
#[derive(Debug, Clone)]
pub struct FinishedRun {
    /// Its name.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
    /// Its manifest.
    pub manifest: Manifest,
    /// Its network.
    pub model: ModelConfig,
    objective: ObjectiveConfig,
    seed: u64,
}

impl FinishedRun {
    /// Opens a run of a source.
    ///
    /// # Errors
    /// When there is no such run, or its manifest lacks its configuration.
    pub fn open(layout: &Layout, source: &str, name: &str) -> Result<Self> {
        let folder = layout.run(source, name);
        let manifest = require_manifest(&folder, "finished run", "run `lapidary pretrain` first")?;
        let section = |key: &str| manifest.config[key].clone();
        let fault = |e: serde_json::Error| TrainError::from(PipelineError::format(&folder, e));
        Ok(Self {
            name: name.to_owned(),
            model: serde_json::from_value::<ModelConfig>(section("model")).map_err(fault)?.resolved(),
            objective: serde_json::from_value(section("objective")).map_err(fault)?,
            seed: section("seed").as_u64().unwrap_or(0),
            manifest,
            folder,
        })
    }

    /// The trained backbone's tensors, as they lie on disk: the teacher's where there is one, else the student's.
    ///
    /// # Errors
    /// When the checkpoint is damaged.
    pub fn tensors(&self) -> Result<Tensors> {
        Ok(self.weights()?.0)
    }

    /// The same, and the tensors of the run's descriptor, where it was trained for one (SSCD).
    ///
    /// # Errors
    /// When the checkpoint is damaged.
    pub(crate) fn weights(&self) -> Result<(Tensors, Option<Tensors>)> {
        let checkpoint = Checkpoint::load(&self.folder.join(CHECKPOINTS), FINAL)?;
        let teacher = checkpoint.part("teacher.backbone.");
        let descriptor = (self.objective.kind == ObjectiveKind::Sscd).then(|| checkpoint.part("student.descriptor."));
        Ok((if teacher.is_empty() { checkpoint.part("student.backbone.") } else { teacher }, descriptor))
    }

    /// The trained backbone.
    ///
    /// # Errors
    /// When the checkpoint is damaged.
    pub fn trained<B: Operators>(&self, device: &B::Device) -> Result<FrozenVit<B>> {
        let (folder, weights) = (self.folder.join(CHECKPOINTS), self.tensors()?);
        let vit = load(Vit::new(&self.model, false, device), &weights, device)
            .map_err(|detail| TrainError::Checkpoint { path: folder, detail })?;
        Ok(FrozenVit::new(vit, &self.model, device))
    }

    /// The same network as it was before its first step.
    pub fn untrained<B: Operators>(&self, device: &B::Device) -> FrozenVit<B> {
        let network = Network::<B>::student(&NetworkConfig::of(&self.model, &self.objective), self.seed, device);
        FrozenVit::new(network.backbone, &self.model, device)
    }
}
