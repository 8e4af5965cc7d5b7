//! A backbone whose weights stay as they are: images in, class features out.

use crate::model::Vit;
use crate::operators::Operators;
use crate::pieces::{in_parallel, ranges};
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use image::RgbImage;
use lapidary_pipeline::PipelineError;
use lapidary_pipeline::pixels::{Raster, normalise_into, resize_and_crop};
use lapidary_schemas::config::ModelConfig;
use rayon::prelude::*;

/// Pieces that a batch is computed in, side by side.
const PIECES: usize = 2;

/// A backbone with what it takes to give it images.
#[derive(Debug)]
pub struct FrozenVit<B: Backend> {
    /// The backbone.
    pub vit: Vit<B>,
    model: ModelConfig,
    device: B::Device,
}

impl<B: Operators> FrozenVit<B> {
    /// A backbone on a device, with its configuration.
    pub fn new(vit: Vit<B>, model: &ModelConfig, device: &B::Device) -> Self {
        Self { vit, model: model.clone(), device: device.clone() }
    }

    /// Values of a class feature.
    pub fn dim(&self) -> usize {
        self.model.dim
    }

    /// Blocks of the backbone.
    pub fn depth(&self) -> usize {
        self.vit.depth()
    }

    /// Side of the images that it is given, in pixels.
    pub fn image_px(&self) -> usize {
        self.model.image_px
    }

    /// Class features after the final norm, image by image, `images.len() * dim` values.
    ///
    /// # Errors
    /// When an image has no pixels.
    pub fn class_features(&self, images: &[RgbImage]) -> Result<Vec<f32>, PipelineError> {
        self.features(images, |pixels| self.vit.forward(pixels))
    }

    /// What linear classifiers read of images, `images.len() * (blocks + 1) * dim` values; see [`Vit::last_blocks`].
    ///
    /// # Errors
    /// When an image has no pixels.
    pub fn last_blocks(&self, images: &[RgbImage], blocks: usize) -> Result<Vec<f32>, PipelineError> {
        self.features(images, |pixels| self.vit.last_blocks(pixels, blocks))
    }

    /// The same of pixels, shape `[images, 3, side, side]`, normalised.
    pub fn last_blocks_of_pixels(&self, pixels: Vec<f32>, blocks: usize) -> Vec<f32> {
        let side = self.model.image_px;
        let images = pixels.len() / (3 * side * side);
        let pixels = Tensor::from_data(TensorData::new(pixels, [images, 3, side, side]), &self.device);
        read_in_pieces(&pixels, |pixels| self.vit.last_blocks(pixels, blocks))
    }

    /// What `read` makes of images as the network sees them, image by image.
    ///
    /// # Errors
    /// When an image has no pixels.
    pub fn features(
        &self,
        images: &[RgbImage],
        read: impl Fn(Tensor<B, 4>) -> Tensor<B, 2> + Sync,
    ) -> Result<Vec<f32>, PipelineError> {
        Ok(read_in_pieces(&self.pixels(images)?, read))
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

fn read_in_pieces<B: Operators>(pixels: &Tensor<B, 4>, read: impl Fn(Tensor<B, 4>) -> Tensor<B, 2> + Sync) -> Vec<f32> {
    let [count, channels, side, _] = pixels.dims();
    let features = in_parallel(&ranges(count, PIECES), |piece| {
        let piece = pixels.clone().slice([piece.clone(), 0..channels, 0..side, 0..side]);
        let features = read(piece).into_data().convert::<f32>();
        features.to_vec::<f32>().expect("converted to f32 just before")
    });
    features.concat()
}
