//! Thumbnails of a source's images, for pages.

use crate::runtime::report::picture;
use crate::{ImageStore, PipelineError, Result, decode};
use image::RgbImage;
use image::codecs::jpeg::JpegEncoder;
use lapidary_schemas::ImageId;
use maud::{Markup, html};

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

    /// Whether an image is one of the source's.
    pub fn has(&self, id: ImageId) -> bool {
        self.store.info(id).is_some()
    }

    /// Images side by side, with a caption each.
    ///
    /// # Errors
    /// When one is not there, or no longer decodes.
    pub fn row(&self, images: &[(ImageId, String)], width_px: u32) -> Result<Markup> {
        let ids: Vec<ImageId> = images.iter().map(|(id, _)| *id).collect();
        let mut figures = Vec::with_capacity(images.len());
        let fetched = self.store.fetch(&ids)?;
        for (i, (id, caption)) in images.iter().enumerate() {
            let decoded = decode(fetched.get(i), self.store.rule())
                .map_err(|(reason, _)| PipelineError::Usage(reason.text().to_owned()))?;
            let height = width_px * decoded.rgb.height() / decoded.rgb.width().max(1);
            let small = image::imageops::thumbnail(&decoded.rgb, width_px, height.clamp(1, 2 * width_px));
            figures.push(picture(&jpeg(&small)?, "image/jpeg", &id.to_string(), width_px, caption));
        }
        Ok(html! { div.row { @for figure in figures { (figure) } } })
    }
}

fn jpeg(image: &RgbImage) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, 82)
        .encode_image(image)
        .map_err(|e| PipelineError::Internal(format!("encoding a thumbnail: {e}")))?;
    Ok(bytes)
}
