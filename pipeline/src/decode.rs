//! From bytes to RGB, with the reason when it cannot be.
//!
//! JPEG goes through libjpeg-turbo, which Pillow uses as well; what it warns of, and every other format, through the `image`
//! crate. A JPEG that ends before its image does, which the crate lets pass, is looked for first. EXIF orientation is not
//! applied, as in Pillow's `open` and in COCO's boxes.

use crate::pixels::Raster;
use image::{DynamicImage, ImageFormat, ImageReader, Limits, RgbImage};
use lapidary_schemas::RejectReason;
use std::io::Cursor;
use turbojpeg::{Colorspace, Decompressor, Image, PixelFormat, ScalingFactor};

/// Progressive scans that are read; more are an attack.
const MAX_SCANS: u32 = 500;

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

/// Decodes an image of at most `max_pixels` pixels; the limit is checked on the header, before memory is taken.
///
/// # Errors
/// The reject reason and what exactly was wrong.
pub fn decode(bytes: &[u8], max_pixels: u64) -> Result<Decoded, Undecodable> {
    let mut rgb = Vec::new();
    let room = &mut rgb;
    let whole = decode_jpeg(
        bytes,
        max_pixels,
        |_, _| ScalingFactor::ONE,
        PixelFormat::RGB,
        move |width, height| {
            room.resize(3 * width * height, 0);
            &mut room[..]
        },
    );
    if let Some((width, height)) = whole {
        let rgb = RgbImage::from_raw(width, height, rgb).expect("three bytes for each pixel");
        return Ok(Decoded { rgb, format: "jpeg" });
    }
    decode_any(bytes, max_pixels)
}

/// Decodes into an image that is kept from call to call, as [`decode`] does.
///
/// # Errors
/// The reject reason and what exactly was wrong.
pub fn decode_into(bytes: &[u8], max_pixels: u64, image: &mut Raster) -> Result<(), Undecodable> {
    decode_reduced_into(bytes, max_pixels, 1, image).map(|_| ())
}

/// Decodes as [`decode_into`] does, a JPEG at `1 / reduction` (1, 2, 4 or 8) of its sides, rounded up; returns its width and
/// height as they would be without. Other formats are not reduced.
///
/// # Errors
/// The reject reason and what exactly was wrong.
pub fn decode_reduced_into(
    bytes: &[u8],
    max_pixels: u64,
    reduction: u32,
    image: &mut Raster,
) -> Result<(u32, u32), Undecodable> {
    let scale = match reduction {
        8 => ScalingFactor::ONE_EIGHTH,
        4 => ScalingFactor::ONE_QUARTER,
        2 => ScalingFactor::ONE_HALF,
        _ => ScalingFactor::ONE,
    };
    decode_scaled_into(bytes, max_pixels, |_, _| scale, image)
}

/// Decodes as [`decode_into`] does, a JPEG at the smallest of 1, 1/2, 1/4 and 1/8 of its sides at which it still has
/// `least_pixels`; returns its width and height as they would be without.
///
/// # Errors
/// The reject reason and what exactly was wrong.
pub fn decode_small_into(
    bytes: &[u8],
    max_pixels: u64,
    least_pixels: usize,
    image: &mut Raster,
) -> Result<(u32, u32), Undecodable> {
    let scale =
        |width: usize, height: usize| smallest_scale(|scale| scale.scale(width) * scale.scale(height) >= least_pixels);
    decode_scaled_into(bytes, max_pixels, scale, image)
}

/// The smallest scale, down to 1/8, that is enough.
pub(crate) fn smallest_scale(enough: impl Fn(&ScalingFactor) -> bool) -> ScalingFactor {
    let reductions = [ScalingFactor::ONE_EIGHTH, ScalingFactor::ONE_QUARTER, ScalingFactor::ONE_HALF];
    reductions.into_iter().find(enough).unwrap_or(ScalingFactor::ONE)
}

fn decode_scaled_into(
    bytes: &[u8],
    max_pixels: u64,
    scale: impl FnOnce(usize, usize) -> ScalingFactor,
    image: &mut Raster,
) -> Result<(u32, u32), Undecodable> {
    let room = &mut *image;
    let whole = decode_jpeg(bytes, max_pixels, scale, PixelFormat::RGBX, move |width, height| {
        room.resize(width as u32, height as u32);
        room.bytes_mut()
    });
    if let Some(size) = whole {
        return Ok(size);
    }
    *image = Raster::from(&decode_any(bytes, max_pixels)?.rgb);
    Ok((image.width(), image.height()))
}

/// Decodes a JPEG that libjpeg-turbo has nothing to say of, at the scale that `scale` gives for its width and height, into the pixels
/// that `room` gives for the width and height at that scale. Returns its width and height at full scale; none when there is
/// something to say, or when it is no RGB, YCbCr or gray JPEG.
///
/// At full scale pixels are Pillow's to the bit: both use the accurate transform and smooth upsampling of chroma.
pub(crate) fn decode_jpeg<'a>(
    bytes: &[u8],
    max_pixels: u64,
    scale: impl FnOnce(usize, usize) -> ScalingFactor,
    format: PixelFormat,
    room: impl FnOnce(usize, usize) -> &'a mut [u8],
) -> Option<(u32, u32)> {
    if !bytes.starts_with(&[0xff, 0xd8]) {
        return None;
    }
    // One an image: what a decompressor keeps from the image before can change the next one's pixels.
    let mut decompressor = Decompressor::new().ok()?;
    decompressor.set_scan_limit(MAX_SCANS).ok()?;
    let header = decompressor.read_header(bytes).ok()?;
    let (width, height) = (header.width, header.height);
    let known = matches!(header.colorspace, Colorspace::YCbCr | Colorspace::RGB | Colorspace::Gray);
    if !known || width as u64 * height as u64 > max_pixels || width * height == 0 {
        return None;
    }
    let scale = scale(width, height);
    decompressor.set_scaling_factor(scale).ok()?;
    let (scaled_width, scaled_height) = (scale.scale(width), scale.scale(height));
    let pixels = room(scaled_width, scaled_height);
    let pitch = scaled_width * format.size();
    let image = Image { pixels, width: scaled_width, pitch, height: scaled_height, format };
    decompressor.decompress(bytes, image).ok()?;
    Some((width as u32, height as u32))
}

