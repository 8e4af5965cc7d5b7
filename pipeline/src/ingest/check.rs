//! What ingest asks of an image: that it decodes, how large it is, and its luma to hash.
//!
//! JPEG goes through libjpeg-turbo at a reduced scale: every coefficient is decoded, and so checked, but only the low ones
//! are turned into pixels, and only of luma. Every other format, and what is converted to sRGB, is decoded whole.

use crate::decode::{
    DecodeRule, Undecodable, decode, decode_jpeg, guarded, has_foreign_profile, is_converted, is_jpeg, smallest_scale,
};
use crate::images::luma_of_image;
use image::GrayImage;
use turbojpeg::{PixelFormat, ScalingFactor};

/// An image that decodes.
#[derive(Debug)]
pub struct Checked {
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// The format's name.
    pub format: &'static str,
    /// Luma, at full size or at 1/2, 1/4 or 1/8 of it, its short side then at least 64 pixels.
    pub luma: GrayImage,
    /// It carries a colour profile that means other colours than sRGB's.
    pub has_foreign_profile: bool,
}

/// Twice the side that the hash is computed at.
const LUMA_SIDE_PX: usize = 64;

/// Checks an image by the rule that it will be decoded by.
///
/// # Errors
/// The reject reason and what exactly was wrong.
pub fn check(bytes: &[u8], rule: impl Into<DecodeRule>) -> Result<Checked, Undecodable> {
    let rule = rule.into();
    guarded(|| {
        if !is_jpeg(bytes) || is_converted(bytes, rule) {
            let decoded = decode(bytes, rule)?;
            let (width, height) = decoded.rgb.dimensions();
            let (format, luma) = (decoded.format, luma_of_image(&decoded.rgb));
            return Ok(Checked { width, height, format, luma, has_foreign_profile: has_foreign_profile(bytes) });
        }
        let mut luma = GrayImage::default();
        let room = &mut luma;
        let (width, height) = decode_jpeg(bytes, rule, scale_for, PixelFormat::GRAY, move |width, height| {
            *room = GrayImage::new(width as u32, height as u32);
            room.as_mut()
        })?;
        Ok(Checked { width, height, format: "jpeg", luma, has_foreign_profile: has_foreign_profile(bytes) })
    })
}

/// The smallest scale at which an image's short side still has [`LUMA_SIDE_PX`].
fn scale_for(width: usize, height: usize) -> ScalingFactor {
    smallest_scale(|scale| scale.scale(width.min(height)) >= LUMA_SIDE_PX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::phash;
    use image::codecs::jpeg::JpegEncoder;
    use image::{Rgb, RgbImage};
    use lapidary_schemas::RejectReason;

    #[test]
    fn a_reduced_decode_has_the_images_size_and_nearly_its_hash() {
        let image = RgbImage::from_fn(640, 480, |x, y| {
            let (x, y) = (x as f32 / 90.0, y as f32 / 70.0);
            let wave = (x * 1.3).sin() + (y * 2.1 + x).cos() + (x * y * 0.4).sin();
            Rgb([128, 90, 60].map(|base: u8| (f32::from(base) + 30.0 * wave) as u8))
        });
        let mut bytes = Vec::new();
        JpegEncoder::new_with_quality(&mut bytes, 90).encode_image(&image).expect("encodes");
        let checked = check(&bytes, 1 << 20).expect("decodes");
        assert_eq!((checked.width, checked.height, checked.luma.dimensions()), (640, 480, (160, 120)));
        assert!((phash(&checked.luma) ^ phash(&luma_of_image(&image))).count_ones() <= 4);
        assert_eq!(check(&bytes, 1000).expect_err("too large").0, RejectReason::TooManyPixels);
        assert_eq!(check(&bytes[..bytes.len() / 2], 1 << 20).expect_err("cut").0, RejectReason::Truncated);
        let mut damaged = bytes.clone();
        damaged[2..60].fill(0);
        assert!(check(&damaged, 1 << 20).is_err());
    }
}
