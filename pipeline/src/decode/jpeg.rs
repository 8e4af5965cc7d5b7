//! JPEG, by libjpeg-turbo alone, which Pillow uses as well: an image is what Pillow's `load()` makes one of. Stray bytes
//! and damaged data that the library warns of are no reason to refuse; a file without its end marker is.
//!
//! Four-channel JPEG (CMYK, YCCK) is taken for inverted, as Adobe writes it and as Pillow takes it.

use super::libjpeg::{Colours, Jpeg};
use super::{DecodeRule, Undecodable, profile, refuse_size};
use crate::pixels::luma;
use lapidary_schemas::RejectReason;
use lapidary_schemas::config::IccProfiles;
use turbojpeg::{PixelFormat, ScalingFactor};

/// Whether bytes begin as a JPEG does.
pub(crate) fn is_jpeg(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0xff, 0xd8])
}

/// Decodes a JPEG at the scale that `scale` gives for its width and height, into the pixels that `room` gives for the
/// width and height at that scale; the format is RGB, RGBX or GRAY. Returns its width and height at full scale.
///
/// # Errors
/// The reject reason and what exactly was wrong.
pub(crate) fn decode_jpeg<'a>(
    bytes: &[u8],
    rule: DecodeRule,
    scale: impl FnOnce(usize, usize) -> ScalingFactor,
    format: PixelFormat,
    room: impl FnOnce(usize, usize) -> &'a mut [u8],
) -> Result<(u32, u32), Undecodable> {
    let broken = |message: String| {
        // libjpeg ends at 65,500 pixels a side.
        if message.starts_with("Maximum supported image dimension") {
            (RejectReason::TooManyPixels, message)
        } else if message == "Unsupported marker type 0xf7" {
            (RejectReason::Unsupported, "JPEG-LS is not read".to_owned())
        } else if message.starts_with("Unsupported ") {
            (RejectReason::Unsupported, message)
        } else if is_whole(bytes) {
            (RejectReason::Broken, message)
        } else {
            (RejectReason::Truncated, "the JPEG has no end marker".to_owned())
        }
    };
    // libjpeg would go on to the next marker; Pillow takes nothing but a marker here.
    if bytes.get(2) != Some(&0xff) {
        return Err(broken("no marker follows the start of the JPEG".to_owned()));
    }
    let mut jpeg = Jpeg::open(bytes).map_err(broken)?;
    let (width, height) = (jpeg.width, jpeg.height);
    // Tables without an image, which is what a file that is cut after its first bytes looks like.
    if width * height == 0 {
        return Err(broken(format!("{width} x {height}")));
    }
    refuse_size(width as u64, height as u64, rule.max_pixels)?;
    if jpeg.bits != 8 || jpeg.colours == Colours::Other {
        return Err((RejectReason::Unsupported, format!("a JPEG of {} bits, {:?} colours", jpeg.bits, jpeg.colours)));
    }
    // The library makes an end where there is none, and only warns.
    if !is_whole(bytes) {
        return Err(broken(String::new()));
    }
    let scale = jpeg.possible(scale(width, height));
    let (across, down) = (scale.scale(width), scale.scale(height));
    let pixels = room(across, down);
    if jpeg.colours == Colours::Inks {
        let mut inks = vec![0; 4 * across * down];
        jpeg.decompress(scale, PixelFormat::CMYK, &mut inks).map_err(broken)?;
        rgb_from_inverted_inks(&inks, format.size(), pixels);
    } else {
        if jpeg.is_lossless {
            decompress_lossless(&mut jpeg, format, pixels).map_err(broken)?;
        } else {
            jpeg.decompress(scale, format, pixels).map_err(broken)?;
        }
        if rule.icc == IccProfiles::Convert
            && let Some(icc) = icc_profile(bytes)
        {
            profile::to_srgb(&icc, format.size(), pixels);
        }
    }
    Ok((width as u32, height as u32))
}

