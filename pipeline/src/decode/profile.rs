//! ICC profiles: whether one means other colours than sRGB's, and, where `ingest.icc` asks for it, the way to sRGB.
//!
//! RGB and gray profiles count. One that is damaged, of inks (CMYK goes to RGB as in Pillow's `convert`), or of another kind
//! than the pixels (a gray one on a colour image), changes nothing. What converts is kept for the next image, since most images of a source share a few profiles.

use super::{DecodeRule, jpeg, other};
use moxcms::{ColorProfile, DataColorSpace, Layout, RenderingIntent, Transform8BitExecutor, TransformOptions};
use std::sync::{Arc, Mutex, PoisonError};

/// Profiles whose conversion is kept.
const KEPT: usize = 16;
/// Levels by which a profile's colours may differ from sRGB's and still be called the same.
const SAME_LEVELS: u8 = 3;
/// Pixels that are converted at a time.
const CHUNK_PIXELS: usize = 4096;

/// The way from a profile's values to sRGB.
enum Conversion {
    /// There is none, or nothing to convert.
    None,
    Rgb(Arc<Transform8BitExecutor>),
    Gray(Box<[[u8; 3]; 256]>),
}

/// Converts RGB pixels (3 or 4 bytes each, the fourth left alone) to sRGB.
pub(super) fn to_srgb(icc: &[u8], channels: usize, pixels: &mut [u8]) {
    match &*conversion(icc) {
        Conversion::Rgb(transform) => {
            let mut values = Vec::with_capacity(3 * CHUNK_PIXELS);
            for chunk in pixels.chunks_mut(channels * CHUNK_PIXELS) {
                values.clear();
                values.extend(chunk.chunks_exact(channels).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]));
                write_transformed(&**transform, &values, channels, chunk);
            }
        }
        Conversion::Gray(levels) => {
            let is_gray = |pixel: &[u8]| pixel[0] == pixel[1] && pixel[1] == pixel[2];
            if pixels.chunks_exact(channels).all(is_gray) {
                for pixel in pixels.chunks_exact_mut(channels) {
                    let level = usize::from(pixel[0]);
                    pixel[..3].copy_from_slice(&levels[level]);
                }
            }
        }
        Conversion::None => {}
    }
}

fn write_transformed(transform: &Transform8BitExecutor, values: &[u8], channels: usize, pixels: &mut [u8]) {
    let mut converted = vec![0; 3 * (pixels.len() / channels)];
    if transform.transform(values, &mut converted).is_ok() {
        for (rgb, pixel) in converted.as_chunks::<3>().0.iter().zip(pixels.chunks_exact_mut(channels)) {
            pixel[..3].copy_from_slice(rgb);
        }
    }
}

/// Whether an image that decodes carries a profile whose colours are not sRGB's.
pub(crate) fn has_foreign_profile(bytes: &[u8]) -> bool {
    profile_of(bytes).is_some_and(|icc| !matches!(*conversion(&icc), Conversion::None))
}

/// Whether decoding by this rule converts colours.
pub(crate) fn is_converted(bytes: &[u8], rule: DecodeRule) -> bool {
    rule.icc == lapidary_schemas::config::IccProfiles::Convert && has_foreign_profile(bytes)
}

fn profile_of(bytes: &[u8]) -> Option<Vec<u8>> {
    if jpeg::is_jpeg(bytes) { jpeg::icc_profile(bytes) } else { other::icc_profile(bytes) }
}

/// The conversion of a profile, made or found among those that are kept.
fn conversion(icc: &[u8]) -> Arc<Conversion> {
    static KNOWN: Mutex<Vec<(blake3::Hash, Arc<Conversion>)>> = Mutex::new(Vec::new());
    let hash = blake3::hash(icc);
    let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, conversion)) = known().iter().find(|(of, _)| *of == hash) {
        return conversion.clone();
    }
    let conversion = Arc::new(make_conversion(icc).unwrap_or(Conversion::None));
    let mut known = known();
    known.truncate(KEPT - 1);
    known.insert(0, (hash, conversion.clone()));
    conversion
}

fn make_conversion(icc: &[u8]) -> Option<Conversion> {
    let profile = ColorProfile::new_from_slice(icc).ok()?;
    let options = TransformOptions { rendering_intent: RenderingIntent::Perceptual, ..Default::default() };
    let srgb = ColorProfile::new_srgb();
    let to_rgb = |from: Layout| profile.create_transform_8bit(from, &srgb, Layout::Rgb, options).ok();
    Some(match profile.color_space {
        DataColorSpace::Rgb => {
            let transform = to_rgb(Layout::Rgb)?;
            if is_identity(&*transform) { Conversion::None } else { Conversion::Rgb(transform) }
        }
        DataColorSpace::Gray => {
            let values: [u8; 256] = std::array::from_fn(|level| level as u8);
            let mut converted = [0; 3 * 256];
            to_rgb(Layout::Gray)?.transform(&values, &mut converted).ok()?;
            let levels: Box<[[u8; 3]; 256]> = Box::new(std::array::from_fn(|level| {
                let at = 3 * level;
                [converted[at], converted[at + 1], converted[at + 2]]
            }));
            let near = |(level, rgb): (usize, &[u8; 3])| rgb.iter().all(|v| v.abs_diff(level as u8) <= SAME_LEVELS);
            if levels.iter().enumerate().all(near) { Conversion::None } else { Conversion::Gray(levels) }
        }
        _ => Conversion::None,
    })
}

/// Whether a transform leaves colours all over the cube where they are.
fn is_identity(transform: &Transform8BitExecutor) -> bool {
    const STEPS: [u8; 6] = [0, 51, 102, 153, 204, 255];
    let colours: Vec<u8> = STEPS
        .iter()
        .flat_map(|r| STEPS.iter().flat_map(move |g| STEPS.iter().flat_map(move |b| [*r, *g, *b])))
        .collect();
    let mut converted = vec![0; colours.len()];
    transform.transform(&colours, &mut converted).is_ok()
        && colours.iter().zip(&converted).all(|(a, b)| a.abs_diff(*b) <= SAME_LEVELS)
}
