//! Which patches of a step's global views are masked: blocks, as in iBOT and DINOv2.
//!
//! A view's draws are a function of (seed, step, image, view) alone, and which views are masked, and how much of each, follows
//! from the order of a number that each draws: equally likely as the reference's shuffle, but a batch in another order has the
//! same masks, and a resumed run those of the run that was cut off.

use lapidary_pipeline::random::{ChaCha8Rng, Purpose, Rng, RngExt, keyed};
use std::ops::Range;

/// Attempts at a block before a mask is left as it is.
const ATTEMPTS: usize = 10;
/// The flattest block's height over its width; the tallest is its inverse.
const ASPECT_MIN: f64 = 0.3;

/// Patches of a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl Grid {
    fn patches(self) -> usize {
        self.height * self.width
    }
}

/// Bounds of the area of one block, in patches, besides what is left to mask.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BlockAreas {
    /// The least.
    pub area_min: f64,
    /// The greatest, which also bounds how many patches a block may add.
    pub area_max: f64,
}

impl BlockAreas {
    /// iBOT's: at least a third of the shorter side, squared.
    pub fn ibot(grid: Grid) -> Self {
        let side = grid.height.min(grid.width) / 3;
        Self { area_min: (side * side) as f64, area_max: f64::INFINITY }
    }

    /// DINOv2's: at least four patches, at most half of all.
    pub fn dinov2(grid: Grid) -> Self {
        Self { area_min: 4.0, area_max: 0.5 * grid.patches() as f64 }
    }
}

/// Masks blocks until a number of patches is masked or no further block fits: 1 where a patch is masked, row by row.
///
/// # Arguments
/// - target: patches to mask, not necessarily whole (iBOT); never exceeded
/// - unit: draws from `[0, 1)`, in the order area, aspect, and where the block fits into the grid top and left
pub fn block_mask(grid: Grid, target: f64, areas: BlockAreas, mut unit: impl FnMut() -> f64) -> Vec<u8> {
    let mut mask = vec![0u8; grid.patches()];
    let mut masked = 0;
    while (masked as f64) < target {
        let left = (target - masked as f64).min(areas.area_max);
        let Some(added) = (0..ATTEMPTS).find_map(|_| add_block(&mut mask, grid, left, areas.area_min, &mut unit))
        else {
            break;
        };
        masked += added;
    }
    mask
}

/// Masks one block and tells how many patches it added; none where it does not fit or adds none or too many.
fn add_block(mask: &mut [u8], grid: Grid, left: f64, area_min: f64, unit: &mut impl FnMut() -> f64) -> Option<usize> {
    let mut between = |low: f64, high: f64| low + (high - low) * unit();
    let area = between(area_min, left);
    let aspect = between(ASPECT_MIN.ln(), (1.0 / ASPECT_MIN).ln()).exp();
    // Python's round, to even.
    let height = (area * aspect).sqrt().round_ties_even() as usize;
    let width = (area / aspect).sqrt().round_ties_even() as usize;
    if height >= grid.height || width >= grid.width {
        return None;
    }
    let mut place = |last: usize| (unit() * (last + 1) as f64) as usize;
    let (top, left_column) = (place(grid.height - height), place(grid.width - width));
    let rows = top..top + height;
    let places = |row: usize| row * grid.width + left_column..row * grid.width + left_column + width;
    let added: usize = rows.clone().map(|row| mask[places(row)].iter().filter(|masked| **masked == 0).count()).sum();
    if added == 0 || added as f64 > left {
        return None;
    }
    rows.for_each(|row| mask[places(row)].fill(1));
    Some(added)
}

/// How much of a step's views is masked (DINOv2: half of the views, a tenth to half of each).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MaskAmount {
    /// Share of the views that are masked.
    pub share: f64,
    /// Least and greatest share of a masked view's patches.
    pub ratio: [f64; 2],
}

/// A step's masks, shape `[views, images, patches]`: 1 where a patch is masked.
///
/// As DINOv2: of all views, `share` rounded down are masked; the i-th of them, in drawn order, has its ratio from the i-th of
/// that many equal parts of `ratio`, so that every step sees the whole range.
///
/// # Arguments
/// - images: the batch's images by id, whose order is that of the mask
/// - views: the views of an image, by their number among its global views
pub fn step_masks(
    seed: u64,
    step: u64,
    images: &[u64],
    views: Range<usize>,
    grid: Grid,
    amount: MaskAmount,
) -> Vec<u8> {
    let mut drawn: Vec<(u64, usize, ChaCha8Rng)> = (0..views.len() * images.len())
        .map(|row| {
            let mut rng = keyed(seed, Purpose::PatchMask, step, images[row % images.len()]);
            rng.set_stream((views.start + row / images.len()) as u64);
            (rng.next_u64(), row, rng)
        })
        .collect();
    drawn.sort_by_key(|(key, row, _)| (*key, *row));
    let count = (drawn.len() as f64 * amount.share) as usize;
    let [low, high] = amount.ratio;
    let bound = |part: usize| low + (high - low) * part as f64 / count as f64;
    let mut masks = vec![0u8; drawn.len() * grid.patches()];
    for (part, (_, row, mut rng)) in drawn.into_iter().take(count).enumerate() {
        let ratio = bound(part) + (bound(part + 1) - bound(part)) * rng.random::<f64>();
        let target = (grid.patches() as f64 * ratio).floor();
        let mask = block_mask(grid, target, BlockAreas::dinov2(grid), || rng.random::<f64>());
        masks[row * grid.patches()..][..grid.patches()].copy_from_slice(&mask);
    }
    masks
}

