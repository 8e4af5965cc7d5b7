//! The executor: applies one row of a plan to the pixels of an image, and nothing else.
//!
//! Order of the operations: crop and resize (antialiased), flip, colour jitter, grayscale, blur, solarise, normalise. Each
//! rounds to 8 bits as Pillow does (facebookresearch/dino main_dino.py, spec/pretraining.md 1.1). How near each comes to
//! Pillow and torchvision is measured in tests/e2e/golden.rs and written down in pipeline/pixels.md.

mod blur;
mod colour;
mod raster;
mod resize;

pub use blur::{box_taps, kernel_taps};
pub use colour::luma;
pub use raster::Raster;
pub(crate) use resize::Part;
pub use resize::{Filter, Resizer};

use crate::plan::View;
use crate::{PipelineError, Result};
use image::RgbImage;
use lapidary_schemas::config::{BlurKind, Interpolation};
use multiversion::multiversion;

/// Mean of each channel over ImageNet, 0 to 1.
pub const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// Standard deviation of each channel over ImageNet.
pub const STD: [f32; 3] = [0.229, 0.224, 0.225];

/// Renders views, one after the other, in buffers that it keeps: one a thread.
#[derive(Debug, Default)]
pub struct Executor {
    resizer: Resizer,
    /// The crop at the view's width and its own height.
    narrow: Raster,
    view: Raster,
    blur: blur::Scratch,
}

impl Executor {
    /// Renders a view as 8-bit RGB, `size_px` squared.
    ///
    /// # Errors
    /// When the crop does not lie in the image.
    pub fn render(&mut self, image: &Raster, view: &View) -> Result<&Raster> {
        self.crop(image, view)?;
        let rgb = &mut self.view;
        if view.flip {
            let width = rgb.width() as usize;
            rgb.pixels_mut().chunks_exact_mut(width).for_each(<[u32]>::reverse);
        }
        if let Some(jitter) = &view.jitter {
            for step in jitter.steps() {
                match step {
                    0 => colour::brightness(rgb.pixels_mut(), jitter.brightness),
                    1 => colour::contrast(rgb.pixels_mut(), jitter.contrast),
                    2 => colour::saturation(rgb.pixels_mut(), jitter.saturation),
                    // A recipe without hue draws no turn; HSV and back would not be without loss.
                    _ if jitter.hue == 0.0 => {}
                    _ => colour::hue(rgb.pixels_mut(), jitter.hue),
                }
            }
        }
        if view.grayscale {
            colour::grayscale(rgb.pixels_mut());
        }
        if view.blur_radius_px > 0.0 {
            match view.blur {
                BlurKind::Pillow => blur::box_gaussian(rgb, view.blur_radius_px, &mut self.blur),
                BlurKind::Torchvision => blur::kernel_gaussian(rgb, view.blur_radius_px, &mut self.blur),
            }
        }
        if view.solarize {
            colour::solarize(rgb.pixels_mut());
        }
        Ok(rgb)
    }

    /// Renders a view as normalised f32, channels first, into `pixels` of shape `[3, size_px, size_px]`.
    ///
    /// # Errors
    /// When the crop does not lie in the image.
    pub fn render_into(&mut self, image: &Raster, view: &View, pixels: &mut [f32]) -> Result<()> {
        normalise_into(self.render(image, view)?, pixels);
        Ok(())
    }

    /// Crops, resizes and mirrors, and nothing else: levels of 0 to 255, channels first, into `levels` of shape
    /// `[3, size_px, size_px]`.
    ///
    /// # Errors
    /// When the crop does not lie in the image.
    pub fn crop_into(&mut self, image: &Raster, view: &View, levels: &mut [u8]) -> Result<()> {
        let crop = View { jitter: None, grayscale: false, blur_radius_px: 0.0, solarize: false, ..*view };
        let rgb = self.render(image, &crop)?;
        for (channel, out) in levels.chunks_exact_mut(rgb.pixels().len()).enumerate() {
            out.iter_mut().zip(rgb.pixels()).for_each(|(level, pixel)| *level = (pixel >> (8 * channel)) as u8);
        }
        Ok(())
    }

    /// Crops and resizes into `self.view`. Pixels outside the crop count for nothing, as in torchvision, which crops first.
    fn crop(&mut self, image: &Raster, view: &View) -> Result<()> {
        let crop = view.crop;
        if !crop.fits(image.width(), image.height()) {
            return Err(PipelineError::Usage(format!(
                "image {}, epoch {}, view {}: the {crop} does not lie in its {} x {} pixels; plan again",
                view.image_id,
                view.epoch,
                view.view,
                image.width(),
                image.height()
            )));
        }
        let side = u32::from(view.size_px);
        let height = u32::from(crop.height_px);
        let (left, top, width) = (u32::from(crop.x_px), u32::from(crop.y_px), u32::from(crop.width_px));
        let filter = filter(view.interpolation);
        // Rows first, then columns, as Pillow does it; the crate alone would begin with the columns, and what is clipped
        // between the two is not the same.
        self.narrow.resize(side, height);
        let whole = (image.bytes(), (image.width(), image.height()));
        let narrow = (self.narrow.bytes_mut(), (side, height));
        self.resizer.words(whole, Part { left, top, width, height }, narrow, filter)?;
        self.view.resize(side, side);
        let narrow = (self.narrow.bytes(), (side, height));
        let part = Part { left: 0, top: 0, width: side, height };
        self.resizer.words(narrow, part, (self.view.bytes_mut(), (side, side)), filter)
    }
}

