//! Resizing: `fast_image_resize` for the three kinds of pixels that are in use, compiled here and nowhere else.
//!
//! The crate's own entry point is generic over its images and brings in its seventeen kinds of pixels wherever it is called,
//! which was half of this crate's and of curate's code.

use crate::{PipelineError, Result};
use fast_image_resize::images::{TypedCroppedImage, TypedImage, TypedImageRef};
use fast_image_resize::pixels::{U8, U8x3, U8x4};
use fast_image_resize::{FilterType, ImageView, ImageViewMut, PixelTrait, ResizeAlg, ResizeOptions};

/// An antialiased filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// The mean of what a pixel covers.
    Box,
    /// Pillow's BILINEAR.
    Bilinear,
    /// Pillow's BICUBIC (a = -0.5).
    CatmullRom,
    /// Pillow's LANCZOS.
    Lanczos3,
}

/// A part of an image, in whole pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) left: u32,
    pub(crate) top: u32,
    pub(crate) width: u32,
    pub(crate) height: u32,
}

/// Resizes images, in buffers that it keeps.
#[derive(Debug, Default)]
pub struct Resizer {
    inner: fast_image_resize::Resizer,
}

impl Resizer {
    /// Luma at another size, row after row.
    ///
    /// # Errors
    /// When `luma` does not have `size.0 * size.1` pixels.
    pub fn luma(&mut self, luma: &[u8], size: (u32, u32), target: (u32, u32), filter: Filter) -> Result<Vec<u8>> {
        let source = TypedImageRef::<U8>::from_buffer(size.0, size.1, luma).map_err(fault)?;
        let mut resized = vec![0; pixels(target)];
        let mut out = TypedImage::<U8>::from_buffer(target.0, target.1, &mut resized).map_err(fault)?;
        self.resize(&source, &mut out, filter)?;
        Ok(resized)
    }

    /// RGB, three bytes a pixel, at another size.
    ///
    /// # Errors
    /// When `rgb` does not have `size.0 * size.1` pixels.
    pub fn rgb(&mut self, rgb: &[u8], size: (u32, u32), target: (u32, u32), filter: Filter) -> Result<Vec<u8>> {
        let source = TypedImageRef::<U8x3>::from_buffer(size.0, size.1, rgb).map_err(fault)?;
        let mut resized = vec![0; 3 * pixels(target)];
        let mut out = TypedImage::<U8x3>::from_buffer(target.0, target.1, &mut resized).map_err(fault)?;
        self.resize(&source, &mut out, filter)?;
        Ok(resized)
    }

    /// The part `[left, top, width, height]` of RGB at another size; pixels around it count, as if all were resized.
    ///
    /// # Errors
    /// When `rgb` does not have `size.0 * size.1` pixels, or the part leaves it.
    pub(crate) fn rgb_part(
        &mut self,
        rgb: &[u8],
        size: (u32, u32),
        part: [f64; 4],
        target: (u32, u32),
        filter: Filter,
    ) -> Result<Vec<u8>> {
        let source = TypedImageRef::<U8x3>::from_buffer(size.0, size.1, rgb).map_err(fault)?;
        let mut resized = vec![0; 3 * pixels(target)];
        let mut out = TypedImage::<U8x3>::from_buffer(target.0, target.1, &mut resized).map_err(fault)?;
        let options = options(filter).crop(part[0], part[1], part[2], part[3]);
        self.inner.resize_typed(&source, &mut out, &options).map_err(fault)?;
        Ok(resized)
    }

    /// A part of an image of four bytes a pixel, the fourth no alpha, at another size into `out`. Pixels outside the part
    /// count for nothing.
    pub(crate) fn words(
        &mut self,
        image: (&[u8], (u32, u32)),
        part: Part,
        out: (&mut [u8], (u32, u32)),
        filter: Filter,
    ) -> Result<()> {
        let ((bytes, size), (target, target_size)) = (image, out);
        let source = TypedImageRef::<U8x4>::from_buffer(size.0, size.1, bytes).map_err(fault)?;
        let source =
            TypedCroppedImage::from_ref(&source, part.left, part.top, part.width, part.height).map_err(fault)?;
        let mut out = TypedImage::<U8x4>::from_buffer(target_size.0, target_size.1, target).map_err(fault)?;
        self.resize(&source, &mut out, filter)
    }

    fn resize<P: PixelTrait>(
        &mut self,
        source: &impl ImageView<Pixel = P>,
        target: &mut impl ImageViewMut<Pixel = P>,
        filter: Filter,
    ) -> Result<()> {
        self.inner.resize_typed(source, target, &options(filter)).map_err(fault)
    }
}

fn options(filter: Filter) -> ResizeOptions {
    let filter = match filter {
        Filter::Box => FilterType::Box,
        Filter::Bilinear => FilterType::Bilinear,
        Filter::CatmullRom => FilterType::CatmullRom,
        Filter::Lanczos3 => FilterType::Lanczos3,
    };
    ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter)).use_alpha(false)
}

fn pixels(size: (u32, u32)) -> usize {
    size.0 as usize * size.1 as usize
}

fn fault(error: impl std::fmt::Display) -> PipelineError {
    PipelineError::Internal(format!("resizing: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uniform_image_stays_uniform_and_a_wrong_length_is_refused() {
        let mut resizer = Resizer::default();
        for filter in [Filter::Box, Filter::Bilinear, Filter::CatmullRom, Filter::Lanczos3] {
            let small = resizer.rgb(&[90; 3 * 40 * 30], (40, 30), (7, 5), filter).expect("resizes");
            assert_eq!(small, vec![90; 3 * 7 * 5]);
        }
        assert!(resizer.luma(&[1; 11], (4, 3), (2, 2), Filter::Box).is_err());
    }
}