#[cfg(test)]
mod tests {
    use super::super::comparison::Golden;
    use super::*;
    use proptest::prelude::*;

    const GRID: Grid = Grid { height: 8, width: 8 };
    const DINOV2: MaskAmount = MaskAmount { share: 0.5, ratio: [0.1, 0.5] };

    fn golden_masks(family: &str, areas: fn(Grid) -> BlockAreas) -> usize {
        let golden = Golden::load();
        let cases = (0..).take_while(|case| golden.has(&format!("{family}.{case}.shape")));
        cases
            .map(|case| {
                let named = |part: &str| golden.values(&format!("{family}.{case}.{part}"));
                let shape = named("shape");
                let grid = Grid { height: shape[0] as usize, width: shape[1] as usize };
                let draws = named("draws");
                let mut used = 0;
                let mask = block_mask(grid, shape[2], areas(grid), || {
                    used += 1;
                    draws[used - 1]
                });
                let expected: Vec<u8> = named("mask").iter().map(|value| *value as u8).collect();
                assert_eq!(mask, expected, "{family}.{case}");
                // One is written after those that the reference drew.
                assert_eq!(used, draws.len() - 1, "{family}.{case} draws as often");
            })
            .count()
    }

    #[test]
    fn the_same_draws_give_dinov2_s_masks() {
        assert_eq!(golden_masks("masks", BlockAreas::dinov2), 7);
    }

    #[test]
    fn the_same_draws_give_ibot_s_masks() {
        assert_eq!(golden_masks("masks_ibot", BlockAreas::ibot), 3);
    }

    #[test]
    fn half_of_the_views_are_masked_each_in_its_part_of_the_range() {
        let images: Vec<u64> = (0..20).collect();
        let mut sums: Vec<usize> = step_masks(3, 9, &images, 0..2, GRID, DINOV2)
            .chunks(64)
            .map(|mask| mask.iter().map(|masked| usize::from(*masked)).sum())
            .collect();
        sums.sort_unstable();
        assert!(sums[..20].iter().all(|sum| *sum == 0) && sums[20] >= 1, "{sums:?}");
        // Targets are 6.4 to 32 patches; a mask may fall short, never exceed.
        assert!(*sums.last().expect("rows") <= 32 && sums[20..].iter().sum::<usize>() > 20 * 14, "{sums:?}");
    }

    #[test]
    fn a_batch_in_another_order_has_the_same_masks() {
        let (images, moved) = ([5, 9, 2, 7], [7, 5, 2, 9]);
        let masks = |images: &[u64]| step_masks(1, 4, images, 0..2, GRID, DINOV2);
        let (first, second) = (masks(&images), masks(&moved));
        assert!(first.contains(&1));
        for view in 0..2 {
            for (at, image) in moved.iter().enumerate() {
                let before = images.iter().position(|other| other == image).expect("the same images");
                assert_eq!(second[(view * 4 + at) * 64..][..64], first[(view * 4 + before) * 64..][..64]);
            }
        }
        assert_ne!(first, step_masks(1, 5, &images, 0..2, GRID, DINOV2));
        assert_ne!(first, step_masks(2, 4, &images, 0..2, GRID, DINOV2));
    }

    #[test]
    fn nothing_is_masked_where_no_view_or_no_patch_is_to_be() {
        for (share, ratio) in [(0.0, [0.1, 0.5]), (1.0, [0.0, 0.0])] {
            let amount = MaskAmount { share, ratio };
            assert!(step_masks(1, 1, &[1, 2, 3], 0..2, GRID, amount).iter().all(|masked| *masked == 0));
        }
    }

    proptest! {
        #[test]
        fn a_mask_never_exceeds_its_target_and_always_ends(
            seed in 0u64..10_000,
            height in 1usize..18,
            width in 1usize..18,
            ratio in 0.0f64..=1.0,
            dinov2 in any::<bool>(),
        ) {
            let grid = Grid { height, width };
            let areas = if dinov2 { BlockAreas::dinov2(grid) } else { BlockAreas::ibot(grid) };
            let target = ratio * grid.patches() as f64;
            let mut rng = keyed(seed, Purpose::PatchMask, 0, 0);
            let mask = block_mask(grid, target, areas, || rng.random::<f64>());
            let masked = mask.iter().filter(|masked| **masked == 1).count();
            prop_assert!(mask.len() == grid.patches() && masked as f64 <= target.ceil());
        }
    }
}
