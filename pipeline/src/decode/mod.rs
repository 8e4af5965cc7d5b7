//! From bytes to RGB, with the reason when it cannot be.
//!
//! JPEG goes through libjpeg-turbo, which Pillow uses as well; every other format through the `image` crate. The image is
//! what Pillow's `open` and `convert("RGB")` give: the first frame or page, transparency left out, four-channel JPEG taken
//! for inverted. EXIF orientation is not applied, as in COCO's boxes: pixels are those that are stored, in every format.
//! Where the image differs from Pillow's is written down in pipeline/pixels.md and measured in tests/e2e/formats.rs.

mod gif;
mod jpeg;
mod libjpeg;
mod other;
mod profile;
mod rule;
mod signature;

pub(crate) use jpeg::{decode_jpeg, is_jpeg};
pub(crate) use profile::{has_foreign_profile, is_converted};
pub use rule::DecodeRule;

use crate::pixels::Raster;
use crate::runtime::caught;
use image::RgbImage;
use lapidary_schemas::RejectReason;
use turbojpeg::{PixelFormat, ScalingFactor};

/// The longest side that is read: places in an image are 16 bits wide in a plan.
pub const MAX_SIDE_PX: u64 = 65_535;

/// A decoded image.
#[derive(Debug, Clone)]
pub struct Decoded {
    /// Its pixels.
    pub rgb: RgbImage,
    /// The format's name: `jpeg`, `png`, ...
    pub format: &'static str,
}

/// Why bytes are no image: the code and the detail.
pub type Undecodable = (RejectReason, String);

/// Decodes an image by a rule: a limit of pixels, and what becomes of colour profiles.
///
/// # Errors
/// The reject reason and what exactly was wrong.
pub fn decode(bytes: &[u8], rule: impl Into<DecodeRule>) -> Result<Decoded, Undecodable> {
    let rule = rule.into();
    guarded(|| {
        if !is_jpeg(bytes) {
            return decode_other(bytes, rule);
        }
        let mut rgb = Vec::new();
        let room = &mut rgb;
        let whole = |_, _| ScalingFactor::ONE;
        let (width, height) = decode_jpeg(bytes, rule, whole, PixelFormat::RGB, move |width, height| {
            room.resize(3 * width * height, 0);
            &mut room[..]
        })?;
        let rgb = RgbImage::from_raw(width, height, rgb).expect("three bytes for each pixel");
        Ok(Decoded { rgb, format: "jpeg" })
    })
}

/// Decodes into an image that is kept from call to call, as [`decode`] does.
///
/// # Errors
/// The reject reason and what exactly was wrong.
pub fn decode_into(bytes: &[u8], rule: impl Into<DecodeRule>, image: &mut Raster) -> Result<(), Undecodable> {
    decode_reduced_into(bytes, rule, 1, image).map(|_| ())
}

/// Decodes as [`decode_into`] does, a JPEG at `1 / reduction` (1, 2, 4 or 8) of its sides, rounded up; returns its width and
/// height as they would be without. Other formats are not reduced.
///
/// # Errors
/// The reject reason and what exactly was wrong.
pub fn decode_reduced_into(
    bytes: &[u8],
    rule: impl Into<DecodeRule>,
    reduction: u32,
    image: &mut Raster,
) -> Result<(u32, u32), Undecodable> {
    let scale = match reduction {
        8 => ScalingFactor::ONE_EIGHTH,
        4 => ScalingFactor::ONE_QUARTER,
        2 => ScalingFactor::ONE_HALF,
        _ => ScalingFactor::ONE,
    };
    decode_scaled_into(bytes, rule.into(), |_, _| scale, image)
}

/// Decodes as [`decode_into`] does, a JPEG at the smallest of 1, 1/2, 1/4 and 1/8 of its sides at which it still has
/// `least_pixels`; returns its width and height as they would be without.
///
/// # Errors
/// The reject reason and what exactly was wrong.
pub fn decode_small_into(
    bytes: &[u8],
    rule: impl Into<DecodeRule>,
    least_pixels: usize,
    image: &mut Raster,
) -> Result<(u32, u32), Undecodable> {
    let scale =
        |width: usize, height: usize| smallest_scale(|scale| scale.scale(width) * scale.scale(height) >= least_pixels);
    decode_scaled_into(bytes, rule.into(), scale, image)
}

/// The smallest scale, down to 1/8, that is enough.
pub(crate) fn smallest_scale(enough: impl Fn(&ScalingFactor) -> bool) -> ScalingFactor {
    let reductions = [ScalingFactor::ONE_EIGHTH, ScalingFactor::ONE_QUARTER, ScalingFactor::ONE_HALF];
    reductions.into_iter().find(enough).unwrap_or(ScalingFactor::ONE)
}

