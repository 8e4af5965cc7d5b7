//! Masks of objects as COCO keeps them: polygons and run lengths, rasterised to the pixels that pycocotools gives.
//!
//! A mask holds the intervals of its pixels in COCO's order, column after column from the top; every reader here gives intervals
//! that are ascending, disjoint and apart. Which pixels a polygon fills is [`polygon`]'s business, what a record's text means
//! that of [`segmentation`], and [`instances`] reads a table of images.

mod instances;
mod polygon;
mod run_lengths;
mod segmentation;

pub(crate) use instances::{Instance, Instances};

use std::ops::Range;

/// An object's pixels in an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mask {
    width_px: u32,
    height_px: u32,
    /// Pixels `x * height + y`.
    filled: Vec<Range<u32>>,
}

impl Mask {
    /// Of the places where the mask begins and ends, in any order; a place that is named twice is none.
    fn of_edges((width_px, height_px): (u32, u32), mut edges: Vec<u32>) -> Self {
        edges.sort_unstable();
        edges.push(width_px * height_px);
        let filled = edges.chunks_exact(2).map(|pair| pair[0]..pair[1]);
        Self { width_px, height_px, filled: joined(filled) }
    }

    /// The pixels of any of the masks, which must be of one size.
    fn union(size_px: (u32, u32), masks: &[Self]) -> Self {
        let mut filled: Vec<Range<u32>> = masks.iter().flat_map(|mask| mask.filled.iter().cloned()).collect();
        filled.sort_unstable_by_key(|range| range.start);
        Self { width_px: size_px.0, height_px: size_px.1, filled: joined(filled.into_iter()) }
    }

    /// A box `x, y, width, height` in an image of this width and height, for tests.
    #[cfg(test)]
    pub(crate) fn of_box((width_px, height_px): (u32, u32), (x, y, width, height): (u32, u32, u32, u32)) -> Self {
        let columns = (x..x + width).map(|x| x * height_px + y..x * height_px + y + height);
        Self { width_px, height_px, filled: joined(columns) }
    }

    /// Its pixels' number.
    pub(crate) fn area_px(&self) -> u64 {
        self.filled.iter().map(|range| u64::from(range.end - range.start)).sum()
    }

    /// Whether each pixel is the object's, row by row, `width * height` values.
    pub(crate) fn pixels(&self) -> Vec<bool> {
        let (width, height) = (self.width_px as usize, self.height_px as usize);
        let mut pixels = vec![false; width * height];
        for at in self.filled.iter().flat_map(|range| range.start as usize..range.end as usize) {
            pixels[at % height * width + at / height] = true;
        }
        pixels
    }
}

/// Ranges in ascending order of their starts, without empty ones, and those that meet or overlap as one.
fn joined(ranges: impl Iterator<Item = Range<u32>>) -> Vec<Range<u32>> {
    let mut all: Vec<Range<u32>> = Vec::new();
    for range in ranges.filter(|range| !range.is_empty()) {
        match all.last_mut().filter(|last| range.start <= last.end) {
            Some(last) => last.end = last.end.max(range.end),
            None => all.push(range),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_in_any_order_make_a_mask_and_unions_join_what_meets() {
        let mask = Mask::of_edges((3, 4), vec![9, 2, 5, 5, 7]);
        assert_eq!(mask.filled, [2..7, 9..12]);
        assert_eq!(mask.area_px(), 8);
        let pixels = mask.pixels();
        // Pixel 2 is the third of the first column, pixel 9 the second of the last.
        assert!(pixels[2 * 3] && !pixels[0] && pixels[3 + 2] && !pixels[2]);
        assert_eq!(pixels.iter().filter(|pixel| **pixel).count(), 8);
        let other = Mask { filled: vec![0..2, 3..4], ..mask.clone() };
        assert_eq!(Mask::union((3, 4), &[mask, other]).filled, [0..7, 9..12]);
    }
}