/// The filters of Pillow's BICUBIC (a = -0.5) and BILINEAR.
fn filter(interpolation: Interpolation) -> Filter {
    match interpolation {
        Interpolation::Bicubic => Filter::CatmullRom,
        Interpolation::Bilinear => Filter::Bilinear,
    }
}

/// Resizes so that the whole image fills `side` squared after a central crop: the short side to `short_side_px` (bicubic,
/// antialiased), then the middle. What features are computed on (facebookresearch/dino eval_knn.py).
///
/// # Errors
/// When the image has no pixels.
pub fn resize_and_crop(image: &RgbImage, short_side_px: u32, side: u32) -> Result<RgbImage> {
    let Middle { resized_px: (width, height), offset_px: (x, y), .. } =
        Middle::of(image.dimensions(), short_side_px, side);
    if width.max(height) > MOST_ASPECT * width.min(height) {
        return resize_middle(image, (width, height), (x, y), side);
    }
    let resized = Resizer::default().rgb(image.as_raw(), image.dimensions(), (width, height), Filter::CatmullRom)?;
    let resized = RgbImage::from_raw(width, height, resized).expect("three bytes for each pixel");
    Ok(image::imageops::crop_imm(&resized, x, y, side, side).to_image())
}

/// What [`resize_and_crop`] shows of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Middle {
    /// Width and height of the image.
    pub image_px: (u32, u32),
    /// Width and height of the image when it is resized.
    pub resized_px: (u32, u32),
    /// Left and top of the square in the resized image.
    pub offset_px: (u32, u32),
}

impl Middle {
    /// The middle of an image of this width and height.
    pub fn of(image_px: (u32, u32), short_side_px: u32, side: u32) -> Self {
        let scale = f64::from(short_side_px) / f64::from(image_px.0.min(image_px.1));
        let scaled = |len: u32| ((f64::from(len) * scale).floor() as u32).max(side);
        let (width, height) = (scaled(image_px.0), scaled(image_px.1));
        Self { image_px, resized_px: (width, height), offset_px: ((width - side) / 2, (height - side) / 2) }
    }

    /// The image's pixel that lies under the middle of a pixel of the square.
    pub fn source(&self, (x, y): (u32, u32)) -> (u32, u32) {
        let under = |at: u32, offset: u32, resized: u32, image: u32| {
            let place = (f64::from(at + offset) + 0.5) * f64::from(image) / f64::from(resized);
            (place as u32).min(image.saturating_sub(1))
        };
        (
            under(x, self.offset_px.0, self.resized_px.0, self.image_px.0),
            under(y, self.offset_px.1, self.resized_px.1, self.image_px.1),
        )
    }
}

/// An image is resized whole when its long side is at most so many times the short one: a line of 20,000 pixels would
/// otherwise fill gigabytes.
const MOST_ASPECT: u32 = 16;

/// The square of `side` at `(x, y)` of what the image would be at `size`; pixels around it count, as if all were resized.
fn resize_middle(image: &RgbImage, size: (u32, u32), (x, y): (u32, u32), side: u32) -> Result<RgbImage> {
    let shrink = |place: u32, resized: u32, len: u32| f64::from(place) * f64::from(len) / f64::from(resized);
    let (left, top) = (shrink(x, size.0, image.width()), shrink(y, size.1, image.height()));
    let (across, down) = (shrink(side, size.0, image.width()), shrink(side, size.1, image.height()));
    let middle = [left, top, across, down];
    let middle =
        Resizer::default().rgb_part(image.as_raw(), image.dimensions(), middle, (side, side), Filter::CatmullRom)?;
    Ok(RgbImage::from_raw(side, side, middle).expect("three bytes for each pixel"))
}

