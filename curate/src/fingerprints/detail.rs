//! A picture of an image's luma that is fine enough to show where two images of one template differ.

use super::Dihedral;
use super::fingerprinter::resized;
use image::GrayImage;
use lapidary_pipeline::pixels::{Filter, Resizer};

/// 64 x 64 luma values, row after row, the aspect is lost; empty where nothing but hashes was taken.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Detail(pub(crate) Vec<u8>);

impl Detail {
    /// Values across and down.
    pub(crate) const SIDE: usize = 64;

    /// That of an image.
    pub(crate) fn of(luma: &GrayImage, resizer: &mut Resizer) -> Self {
        Self(resized(luma, (Self::SIDE as u32, Self::SIDE as u32), Filter::Box, resizer))
    }

    /// That of the transformed image.
    pub(crate) fn transformed(&self, dihedral: Dihedral) -> Self {
        Self(dihedral.transformed(&self.0, Self::SIDE))
    }

    /// The value at a place between values, bilinear; outside, that of the nearest. As [`bilinear`](super::bilinear) has many.
    #[cfg(test)]
    pub(crate) fn sample(&self, x: f32, y: f32) -> f32 {
        let last = (Self::SIDE - 1) as f32;
        let (x, y) = (x.clamp(0.0, last), y.clamp(0.0, last));
        let (column, row) = ((x as usize).min(Self::SIDE - 2), (y as usize).min(Self::SIDE - 2));
        let (fx, fy) = (x - column as f32, y - row as f32);
        let at = |row: usize, column: usize| f32::from(self.0[row * Self::SIDE + column]);
        let above = at(row, column) + fx * (at(row, column + 1) - at(row, column));
        let below = at(row + 1, column) + fx * (at(row + 1, column + 1) - at(row + 1, column));
        above + fy * (below - above)
    }
}
