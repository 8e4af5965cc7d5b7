//! A backbone as an encoder of images: what `lapidary embed --encoder` embeds with.

use crate::Result;
use crate::backbone::Backbone;
use crate::frozen::FrozenVit;
use burn::tensor::backend::Backend;
use image::RgbImage;
use lapidary_pipeline::{Encoder, PipelineError};
use lapidary_schemas::Digest;

/// A backbone with the name and digest that its embeddings are stamped with.
#[derive(Debug)]
pub struct VitEncoder<B: Backend> {
    network: FrozenVit<B>,
    name: String,
    digest: Digest,
}

impl<B: Backend> VitEncoder<B> {
    /// The encoder of a backbone, whatever it comes from.
    ///
    /// # Errors
    /// When its tensors are not its network's.
    pub fn of_backbone(backbone: &Backbone, device: &B::Device) -> Result<Self> {
        let network = FrozenVit::new(backbone.vit(device)?, &backbone.weights.model, device);
        Ok(Self { network, name: backbone.name.clone(), digest: backbone.digest.clone() })
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
        self.network.dim()
    }

    fn encode(&mut self, images: &[RgbImage]) -> Result<Vec<f32>, PipelineError> {
        self.network.class_features(images)
    }
}
