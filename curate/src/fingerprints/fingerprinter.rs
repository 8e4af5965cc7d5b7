//! Taking a fingerprint, from one decode.
//!
//! They are taken from the *working image*: a JPEG is decoded at the smallest scale that leaves [`WORKING_PIXELS`],
//! luma is resized to about that many where it has more, and enlarged twofold where it is small. Copies of one image
//! are worked on at much the same size, whatever size they come in.

use super::keypoints::Extractor;
use super::pdq::PdqHasher;
use super::{
    Detail, Dihedral, Keypoint, LocalFeatures, PdqHashes, Quality, Signature, Thumbnail, is_same_colour, quality,
};
use image::GrayImage;
use lapidary_pipeline::pixels::{Filter, Raster, Resizer, luma};
use lapidary_pipeline::{
    DecodeRule, PipelineError, Undecodable, check, decode_small_into, describe_raster, phash_with,
};
use multiversion::multiversion;
use std::sync::{Mutex, PoisonError};

/// Pixels of a working image.
const WORKING_PIXELS: usize = 320 * 240;
/// A working image may have so many times [`WORKING_PIXELS`] before it is resized.
const SLACK: f32 = 1.3;
/// What a JPEG is decoded to at least: one of 640 x 427 pixels is worked on at half its sides.
const DECODED_PIXELS: usize = 60_000;
/// An image with fewer pixels is enlarged twofold.
const SMALL_PIXELS: usize = 100 * 100;

/// What is kept of an image.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Fingerprint {
    pub(crate) pdq: PdqHashes,
    pub(crate) quality: Quality,
    pub(crate) thumbnail: Thumbnail,
    /// Empty where only hashes were taken.
    pub(crate) detail: Detail,
    /// The mean level of red, green and blue.
    pub(crate) mean_rgb: [u8; 3],
    pub(crate) local: LocalFeatures,
}

impl Fingerprint {
    /// Bytes that it takes.
    pub(crate) fn bytes(&self) -> usize {
        let of_keypoints = self.local.keypoints.capacity() * size_of::<Keypoint>();
        let of_signatures = self.local.signatures.capacity() * size_of::<Signature>();
        size_of::<Self>() + self.thumbnail.0.capacity() + self.detail.0.capacity() + of_keypoints + of_signatures
    }

    /// How well the transformed thumbnail agrees with another's, -1 to 1. Of uniform images there is nothing to
    /// correlate: they agree when their colours do.
    pub(crate) fn correlation(&self, dihedral: Dihedral, other: &Self) -> f32 {
        let of_colours = || if is_same_colour(self.mean_rgb, other.mean_rgb) { 1.0 } else { 0.0 };
        self.thumbnail.correlation(dihedral, &other.thumbnail).unwrap_or_else(of_colours)
    }
}

/// A fingerprint, and what else came to light on the way.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) print: Fingerprint,
    /// The 64-bit hash.
    pub(crate) phash: u64,
    /// Pixels across and down of the image itself.
    pub(crate) size: (u32, u32),
}

/// What a fingerprint is to hold besides hashes, thumbnail and details.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Contents {
    /// Keypoints at most; none are looked for where this is 0.
    pub(crate) keypoints: usize,
    /// Whether quality is measured, which no pair of copies depends on.
    pub(crate) quality: bool,
}

/// Takes fingerprints; its buffers are kept from image to image.
#[derive(Debug, Default)]
pub(crate) struct Fingerprinter {
    raster: Raster,
    resizer: Resizer,
    extractor: Extractor,
    hasher: PdqHasher,
    /// Room for luma, and for luma that is not rounded.
    luma: Vec<u8>,
    exact: Vec<f32>,
}

