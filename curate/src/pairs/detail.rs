//! Where the details of two images agree, block by block, once one is laid over the other.
//!
//! Both are looked at in squares of [`BLOCK`] values of the coarser one. In each the other is shifted by half a value at a time,
//! up to one, and the largest normalised cross-correlation counts: brightness, contrast and light that changes over the image say
//! nothing, and a map need not be exact. Blocks that are flat in both say nothing either.

use super::Affine;
use crate::fingerprints::{Detail, LocalFeatures};

const SIDE: usize = Detail::SIDE;
/// Values across and down a block, and from one to the next.
const BLOCK: usize = 8;
const STEP: usize = 4;
/// Shifts of half a value, either way.
const SHIFTS: usize = 2;
/// Levels by which the values of a block deviate at least where there is detail.
const DETAIL_LEVELS: f32 = 3.0;
/// Blocks agree from this correlation on.
const CORRELATION_MIN: f32 = 0.9;
/// A block that correlates so far is not shifted any more.
const ENOUGH: f32 = 0.985;
/// Fewer blocks with detail say nothing.
const BLOCKS_MIN: usize = 8;
/// How far, in values, whole images are shifted against each other at most.
const WHOLE_SHIFT: isize = 4;

/// What the blocks with detail say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct DetailAgreement {
    /// How many there are, of 225 where both images show all of each other.
    pub(super) blocks: usize,
    /// The share of them that agree.
    pub(super) share: f32,
    /// The correlation that nine tenths of them have at least.
    pub(super) lowest_tenth: f32,
}

/// Lays `a` over `b` by a map of working pixels; none where there is too little detail.
pub(super) fn under_map(
    a: (&Detail, &LocalFeatures),
    b: (&Detail, &LocalFeatures),
    map: &Affine,
) -> Option<DetailAgreement> {
    let side = SIDE as f32;
    let to_working = |image: &LocalFeatures| {
        let (x, y) = (image.width / side, image.height / side);
        Affine([x, 0.0, 0.5 * x - 0.5, 0.0, y, 0.5 * y - 0.5])
    };
    let (of_a, of_b) = (to_working(a.1), to_working(b.1));
    let map = after(&of_b.inverse(), &after(map, &of_a));
    // The finer of the two is carried over the coarser.
    if map.determinant().abs() > 1.0 { agreement(b.0, a.0, &map) } else { agreement(a.0, b.0, &map.inverse()) }
}

