//! A backbone as an encoder of images: what `lapidary embed --encoder` embeds with; of a run that was trained for descriptors
//! (SSCD), with their head.

use crate::Result;
use crate::backbone::Backbone;
use crate::frozen::FrozenVit;
use crate::model::{DescriptorHead, Draws};
use crate::operators::Operators;
use burn::tensor::backend::Backend;
use image::RgbImage;
use lapidary_pipeline::{Encoder, PipelineError};
use lapidary_schemas::Digest;

/// A backbone with the name and digest that its embeddings are stamped with.
#[derive(Debug)]
pub struct VitEncoder<B: Backend> {
    network: FrozenVit<B>,
    /// The head that makes descriptors, and their width; without one, class features are the embeddings.
    head: Option<(DescriptorHead<B>, usize)>,
    name: String,
    digest: Digest,
}

impl<B: Operators> VitEncoder<B> {
    /// The encoder of a backbone, whatever it comes from.
    ///
    /// # Errors
    /// When its tensors are not its network's.
    pub fn of_backbone(backbone: &Backbone, device: &B::Device) -> Result<Self> {
        let network = FrozenVit::new(backbone.vit(device)?, &backbone.weights.model, device);
        let head = backbone.descriptor_head(device)?;
        Ok(Self { network, head, name: backbone.name.clone(), digest: backbone.digest.clone() })
    }
}

impl<B: Operators> Encoder for VitEncoder<B> {
    fn name(&self) -> &str {
        &self.name
    }

    fn digest(&self) -> Digest {
        self.digest.clone()
    }

    fn dim(&self) -> usize {
        self.head.as_ref().map_or(self.network.dim(), |(_, width)| *width)
    }

    fn encode(&mut self, images: &[RgbImage]) -> Result<Vec<f32>, PipelineError> {
        let Some((head, _)) = &self.head else { return self.network.class_features(images) };
        self.network.features(images, |pixels| {
            let tokens = self.network.vit.tokens(pixels, &Draws::default(), true);
            head.forward(tokens.class, tokens.patches.expect("they were asked for"))
        })
    }
}
