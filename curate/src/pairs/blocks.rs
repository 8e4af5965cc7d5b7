//! Blocks of one image against those of another that is carried over it: how well each correlates at the best of a few shifts.
//!
//! A row of blocks is compared at a time, each block in a lane of a vector. So that the lanes' values lie side by side, rows of
//! values are kept by *phases*: first every fourth value (the distance of blocks), then those after them, and so on. Sums run in
//! each lane in the order of a block's values, so that they have the bits of one block after the other. Where all blocks of a row
//! agree unshifted, nothing else of it is carried over.

use super::Affine;
use crate::fingerprints::{Detail, bilinear};
use multiversion::multiversion;

const SIDE: usize = Detail::SIDE;
/// Values across and down a block, and from one to the next.
const BLOCK: usize = 8;
const STEP: usize = 4;
/// Blocks of a row, and lanes, of which the last means nothing.
const BLOCKS: usize = (SIDE - BLOCK) / STEP + 1;
const LANES: usize = BLOCKS + 1;
/// Shifts of half a value, either way.
const SHIFTS: usize = 2;
/// Levels by which the values of a block deviate at least where there is detail.
const DETAIL_LEVELS: f32 = 3.0;
/// A block that correlates so far is not shifted any more.
pub(super) const ENOUGH: f32 = 0.985;

/// The largest correlation of each block of `coarse` that `fine`, carried over it, shows and that has detail in either, row
/// after row; `back` carries values of `coarse` to those of `fine`.
pub(super) fn correlations_of_blocks(fine: &Detail, coarse: &Detail, back: &Affine) -> Vec<f32> {
    let fine: Vec<f32> = fine.0.iter().map(|value| f32::from(*value)).collect();
    let mut nearest_first: Vec<(usize, usize)> =
        (0..=2 * SHIFTS).flat_map(|y| (0..=2 * SHIFTS).map(move |x| (x, y))).collect();
    nearest_first.sort_by_key(|(x, y)| x.abs_diff(SHIFTS).pow(2) + y.abs_diff(SHIFTS).pow(2));
    let mut correlations = Vec::with_capacity(BLOCKS * BLOCKS);
    compare(&coarse.0, &mut Carried::new(&fine, back), &nearest_first[1..], &mut correlations);
    correlations
}

/// A value for each block of a row.
type Lanes = [f32; LANES];

/// A row of values by `PHASES` phases: of each all that it has, followed by the next; with room for lanes beyond the last.
#[derive(Clone)]
struct Row<const PHASES: usize, const ROOM: usize>([f32; ROOM]);

impl<const PHASES: usize, const ROOM: usize> Row<PHASES, ROOM> {
    /// Values of a phase.
    const EACH: usize = (ROOM - LANES) / PHASES;
    const ZEROS: Self = Self([0.0; ROOM]);

    /// In each lane the value that lies `offset` after the first of its block.
    #[inline(always)]
    fn lanes(&self, offset: usize) -> &Lanes {
        let first = offset % PHASES * Self::EACH + offset / PHASES;
        self.0[first..first + LANES].try_into().expect("a value for each lane")
    }

    /// The number of the value that lies at a place.
    #[inline(always)]
    fn number_at(place: usize) -> usize {
        place % Self::EACH * PHASES + place / Self::EACH
    }
}

/// A row of whole values, of which blocks are four apart; and of half values with [`SHIFTS`] more on either side, of which they
/// are eight apart.
type WholeRow = Row<STEP, { SIDE + LANES }>;
type HalfRow = Row<{ 2 * STEP }, { HALVES + LANES }>;
/// Half values of a row, rounded up to whole phases.
const HALVES: usize = (2 * SIDE + 2 * SHIFTS).next_multiple_of(2 * STEP);

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2+fma"))]
fn compare(coarse: &[u8], carried: &mut Carried<'_>, other_shifts: &[(usize, usize)], correlations: &mut Vec<f32>) {
    let mut rows = [const { WholeRow::ZEROS }; SIDE];
    for (row, values) in rows.iter_mut().zip(coarse.chunks_exact(SIDE)) {
        for place in 0..SIDE {
            row.0[place] = f32::from(values[WholeRow::number_at(place)]);
        }
    }
    for top in (0..=SIDE - BLOCK).step_by(STEP) {
        let is_shown = are_shown(carried.back, top);
        if !is_shown.contains(&true) {
            continue;
        }
        let block = Blocks::of(|x, y| rows[top + y].lanes(x));
        carried.carry_whole(top);
        let (mut largest, deviation) = block.correlations(|x, y| carried.whole[top + y].lanes(x));
        let has_detail = |lane: usize| block.deviation[lane].max(deviation[lane]) > DETAIL_LEVELS;
        let counts: [bool; BLOCKS] = std::array::from_fn(|lane| is_shown[lane] && has_detail(lane));
        for (dx, dy) in other_shifts {
            if (0..BLOCKS).all(|lane| !counts[lane] || largest[lane] >= ENOUGH) {
                break;
            }
            carried.carry_halves(top);
            let (shifted, _) = block.correlations(|x, y| carried.halves[2 * (top + y) + dy].lanes(2 * x + dx));
            for lane in 0..LANES {
                largest[lane] = if largest[lane] < ENOUGH { largest[lane].max(shifted[lane]) } else { largest[lane] };
            }
        }
        let counted = (0..BLOCKS).filter(|lane| counts[*lane]);
        correlations.extend(counted.map(|lane| largest[lane].max(-1.0)));
    }
}

