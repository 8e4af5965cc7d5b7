//! Thumbnails of a source's images, for pages.

use crate::runtime::report::picture;
use crate::{ImageStore, PipelineError, Result, decode};
use image::RgbImage;
use image::codecs::jpeg::JpegEncoder;
use lapidary_schemas::ImageId;
use maud::{Markup, html};
use rayon::prelude::*;

/// Images that are decoded at a time; bounds the memory of their bytes.
const CHUNK_IMAGES: usize = 64;

/// A small JPEG of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thumbnail {
    /// Its bytes.
    pub jpeg: Vec<u8>,
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
}

/// Thumbnails of a source's images.
#[derive(Debug)]
pub struct Pictures {
    store: ImageStore,
}

impl Pictures {
    /// Pictures of the images of a store.
    pub fn new(store: ImageStore) -> Self {
        Self { store }
    }

    /// The store that the pictures are of.
    pub fn store(&self) -> &ImageStore {
        &self.store
    }

    /// Whether an image is one of the source's.
    pub fn has(&self, id: ImageId) -> bool {
        self.store.info(id).is_some()
    }

    /// Thumbnails of images in the order given; no side is longer than `long_side_px`, and none is enlarged.
    ///
    /// # Errors
    /// When one is not there, or no longer decodes.
    pub fn thumbnails(&self, ids: &[ImageId], long_side_px: u32) -> Result<Vec<Thumbnail>> {
        let mut all = Vec::with_capacity(ids.len());
        for chunk in ids.chunks(CHUNK_IMAGES) {
            let fetched = self.store.fetch(chunk)?;
            let small = (0..chunk.len()).into_par_iter().map(|i| {
                let decoded = decode(fetched.get(i), self.store.rule())
                    .map_err(|(reason, _)| PipelineError::Usage(format!("image {}: {}", chunk[i], reason.text())))?;
                thumbnail(&decoded.rgb, long_side_px)
            });
            all.extend(small.collect::<Result<Vec<Thumbnail>>>()?);
        }
        Ok(all)
    }

    /// Images side by side, with a caption each.
    ///
    /// # Errors
    /// When one is not there, or no longer decodes.
    pub fn row(&self, images: &[(ImageId, String)], width_px: u32) -> Result<Markup> {
        let ids: Vec<ImageId> = images.iter().map(|(id, _)| *id).collect();
        let small = self.thumbnails(&ids, width_px)?;
        let figures = images.iter().zip(&small);
        Ok(html! { div.row { @for ((id, caption), small) in figures {
            (picture(&small.jpeg, "image/jpeg", &id.to_string(), small.width, caption))
        } } })
    }
}

fn thumbnail(image: &RgbImage, long_side_px: u32) -> Result<Thumbnail> {
    let scale = (f64::from(long_side_px) / f64::from(image.width().max(image.height()).max(1))).min(1.0);
    let side = |px: u32| ((f64::from(px) * scale).round() as u32).max(1);
    let (width, height) = (side(image.width()), side(image.height()));
    let small = image::imageops::thumbnail(image, width, height);
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, 82)
        .encode_image(&small)
        .map_err(|e| PipelineError::Internal(format!("encoding a thumbnail: {e}")))?;
    Ok(Thumbnail { jpeg, width, height })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thumbnails_keep_their_shape_and_are_never_enlarged() {
        let small = thumbnail(&RgbImage::new(400, 100), 200).expect("encodes");
        assert_eq!((small.width, small.height), (200, 50));
        let thin = thumbnail(&RgbImage::new(1, 5000), 100).expect("encodes");
        assert_eq!((thin.width, thin.height), (1, 100));
        assert_eq!(thumbnail(&RgbImage::new(30, 20), 100).expect("encodes").width, 30);
    }
}