/// Writes an image as normalised f32, channels first, into `pixels` of shape `[3, height, width]`.
pub fn normalise_into(image: &Raster, pixels: &mut [f32]) {
    let plane = image.pixels().len();
    for (channel, out) in pixels.chunks_exact_mut(plane).enumerate() {
        let (scale, shift) = (1.0 / (255.0 * STD[channel]), MEAN[channel] / STD[channel]);
        normalise_channel(image.pixels(), 8 * channel as u32, scale, shift, out);
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
fn normalise_channel(pixels: &[u32], bits: u32, scale: f32, shift: f32, out: &mut [f32]) {
    for (value, pixel) in out.iter_mut().zip(pixels) {
        *value = (pixel >> bits & 255) as i32 as f32 * scale - shift;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Crop;
    use lapidary_schemas::ImageId;

    fn view(crop: Crop) -> View {
        View::of_crop(ImageId(1), crop, 8)
    }

    fn image() -> RgbImage {
        RgbImage::from_fn(16, 12, |x, y| image::Rgb([(x * 16) as u8, (y * 20) as u8, 99]))
    }

    fn rendered(view: &View) -> Result<RgbImage> {
        Executor::default().render(&Raster::from(&image()), view).map(Raster::to_rgb)
    }

    #[test]
    fn a_crop_of_the_views_size_is_copied_and_a_flip_mirrors_it() {
        let crop = Crop { x_px: 3, y_px: 2, width_px: 8, height_px: 8 };
        let plain = rendered(&view(crop)).expect("renders");
        assert_eq!(plain, image::imageops::crop_imm(&image(), 3, 2, 8, 8).to_image());
        let flipped = rendered(&View { flip: true, ..view(crop) }).expect("renders");
        assert_eq!(flipped, image::imageops::flip_horizontal(&plain));
    }

    #[test]
    fn a_box_outside_the_image_is_refused_with_its_row() {
        let crop = Crop { x_px: 10, y_px: 0, width_px: 8, height_px: 8 };
        let error = rendered(&view(crop)).expect_err("it leaves the image");
        assert!(error.to_string().contains("0000000000000001, epoch 0, view 0"), "{error}");
    }

    #[test]
    fn of_a_long_image_only_the_middle_is_resized_and_it_is_the_same() {
        for (width, height) in [(40, 900), (900, 40), (500, 28), (3, 60)] {
            let image = RgbImage::from_fn(width, height, |x, y| {
                image::Rgb([(x * 31 + y) as u8, (y * 3) as u8, ((x * x + y * 7) % 256) as u8])
            });
            let (short, side) = (32, 28);
            let scale = f64::from(short) / f64::from(width.min(height));
            let scaled = |len: u32| ((f64::from(len) * scale).floor() as u32).max(side);
            let (long_width, long_height) = (scaled(width), scaled(height));
            let long = (long_width, long_height);
            let whole = Resizer::default().rgb(image.as_raw(), (width, height), long, Filter::CatmullRom);
            let whole = RgbImage::from_raw(long_width, long_height, whole.expect("resizes")).expect("fits");
            let (x, y) = ((long_width - side) / 2, (long_height - side) / 2);
            let middle = image::imageops::crop_imm(&whole, x, y, side, side).to_image();
            let ours = resize_and_crop(&image, short, side).expect("resizes");
            let worst = ours.iter().zip(middle.iter()).map(|(a, b)| a.abs_diff(*b)).max();
            assert!(worst <= Some(1), "{width} x {height}: {worst:?}");
        }
        // 256 x 5,120,000 pixels, were it resized whole.
        let line = RgbImage::from_fn(1, 20_000, |_, y| image::Rgb([(y / 79) as u8; 3]));
        let begun = std::time::Instant::now();
        let middle = resize_and_crop(&line, 256, 224).expect("resizes");
        assert!(begun.elapsed().as_secs_f64() < 0.5 && middle.dimensions() == (224, 224));
        assert_eq!(middle.get_pixel(100, 100), line.get_pixel(0, 10_000));
    }

    #[test]
    fn the_middles_source_is_where_its_pixels_come_from() {
        // Levels grow with x and y, so that a level says which pixel is under it.
        for (width, height, short, side) in [(200, 120, 60, 52), (90, 240, 120, 100), (50, 50, 50, 50)] {
            let image = RgbImage::from_fn(width, height, |x, y| image::Rgb([x as u8, y as u8, 0]));
            let (shown, middle) = (resize_and_crop(&image, short, side), Middle::of((width, height), short, side));
            for (x, y, pixel) in shown.expect("resizes").enumerate_pixels() {
                let (across, down) = middle.source((x, y));
                let near = |level: u8, at: u32| u32::from(level).abs_diff(at) <= 2;
                assert!(near(pixel.0[0], across) && near(pixel.0[1], down), "{x}, {y}: {pixel:?}, {across}, {down}");
            }
        }
    }

    #[test]
    fn normalisation_is_per_channel() {
        let mut pixels = vec![0f32; 12];
        let rgb = RgbImage::from_pixel(2, 2, image::Rgb([0, 128, 255]));
        normalise_into(&Raster::from(&rgb), &mut pixels);
        for (channel, value) in [(0, 0.0f32), (1, 128.0 / 255.0), (2, 1.0)] {
            let expected = (value - MEAN[channel]) / STD[channel];
            assert!((pixels[channel * 4 + 3] - expected).abs() < 1e-5);
        }
    }
}
