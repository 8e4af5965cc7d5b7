//! Whether two images look alike where a map lays one over the other.
//!
//! Keypoints can agree by a texture, a sign or a letter that two images share. What they show elsewhere separates
//! copies from such pairs: the thumbnail of `a` is carried over that of `b`, brightness and contrast are fitted to what
//! most of the overlap says, and the share of the overlap that then agrees is counted. Text and stickers cost a copy
//! what they cover.

use super::Affine;
use crate::fingerprints::{LocalFeatures, Thumbnail};
use multiversion::multiversion;

/// What two thumbnails say of a map.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Overlap {
    /// The part of `b` that `a` covers, 0 to 1.
    pub(crate) covered: f32,
    /// The part of `a` that `b` covers, 0 to 1.
    pub(crate) covered_back: f32,
    /// The part of the overlap that agrees, 0 to 1.
    pub(crate) agreement: f32,
    /// Pearson's correlation over the part that agrees.
    pub(crate) correlation: f32,
}

impl Overlap {
    /// 0 to 1: agreement times correlation.
    pub(crate) fn likeness(&self) -> f32 {
        self.agreement * self.correlation.max(0.0)
    }
}

/// Pixels of the overlap below which nothing can be said.
const MIN_PIXELS: usize = 24;
/// From this likeness on no other start is tried.
const SURE: f32 = 0.6;
/// Fields across and down that the overlap is cut into for other starts.
const FIELDS: usize = 3;
/// Rounds of fitting brightness and contrast to the pixels that agree.
const ROUNDS: usize = 6;
/// A pixel agrees within this many grey levels, or within this share of the spread of `b`.
const LEVELS: f32 = 10.0;
const SPREAD_SHARE: f32 = 0.5;

/// Lays thumbnail `a` over `b` by a map of working pixels.
pub(crate) fn overlap(
    a: (&Thumbnail, &LocalFeatures),
    b: (&Thumbnail, &LocalFeatures),
    map: &Affine,
) -> Option<Overlap> {
    let back = map.inverse();
    let side = Thumbnail::SIDE as f32;
    let mut pixels = Pixels::default();
    let mut places: Vec<(usize, usize)> = Vec::with_capacity(Thumbnail::SIDE * Thumbnail::SIDE);
    for (at, value) in b.0.0.iter().enumerate() {
        let (column, row) = (at % Thumbnail::SIDE, at / Thumbnail::SIDE);
        let working = |i: usize, length: f32| (i as f32 + 0.5) / side * length - 0.5;
        let (x, y) = back.apply(working(column, b.1.width), working(row, b.1.height));
        let thumb = |v: f32, length: f32| (v + 0.5) / length * side - 0.5;
        if let Some(of_a) = a.0.sample(thumb(x, a.1.width), thumb(y, a.1.height)) {
            pixels.a.push(of_a);
            pixels.b.push(f32::from(*value));
            places.push((column, row));
        }
    }
    let count = places.len();
    if count < MIN_PIXELS {
        return None;
    }
    let covered = count as f32 / (side * side);
    let areas = (b.1.width * b.1.height) / (a.1.width * a.1.height).max(1.0);
    let covered_back = (covered * areas / map.determinant().abs().max(1e-6)).min(1.0);
    let overlaps = Overlap { covered, covered_back, agreement: 0.0, correlation: 0.0 };
    let tolerance = (SPREAD_SHARE * moments(&pixels, &vec![true; count]).2.sqrt()).max(LEVELS);
    let from_all = agreeing_from(&pixels, vec![true; count], tolerance, overlaps);
    if from_all.likeness() >= SURE {
        return Some(from_all);
    }
    // What most pixels say may be said by a panel that covers half of a copy. So parts are taken as a start as well.
    let from_parts = parts(&places).into_iter().map(|part| agreeing_from(&pixels, part, tolerance, overlaps));
    from_parts.chain([from_all]).max_by(|x, y| x.likeness().total_cmp(&y.likeness()))
}