/// Which blocks of a row a map carries into the image, all four corners.
#[inline(always)]
fn are_shown(back: &Affine, top: usize) -> [bool; LANES] {
    let inside = |v: f32| (-0.5..=SIDE as f32 - 0.5).contains(&v);
    let mut are_shown = [true; LANES];
    for (right, down) in [(0, 0), (0, BLOCK - 1), (BLOCK - 1, 0), (BLOCK - 1, BLOCK - 1)] {
        for (lane, is_shown) in are_shown.iter_mut().enumerate() {
            let (x, y) = back.apply((STEP * lane + right) as f32, (top + down) as f32);
            *is_shown &= inside(x) & inside(y);
        }
    }
    are_shown
}

/// The values of a row of blocks less their means, and their deviations.
struct Blocks {
    values: [Lanes; BLOCK * BLOCK],
    deviation: Lanes,
}

impl Blocks {
    /// `value` gives those that lie so far right and down in each block.
    #[inline(always)]
    fn of<'a>(value: impl Fn(usize, usize) -> &'a Lanes) -> Self {
        let means = means(&value);
        let (mut values, mut squares) = ([[0f32; LANES]; BLOCK * BLOCK], [0f32; LANES]);
        for (at, values) in values.iter_mut().enumerate() {
            let here = value(at % BLOCK, at / BLOCK);
            for lane in 0..LANES {
                values[lane] = here[lane] - means[lane];
                squares[lane] += values[lane] * values[lane];
            }
        }
        Self { values, deviation: squares.map(deviation) }
    }

    /// The correlations with another row of blocks, and their deviations.
    #[inline(always)]
    fn correlations<'a>(&self, other: impl Fn(usize, usize) -> &'a Lanes) -> (Lanes, Lanes) {
        let theirs = std::array::from_fn(|at| other(at % BLOCK, at / BLOCK));
        let (mut products, mut squares) = ([0f32; LANES], [0f32; LANES]);
        add_products(&self.values, &theirs, &mut products, &mut squares);
        let (mut correlations, mut deviations) = ([0f32; LANES], [0f32; LANES]);
        for lane in 0..LANES {
            deviations[lane] = deviation(squares[lane]);
            let spread = (self.deviation[lane] * deviations[lane]).max(1e-3);
            correlations[lane] = products[lane] / (BLOCK * BLOCK) as f32 / spread;
        }
        (correlations, deviations)
    }
}

/// Adds up the products of the values of a row of blocks with another's, less their means, and the squares of those. By itself, as
/// among what comes before and after it the compiler takes these vectors apart.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2+fma"))]
fn add_products(
    ours: &[Lanes; BLOCK * BLOCK],
    theirs: &[&Lanes; BLOCK * BLOCK],
    products: &mut Lanes,
    squares: &mut Lanes,
) {
    let means = means(&|x: usize, y: usize| theirs[BLOCK * y + x]);
    for (ours, theirs) in ours.iter().zip(theirs) {
        for lane in 0..LANES {
            let theirs = theirs[lane] - means[lane];
            squares[lane] += theirs * theirs;
            products[lane] += ours[lane] * theirs;
        }
    }
}

