//! Planted copies: what happens to an image on its way through the web.

use super::{QUALITY, jpeg};
use crate::random::{Rng, RngExt};
use crate::{PipelineError, Result};
use image::RgbImage;
use image::imageops::{FilterType, crop_imm, flip_horizontal, resize};

/// The kinds of planted copies, as `truth.csv` names them.
pub const COPY_KINDS: &[&str] = &["exact", "reencoded", "resized", "cropped", "colour-shifted", "flipped"];

/// The truth table (CSV: path, copy_of, kind), quoted where a path needs it; a broken file copies nothing.
///
/// # Errors
/// When memory is short.
pub fn truth_table<'a>(rows: impl IntoIterator<Item = [&'a str; 3]>) -> Result<Vec<u8>> {
    let fault = |e: &dyn std::fmt::Display| PipelineError::Internal(format!("writing a truth table: {e}"));
    let mut table = csv::Writer::from_writer(Vec::new());
    table.write_record(["path", "copy_of", "kind"]).map_err(|e| fault(&e))?;
    for row in rows {
        table.write_record(row).map_err(|e| fault(&e))?;
    }
    table.into_inner().map_err(|e| fault(&e))
}

/// A copy of an image: its file's bytes, or its pixels changed and encoded anew.
///
/// # Errors
/// When there is no such kind, or the image cannot be encoded.
pub fn copy(kind: &str, bytes: &[u8], image: &RgbImage, rng: &mut impl Rng) -> Result<Vec<u8>> {
    let (width, height) = image.dimensions();
    match kind {
        "exact" => Ok(bytes.to_vec()),
        "reencoded" => jpeg(image, rng.random_range(30..=60)),
        "resized" => {
            let scale = rng.random_range(0.5..0.8f32);
            let scaled = |len: u32| (len as f32 * scale).round() as u32;
            jpeg(&resize(image, scaled(width), scaled(height), FilterType::CatmullRom), QUALITY)
        }
        "cropped" => {
            let kept = rng.random_range(0.86..0.95f32);
            let (w, h) = ((width as f32 * kept) as u32, (height as f32 * kept) as u32);
            let (x, y) = (rng.random_range(0..=width - w), rng.random_range(0..=height - h));
            jpeg(&crop_imm(image, x, y, w, h).to_image(), QUALITY)
        }
        "colour-shifted" => {
            let gains: [f32; 3] = std::array::from_fn(|_| rng.random_range(0.75..1.25f32));
            let shift = rng.random_range(-18.0..18.0f32);
            let mut shifted = image.clone();
            for pixel in shifted.pixels_mut() {
                pixel.0 = std::array::from_fn(|c| (f32::from(pixel.0[c]) * gains[c] + shift).clamp(0.0, 255.0) as u8);
            }
            jpeg(&shifted, QUALITY)
        }
        "flipped" => jpeg(&flip_horizontal(image), QUALITY),
        other => Err(PipelineError::Internal(format!("no such kind of copy: {other}"))),
    }
}
