//! What is done to an image: eleven transformations, each at five strengths.
//!
//! All work on the view that a network sees, at its own side, in 8 bits. Crop, colour and blur are the executor's
//! ([`Executor`], equal to Pillow's); rotation and perspective are Pillow's and torchvision's; JPEG is libjpeg-turbo's as Pillow
//! calls it. Lengths are shares of the side. What is drawn (places, noise, corners) is a function of the seed and the image, and
//! the same at every strength but for its size.

use super::warp::{perspective, rotated};
use crate::Result;
use image::{Rgb, RgbImage};
use lapidary_pipeline::pixels::{Executor, MEAN, Raster};
use lapidary_pipeline::plan::{self, Jitter, View};
use lapidary_pipeline::random::{Purpose, RngExt, keyed};
use lapidary_pipeline::{DecodeRule, PipelineError, decode};
use lapidary_schemas::ImageId;
use std::f64::consts::TAU;
use turbojpeg::{Image, PixelFormat, Subsamp};

/// Strengths of each transformation.
pub(super) const STRENGTHS: usize = 5;

/// What can be done to a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transformation {
    Crop,
    Occlusion,
    Brightness,
    Contrast,
    Saturation,
    Hue,
    Blur,
    Noise,
    Jpeg,
    Rotation,
    Perspective,
}

use Transformation::*;

impl Transformation {
    /// All of them, in the order of tables.
    pub(super) const ALL: [Self; 11] =
        [Crop, Occlusion, Brightness, Contrast, Saturation, Hue, Blur, Noise, Jpeg, Rotation, Perspective];

    /// Its name, what its value means, and its values from weak to strong.
    pub(super) fn described(self) -> (&'static str, &'static str, [f64; STRENGTHS]) {
        match self {
            Crop => ("crop", "side of the middle that is kept, resized to the view", [0.9, 0.75, 0.6, 0.45, 0.3]),
            Occlusion => ("occlusion", "area that a square of the mean colour hides", [0.05, 0.1, 0.2, 0.35, 0.5]),
            Brightness => ("brightness", "factor, as ImageEnhance", [0.8, 0.6, 0.4, 0.25, 0.1]),
            Contrast => ("contrast", "factor, as ImageEnhance", [0.8, 0.6, 0.4, 0.25, 0.1]),
            Saturation => ("saturation", "factor, as ImageEnhance", [0.75, 0.5, 0.25, 0.1, 0.0]),
            Hue => ("hue", "turn of the colour circle", [0.05, 0.1, 0.2, 0.35, 0.5]),
            Blur => ("blur", "deviation, share of the side", [0.005, 0.01, 0.02, 0.035, 0.06]),
            Noise => ("noise", "deviation of Gaussian noise, levels", [8.0, 16.0, 32.0, 48.0, 64.0]),
            Jpeg => ("jpeg", "quality", [60.0, 30.0, 15.0, 8.0, 4.0]),
            Rotation => ("rotation", "degrees", [5.0, 10.0, 20.0, 40.0, 90.0]),
            Perspective => ("perspective", "RandomPerspective's distortion", [0.1, 0.2, 0.3, 0.45, 0.6]),
        }
    }

    /// A view, square, transformed with a value.
    ///
    /// # Errors
    /// When the view has no pixels.
    pub(super) fn apply(self, view: &RgbImage, value: f64, image: ImageId, seed: u64) -> Result<RgbImage> {
        let side_px = view.width();
        let rng = || keyed(seed, Purpose::Transformation, image.0, self as u64);
        let fill = Rgb(MEAN.map(|mean| (mean * 255.0).round() as u8));
        let jitter = |change: fn(&mut Jitter, f32)| {
            let mut jitter = Jitter { brightness: 1.0, contrast: 1.0, saturation: 1.0, hue: 0.0, order: 0 };
            change(&mut jitter, value as f32);
            rendered(view, |row| row.jitter = Some(jitter))
        };
        match self {
            Crop => rendered(view, |row| {
                let kept = ((f64::from(side_px) * value).round() as u32).clamp(1, side_px);
                let (offset, kept) = (((side_px - kept) / 2) as u16, kept as u16);
                row.crop = plan::Crop { x_px: offset, y_px: offset, width_px: kept, height_px: kept };
            }),
            Brightness => jitter(|jitter, factor| jitter.brightness = factor),
            Contrast => jitter(|jitter, factor| jitter.contrast = factor),
            Saturation => jitter(|jitter, factor| jitter.saturation = factor),
            Hue => jitter(|jitter, turn| jitter.hue = turn),
            Blur => rendered(view, |row| row.blur_radius_px = (f64::from(side_px) * value) as f32),
            Occlusion => {
                let hidden = ((f64::from(side_px) * value.sqrt()).round() as u32).clamp(1, side_px);
                let mut rng = rng();
                let mut place = || (rng.random::<f64>() * f64::from(side_px - hidden + 1)) as u32;
                let (left, top) = (place(), place());
                let is_hidden = |x: u32, y: u32| x.wrapping_sub(left) < hidden && y.wrapping_sub(top) < hidden;
                Ok(RgbImage::from_fn(side_px, view.height(), |x, y| {
                    if is_hidden(x, y) { fill } else { *view.get_pixel(x, y) }
                }))
            }
            Noise => {
                let mut rng = rng();
                let mut noisy = view.clone();
                for level in noisy.iter_mut() {
                    // Box and Muller's normal deviate, of which one is used.
                    let (radius, turn) = (1.0 - rng.random::<f64>(), rng.random::<f64>());
                    let normal = (-2.0 * radius.ln()).sqrt() * (TAU * turn).cos();
                    *level = (f64::from(*level) + value * normal).round().clamp(0.0, 255.0) as u8;
                }
                Ok(noisy)
            }
            Jpeg => reencoded(view, value as i32),
            Rotation => Ok(rotated(view, value, fill)),
            Perspective => {
                let mut rng = rng();
                // torchvision draws whole pixels up to half of the side times the distortion.
                let last = f64::from(side_px) - 1.0;
                let mut off = || (rng.random::<f64>() * value * f64::from(side_px / 2)).floor();
                let corners: [(f64, f64); 4] = std::array::from_fn(|_| (off(), off()));
                let [a, b, c, d] = corners;
                let corners = [a, (last - b.0, b.1), (last - c.0, last - c.1), (d.0, last - d.1)];
                Ok(perspective(view, corners, fill))
            }
        }
    }
}

