//! Views of an image that mean the same: itself, its mirror image, its four corner crops of 3/4 of each side.

use crate::Result;
use image::RgbImage;
use image::imageops::{crop_imm, flip_horizontal};
use lapidary_pipeline::{ImageStore, PipelineError, decode, interrupt};
use lapidary_train::FrozenVit;
use lapidary_train::operators::Operators;
use lapidary_train::probe::{Features, Labelled};

/// Views of an image.
pub(crate) const VIEWS: usize = 6;

/// Features of all views of labelled images, shape `[VIEWS * images, dim]`, view by view.
///
/// # Errors
/// When an image is gone, the user interrupts, or the device fails.
pub(crate) fn view_features<B: Operators>(
    store: &ImageStore,
    labelled: &[Labelled],
    network: &FrozenVit<B>,
    batch: usize,
    done: impl Fn(u64),
) -> Result<Features> {
    let mut by_view = vec![Vec::new(); VIEWS];
    for chunk in labelled.chunks(batch.max(1)) {
        interrupt::check()?;
        let ids: Vec<_> = chunk.iter().map(|labelled| labelled.id).collect();
        let fetched = store.fetch(&ids)?;
        let decoded = (0..ids.len()).map(|i| decode(fetched.get(i), store.rule()).map(|decoded| decoded.rgb));
        let images = decoded
            .collect::<Result<Vec<RgbImage>, _>>()
            .map_err(|(reason, detail)| PipelineError::Usage(format!("{} ({detail}); ingest again", reason.text())))?;
        for (index, values) in by_view.iter_mut().enumerate() {
            let views: Vec<RgbImage> = images.iter().map(|image| view(image, index)).collect();
            values.extend(network.class_features(&views)?);
        }
        done(chunk.len() as u64);
    }
    let classes = (0..VIEWS).flat_map(|_| labelled.iter().map(|labelled| labelled.class)).collect();
    Ok(Features { dim: network.dim(), values: by_view.concat(), classes })
}

/// The view of an index below [`VIEWS`].
fn view(image: &RgbImage, index: usize) -> RgbImage {
    match index {
        0 => image.clone(),
        1 => flip_horizontal(image),
        corner => {
            let (width, height) = image.dimensions();
            let (wide, high) = ((width * 3 / 4).max(1), (height * 3 / 4).max(1));
            let x = if corner % 2 == 0 { 0 } else { width - wide };
            let y = if corner < 4 { 0 } else { height - high };
            crop_imm(image, x, y, wide, high).to_image()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    #[test]
    fn views_are_the_image_its_mirror_image_and_its_corners() {
        let image = RgbImage::from_fn(8, 4, |x, y| Rgb([x as u8, y as u8, 0]));
        let corners: Vec<(u32, u32, Rgb<u8>)> = (0..VIEWS)
            .map(|index| {
                let view = view(&image, index);
                (view.width(), view.height(), *view.get_pixel(0, 0))
            })
            .collect();
        let expected = [(8, 4, 0, 0), (8, 4, 7, 0), (6, 3, 0, 0), (6, 3, 2, 0), (6, 3, 0, 1), (6, 3, 2, 1)];
        assert_eq!(corners, expected.map(|(width, height, x, y)| (width, height, Rgb([x, y, 0]))));
        assert_eq!(view(&RgbImage::new(1, 1), 5).dimensions(), (1, 1));
    }
}
