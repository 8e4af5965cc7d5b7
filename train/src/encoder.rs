//! A finished run as an encoder: features are the class token's after the final norm.

use crate::backbone::Backbone;
use crate::checkpoint::{Checkpoint, FINAL};
use crate::model::{HostTensor, Network, NetworkConfig, Vit, load};
use crate::pieces::{in_parallel, ranges};
use crate::pretrain::CHECKPOINTS;
use crate::{Result, TrainError};
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use image::RgbImage;
use lapidary_pipeline::pixels::{Raster, normalise_into, resize_and_crop};
use lapidary_pipeline::stage::{Layout, require_manifest};
use lapidary_pipeline::{Encoder, PipelineError};
use lapidary_schemas::config::{ModelConfig, ObjectiveConfig};
use lapidary_schemas::{Digest, Manifest};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Pieces that a batch is encoded in, side by side.
const PIECES: usize = 2;

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
    pub fn tensors(&self) -> Result<BTreeMap<String, HostTensor>> {
        let checkpoint = Checkpoint::load(&self.folder.join(CHECKPOINTS), FINAL)?;
        let teacher = checkpoint.part("teacher.backbone.");
        Ok(if teacher.is_empty() { checkpoint.part("student.backbone.") } else { teacher })
    }

    /// The trained backbone.
    ///
    /// # Errors
    /// When the checkpoint is damaged.
    pub fn trained<B: Backend>(&self, device: &B::Device) -> Result<Vit<B>> {
        let (folder, weights) = (self.folder.join(CHECKPOINTS), self.tensors()?);
        load(Vit::new(&self.model, false, device), &weights, device)
            .map_err(|detail| TrainError::Checkpoint { path: folder, detail })
    }

    /// The same network as it was before its first step.
    pub fn untrained<B: Backend>(&self, device: &B::Device) -> Vit<B> {
        Network::<B>::student(&NetworkConfig::of(&self.model, &self.objective), self.seed, device).backbone
    }
}

/// A backbone with what it takes to give it images.
#[derive(Debug)]
pub struct VitEncoder<B: Backend> {
    /// The backbone.
    pub vit: Vit<B>,
    model: ModelConfig,
    name: String,
    digest: Digest,
    device: B::Device,
}

impl<B: Backend> VitEncoder<B> {
    /// The encoder of a run's backbone.
    pub fn new(vit: Vit<B>, run: &FinishedRun, device: &B::Device) -> Self {
        Self {
            vit,
            model: run.model.clone(),
            name: run.name.clone(),
            digest: run.manifest.digest.clone(),
            device: device.clone(),
        }
    }

    /// The encoder of a backbone, whatever it comes from.
    ///
    /// # Errors
    /// When its tensors are not its network's.
    pub fn of_backbone(backbone: &Backbone, device: &B::Device) -> Result<Self> {
        let (name, digest) = (backbone.name.clone(), backbone.digest.clone());
        Ok(Self {
            vit: backbone.vit(device)?,
            model: backbone.weights.model.clone(),
            name,
            digest,
            device: device.clone(),
        })
    }

    /// Images as the network sees them, shape `[images.len(), 3, side, side]`: the short side resized to 256 / 224 of the
    /// model's side, then its middle; images of at most 96 px lose no border.
    ///
    /// # Errors
    /// When an image has no pixels.
    pub fn pixels(&self, images: &[RgbImage]) -> Result<Tensor<B, 4>, PipelineError> {
        let side = self.model.image_px;
        let short_side = if side > 96 { side * 256 / 224 } else { side };
        let planes: Vec<Vec<f32>> = images
            .par_iter()
            .with_max_len(1)
            .map(|image| {
                let rgb = resize_and_crop(image, short_side as u32, side as u32)?;
                let mut pixels = vec![0f32; 3 * side * side];
                normalise_into(&Raster::from(&rgb), &mut pixels);
                Ok(pixels)
            })
            .collect::<Result<_, PipelineError>>()?;
        let data = TensorData::new(planes.concat(), [images.len(), 3, side, side]);
        Ok(Tensor::from_data(data, &self.device))
    }
}

impl<B: Backend> Encoder for VitEncoder<B> {
    fn name(&self) -> &str {
        &self.name
    }

    fn digest(&self) -> Digest {
        self.digest.clone()
    }

    fn dim(&self) -> usize {
        self.model.dim
    }

    fn encode(&mut self, images: &[RgbImage]) -> Result<Vec<f32>, PipelineError> {
        let pixels = self.pixels(images)?;
        let [count, channels, side, _] = pixels.dims();
        let features = in_parallel(&ranges(count, PIECES), |piece| {
            let piece = pixels.clone().slice([piece.clone(), 0..channels, 0..side, 0..side]);
            let features = self.vit.forward(piece).into_data().convert::<f32>();
            features.to_vec::<f32>().expect("converted to f32 just before")
        });
        Ok(features.concat())
    }
}