impl Fingerprinter {
    /// The fingerprint of an image.
    ///
    /// # Errors
    /// The reject reason, when it does not decode.
    pub(crate) fn take(&mut self, bytes: &[u8], rule: DecodeRule, contents: Contents) -> Result<Taken, Undecodable> {
        let size = decode_small_into(bytes, rule, DECODED_PIXELS, &mut self.raster)?;
        let luma = luma_of_raster(&self.raster, &mut self.luma, &mut self.exact);
        let local = if contents.keypoints == 0 {
            LocalFeatures::default()
        } else {
            let working = resized_to_work(&luma, &mut self.resizer);
            self.extractor.extract(working.as_ref().unwrap_or(&luma), contents.keypoints)
        };
        let quality = contents.quality.then(|| quality::measure(&self.raster, &luma, size, &mut self.resizer));
        let print = Fingerprint {
            pdq: self.hasher.hashes(&self.exact, self.raster.width() as usize),
            quality: quality.unwrap_or_default(),
            thumbnail: Thumbnail::of(&luma, &mut self.resizer),
            detail: Detail::of(&luma, &mut self.resizer),
            mean_rgb: mean_rgb(&self.raster),
            local,
        };
        let phash = phash_with(&luma, &mut self.resizer);
        self.luma = luma.into_raw();
        Ok(Taken { print, phash, size })
    }

    /// The hashes and the thumbnail of an image, from luma at the smallest scale that will do; nothing else is
    /// measured.
    ///
    /// # Errors
    /// The reject reason, when it does not decode.
    pub(crate) fn take_hashes(&mut self, bytes: &[u8], rule: DecodeRule) -> Result<Taken, Undecodable> {
        let checked = check(bytes, rule)?;
        let luma = checked.luma;
        let exact: Vec<f32> = luma.as_raw().iter().map(|value| f32::from(*value)).collect();
        let thumbnail = Thumbnail::of(&luma, &mut self.resizer);
        // Only uniform images are compared by colour.
        let mut colour = [0; 3];
        if thumbnail.is_uniform() {
            decode_small_into(bytes, rule, DECODED_PIXELS, &mut self.raster)?;
            colour = mean_rgb(&self.raster);
        }
        let print = Fingerprint {
            pdq: self.hasher.hashes(&exact, luma.width() as usize),
            quality: Quality::default(),
            thumbnail,
            detail: Detail::default(),
            mean_rgb: colour,
            local: LocalFeatures::default(),
        };
        Ok(Taken { print, phash: phash_with(&luma, &mut self.resizer), size: (checked.width, checked.height) })
    }

    /// The built-in descriptor of the image whose fingerprint was last taken, 512 values.
    ///
    /// # Errors
    /// When it cannot be resized.
    pub(crate) fn describe(&mut self) -> Result<Vec<f32>, PipelineError> {
        describe_raster(&self.raster, &mut self.resizer)
    }
}

/// Fingerprinters that are not at work: as many as threads have been at once. A scale space takes megabytes, which would be
/// asked from the system and cleared for every image.
#[derive(Debug, Default)]
pub(crate) struct Fingerprinters(Mutex<Vec<Fingerprinter>>);

impl Fingerprinters {
    /// Does some work with one of them.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Fingerprinter) -> T) -> T {
        let idle = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = idle().pop();
        let mut fingerprinter = taken.unwrap_or_default();
        let done = work(&mut fingerprinter);
        idle().push(fingerprinter);
        done
    }
}

