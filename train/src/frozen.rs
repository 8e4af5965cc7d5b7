//! A backbone whose weights stay as they are: images in, class features out.

use crate::model::{Draws, Vit};
use crate::operators::Operators;
use crate::pieces::{in_parallel, ranges};
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use image::RgbImage;
use lapidary_pipeline::PipelineError;
use lapidary_pipeline::pixels::{Middle, Raster, normalise_into, resize_and_crop};
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

    /// The same of views, all squares of one side.
    pub fn features_of_views(
        &self,
        views: &[RgbImage],
        read: impl Fn(Tensor<B, 4>) -> Tensor<B, 2> + Sync,
    ) -> Vec<f32> {
        read_in_pieces(&self.tensor(views), read)
    }

    /// Side of a patch, in pixels.
    pub fn patch_px(&self) -> usize {
        self.model.patch_px
    }

    /// The greatest side of whole patches that is at most `side_px`, but one patch at least; the network's own side for 0.
    pub fn whole_patches_px(&self, side_px: usize) -> usize {
        let side = if side_px == 0 { self.model.image_px } else { side_px };
        (side / self.model.patch_px).max(1) * self.model.patch_px
    }

    /// What is seen of an image of this width and height in a view of `side_px` squared: the short side resized to 256 / 224 of
    /// it, then the middle; networks for images of at most 96 px see the whole short side.
    pub fn middle(&self, image_px: (u32, u32), side_px: usize) -> Middle {
        Middle::of(image_px, self.short_side_px(side_px), side_px as u32)
    }

    /// The view of an image, `side_px` squared.
    ///
    /// # Errors
    /// When the image has no pixels.
    pub fn view(&self, image: &RgbImage, side_px: usize) -> Result<RgbImage, PipelineError> {
        resize_and_crop(image, self.short_side_px(side_px), side_px as u32)
    }

    fn short_side_px(&self, side_px: usize) -> u32 {
        (if self.model.image_px > 96 { side_px * 256 / 224 } else { side_px }) as u32
    }

    /// Images as the network sees them, shape `[images.len(), 3, side, side]`, at its own side; see [`Self::middle`].
    ///
    /// # Errors
    /// When an image has no pixels.
    pub fn pixels(&self, images: &[RgbImage]) -> Result<Tensor<B, 4>, PipelineError> {
        let side = self.model.image_px;
        let views = images.par_iter().with_max_len(1).map(|image| self.view(image, side));
        Ok(self.tensor(&views.collect::<Result<Vec<_>, _>>()?))
    }

    /// Views as the network takes them, normalised, shape `[views.len(), 3, height, width]`; all must have one size.
    pub fn tensor(&self, views: &[RgbImage]) -> Tensor<B, 4> {
        let (width, height) = views.first().map_or((0, 0), |view| view.dimensions());
        let (width, height) = (width as usize, height as usize);
        let planes: Vec<Vec<f32>> = views
            .par_iter()
            .with_max_len(1)
            .map(|view| {
                let mut pixels = vec![0f32; 3 * width * height];
                normalise_into(&Raster::from(view), &mut pixels);
                pixels
            })
            .collect();
        Tensor::from_data(TensorData::new(planes.concat(), [views.len(), 3, height, width]), &self.device)
    }

    /// The patches' tokens of views after the final norm, view by view and row by row, shape `[views.len(), patches, dim]`.
    pub fn patch_features(&self, views: &[RgbImage]) -> Vec<f32> {
        self.features_of_views(views, |pixels| {
            let tokens = self.vit.tokens(pixels, &Draws::default(), true).patches.expect("they were asked for");
            let [count, patches, dim] = tokens.dims();
            tokens.reshape([count, patches * dim])
        })
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