#[inline(always)]
fn means<'a>(value: &impl Fn(usize, usize) -> &'a Lanes) -> Lanes {
    let mut sums = [0f32; LANES];
    for at in 0..BLOCK * BLOCK {
        let here = value(at % BLOCK, at / BLOCK);
        for lane in 0..LANES {
            sums[lane] += here[lane];
        }
    }
    sums.map(|sum| sum / (BLOCK * BLOCK) as f32)
}

#[inline(always)]
fn deviation(squares: f32) -> f32 {
    (squares / (BLOCK * BLOCK) as f32).sqrt()
}

/// An image carried over another as far as was asked for: at its whole values, and at every half value of it and [`SHIFTS`]
/// halves around it.
struct Carried<'a> {
    fine: &'a [f32],
    back: &'a Affine,
    /// Where in a value the image is looked at, across and down; a value is their mean.
    inner: Vec<f32>,
    whole: Vec<WholeRow>,
    /// The first row that was not carried yet; rows are asked for from above.
    next_whole: usize,
    /// Empty until one is asked for.
    halves: Vec<HalfRow>,
    next_half: usize,
}

impl<'a> Carried<'a> {
    fn new(fine: &'a [f32], back: &'a Affine) -> Self {
        // So many of its values across lie in one of the other's.
        let across = (back.determinant().abs().sqrt() - 0.2).ceil().clamp(1.0, 5.0);
        let inner: Vec<f32> = (0..across as usize).map(|i| (i as f32 + 0.5) / across - 0.5).collect();
        let whole = vec![WholeRow::ZEROS; SIDE];
        Self { fine, back, inner, whole, next_whole: 0, halves: Vec::new(), next_half: 0 }
    }

    /// Carries the whole values of a row of blocks.
    #[inline(always)]
    fn carry_whole(&mut self, top: usize) {
        let columns: [f32; SIDE] = std::array::from_fn(|place| WholeRow::number_at(place) as f32);
        for row in self.next_whole.max(top)..top + BLOCK {
            let values = self.row(&columns, row as f32);
            self.whole[row].0[..SIDE].copy_from_slice(&values);
        }
        self.next_whole = top + BLOCK;
    }

    /// Carries the half values of a row of blocks and of all its shifts.
    #[inline(always)]
    fn carry_halves(&mut self, top: usize) {
        let end = 2 * (top + BLOCK) - 1 + 2 * SHIFTS;
        if self.next_half >= end {
            return;
        }
        if self.halves.is_empty() {
            self.halves = vec![HalfRow::ZEROS; 2 * SIDE + 2 * SHIFTS];
        }
        let place = |half: usize| (half as f32 - SHIFTS as f32) / 2.0;
        let columns: [f32; HALVES] = std::array::from_fn(|at| place(HalfRow::number_at(at)));
        for row in self.next_half.max(2 * top)..end {
            let values = self.row(&columns, place(row));
            self.halves[row].0[..HALVES].copy_from_slice(&values);
        }
        self.next_half = end;
    }

