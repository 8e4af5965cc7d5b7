//! The class of each pixel of a view, from the masks of the image's instances.

use crate::masks::Instance;
use lapidary_pipeline::pixels::Middle;

/// No object.
pub(super) const BACKGROUND: u16 = 0;
/// A crowd: pixels that are neither learned from nor counted.
pub(super) const IGNORED: u16 = u16::MAX;

/// Classes of the pixels of a square view, row by row: [`BACKGROUND`], a class's index and one, or [`IGNORED`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LabelMap {
    pub(super) side_px: usize,
    pub(super) labels: Vec<u16>,
}

impl LabelMap {
    /// Of a view's pixels the class of the smallest instance under their middle; where only crowds are, [`IGNORED`].
    pub(super) fn of(instances: &[Instance], middle: &Middle, side_px: usize) -> Self {
        let source: Vec<usize> = (0..side_px * side_px)
            .map(|pixel| {
                let (x, y) = middle.source(((pixel % side_px) as u32, (pixel / side_px) as u32));
                y as usize * middle.image_px.0 as usize + x as usize
            })
            .collect();
        let mut labels = vec![BACKGROUND; source.len()];
        // Crowds first, then the largest: what is painted last is seen.
        let mut order: Vec<&Instance> = instances.iter().collect();
        order.sort_by_key(|instance| (!instance.is_crowd, std::cmp::Reverse(instance.mask.area_px()), instance.class));
        for instance in order {
            let class = if instance.is_crowd { IGNORED } else { instance.class as u16 + 1 };
            let inside = instance.mask.pixels();
            for (label, _) in labels.iter_mut().zip(&source).filter(|(_, source)| inside[**source]) {
                *label = class;
            }
        }
        Self { side_px, labels }
    }

    /// The share of each label in each patch, shape `[patches, labels]`; crowds leave a patch with less than 1.
    pub(super) fn shares(&self, patch_px: usize, labels: usize) -> Vec<f32> {
        let grid = self.side_px / patch_px;
        let mut shares = vec![0f32; grid * grid * labels];
        for (pixel, label) in self.labels.iter().enumerate().filter(|(_, label)| **label != IGNORED) {
            let patch = pixel / self.side_px / patch_px * grid + pixel % self.side_px / patch_px;
            shares[patch * labels + usize::from(*label)] += 1.0 / (patch_px * patch_px) as f32;
        }
        shares
    }

    /// Whether each pixel is an object's; none for crowds.
    pub(super) fn foreground(&self) -> impl Iterator<Item = Option<bool>> + '_ {
        self.labels.iter().map(|label| (*label != IGNORED).then_some(*label != BACKGROUND))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::masks::Mask;

    /// A box of an image of 8 x 4 pixels.
    fn instance(class: u32, is_crowd: bool, (x, y, width, height): (u32, u32, u32, u32)) -> Instance {
        Instance { class, is_crowd, mask: Mask::of_box((8, 4), (x, y, width, height)) }
    }

    #[test]
    fn the_smallest_object_is_seen_and_a_crowd_counts_for_nothing() {
        let instances =
            [instance(5, false, (2, 0, 2, 2)), instance(1, false, (2, 0, 4, 4)), instance(1, true, (0, 0, 8, 4))];
        let middle = Middle::of((8, 4), 4, 4);
        let map = LabelMap::of(&instances, &middle, 4);
        assert_eq!(map.labels, [6, 6, 2, 2, 6, 6, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2]);
        let shares = map.shares(2, 7);
        assert_eq!((shares[6], shares[7 + 2], shares[14 + 2]), (1.0, 1.0, 1.0));
        let map = LabelMap::of(&instances[1..], &Middle { offset_px: (0, 0), ..middle }, 4);
        assert_eq!(map.labels[..4], [IGNORED, IGNORED, 2, 2]);
        assert_eq!(map.shares(4, 7).iter().sum::<f32>(), 0.5);
        assert_eq!(map.foreground().take(3).collect::<Vec<_>>(), [None, None, Some(true)]);
        // Twice as large.
        let map = LabelMap::of(&instances[..1], &Middle::of((8, 4), 8, 8), 8);
        assert_eq!(map.labels.iter().filter(|label| **label == 6).count(), 16);
    }
}