/// The parts of an overlap that a fit starts from: those of its pixels that lie in one of 3 x 3 fields and are enough.
fn parts(places: &[(usize, usize)]) -> Vec<Vec<bool>> {
    let span = |of: fn(&(usize, usize)) -> usize| {
        let (least, most) = places.iter().map(of).fold((usize::MAX, 0), |(a, b), v| (a.min(v), b.max(v)));
        (least, (most + 1).saturating_sub(least).max(1))
    };
    let (columns, rows) = (span(|place| place.0), span(|place| place.1));
    let field = |v: usize, (first, count): (usize, usize)| (v - first) * FIELDS / count;
    let fields = (0..FIELDS * FIELDS).map(|number| {
        let is_in = |(column, row): &(usize, usize)| field(*row, rows) * FIELDS + field(*column, columns) == number;
        places.iter().map(is_in).collect::<Vec<bool>>()
    });
    fields.filter(|part| part.iter().filter(|is_in| **is_in).count() >= MIN_PIXELS).collect()
}

/// What two thumbnails show of the overlap.
#[derive(Debug, Default)]
struct Pixels {
    a: Vec<f32>,
    b: Vec<f32>,
}

/// Fits brightness and contrast to a part of the pixels, then to all that agree with that.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2+fma"))]
fn agreeing_from(pixels: &Pixels, part: Vec<bool>, tolerance: f32, overlap: Overlap) -> Overlap {
    let (mut agreeing, mut agreement) = (part, 0.0);
    let (mut residuals, mut next) = (vec![0f32; agreeing.len()], vec![false; agreeing.len()]);
    for _ in 0..ROUNDS {
        let (x, y, _, xx, xy) = moments(pixels, &agreeing);
        // A copy's contrast may be anything but reversed.
        let gain = if xx > 1.0 { (xy / xx).clamp(0.2, 5.0) } else { 1.0 };
        for (residual, (a, b)) in residuals.iter_mut().zip(pixels.a.iter().zip(&pixels.b)) {
            *residual = ((a - x) * gain - (b - y)).abs();
        }
        let count = mark_up_to(tolerance, &residuals, &mut next);
        agreement = count as f32 / residuals.len() as f32;
        // Where too little agrees to fit to, the better half is fitted to.
        if 2 * count < residuals.len() {
            mark_up_to(nth_smallest(&residuals, residuals.len() / 2), &residuals, &mut next);
        }
        // The same pixels would be fitted to again.
        if next == agreeing {
            break;
        }
        std::mem::swap(&mut agreeing, &mut next);
    }
    let (_, _, yy, xx, xy) = moments(pixels, &agreeing);
    let correlation = if xx > 1.0 && yy > 1.0 { xy / (xx * yy).sqrt() } else { 0.0 };
    Overlap { agreement, correlation, ..overlap }
}

/// Marks the values of at most `most` and counts them.
#[inline(always)]
fn mark_up_to(most: f32, values: &[f32], marks: &mut [bool]) -> usize {
    let mut count = 0u32;
    for (mark, value) in marks.iter_mut().zip(values) {
        *mark = *value <= most;
        count += u32::from(*mark);
    }
    count as usize
}

/// The value that `nth` others come before when all are sorted; none is negative. The bits of such values are in their order:
/// found by halving, which counts vectors at a time and does not jump about.
#[inline(always)]
fn nth_smallest(values: &[f32], nth: usize) -> f32 {
    let largest = values.iter().fold(0u32, |largest, value| largest.max(value.to_bits()));
    let (mut from, mut to) = (0u32, largest);
    while from < to {
        let middle = from + (to - from) / 2;
        let up_to = values.iter().map(|value| u32::from(value.to_bits() <= middle)).sum::<u32>();
        if up_to as usize > nth {
            to = middle;
        } else {
            from = middle + 1;
        }
    }
    f32::from_bits(from)
}

