//! Segmentation that nothing was trained for: how well the class token's attention, cut to the patches that hold most of it, covers
//! the objects (Caron et al. 2021, fig. 4).
//!
//! Jaccard similarity of each head's mask, patches as squares of pixels, with the union of the image's objects in the view; pixels
//! of crowds are left out. A centred square of the objects' own area is what knowing only that objects are in the middle gives.

use super::labels::LabelMap;
use crate::seeing::attention::{ClassAttention, mass_mask};

/// What an image gives.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Overlaps {
    /// The best head's Jaccard similarity.
    pub(super) best_head: f64,
    /// The mean over the heads.
    pub(super) mean_head: f64,
    /// That of the centred square.
    pub(super) centred_box: f64,
}

/// The overlaps of a view with its objects; none where no object is in it.
pub(super) fn overlaps(attention: &ClassAttention, view: usize, map: &LabelMap, mass: f64) -> Option<Overlaps> {
    let objects: Vec<Option<bool>> = map.foreground().collect();
    let area_px = objects.iter().filter(|object| **object == Some(true)).count();
    if area_px == 0 {
        return None;
    }
    let (side_px, patch_px) = (map.side_px, map.side_px / attention.grid);
    let of_heads: Vec<f64> = attention
        .of_view(view)
        .map(|weights| {
            let kept = mass_mask(weights, mass);
            jaccard(&objects, |x, y| kept[y / patch_px * attention.grid + x / patch_px], side_px)
        })
        .collect();
    let half_px = (area_px as f64).sqrt() / 2.0;
    let is_near = |at: usize| (at as f64 + 0.5 - side_px as f64 / 2.0).abs() <= half_px;
    Some(Overlaps {
        best_head: of_heads.iter().copied().fold(0.0, f64::max),
        mean_head: of_heads.iter().sum::<f64>() / of_heads.len() as f64,
        centred_box: jaccard(&objects, |x, y| is_near(x) && is_near(y), side_px),
    })
}

fn jaccard(objects: &[Option<bool>], is_found: impl Fn(usize, usize) -> bool, side_px: usize) -> f64 {
    let (mut both, mut either) = (0u64, 0u64);
    for (pixel, object) in objects.iter().enumerate() {
        let Some(object) = object else { continue };
        let found = is_found(pixel % side_px, pixel / side_px);
        both += u64::from(found && *object);
        either += u64::from(found || *object);
    }
    both as f64 / either.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dense::labels::IGNORED;

    #[test]
    fn heads_are_compared_with_the_objects_and_a_box_in_the_middle() {
        // Two by two patches of four pixels; the object fills the patch at the upper left.
        let label = |pixel: usize| u16::from(pixel % 4 < 2 && pixel / 4 < 2) * 3;
        let map = LabelMap { side_px: 4, labels: (0..16).map(label).collect() };
        let attention = ClassAttention::from_weights(2, 2, vec![0.9, 0.02, 0.02, 0.02, 0.3, 0.3, 0.05, 0.05]);
        let found = overlaps(&attention, 0, &map, 0.6).expect("an object");
        // The second head's two patches are twice the object; the box of two by two pixels shares one of seven.
        let expected = Overlaps { best_head: 1.0, mean_head: (1.0 + 0.5) / 2.0, centred_box: 1.0 / 7.0 };
        assert_eq!(found, expected);
        // What a crowd hides counts for nothing.
        let crowd =
            LabelMap { labels: (0..16).map(|p| if p % 4 < 2 { label(p) } else { IGNORED }).collect(), ..map.clone() };
        assert_eq!(overlaps(&attention, 0, &crowd, 0.6).map(|found| found.mean_head), Some(1.0));
        assert_eq!(overlaps(&attention, 0, &LabelMap { labels: vec![0; 16], ..map }, 0.6), None);
    }
}
