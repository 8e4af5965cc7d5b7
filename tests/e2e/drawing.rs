//! Drawing what tests look at: numbers that look random, and boxes.

use image::{Rgb, RgbImage};

/// Numbers that look random.
pub struct Numbers(pub u64);

impl Numbers {
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// Fills the part of a box that lies in the image.
pub fn fill(page: &mut RgbImage, left: u32, top: u32, (width, height): (u32, u32), colour: [u8; 3]) {
    for y in top..(top + height).min(page.height()) {
        for x in left..(left + width).min(page.width()) {
            page.put_pixel(x, y, Rgb(colour));
        }
    }
}