/// Means of both, variance of the second and the first, and their covariance, over the chosen pixels. Of the others, nothing is
/// added.
#[inline(always)]
fn moments(pixels: &Pixels, chosen: &[bool]) -> (f32, f32, f32, f32, f32) {
    let of = || {
        let chosen = pixels.a.iter().zip(&pixels.b).zip(chosen);
        chosen.map(|((a, b), chosen)| (*a, *b, *chosen))
    };
    let (mut count, mut x, mut y) = (0u32, 0f32, 0f32);
    for (a, b, chosen) in of() {
        count += u32::from(chosen);
        x += if chosen { a } else { 0.0 };
        y += if chosen { b } else { 0.0 };
    }
    let count = count.max(1) as f32;
    let (x, y) = (x / count, y / count);
    let (mut xx, mut yy, mut xy) = (0f32, 0f32, 0f32);
    for (a, b, chosen) in of() {
        let (a, b) = if chosen { (a - x, b - y) } else { (0.0, 0.0) };
        (xx, yy, xy) = (xx + a * a, yy + b * b, xy + a * b);
    }
    (x, y, yy / count, xx / count, xy / count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapidary_pipeline::random::{Purpose, Rng, keyed};

    /// All rounds, as they are written down.
    fn agreeing_from_reference(pixels: &[(f32, f32)], part: &[bool], tolerance: f32) -> (f32, f32) {
        let moments = |chosen: &[bool]| {
            let of = || pixels.iter().zip(chosen).filter(|(_, chosen)| **chosen).map(|(pixel, _)| pixel);
            let count = of().count().max(1) as f32;
            let (x, y) = (of().map(|p| p.0).sum::<f32>() / count, of().map(|p| p.1).sum::<f32>() / count);
            let (mut xx, mut yy, mut xy) = (0f32, 0f32, 0f32);
            for (a, b) in of() {
                (xx, yy, xy) = (xx + (a - x).powi(2), yy + (b - y).powi(2), xy + (a - x) * (b - y));
            }
            (x, y, yy / count, xx / count, xy / count)
        };
        let (mut agreeing, mut agreement) = (part.to_vec(), 0.0);
        for _ in 0..ROUNDS {
            let (x, y, _, xx, xy) = moments(&agreeing);
            let gain = if xx > 1.0 { (xy / xx).clamp(0.2, 5.0) } else { 1.0 };
            let residuals: Vec<f32> = pixels.iter().map(|(a, b)| ((a - x) * gain - (b - y)).abs()).collect();
            agreeing = residuals.iter().map(|residual| *residual <= tolerance).collect();
            let count = agreeing.iter().filter(|agrees| **agrees).count();
            agreement = count as f32 / pixels.len() as f32;
            if 2 * count < pixels.len() {
                let mut sorted = residuals.clone();
                sorted.sort_by(f32::total_cmp);
                agreeing = residuals.iter().map(|residual| *residual <= sorted[sorted.len() / 2]).collect();
            }
        }
        let (_, _, yy, xx, xy) = moments(&agreeing);
        (agreement, if xx > 1.0 && yy > 1.0 { xy / (xx * yy).sqrt() } else { 0.0 })
    }

    #[test]
    fn fits_have_the_bits_of_the_plain_ones() {
        let mut rng = keyed(4, Purpose::Scene, 0, 0);
        for spread in [1, 30, 120, 250] {
            for count in [24, 333, 1024] {
                let level = |i: usize| 60.0 + 50.0 * (i as f32 / 17.0).sin();
                let mut noise = |spread: u32| (rng.next_u32() % spread) as f32;
                let pairs: Vec<(f32, f32)> =
                    (0..count).map(|i| (level(i) + noise(3) / 3.0, 0.6 * level(i) + noise(spread))).collect();
                let (a, b) = pairs.iter().copied().unzip();
                let overlap = Overlap { covered: 1.0, covered_back: 1.0, agreement: 0.0, correlation: 0.0 };
                for part in 0..3 {
                    let part: Vec<bool> = (0..count).map(|i| part == 0 || i * 3 / count == part).collect();
                    let expected = agreeing_from_reference(&pairs, &part, 10.0);
                    let pixels = Pixels { a: Vec::clone(&a), b: Vec::clone(&b) };
                    let found = agreeing_from(&pixels, part, 10.0, overlap);
                    assert_eq!(
                        (found.agreement.to_bits(), found.correlation.to_bits()),
                        (expected.0.to_bits(), expected.1.to_bits())
                    );
                }
            }
        }
    }

    #[test]
    fn a_panel_over_half_of_a_copy_does_not_hide_that_the_rest_agrees() {
        let side = Thumbnail::SIDE;
        let value = |at: usize| (at * at * 7 + at * 31) as u8 / 2 + 40;
        let whole = Thumbnail((0..side * side).map(value).collect());
        let covered = |at: usize| if at % side < 17 { 128 } else { value(at) };
        let covered = Thumbnail((0..side * side).map(covered).collect());
        let features = LocalFeatures { width: 320.0, height: 240.0, ..LocalFeatures::default() };
        let same = Affine([1.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
        let found = overlap((&whole, &features), (&covered, &features), &same).expect("an overlap");
        assert!(found.agreement > 0.4 && found.correlation > 0.95, "{found:?}");
    }
}
