//! Where the details of two images agree, block by block, once one is laid over the other.
//!
//! Both are looked at in squares of 8 values of the coarser one ([`blocks`](super::blocks)). In each the other is shifted by half a value at a time,
//! up to one, and the largest normalised cross-correlation counts: brightness, contrast and light that changes over the image say
//! nothing, and a map need not be exact. Blocks that are flat in both say nothing either.

use super::Affine;
use super::blocks::{ENOUGH, correlations_of_blocks};
use crate::fingerprints::{Detail, LocalFeatures};
use multiversion::multiversion;

const SIDE: usize = Detail::SIDE;
/// Blocks agree from this correlation on.
const CORRELATION_MIN: f32 = 0.9;
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
    let moved = |(x, y): (isize, isize)| Affine([1.0, 0.0, x as f32, 0.0, 1.0, y as f32]);
    let padded = padded(a);
    if correlations_along(&padded, &b.0, 0)[WHOLE_SHIFT as usize] >= ENOUGH {
        return agreement(a, b, &unmoved);
    }
    let along = |y: isize| (-WHOLE_SHIFT..).zip(correlations_along(&padded, &b.0, y)).map(move |(x, c)| (c, (x, y)));
    let best = (-WHOLE_SHIFT..=WHOLE_SHIFT).flat_map(along).max_by(|x, y| {
        // Of equals, the smallest shift.
        let size = |(x, y): (isize, isize)| x.abs() + y.abs();
        x.0.total_cmp(&y.0).then(size(y.1).cmp(&size(x.1)))
    });
    agreement(a, b, &best.map_or(unmoved, |(_, shift)| moved(shift)))
}

/// First one map, then another.
fn after(second: &Affine, first: &Affine) -> Affine {
    let ((p, q), f) = (second.apply(first.0[2], first.0[5]), &first.0);
    let m = &second.0;
    let linear = |row: usize, x: f32, y: f32| m[3 * row] * x + m[3 * row + 1] * y;
    Affine([linear(0, f[0], f[3]), linear(0, f[1], f[4]), p, linear(1, f[0], f[3]), linear(1, f[1], f[4]), q])
}

/// Shifts of whole images along a row, and lanes for them.
const SHIFTS_ALONG: usize = 2 * WHOLE_SHIFT as usize + 1;
const LANES: usize = 16;
type Lanes = [f32; LANES];

/// An image's values, in each row zeros before and after them.
fn padded(detail: &Detail) -> [[f32; SIDE + LANES]; SIDE] {
    let mut padded = [[0f32; SIDE + LANES]; SIDE];
    for (row, values) in padded.iter_mut().zip(detail.0.chunks_exact(SIDE)) {
        row[WHOLE_SHIFT as usize..].iter_mut().zip(values).for_each(|(to, value)| *to = f32::from(*value));
    }
    padded
}

/// Pearson's correlation of every other value of `b` with `a` shifted `dy` down and, each in a lane, so far along. Sums run in
/// each lane in the order of the values, so that they have the bits of one shift after the other.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2+fma"))]
fn correlations_along(a: &[[f32; SIDE + LANES]; SIDE], b: &[u8], dy: isize) -> [f32; SHIFTS_ALONG] {
    // By column, 1 in the lanes whose shift leaves it inside: of what lies outside, nothing is added.
    let is_inside =
        |column: usize, lane: usize| (WHOLE_SHIFT as usize..SIDE + WHOLE_SHIFT as usize).contains(&(column + lane));
    let inside: [Lanes; SIDE] =
        std::array::from_fn(|column| std::array::from_fn(|lane| f32::from(u8::from(is_inside(column, lane)))));
    let [mut n, mut x, mut y, mut xx, mut yy, mut xy] = [[0f32; LANES]; 6];
    for row in (0..SIDE).step_by(2) {
        let Some(of_a) = row.checked_add_signed(dy).and_then(|row| a.get(row)) else { continue };
        for column in (0..SIDE).step_by(2) {
            let p: &Lanes = of_a[column..column + LANES].try_into().expect("a value for each lane");
            let (of_b, inside) = (f32::from(b[row * SIDE + column]), &inside[column]);
            for lane in 0..LANES {
                let (p, q) = (p[lane] * inside[lane], of_b * inside[lane]);
                n[lane] += inside[lane];
                x[lane] += p;
                y[lane] += q;
                xx[lane] += p * p;
                yy[lane] += q * q;
                xy[lane] += p * q;
            }
        }
    }
    std::array::from_fn(|lane| {
        let (n, x, y, xx, yy, xy) = (n[lane], x[lane], y[lane], xx[lane], yy[lane], xy[lane]);
        (xy - x * y / n) / ((xx - x * x / n) * (yy - y * y / n)).max(1.0).sqrt()
    })
}

/// Compares `fine`, carried over `coarse`, with it; `back` carries values of `coarse` to those of `fine`.
fn agreement(fine: &Detail, coarse: &Detail, back: &Affine) -> Option<DetailAgreement> {
    let mut correlations = correlations_of_blocks(fine, coarse, back);
    if correlations.len() < BLOCKS_MIN {
        return None;
    }
    let agreeing = correlations.iter().filter(|correlation| **correlation >= CORRELATION_MIN).count();
    let share = agreeing as f32 / correlations.len() as f32;
    let tenth = correlations.len() / 10;
    let blocks = correlations.len();
    Some(DetailAgreement { blocks, share, lowest_tenth: *correlations.select_nth_unstable_by(tenth, f32::total_cmp).1 })
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

    /// One shift, as it is written down.
    fn correlation_reference(a: &Detail, b: &Detail, (dx, dy): (isize, isize)) -> f32 {
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

    #[test]
    fn shifts_side_by_side_have_the_bits_of_one_after_the_other() {
        let (a, b) = (page(1, 1.0), page(2, 0.9));
        for dy in -WHOLE_SHIFT..=WHOLE_SHIFT {
            let expected: Vec<u32> =
                (-WHOLE_SHIFT..=WHOLE_SHIFT).map(|dx| correlation_reference(&a, &b, (dx, dy)).to_bits()).collect();
            assert_eq!(correlations_along(&padded(&a), &b.0, dy).map(f32::to_bits).to_vec(), expected, "{dy}");
        }
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