fn decode_scaled_into(
    bytes: &[u8],
    rule: DecodeRule,
    scale: impl FnOnce(usize, usize) -> ScalingFactor,
    image: &mut Raster,
) -> Result<(u32, u32), Undecodable> {
    guarded(move || {
        if is_jpeg(bytes) {
            return decode_jpeg(bytes, rule, scale, PixelFormat::RGBX, move |width, height| {
                image.resize(width as u32, height as u32);
                image.bytes_mut()
            });
        }
        *image = Raster::from(&decode_other(bytes, rule)?.rgb);
        Ok((image.width(), image.height()))
    })
}

fn decode_other(bytes: &[u8], rule: DecodeRule) -> Result<Decoded, Undecodable> {
    if bytes.is_empty() {
        return Err((RejectReason::EmptyFile, "0 bytes".to_owned()));
    }
    other::decode_other(bytes, rule)
}

/// Runs a decoder; a panic becomes a reject that says so.
pub(crate) fn guarded<T>(decode: impl FnOnce() -> Result<T, Undecodable>) -> Result<T, Undecodable> {
    caught(decode).unwrap_or_else(|panicked| Err((RejectReason::Broken, panicked)))
}

/// The pixels of an image of this size, unless it has too many, or none.
fn refuse_size(width: u64, height: u64, max_pixels: u64) -> Result<u64, Undecodable> {
    let pixels = width.saturating_mul(height);
    if pixels == 0 {
        return Err((RejectReason::Broken, format!("{width} x {height}")));
    }
    if width.max(height) > MAX_SIDE_PX {
        let detail = format!("{width} x {height}: no side may have more than {MAX_SIDE_PX} pixels");
        return Err((RejectReason::TooManyPixels, detail));
    }
    if pixels > max_pixels {
        return Err((RejectReason::TooManyPixels, format!("{width} x {height}")));
    }
    Ok(pixels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::ImageFormat;
    use proptest::prelude::*;
    use std::io::Cursor;

    fn encoded(format: ImageFormat) -> Vec<u8> {
        let image = RgbImage::from_fn(40, 30, |x, y| image::Rgb([(x * 6) as u8, (y * 8) as u8, (x * y) as u8]));
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).expect("encodes");
        bytes.into_inner()
    }

    #[test]
    fn whole_images_decode() {
        for format in [
            ImageFormat::Jpeg,
            ImageFormat::Png,
            ImageFormat::WebP,
            ImageFormat::Gif,
            ImageFormat::Bmp,
            ImageFormat::Tiff,
        ] {
            let decoded = decode(&encoded(format), 1 << 20).unwrap_or_else(|e| panic!("{format:?}: {e:?}"));
            assert_eq!(decoded.rgb.dimensions(), (40, 30));
        }
    }

    #[test]
    fn a_decoder_that_panics_makes_a_reject() {
        let reject = guarded::<()>(|| panic!("at row {}", 7)).expect_err("panics");
        assert_eq!(reject, (RejectReason::Broken, "the reader panicked: at row 7".to_owned()));
    }

    #[test]
    fn each_kind_of_damage_has_its_reason() {
        let jpeg = encoded(ImageFormat::Jpeg);
        let png = encoded(ImageFormat::Png);
        let reason = |bytes: &[u8]| decode(bytes, 1 << 20).expect_err("damaged").0;
        assert_eq!(reason(b""), RejectReason::EmptyFile);
        assert_eq!(reason(b"hello, world"), RejectReason::Unsupported);
        assert_eq!(reason(&jpeg[..jpeg.len() / 2]), RejectReason::Truncated);
        assert_eq!(reason(&jpeg[..jpeg.len() - 2]), RejectReason::Truncated);
        assert_eq!(reason(&png[..png.len() / 2]), RejectReason::Truncated);
        assert_eq!(reason(&jpeg[..4]), RejectReason::Truncated);
        let mut zeros = jpeg.clone();
        zeros[2..40].fill(0);
        assert_eq!(reason(&zeros), RejectReason::Broken);
        let mut broken = png.clone();
        broken[45] ^= 0xff;
        assert_eq!(reason(&broken), RejectReason::Broken);
        assert_eq!(decode(&jpeg, 100).expect_err("too large").0, RejectReason::TooManyPixels);
    }

    proptest! {
        #[test]
        fn damaged_bytes_never_panic(seed in any::<u64>(), cut in 0usize..2000, at in 0usize..2000, value in any::<u8>()) {
            for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP, ImageFormat::Gif] {
                let mut bytes = encoded(format);
                bytes.truncate(cut.max(1));
                let at = at % bytes.len();
                bytes[at] = value;
                let other = (seed as usize) % bytes.len();
                bytes[other] ^= (seed >> 32) as u8;
                let _ = decode(&bytes, 1 << 20);
            }
        }
    }
}
