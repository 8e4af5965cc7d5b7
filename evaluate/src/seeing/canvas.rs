//! Pictures side by side, and what is laid over them.

use image::imageops::{FilterType, overlay, resize};
use image::{Rgb, RgbImage};

/// Pixels between pictures.
const GAP_PX: u32 = 2;

/// Rows and columns of squares on white.
pub(super) struct Canvas {
    pub(super) image: RgbImage,
    side_px: u32,
}

impl Canvas {
    pub(super) fn new(columns: u32, rows: u32, side_px: u32) -> Self {
        let length = |count: u32| (count * (side_px + GAP_PX)).saturating_sub(GAP_PX).max(1);
        Self { image: RgbImage::from_pixel(length(columns), length(rows), Rgb([255; 3])), side_px }
    }

    /// Puts a picture into a column and row.
    pub(super) fn place(&mut self, column: u32, row: u32, picture: &RgbImage) {
        let (x, y) = self.corner(column, row);
        overlay(&mut self.image, picture, i64::from(x), i64::from(y));
    }

    /// The upper left pixel of a column and row.
    pub(super) fn corner(&self, column: u32, row: u32) -> (u32, u32) {
        (column * (self.side_px + GAP_PX), row * (self.side_px + GAP_PX))
    }

    /// Draws a line between two places.
    pub(super) fn line(&mut self, (from_x, from_y): (f32, f32), (to_x, to_y): (f32, f32), colour: Rgb<u8>) {
        let steps = (to_x - from_x).abs().max((to_y - from_y).abs()).ceil().max(1.0) as u32;
        for step in 0..=steps {
            let share = step as f32 / steps as f32;
            let (x, y) = (from_x + share * (to_x - from_x), from_y + share * (to_y - from_y));
            if let Some(pixel) = self.image.get_pixel_mut_checked(x as u32, y as u32) {
                *pixel = colour;
            }
        }
    }
}

/// A picture at another side.
pub(super) fn scaled(picture: &RgbImage, side_px: u32) -> RgbImage {
    resize(picture, side_px, side_px, FilterType::CatmullRom)
}

/// A picture of patches, each a square of one colour.
pub(super) fn of_patches(grid: u32, side_px: u32, colour: impl Fn(usize) -> Rgb<u8>) -> RgbImage {
    let at = |place: u32| place * grid / side_px;
    RgbImage::from_fn(side_px, side_px, |x, y| colour((at(y) * grid + at(x)) as usize))
}

/// Weights as colours from dark blue over orange to white, scaled to their own range.
pub(super) fn heat(weights: &[f32], grid: u32, side_px: u32) -> RgbImage {
    let (least, most) = weights.iter().fold((f32::MAX, f32::MIN), |(low, high), w| (low.min(*w), high.max(*w)));
    of_patches(grid, side_px, |patch| {
        let share = (weights[patch] - least) / (most - least).max(1e-12);
        let ramp = |from: f32| ((share - from) * 3.0).clamp(0.0, 1.0);
        Rgb([ramp(0.15), ramp(0.4), ramp(0.7) + 0.3 * (1.0 - share)].map(|c| (c.min(1.0) * 255.0) as u8))
    })
}

/// Two parts of a picture and three of what is laid over it.
pub(super) fn laid_over(picture: &RgbImage, over: &RgbImage) -> RgbImage {
    let mut mixed = picture.clone();
    for (pixel, over) in mixed.iter_mut().zip(over.iter()) {
        *pixel = ((u16::from(*pixel) * 2 + u16::from(*over) * 3) / 5) as u8;
    }
    mixed
}

/// A picture as it is where a mask of patches is, and dark elsewhere.
pub(super) fn masked(picture: &RgbImage, mask: &[bool], grid: u32) -> RgbImage {
    let bright = of_patches(grid, picture.width(), |patch| Rgb([if mask[patch] { 255 } else { 50 }; 3]));
    let mut shaded = picture.clone();
    for (pixel, bright) in shaded.iter_mut().zip(bright.iter()) {
        *pixel = (u16::from(*pixel) * u16::from(*bright) / 255) as u8;
    }
    shaded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_have_their_places_and_masks_darken_what_they_leave_out() {
        let mut canvas = Canvas::new(3, 2, 8);
        assert_eq!(canvas.image.dimensions(), (28, 18));
        canvas.place(2, 1, &RgbImage::from_pixel(8, 8, Rgb([200, 0, 0])));
        assert_eq!((canvas.image.get_pixel(20, 10).0, canvas.image.get_pixel(19, 10).0), ([200, 0, 0], [255; 3]));
        canvas.line((0.0, 0.0), (40.0, 0.0), Rgb([0, 9, 0]));
        assert_eq!((canvas.image.get_pixel(27, 0).0, canvas.image.get_pixel(0, 1).0), ([0, 9, 0], [255; 3]));
        let picture = RgbImage::from_pixel(8, 8, Rgb([100; 3]));
        let dark = masked(&picture, &[true, false, false, false], 2);
        assert_eq!((dark.get_pixel(3, 3).0[0], dark.get_pixel(4, 3).0[0]), (100, 19));
        let heat = heat(&[0.0, 1.0, 2.0, 3.0], 2, 8);
        assert_eq!((heat.get_pixel(7, 7).0, heat.get_pixel(0, 0).0), ([255, 255, 229], [0, 0, 76]));
        assert_eq!(laid_over(&picture, &picture), picture);
    }
}