/// The mean level of each channel.
fn mean_rgb(raster: &Raster) -> [u8; 3] {
    let sums = level_sums(raster.pixels());
    let count = raster.pixels().len().max(1) as u64;
    sums.map(|sum| ((sum + count / 2) / count) as u8)
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2"))]
fn level_sums(pixels: &[u32]) -> [u64; 3] {
    let mut sums = [0u64; 3];
    // A block's sums fit 32 bits.
    for block in pixels.chunks(1 << 16) {
        let [mut red, mut green, mut blue] = [0u32; 3];
        for pixel in block {
            let [r, g, b] = channels(*pixel);
            (red, green, blue) = (red + r, green + g, blue + b);
        }
        sums.iter_mut().zip([red, green, blue]).for_each(|(sum, block)| *sum += u64::from(block));
    }
    sums
}

#[inline(always)]
fn channels(pixel: u32) -> [u32; 3] {
    [pixel & 0xff, pixel >> 8 & 0xff, pixel >> 16 & 0xff]
}

/// Luma as an image, which takes the room that there is for it, and PDQ's, which is not rounded.
fn luma_of_raster(raster: &Raster, room: &mut Vec<u8>, exact: &mut Vec<f32>) -> GrayImage {
    let (count, mut rounded) = (raster.pixels().len(), std::mem::take(room));
    rounded.resize(count, 0);
    exact.resize(count, 0.0);
    luma_of_pixels(raster.pixels(), &mut rounded, exact);
    GrayImage::from_raw(raster.width(), raster.height(), rounded).expect("luma has a byte a pixel")
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2"))]
fn luma_of_pixels(pixels: &[u32], rounded: &mut [u8], exact: &mut [f32]) {
    for (pixel, luma_of_pixel) in pixels.iter().zip(rounded) {
        *luma_of_pixel = luma(channels(*pixel)) as u8;
    }
    for (pixel, exact) in pixels.iter().zip(exact) {
        let [r, g, b] = channels(*pixel).map(|level| level as i32 as f32);
        *exact = 0.299 * r + 0.587 * g + 0.114 * b;
    }
}

/// Luma at the size that keypoints are looked for; none when it has that size.
fn resized_to_work(luma: &GrayImage, resizer: &mut Resizer) -> Option<GrayImage> {
    let pixels = luma.as_raw().len();
    let scale = if pixels < SMALL_PIXELS {
        2.0
    } else if pixels as f32 > SLACK * WORKING_PIXELS as f32 {
        (WORKING_PIXELS as f32 / pixels as f32).sqrt()
    } else {
        return None;
    };
    let side = |length: u32| ((length as f32 * scale).round() as u32).max(1);
    let (width, height) = (side(luma.width()), side(luma.height()));
    let resized = resized(luma, (width, height), Filter::Bilinear, resizer);
    Some(GrayImage::from_raw(width, height, resized).expect("luma has a byte a pixel"))
}

/// Luma at another size, row after row.
pub(super) fn resized(luma: &GrayImage, size: (u32, u32), filter: Filter, resizer: &mut Resizer) -> Vec<u8> {
    resizer.luma(luma.as_raw(), luma.dimensions(), size, filter).expect("luma has a byte a pixel")
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{Rgb, RgbImage};

    #[test]
    fn sums_and_luma_are_those_of_one_pixel_after_the_other() {
        let level = |i: u32| (i.wrapping_mul(2_654_435_761) >> 24) as u8;
        // More pixels than a block of sums.
        let image = RgbImage::from_fn(311, 257, |x, y| {
            let i = y * 311 + x;
            Rgb([level(3 * i), level(3 * i + 1) / 2, 255 - level(3 * i + 2) / 9])
        });
        let raster = Raster::from(&image);
        let count = f64::from(311 * 257);
        let mean = |channel: usize| image.pixels().map(|pixel| f64::from(pixel.0[channel])).sum::<f64>() / count;
        assert_eq!(mean_rgb(&raster), [0, 1, 2].map(|channel| (mean(channel) + 0.5) as u8));
        let (mut room, mut exact) = (vec![1; 9], vec![1.0; 1 << 20]);
        let rounded = luma_of_raster(&raster, &mut room, &mut exact);
        for ((pixel, rounded), exact) in image.pixels().zip(rounded.as_raw()).zip(exact) {
            let [r, g, b] = pixel.0.map(f32::from);
            assert_eq!(u32::from(*rounded), luma(pixel.0.map(u32::from)));
            assert_eq!(exact.to_bits(), (0.299 * r + 0.587 * g + 0.114 * b).to_bits());
        }
    }

    #[test]
    fn a_fingerprinter_that_comes_back_is_taken_again() {
        let idle = Fingerprinters::default();
        let number = |fingerprinter: &mut Fingerprinter| {
            fingerprinter.raster.resize(fingerprinter.raster.width() + 1, 1);
            fingerprinter.raster.width()
        };
        // Two are at work at once, and are used again.
        assert_eq!(idle.with(|_| idle.with(number)), 1);
        assert_eq!(idle.with(|_| idle.with(number)), 2);
        assert_eq!(idle.0.lock().expect("nobody panicked").len(), 2);
    }
}
