//! PNG, GIF, WebP, BMP and TIFF, by the `image` crate. Of an animation or of pages the first is the image.

use super::signature::format_of;
use super::{DecodeRule, Decoded, Undecodable, gif, profile, refuse_size};
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbImage};
use lapidary_schemas::RejectReason;
use lapidary_schemas::config::IccProfiles;
use std::io::Cursor;

/// What a header with its profile may take.
const HEADER_BYTES: u64 = 64 << 20;

/// Decodes by the `image` crate.
///
/// # Errors
/// The reject reason and what exactly was wrong.
pub(super) fn decode_other(bytes: &[u8], rule: DecodeRule) -> Result<Decoded, Undecodable> {
    let (format, name) = format_of(bytes)?;
    let (width, height) = open(bytes, format, HEADER_BYTES)?.dimensions();
    let pixels = refuse_size(u64::from(width), u64::from(height), rule.max_pixels)?;
    let max_alloc = pixels.saturating_mul(16).max(HEADER_BYTES);
    let image = match decode_as(bytes, format, max_alloc) {
        // Whole pixels are an image, whatever is missing behind them.
        Err((RejectReason::Truncated, detail)) if format == ImageFormat::Png => {
            let ended = with_end_chunk(bytes);
            decode_as(&ended, format, max_alloc).map_err(|_| (RejectReason::Truncated, detail))
        }
        decoded => decoded,
    };
    let mut rgb = rgb_of_image(image?);
    if format == ImageFormat::Gif {
        gif::fill_ground(bytes, &mut rgb);
    }
    if rule.icc == IccProfiles::Convert
        && let Some(icc) = icc_profile(bytes)
    {
        profile::to_srgb(&icc, 3, &mut rgb);
    }
    Ok(Decoded { rgb, format: name })
}

fn decode_as(bytes: &[u8], format: ImageFormat, max_alloc: u64) -> Result<DynamicImage, Undecodable> {
    DynamicImage::from_decoder(open(bytes, format, max_alloc)?).map_err(reason_of)
}

/// A PNG's whole chunks, and an end chunk behind them.
fn with_end_chunk(bytes: &[u8]) -> Vec<u8> {
    const END: [u8; 12] = *b"\0\0\0\0IEND\xae\x42\x60\x82";
    let mut at = 8;
    while let Some(len) = bytes.get(at..at + 4) {
        let len = u32::from_be_bytes([len[0], len[1], len[2], len[3]]) as usize;
        let Some(end) = at.checked_add(12 + len).filter(|end| *end <= bytes.len()) else { break };
        at = end;
    }
    [&bytes[..at.min(bytes.len())], &END].concat()
}

/// The ICC profile of an image that decodes.
pub(super) fn icc_profile(bytes: &[u8]) -> Option<Vec<u8>> {
    let (format, _) = format_of(bytes).ok()?;
    if format == ImageFormat::Tiff {
        // The crate does not give it.
        let mut decoder = tiff::decoder::Decoder::new(Cursor::new(bytes)).ok()?;
        return decoder.get_tag_u8_vec(tiff::tags::Tag::IccProfile).ok();
    }
    open(bytes, format, HEADER_BYTES).ok()?.icc_profile().ok().flatten()
}

fn open(bytes: &[u8], format: ImageFormat, max_alloc: u64) -> Result<impl ImageDecoder + '_, Undecodable> {
    let mut limits = Limits::default();
    limits.max_alloc = Some(max_alloc);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits);
    reader.into_decoder().map_err(reason_of)
}

/// 8-bit RGB: 16 bits scaled, transparency left out, as Pillow's `convert` leaves it out.
fn rgb_of_image(image: DynamicImage) -> RgbImage {
    match image {
        DynamicImage::ImageRgb8(rgb) => rgb,
        other => other.into_rgb8(),
    }
}

fn reason_of(error: ImageError) -> Undecodable {
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
        || matches!(error.downcast_ref(), Some(ImageError::IoError(e)) if e.kind() == eof)
        || error.to_string().to_lowercase().contains("unexpected end");
    here || error.source().is_some_and(ended_early)
}
