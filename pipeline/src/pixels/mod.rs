//! The executor: applies one row of a plan to the pixels of an image, and nothing else.
//!
//! Order of the operations: crop and resize (bicubic, antialiased), flip, colour jitter, grayscale, blur, solarise,
//! normalise. Each rounds to 8 bits as Pillow does (facebookresearch/dino main_dino.py, spec/pretraining.md 1.1).

mod blur;
mod colour;

use crate::plan::View;
use crate::{PipelineError, Result};
use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::RgbImage;

/// Mean of each channel over ImageNet, 0 to 1.
pub const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// Standard deviation of each channel over ImageNet.
pub const STD: [f32; 3] = [0.229, 0.224, 0.225];

/// Renders a view as 8-bit RGB, `size_px` squared.
///
/// # Errors
/// When the crop does not lie in the image.
pub fn render(image: &RgbImage, view: &View) -> Result<RgbImage> {
    let crop = view.crop;
    let fits = |start: u32, len: u32, end: u32| len > 0 && start.checked_add(len).is_some_and(|stop| stop <= end);
    if !fits(crop.x_px, crop.width_px, image.width()) || !fits(crop.y_px, crop.height_px, image.height()) {
        return Err(PipelineError::Usage(format!(
            "image {}, epoch {}, view {}: the crop {crop:?} does not lie in its {} x {} pixels; plan again",
            view.image_id,
            view.epoch,
            view.view,
            image.width(),
            image.height()
        )));
    }
    let side = u32::from(view.size_px);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom)).crop(
        f64::from(crop.x_px),
        f64::from(crop.y_px),
        f64::from(crop.width_px),
        f64::from(crop.height_px),
    );
    let mut rgb = resize(image, side, side, &options)?;
    if view.flip {
        image::imageops::flip_horizontal_in_place(&mut rgb);
    }
    if let Some(jitter) = &view.jitter {
        for step in jitter.steps() {
            match step {
                0 => colour::brightness(&mut rgb, jitter.brightness),
                1 => colour::contrast(&mut rgb, jitter.contrast),
                2 => colour::saturation(&mut rgb, jitter.saturation),
                _ => colour::hue(&mut rgb, jitter.hue),
            }
        }
    }
    if view.grayscale {
        colour::grayscale(&mut rgb);
    }
    if view.blur_radius_px > 0.0 {
        blur::gaussian(&mut rgb, view.blur_radius_px);
    }
    if view.solarize {
        colour::solarize(&mut rgb);
    }
    Ok(rgb)
}

/// Resizes so that the whole image fills `side` squared after a central crop: the short side to `short_side_px` (bicubic,
/// antialiased), then the middle. What features are computed on (facebookresearch/dino eval_knn.py).
///
/// # Errors
/// When the image has no pixels.
pub fn resize_and_crop(image: &RgbImage, short_side_px: u32, side: u32) -> Result<RgbImage> {
    let scale = f64::from(short_side_px) / f64::from(image.width().min(image.height()));
    let scaled = |len: u32| ((f64::from(len) * scale).floor() as u32).max(side);
    let (width, height) = (scaled(image.width()), scaled(image.height()));
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom));
    let resized = resize(image, width, height, &options)?;
    let (x, y) = ((width - side) / 2, (height - side) / 2);
    Ok(image::imageops::crop_imm(&resized, x, y, side, side).to_image())
}

fn resize(image: &RgbImage, width: u32, height: u32, options: &ResizeOptions) -> Result<RgbImage> {
    let fault = |e: &dyn std::fmt::Display| PipelineError::Internal(format!("resizing: {e}"));
    let source =
        ImageRef::new(image.width(), image.height(), image.as_raw(), PixelType::U8x3).map_err(|e| fault(&e))?;
    let mut target = Image::new(width, height, PixelType::U8x3);
    Resizer::new().resize(&source, &mut target, options).map_err(|e| fault(&e))?;
    RgbImage::from_raw(width, height, target.into_vec()).ok_or_else(|| fault(&"wrong length"))
}

/// Writes an image as normalised f32, channels first, into `pixels` of shape `[3, height, width]`.
pub fn normalise_into(rgb: &RgbImage, pixels: &mut [f32]) {
    let plane = rgb.as_raw().len() / 3;
    for (channel, out) in pixels.chunks_exact_mut(plane).enumerate() {
        let (scale, shift) = (1.0 / (255.0 * STD[channel]), MEAN[channel] / STD[channel]);
        for (value, pixel) in out.iter_mut().zip(rgb.as_raw().chunks_exact(3)) {
            *value = f32::from(pixel[channel]) * scale - shift;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Crop;
    use lapidary_schemas::ImageId;
    use lapidary_schemas::config::ViewKind;

    fn view(crop: Crop) -> View {
        View {
            epoch: 0,
            position: 0,
            image_id: ImageId(1),
            view: 0,
            kind: ViewKind::Global,
            size_px: 8,
            crop,
            flip: false,
            jitter: None,
            grayscale: false,
            blur_radius_px: 0.0,
            solarize: false,
        }
    }

    fn image() -> RgbImage {
        RgbImage::from_fn(16, 12, |x, y| image::Rgb([(x * 16) as u8, (y * 20) as u8, 99]))
    }

    #[test]
    fn a_crop_of_the_views_size_is_copied_and_a_flip_mirrors_it() {
        let crop = Crop { x_px: 3, y_px: 2, width_px: 8, height_px: 8 };
        let plain = render(&image(), &view(crop)).expect("renders");
        assert_eq!(plain, image::imageops::crop_imm(&image(), 3, 2, 8, 8).to_image());
        let flipped = render(&image(), &View { flip: true, ..view(crop) }).expect("renders");
        assert_eq!(flipped, image::imageops::flip_horizontal(&plain));
    }

    #[test]
    fn a_box_outside_the_image_is_refused_with_its_row() {
        let crop = Crop { x_px: 10, y_px: 0, width_px: 8, height_px: 8 };
        let error = render(&image(), &view(crop)).expect_err("it leaves the image");
        assert!(error.to_string().contains("0000000000000001, epoch 0, view 0"), "{error}");
    }

    #[test]
    fn normalisation_is_per_channel() {
        let mut pixels = vec![0f32; 12];
        normalise_into(&RgbImage::from_pixel(2, 2, image::Rgb([0, 128, 255])), &mut pixels);
        for (channel, value) in [(0, 0.0f32), (1, 128.0 / 255.0), (2, 1.0)] {
            let expected = (value - MEAN[channel]) / STD[channel];
            assert!((pixels[channel * 4 + 3] - expected).abs() < 1e-5);
        }
    }
}