/// Compares whole images, of one aspect as it is lost, shifted by a few values where that fits better.
pub(super) fn of_whole(a: &Detail, b: &Detail) -> Option<DetailAgreement> {
    let unmoved = Affine([1.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
    if correlation_at(a, b, (0, 0)) >= ENOUGH {
        return agreement(a, b, &unmoved);
    }
    let shifts = (-WHOLE_SHIFT..=WHOLE_SHIFT).flat_map(|y| (-WHOLE_SHIFT..=WHOLE_SHIFT).map(move |x| (x, y)));
    let best = shifts.map(|shift| (correlation_at(a, b, shift), shift)).max_by(|x, y| {
        // Of equals, the smallest shift.
        let size = |(x, y): (isize, isize)| x.abs() + y.abs();
        x.0.total_cmp(&y.0).then(size(y.1).cmp(&size(x.1)))
    });
    let moved = |(x, y): (isize, isize)| Affine([1.0, 0.0, x as f32, 0.0, 1.0, y as f32]);
    agreement(a, b, &best.map_or(unmoved, |(_, shift)| moved(shift)))
}

/// First one map, then another.
fn after(second: &Affine, first: &Affine) -> Affine {
    let ((p, q), f) = (second.apply(first.0[2], first.0[5]), &first.0);
    let m = &second.0;
    let linear = |row: usize, x: f32, y: f32| m[3 * row] * x + m[3 * row + 1] * y;
    Affine([linear(0, f[0], f[3]), linear(0, f[1], f[4]), p, linear(1, f[0], f[3]), linear(1, f[1], f[4]), q])
}

/// Pearson's correlation of every other value, `a` shifted.
fn correlation_at(a: &Detail, b: &Detail, (dx, dy): (isize, isize)) -> f32 {
    let (mut n, mut x, mut y, mut xx, mut yy, mut xy) = (0f32, 0f32, 0f32, 0f32, 0f32, 0f32);
    let inside = |v: isize| (0..SIDE as isize).contains(&v);
    for row in (0..SIDE as isize).step_by(2).filter(|row| inside(row + dy)) {
        for column in (0..SIDE as isize).step_by(2).filter(|column| inside(column + dx)) {
            let p = f32::from(a.0[((row + dy) * SIDE as isize + column + dx) as usize]);
            let q = f32::from(b.0[(row * SIDE as isize + column) as usize]);
            (n, x, y, xx, yy, xy) = (n + 1.0, x + p, y + q, xx + p * p, yy + q * q, xy + p * q);
        }
    }
    (xy - x * y / n) / ((xx - x * x / n) * (yy - y * y / n)).max(1.0).sqrt()
}

/// Compares `fine`, carried over `coarse`, with it; `back` carries values of `coarse` to those of `fine`.
fn agreement(fine: &Detail, coarse: &Detail, back: &Affine) -> Option<DetailAgreement> {
    let carried = Carried::new(fine, back);
    let mut correlations = Vec::new();
    let mut nearest_first: Vec<(usize, usize)> =
        (0..=2 * SHIFTS).flat_map(|y| (0..=2 * SHIFTS).map(move |x| (x, y))).collect();
    nearest_first.sort_by_key(|(x, y)| x.abs_diff(SHIFTS).pow(2) + y.abs_diff(SHIFTS).pow(2));
    for top in (0..=SIDE - BLOCK).step_by(STEP) {
        for left in (0..=SIDE - BLOCK).step_by(STEP) {
            let block = Block::of(|x, y| f32::from(coarse.0[(top + y) * SIDE + left + x]));
            let corners = [(0, 0), (0, BLOCK - 1), (BLOCK - 1, 0), (BLOCK - 1, BLOCK - 1)];
            let is_shown = |(x, y): (usize, usize)| shows(back, (left + x) as f32, (top + y) as f32);
            if !corners.into_iter().all(is_shown) {
                continue;
            }
            let shifted = |x: usize, y: usize| {
                Block::of(|i, j| carried.0[(2 * (top + j) + y) * Carried::SIDE + 2 * (left + i) + x])
            };
            if block.deviation.max(shifted(SHIFTS, SHIFTS).deviation) <= DETAIL_LEVELS {
                continue;
            }
            let mut largest = -1f32;
            for (x, y) in &nearest_first {
                largest = largest.max(block.correlation(&shifted(*x, *y)));
                if largest >= ENOUGH {
                    break;
                }
            }
            correlations.push(largest);
        }
    }
    if correlations.len() < BLOCKS_MIN {
        return None;
    }
    let agreeing = correlations.iter().filter(|correlation| **correlation >= CORRELATION_MIN).count();
    let share = agreeing as f32 / correlations.len() as f32;
    let tenth = correlations.len() / 10;
    let blocks = correlations.len();
    Some(DetailAgreement { blocks, share, lowest_tenth: *correlations.select_nth_unstable_by(tenth, f32::total_cmp).1 })
}

/// Whether a map carries a place into the image.
fn shows(back: &Affine, x: f32, y: f32) -> bool {
    let (x, y) = back.apply(x, y);
    let inside = |v: f32| (-0.5..=SIDE as f32 - 0.5).contains(&v);
    inside(x) && inside(y)
}

/// An image carried over another, at every half value of that and [`SHIFTS`] halves around it.
struct Carried(Vec<f32>);

impl Carried {
    const SIDE: usize = 2 * SIDE + 2 * SHIFTS;

    fn new(fine: &Detail, back: &Affine) -> Self {
        // So many of its values across lie in one of the other's.
        let across = (back.determinant().abs().sqrt() - 0.2).ceil().clamp(1.0, 5.0);
        let inner: Vec<f32> = (0..across as usize).map(|i| (i as f32 + 0.5) / across - 0.5).collect();
        let mut values = Vec::with_capacity(Self::SIDE * Self::SIDE);
        for row in 0..Self::SIDE {
            for column in 0..Self::SIDE {
                let place = |v: usize| (v as f32 - SHIFTS as f32) / 2.0;
                let mut sum = 0.0;
                for dy in &inner {
                    for dx in &inner {
                        let (x, y) = back.apply(place(column) + dx, place(row) + dy);
                        sum += fine.sample(x, y);
                    }
                }
                values.push(sum / (across * across));
            }
        }
        Self(values)
    }
}

/// A block's values less their mean, and their deviation.
struct Block {
    values: [f32; BLOCK * BLOCK],
    deviation: f32,
}

impl Block {
    fn of(value: impl Fn(usize, usize) -> f32) -> Self {
        let mut values: [f32; BLOCK * BLOCK] = std::array::from_fn(|i| value(i % BLOCK, i / BLOCK));
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        values.iter_mut().for_each(|value| *value -= mean);
        let deviation = (values.iter().map(|value| value * value).sum::<f32>() / values.len() as f32).sqrt();
        Self { values, deviation }
    }

    fn correlation(&self, other: &Self) -> f32 {
        let product: f32 = self.values.iter().zip(&other.values).map(|(a, b)| a * b).sum();
        product / self.values.len() as f32 / (self.deviation * other.deviation).max(1e-3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of marks, `seed` saying which; with a bar above that all have.
    fn page(seed: u64, gain: f32) -> Detail {
        let mark = |x: usize, y: usize| {
            let word = (x as u64 / 3 + 31 * (y as u64 / 4) + 977 * seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
            y.is_multiple_of(4) || word.is_multiple_of(3)
        };
        let value = |at: usize| {
            let (x, y) = (at % SIDE, at / SIDE);
            if y < 24 { 40 + 9 * (x / 8) as u8 + 3 * y as u8 } else { 240 - 90 * u8::from(mark(x, y)) }
        };
        Detail((0..SIDE * SIDE).map(|at| (f32::from(value(at)) * gain) as u8).collect())
    }

    #[test]
    fn a_darker_copy_agrees_wherever_there_is_detail_and_another_page_does_not() {
        let copy = of_whole(&page(1, 1.0), &page(1, 0.6)).expect("detail");
        assert!(copy.share > 0.99 && copy.lowest_tenth > 0.97, "{copy:?}");
        let other = of_whole(&page(1, 1.0), &page(2, 1.0)).expect("detail");
        assert!(other.share < 0.7 && other.lowest_tenth < 0.8, "{other:?}");
        assert_eq!(of_whole(&Detail(vec![9; SIDE * SIDE]), &Detail(vec![70; SIDE * SIDE])), None);
    }

    #[test]
    fn a_part_agrees_under_the_map_that_cut_it_out() {
        let whole = page(3, 1.0);
        // The lower right quarter, enlarged twofold.
        let part = |at: usize| whole.sample(31.75 + (at % SIDE) as f32 / 2.0, 31.75 + (at / SIDE) as f32 / 2.0) as u8;
        let part = Detail((0..SIDE * SIDE).map(part).collect());
        let features = LocalFeatures { width: 64.0, height: 64.0, ..LocalFeatures::default() };
        let map = Affine([2.0, 0.0, -63.5, 0.0, 2.0, -63.5]);
        for found in [
            under_map((&whole, &features), (&part, &features), &map),
            under_map((&part, &features), (&whole, &features), &map.inverse()),
        ] {
            assert!(found.expect("detail").share > 0.95, "{found:?}");
        }
        let elsewhere = Affine([2.0, 0.0, -50.0, 0.0, 2.0, -30.0]);
        let wrong = under_map((&whole, &features), (&part, &features), &elsewhere).expect("detail");
        assert!(wrong.share < 0.5, "{wrong:?}");
    }
}
