//! Copies of an image, made by code: each of a kind, its strength drawn by seed and image.

use crate::Result;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::{FilterType, crop_imm, flip_horizontal, resize};
use image::{ExtendedColorType, Rgb, RgbImage};
use lapidary_pipeline::random::{Purpose, Rng, RngExt, keyed};
use lapidary_pipeline::{DecodeRule, PipelineError, decode};
use lapidary_schemas::ImageId;

/// The kinds of copies.
pub(super) const KINDS: [&str; 6] = ["cropped", "jpeg", "resized", "flipped", "brightness", "overlaid"];

/// A copy of an image of each kind, in the order of [`KINDS`].
///
/// # Errors
/// When a copy cannot be encoded.
pub(super) fn copies_of(image: &RgbImage, id: ImageId, seed: u64, rule: DecodeRule) -> Result<Vec<RgbImage>> {
    KINDS
        .iter()
        .zip(0..)
        .map(|(kind, stream)| {
            let mut rng = keyed(seed, Purpose::ProbeCopy, id.0, stream);
            Ok(match *kind {
                "cropped" => cropped(image, &mut rng),
                "jpeg" => recompressed(image, rng.random_range(10..=40), rule)?,
                "resized" => resized(image, &mut rng),
                "flipped" => flip_horizontal(image),
                "brightness" => brightened(image, &mut rng),
                _ => overlaid(image, &mut rng),
            })
        })
        .collect()
}

/// A part of 0.5 to 0.9 of each side, anywhere.
fn cropped(image: &RgbImage, rng: &mut impl Rng) -> RgbImage {
    let mut kept = |side: u32| ((side as f32 * rng.random_range(0.5..0.9f32)) as u32).clamp(1, side);
    let (width, height) = (kept(image.width()), kept(image.height()));
    let (x, y) = (rng.random_range(0..=image.width() - width), rng.random_range(0..=image.height() - height));
    crop_imm(image, x, y, width, height).to_image()
}

/// The image as a JPEG of this quality decodes.
fn recompressed(image: &RgbImage, quality: u8, rule: DecodeRule) -> Result<RgbImage> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, quality)
        .encode(image.as_raw(), image.width(), image.height(), ExtendedColorType::Rgb8)
        .map_err(|error| PipelineError::Internal(format!("encoding a copy: {error}")))?;
    let decoded = decode(&bytes, rule);
    let decoded = decoded.map_err(|(_, detail)| PipelineError::Internal(format!("decoding a copy: {detail}")))?;
    Ok(decoded.rgb)
}

/// 0.3 to 0.6 of its width and height, each drawn, so that the aspect changes a little.
fn resized(image: &RgbImage, rng: &mut impl Rng) -> RgbImage {
    let scale = rng.random_range(0.3..0.6f32);
    let mut scaled = |side: u32| ((side as f32 * scale * rng.random_range(0.9..1.1f32)) as u32).max(1);
    resize(image, scaled(image.width()), scaled(image.height()), FilterType::Triangle)
}

/// Levels multiplied by 0.5 to 0.8 or by 1.25 to 1.8.
fn brightened(image: &RgbImage, rng: &mut impl Rng) -> RgbImage {
    let factor = if rng.random::<f32>() < 0.5 { rng.random_range(0.5..0.8f32) } else { rng.random_range(1.25..1.8f32) };
    let mut bright = image.clone();
    bright.iter_mut().for_each(|level| *level = (f32::from(*level) * factor).round().min(255.0) as u8);
    bright
}

/// A filled ellipse of a drawn colour over a sixth to a third of each side, with a bar of its negative across it.
fn overlaid(image: &RgbImage, rng: &mut impl Rng) -> RgbImage {
    let mut covered = |side: u32| ((side as f32 * rng.random_range(0.17..0.34f32)) as u32).max(1);
    let (width, height) = (covered(image.width()), covered(image.height()));
    let (left, top) = (rng.random_range(0..=image.width() - width), rng.random_range(0..=image.height() - height));
    let colour = [rng.random::<u8>(), rng.random::<u8>(), rng.random::<u8>()];
    let mut over = image.clone();
    for (x, y) in (0..width).flat_map(|x| (0..height).map(move |y| (x, y))) {
        let part = |at: u32, side: u32| (at as f32 + 0.5) / side as f32 * 2.0 - 1.0;
        let (across, down) = (part(x, width), part(y, height));
        if across * across + down * down <= 1.0 {
            let is_bar = down.abs() < 0.25;
            let colour = if is_bar { colour.map(|level| 255 - level) } else { colour };
            over.put_pixel(left + x, top + y, Rgb(colour));
        }
    }
    over
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_changes_the_image_as_its_name_says_and_repeats() {
        let image = RgbImage::from_fn(60, 40, |x, y| Rgb([(x * 4) as u8, (y * 6) as u8, ((x * y) % 256) as u8]));
        let make = |seed| copies_of(&image, ImageId(7), seed, u64::MAX.into()).expect("copies");
        let copies = make(1);
        assert_eq!(copies, make(1));
        assert_ne!(copies, make(2));
        assert_eq!(copies.len(), KINDS.len());
        let [cropped, jpeg, resized, flipped, bright, overlaid] = &copies[..] else { panic!("six kinds") };
        assert!(cropped.width() < 60 && cropped.width() >= 30 && cropped.height() >= 20);
        assert!(jpeg.dimensions() == (60, 40) && jpeg != &image);
        assert!(resized.width() <= 40 && resized.height() <= 27, "{:?}", resized.dimensions());
        assert_eq!(flipped, &flip_horizontal(&image));
        assert!(bright != &image);
        let changed = overlaid.pixels().zip(image.pixels()).filter(|(a, b)| a != b).count();
        assert!(changed > 30 && changed < 60 * 40 / 8, "{changed}");
        let dot = copies_of(&RgbImage::new(1, 1), ImageId(7), 1, u64::MAX.into()).expect("copies");
        assert!(dot.iter().all(|copy| copy.dimensions() == (1, 1)));
    }
}