/// Decodes by the `image` crate, and says what is wrong with what does not decode.
fn decode_any(bytes: &[u8], max_pixels: u64) -> Result<Decoded, Undecodable> {
    if bytes.is_empty() {
        return Err((RejectReason::EmptyFile, "0 bytes".to_owned()));
    }
    let format = image::guess_format(bytes)
        .map_err(|_| (RejectReason::Unsupported, format!("begins with {:02x?}", &bytes[..bytes.len().min(8)])))?;
    let name = format_name(format).ok_or((RejectReason::Unsupported, format!("{format:?}")))?;
    if format == ImageFormat::Jpeg && !jpeg_is_whole(bytes) {
        return Err((RejectReason::Truncated, "the JPEG has no end marker".to_owned()));
    }
    if format == ImageFormat::Png && memchr::memmem::find(bytes, b"IEND").is_none() {
        return Err((RejectReason::Truncated, "the PNG has no end chunk".to_owned()));
    }
    let (width, height) = ImageReader::with_format(Cursor::new(bytes), format).into_dimensions().map_err(reason_of)?;
    let pixels = u64::from(width) * u64::from(height);
    if pixels > max_pixels {
        return Err((RejectReason::TooManyPixels, format!("{width} x {height}")));
    }
    if pixels == 0 {
        return Err((RejectReason::Broken, format!("{width} x {height}")));
    }
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::default();
    limits.max_alloc = Some(pixels.saturating_mul(16).max(64 << 20));
    reader.limits(limits);
    let rgb = match reader.decode().map_err(reason_of)? {
        DynamicImage::ImageRgb8(rgb) => rgb,
        other => other.into_rgb8(),
    };
    Ok(Decoded { rgb, format: name })
}

fn format_name(format: ImageFormat) -> Option<&'static str> {
    Some(match format {
        ImageFormat::Jpeg => "jpeg",
        ImageFormat::Png => "png",
        ImageFormat::WebP => "webp",
        ImageFormat::Gif => "gif",
        ImageFormat::Bmp => "bmp",
        ImageFormat::Tiff => "tiff",
        _ => return None,
    })
}

fn reason_of(error: image::ImageError) -> Undecodable {
    use image::ImageError;
    let reason = match &error {
        ImageError::Unsupported(_) => RejectReason::Unsupported,
        ImageError::Limits(_) => RejectReason::TooManyPixels,
        _ if ended_early(&error) => RejectReason::Truncated,
        _ => RejectReason::Broken,
    };
    (reason, error.to_string())
}

/// Whether an error, or one that caused it, is that the bytes ran out.
fn ended_early(error: &(dyn std::error::Error + 'static)) -> bool {
    let eof = std::io::ErrorKind::UnexpectedEof;
    let here = error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == eof)
        || matches!(error.downcast_ref(), Some(image::ImageError::IoError(e)) if e.kind() == eof)
        || error.to_string().to_lowercase().contains("unexpected end");
    here || error.source().is_some_and(ended_early)
}

/// Whether a JPEG's scans are followed by an end-of-image marker. Walks the markers, so that a thumbnail's end in the
/// EXIF block does not count (ITU T.81, B.1.1).
fn jpeg_is_whole(bytes: &[u8]) -> bool {
    const END_OF_IMAGE: u8 = 0xd9;
    const START_OF_SCAN: u8 = 0xda;
    let mut at = 2;
    let mut in_scan = false;
    while at + 1 < bytes.len() {
        if bytes[at] != 0xff {
            // Entropy-coded data runs to the next 0xff; between segments anything else is damage.
            if !in_scan {
                return false;
            }
            match memchr::memchr(0xff, &bytes[at..]) {
                Some(next) => at += next,
                None => return false,
            }
            continue;
        }
        match bytes[at + 1] {
            END_OF_IMAGE => return true,
            0xff => at += 1,
            // A stuffed zero, a restart marker, or a marker without a segment.
            0x00 | 0x01 | 0xd0..=0xd8 => at += 2,
            marker => {
                let Some(length) = bytes.get(at + 2..at + 4) else { return false };
                at += 2 + usize::from(u16::from_be_bytes([length[0], length[1]]));
                in_scan = marker == START_OF_SCAN;
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
    fn each_kind_of_damage_has_its_reason() {
        let jpeg = encoded(ImageFormat::Jpeg);
        let png = encoded(ImageFormat::Png);
        let reason = |bytes: &[u8]| decode(bytes, 1 << 20).expect_err("damaged").0;
        assert_eq!(reason(b""), RejectReason::EmptyFile);
        assert_eq!(reason(b"hello, world"), RejectReason::Unsupported);
        assert_eq!(reason(&jpeg[..jpeg.len() / 2]), RejectReason::Truncated);
        assert_eq!(reason(&jpeg[..jpeg.len() - 2]), RejectReason::Truncated);
        assert_eq!(reason(&png[..png.len() / 2]), RejectReason::Truncated);
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