/// Decodes a lossless JPEG, which the library does not convert from gray to colour nor back.
fn decompress_lossless(jpeg: &mut Jpeg<'_>, format: PixelFormat, pixels: &mut [u8]) -> Result<(), String> {
    let stored = if jpeg.colours == Colours::Gray { PixelFormat::GRAY } else { PixelFormat::RGB };
    let mut values = vec![0; jpeg.width * jpeg.height * stored.size()];
    jpeg.decompress(ScalingFactor::ONE, stored, &mut values)?;
    for (value, pixel) in values.chunks_exact(stored.size()).zip(pixels.chunks_exact_mut(format.size())) {
        let rgb = if let [r, g, b] = *value { [r, g, b] } else { [value[0]; 3] };
        match pixel {
            [gray] => *gray = luma(rgb.map(u32::from)) as u8,
            _ => pixel[..3].copy_from_slice(&rgb),
        }
    }
    Ok(())
}

/// RGB (3 or 4 bytes a pixel) or luma (1) of inverted CMYK, as Pillow's `convert` computes it.
fn rgb_from_inverted_inks(inks: &[u8], channels: usize, pixels: &mut [u8]) {
    for (inks, pixel) in inks.as_chunks::<4>().0.iter().zip(pixels.chunks_exact_mut(channels)) {
        let [c, m, y, k] = inks.map(u32::from);
        let rgb = [c, m, y].map(|inverted| {
            let product = (255 - inverted) * k + 128;
            k.saturating_sub(((product >> 8) + product) >> 8) as u8
        });
        match channels {
            1 => pixel[0] = luma(rgb.map(u32::from)) as u8,
            _ => pixel[..3].copy_from_slice(&rgb),
        }
    }
}

/// A marker's code and the place of what follows it; its segment, where it has one, begins with a length of two bytes.
struct Markers<'a> {
    bytes: &'a [u8],
    at: usize,
}

const END_OF_IMAGE: u8 = 0xd9;
const START_OF_SCAN: u8 = 0xda;
const APPLICATION_2: u8 = 0xe2;

impl<'a> Markers<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 2 }
    }
}

impl<'a> Iterator for Markers<'a> {
    type Item = (u8, &'a [u8]);

    /// The next marker and its segment. Like libjpeg, passes over entropy-coded data and whatever else is no marker
    /// (ITU T.81, B.1.1); ends with the bytes.
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            self.at += memchr::memchr(0xff, self.bytes.get(self.at..)?)?;
            match *self.bytes.get(self.at + 1)? {
                0xff => self.at += 1,
                // A stuffed zero, a restart marker, or a marker without a segment.
                0x00 | 0x01 | 0xd0..=0xd8 => self.at += 2,
                END_OF_IMAGE => return Some((END_OF_IMAGE, &[])),
                marker => {
                    let length = self.bytes.get(self.at + 2..self.at + 4)?;
                    let length = usize::from(u16::from_be_bytes([length[0], length[1]])).max(2);
                    let end = self.at + 2 + length;
                    let segment = self.bytes.get(self.at + 4..end).unwrap_or_default();
                    self.at = end;
                    return Some((marker, segment));
                }
            }
        }
    }
}

/// Whether an end-of-image marker follows. Walks the markers, so that a thumbnail's end in the EXIF block does not count.
fn is_whole(bytes: &[u8]) -> bool {
    Markers::of(bytes).any(|(marker, _)| marker == END_OF_IMAGE)
}

/// The ICC profile, put together from its segments (ICC.1, B.4).
pub(crate) fn icc_profile(bytes: &[u8]) -> Option<Vec<u8>> {
    let before_scan = Markers::of(bytes).take_while(|(marker, _)| !matches!(*marker, START_OF_SCAN | END_OF_IMAGE));
    let mut pieces: Vec<(u8, &[u8])> = before_scan
        .filter(|(marker, _)| *marker == APPLICATION_2)
        .filter_map(|(_, segment)| segment.strip_prefix(b"ICC_PROFILE\0"))
        .filter(|piece| piece.len() > 2)
        .map(|piece| (piece[0], &piece[2..]))
        .collect();
    pieces.sort_by_key(|(number, _)| *number);
    let profile: Vec<u8> = pieces.into_iter().flat_map(|(_, piece)| piece).copied().collect();
    (!profile.is_empty()).then_some(profile)
}