/// A view as a row of a plan makes it, at its own size.
fn rendered(view: &RgbImage, change: impl FnOnce(&mut View)) -> Result<RgbImage> {
    let (width_px, height_px) = (view.width() as u16, view.height() as u16);
    let whole = plan::Crop { x_px: 0, y_px: 0, width_px, height_px };
    let mut row = View::of_crop(ImageId(0), whole, width_px);
    change(&mut row);
    Ok(Executor::default().render(&Raster::from(view), &row)?.to_rgb())
}

/// A view written as JPEG and read again: chroma at half the size, as Pillow writes.
fn reencoded(view: &RgbImage, quality: i32) -> Result<RgbImage> {
    let fault = |detail: String| PipelineError::Internal(format!("a view as JPEG of quality {quality}: {detail}"));
    let (width, height) = (view.width() as usize, view.height() as usize);
    let pixels = Image { pixels: &view.as_raw()[..], width, pitch: 3 * width, height, format: PixelFormat::RGB };
    let bytes = turbojpeg::compress(pixels, quality, Subsamp::Sub2x2).map_err(|e| fault(e.to_string()))?;
    Ok(decode(&bytes, DecodeRule::from(u64::MAX))
        .map_err(|(reason, detail)| fault(format!("{}: {detail}", reason.text())))?
        .rgb)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seeing::golden::picture;
    use lapidary_pipeline::draw::Sequence;

    fn view() -> RgbImage {
        Sequence::random(1, 0).at(0.0).paint()
    }

    #[test]
    fn jpeg_is_pillows_to_the_level() {
        for quality in [75, 25, 7] {
            let expected = picture(&format!("jpeg{quality}"));
            assert!(reencoded(&picture("drawn"), quality).expect("encodes") == expected, "quality {quality}");
        }
    }

    #[test]
    fn each_strength_changes_more_and_an_image_is_changed_alike_each_time() {
        let view = view();
        for transformation in Transformation::ALL {
            let (name, _, values) = transformation.described();
            let of = |value: f64, image: u64| transformation.apply(&view, value, ImageId(image), 1).expect("applies");
            let difference = |value: f64| {
                let changed = of(value, 7);
                assert_eq!(changed.dimensions(), view.dimensions(), "{name}");
                changed.iter().zip(view.iter()).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / view.len() as f64
            };
            let differences = values.map(difference);
            assert!(differences[0] > 0.3, "{name}: {differences:?}");
            // A crop or a turn of stripes may fall back on them; the strongest is never the weakest.
            assert!(differences[4] > 1.2 * differences[0], "{name}: {differences:?}");
            assert_eq!(of(values[2], 7), of(values[2], 7), "{name}");
            let is_drawn = matches!(transformation, Occlusion | Noise | Perspective);
            assert_eq!(of(values[2], 7) != of(values[2], 8), is_drawn, "{name}");
        }
    }

    #[test]
    fn noise_has_its_deviation_and_an_occlusion_its_area() {
        let gray = RgbImage::from_pixel(64, 64, Rgb([128; 3]));
        let noisy = Noise.apply(&gray, 16.0, ImageId(3), 1).expect("applies");
        let off: Vec<f64> = noisy.iter().map(|level| f64::from(*level) - 128.0).collect();
        let mean = off.iter().sum::<f64>() / off.len() as f64;
        let deviation = (off.iter().map(|o| (o - mean).powi(2)).sum::<f64>() / off.len() as f64).sqrt();
        assert!(mean.abs() < 0.6 && (deviation - 16.0).abs() < 0.6, "{mean}, {deviation}");
        for (area, side) in [(0.25, 32), (1.0, 64)] {
            let hidden = Occlusion.apply(&gray, area, ImageId(3), 1).expect("applies");
            assert_eq!(hidden.pixels().filter(|pixel| pixel.0[0] != 128).count(), side * side);
        }
    }
}
