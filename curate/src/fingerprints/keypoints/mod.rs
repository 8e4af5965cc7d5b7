//! Keypoints: places in an image that are found again in its copies.
//!
//! A descriptor of the whole image loses cropped, turned, mirrored, overlaid and collaged copies; keypoints do not.
//! They are found in the image's scale space ([`extrema`]), given one or two directions ([`orientation`]) and signed by
//! 256 bits ([`signature`]).

mod blur;
mod extrema;
mod gradient_rows;
mod keypoint;
mod orientation;
mod pooling;
mod scale_space;
mod signature;
mod weighted_rows;

pub(crate) use keypoint::Keypoint;
pub(crate) use signature::Signature;

use extrema::find;
use image::GrayImage;
use keypoint::Found;
use scale_space::{Plane, ScaleSpace};
use signature::signature;

/// The keypoints of an image, the strongest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct LocalFeatures {
    /// Size of the working image, in whose pixels keypoints are given.
    pub(crate) width: f32,
    /// Pixels down.
    pub(crate) height: f32,
    pub(crate) keypoints: Vec<Keypoint>,
    pub(crate) signatures: Vec<Signature>,
}

/// Finds and signs keypoints; its buffers are kept from image to image.
#[derive(Debug, Default)]
pub(crate) struct Extractor {
    image: Plane,
    space: ScaleSpace,
}

impl Extractor {
    /// The strongest keypoints of a working image, at most `most`.
    pub(crate) fn extract(&mut self, luma: &GrayImage, most: usize) -> LocalFeatures {
        let (width, height) = (luma.width() as usize, luma.height() as usize);
        self.image.resize(width, height);
        for (value, byte) in self.image.values.iter_mut().zip(luma.as_raw()) {
            *value = f32::from(*byte) * (1.0 / 255.0);
        }
        self.space.build(&self.image);
        let found = find(&self.space, most);
        let signed = |f| {
            let f: &Found = f;
            signature(&self.space.octaves()[f.octave].gaussians[f.level], f)
        };
        LocalFeatures {
            width: width as f32,
            height: height as f32,
            signatures: found.iter().map(signed).collect(),
            // As a table would give them back, so that results do not depend on whether they were stored.
            keypoints: found.into_iter().map(|f| Keypoint::from_stored(f.keypoint.to_stored())).collect(),
        }
    }
}
