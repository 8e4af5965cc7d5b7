//! An image as the executor works on it: 8-bit RGB, a pixel a 32-bit word, so that its operators run on whole vectors.

use image::RgbImage;

/// 8-bit RGB; a pixel is `red | green << 8 | blue << 16`, its highest byte means nothing. Rows follow each other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Raster {
    width: u32,
    height: u32,
    pixels: Vec<u32>,
}

impl Raster {
    /// An image of this size, its pixels to be written.
    pub fn resize(&mut self, width: u32, height: u32) {
        (self.width, self.height) = (width, height);
        self.pixels.resize(width as usize * height as usize, 0);
    }

    /// Pixels across.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Pixels down.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// The pixels, row after row.
    pub fn pixels(&self) -> &[u32] {
        &self.pixels
    }

    /// The pixels, to be changed.
    pub fn pixels_mut(&mut self) -> &mut [u32] {
        &mut self.pixels
    }

    /// The pixels as bytes: red, green, blue and one that means nothing.
    pub fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(&self.pixels)
    }

    /// The same, to be changed.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        bytemuck::cast_slice_mut(&mut self.pixels)
    }

    /// A copy as the `image` crate has it.
    pub fn to_rgb(&self) -> RgbImage {
        let mut bytes = vec![0; 3 * self.pixels.len()];
        for (rgb, pixel) in bytes.chunks_exact_mut(3).zip(&self.pixels) {
            rgb.copy_from_slice(&pixel.to_le_bytes()[..3]);
        }
        RgbImage::from_raw(self.width, self.height, bytes).expect("three bytes for each pixel")
    }
}

impl From<&RgbImage> for Raster {
    fn from(rgb: &RgbImage) -> Self {
        let pixels = rgb.as_raw().chunks_exact(3).map(|p| u32::from_le_bytes([p[0], p[1], p[2], 0])).collect();
        Self { width: rgb.width(), height: rgb.height(), pixels }
    }
}