    /// The image at places of one row of the other.
    #[inline(always)]
    fn row<const N: usize>(&self, columns: &[f32; N], row: f32) -> [f32; N] {
        let last = (SIDE - 1) as f32;
        let mut sums = [0f32; N];
        for down in &self.inner {
            for across in &self.inner {
                let (mut x, mut y) = ([0f32; N], [0f32; N]);
                for i in 0..N {
                    (x[i], y[i]) = self.back.apply(columns[i] + across, row + down);
                }
                let sampled = bilinear(self.fine, SIDE, [&x, &y], (last, last));
                for i in 0..N {
                    sums[i] += sampled[i];
                }
            }
        }
        let count = (self.inner.len() * self.inner.len()) as f32;
        sums.map(|sum| sum / count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapidary_pipeline::random::{Purpose, Rng, keyed};

    /// A block's values less their mean, and their deviation, as it is written down.
    fn block_reference(value: impl Fn(usize, usize) -> f32) -> (Vec<f32>, f32) {
        let values: Vec<f32> = (0..BLOCK * BLOCK).map(|at| value(at % BLOCK, at / BLOCK)).collect();
        let count = values.len() as f32;
        let mean = values.iter().sum::<f32>() / count;
        let values: Vec<f32> = values.into_iter().map(|value| value - mean).collect();
        let deviation = (values.iter().map(|value| value * value).sum::<f32>() / count).sqrt();
        (values, deviation)
    }

    /// Block by block, shift by shift.
    fn correlations_reference(fine: &Detail, coarse: &Detail, back: &Affine) -> Vec<f32> {
        let across = (back.determinant().abs().sqrt() - 0.2).ceil().clamp(1.0, 5.0);
        let inner: Vec<f32> = (0..across as usize).map(|i| (i as f32 + 0.5) / across - 0.5).collect();
        let carried = |column: usize, row: usize| {
            let place = |v: usize| (v as f32 - SHIFTS as f32) / 2.0;
            let mut sum = 0.0;
            for dy in &inner {
                for dx in &inner {
                    let (x, y) = back.apply(place(column) + dx, place(row) + dy);
                    sum += fine.sample(x, y);
                }
            }
            sum / (across * across)
        };
        let shows = |x: usize, y: usize| {
            let (x, y) = back.apply(x as f32, y as f32);
            [x, y].iter().all(|v| (-0.5..=SIDE as f32 - 0.5).contains(v))
        };
        let mut nearest_first: Vec<(usize, usize)> = (0..25).map(|i| (i % 5, i / 5)).collect();
        nearest_first.sort_by_key(|(x, y)| x.abs_diff(SHIFTS).pow(2) + y.abs_diff(SHIFTS).pow(2));
        let mut correlations = Vec::new();
        for (top, left) in (0..BLOCKS * BLOCKS).map(|i| (STEP * (i / BLOCKS), STEP * (i % BLOCKS))) {
            let end = BLOCK - 1;
            if ![(0, 0), (end, 0), (0, end), (end, end)].into_iter().all(|(x, y)| shows(left + x, top + y)) {
                continue;
            }
            let (ours, deviation) = block_reference(|x, y| f32::from(coarse.0[(top + y) * SIDE + left + x]));
            let shifted = |x, y| block_reference(|i, j| carried(2 * (left + i) + x, 2 * (top + j) + y));
            if deviation.max(shifted(SHIFTS, SHIFTS).1) <= DETAIL_LEVELS {
                continue;
            }
            let mut largest = -1f32;
            for (x, y) in &nearest_first {
                let (theirs, of_theirs) = shifted(*x, *y);
                let product: f32 = ours.iter().zip(&theirs).map(|(a, b)| a * b).sum();
                largest = largest.max(product / (BLOCK * BLOCK) as f32 / (deviation * of_theirs).max(1e-3));
                if largest >= ENOUGH {
                    break;
                }
            }
            correlations.push(largest);
        }
        correlations
    }

    #[test]
    fn rows_of_blocks_have_the_bits_of_one_block_after_the_other() {
        let drawn = |seed: u64, noise: u32| {
            let mut rng = keyed(seed, Purpose::Scene, 0, 0);
            let wave = |at: usize| ((at % SIDE) as f32 * 0.31).sin() + ((at / SIDE) as f32 * 0.23 + seed as f32).cos();
            // The lower right is flat.
            let value = |at: usize, noise: u32| {
                if at % SIDE + at / SIDE > 90 { 90 } else { (90.0 + 40.0 * wave(at)) as u32 + noise }
            };
            Detail((0..SIDE * SIDE).map(|at| value(at, rng.next_u32() % noise) as u8).collect())
        };
        let (turn, part) = (0.2f32.sin_cos(), 0.4);
        let maps = [
            [1.0, 0.0, 0.0, 0.0, 1.0, 0.0],
            [1.0, 0.0, 3.0, 0.0, 1.0, -2.0],
            [turn.1, -turn.0, 8.3, turn.0, turn.1, -4.1],
            [part, 0.02, 12.0, 0.0, part, 20.0],
            [-1.9, 0.0, 80.0, 0.1, 2.3, -30.0],
            [0.0, 3.1, -20.0, 2.7, 0.0, -40.0],
        ];
        for (noise, other) in [(4, 1), (40, 1), (40, 2)] {
            let (fine, coarse) = (drawn(1, noise), drawn(other, noise));
            for map in maps.map(Affine) {
                let expected: Vec<u32> =
                    correlations_reference(&fine, &coarse, &map).into_iter().map(f32::to_bits).collect();
                let found: Vec<u32> =
                    correlations_of_blocks(&fine, &coarse, &map).into_iter().map(f32::to_bits).collect();
                assert_eq!(found, expected, "{map:?}, noise {noise}");
            }
            let unmoved = correlations_of_blocks(&fine, &coarse, &Affine(maps[0]));
            assert!((100..BLOCKS * BLOCKS).contains(&unmoved.len()), "{}", unmoved.len());
        }
    }
}
