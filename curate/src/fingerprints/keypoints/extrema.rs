//! Keypoints: extrema of the scale space, to a fraction of a pixel, each with a scale and an orientation (Lowe 2004).

use super::keypoint::{Found, Keypoint};
use super::orientation::orientations;
use super::scale_space::{BASE_SIGMA, LEVELS, Octave, Plane, SCALES, ScaleSpace};
use multiversion::multiversion;

/// The least difference of Gaussians at an extremum; luma goes from 0 to 1.
const CONTRAST_MIN: f32 = 0.006;
/// What is nearer to 0 than this is not looked at.
const FAINT: f32 = 0.8 * CONTRAST_MIN;
/// The largest ratio of principal curvatures: more is an edge.
const CURVATURE_RATIO_MAX: f32 = 10.0;
/// Pixels left out at the border of a level.
const BORDER_PX: usize = 4;

/// The strongest keypoints of a scale space, at most `most`, the strongest first.
///
/// The image is cut into [`CELLS`] x [`CELLS`] cells, and no cell yields more than its fourfold share, so that a part
/// of an image has keypoints of its own.
pub(crate) fn find(space: &ScaleSpace, most: usize) -> Vec<Found> {
    let mut extrema = Vec::new();
    for (number, octave) in space.octaves().iter().enumerate() {
        for level in 1..=SCALES {
            find_extrema(octave, number, level, &mut extrema);
        }
    }
    extrema.sort_by(|a, b| {
        let key = |f: &Found| (f.keypoint.x, f.keypoint.y, f.keypoint.sigma);
        b.strength.total_cmp(&a.strength).then(key(a).partial_cmp(&key(b)).unwrap_or(std::cmp::Ordering::Equal))
    });
    let size = &space.octaves()[0].gaussians[0];
    let spread = spread_out(&extrema, size.width as f32, size.height as f32, most);
    let mut found = Vec::with_capacity(most);
    for extremum in spread {
        let plane = &space.octaves()[extremum.octave].gaussians[extremum.level];
        for angle in orientations(plane, &extremum) {
            found.push(Found { keypoint: Keypoint { angle, ..extremum.keypoint }, ..extremum });
        }
        if found.len() >= most {
            break;
        }
    }
    found.truncate(most);
    found
}

/// Cells across and down.
const CELLS: usize = 4;

/// The strongest extrema, none of the cells yielding more than its fourfold share before the others had theirs.
fn spread_out(extrema: &[Found], width: f32, height: f32, most: usize) -> Vec<Found> {
    let share = (4 * most / (CELLS * CELLS)).max(1);
    let mut taken_from = [0usize; CELLS * CELLS];
    let (mut first, mut rest) = (Vec::new(), Vec::new());
    for extremum in extrema {
        let cell = |v: f32, side: f32| ((v / side * CELLS as f32) as usize).min(CELLS - 1);
        let cell = cell(extremum.keypoint.y, height) * CELLS + cell(extremum.keypoint.x, width);
        taken_from[cell] += 1;
        if taken_from[cell] <= share { first.push(*extremum) } else { rest.push(*extremum) }
    }
    first.extend(rest);
    first.truncate(most);
    first
}

fn find_extrema(octave: &Octave, number_of_octave: usize, level: usize, extrema: &mut Vec<Found>) {
    let planes: [&Plane; 3] = std::array::from_fn(|i| &octave.differences[level - 1 + i]);
    let (width, height) = (planes[1].width, planes[1].height);
    if width <= 2 * BORDER_PX || height <= 2 * BORDER_PX {
        return;
    }
    // In whole words, as most of them have no mark.
    let mut marks = vec![0u8; width.next_multiple_of(WORD)];
    let inside = BORDER_PX..width - BORDER_PX;
    for y in BORDER_PX..height - BORDER_PX {
        let [lower, own, upper] = planes;
        let around = [own.row(y - 1), own.row(y + 1), lower.row(y), upper.row(y)];
        mark_peaks(own.row(y), around, &mut marks);
        for (number, word) in marks.as_chunks::<WORD>().0.iter().enumerate() {
            if *word == [0; WORD] {
                continue;
            }
            for (x, mark) in (WORD * number..).zip(word) {
                let at = y * width + x;
                if *mark != 0
                    && inside.contains(&x)
                    && is_extremum(planes, at, width, planes[1].values[at])
                    && let Some(found) = refine(octave, number_of_octave, level, x, y)
                {
                    extrema.push(found);
                }
            }
        }
    }
}

/// Marks that are looked at at a time.
const WORD: usize = 8;

/// Marks the values of a row that are far enough from 0 and no nearer to it than their neighbours in the row and in four rows
/// around: those above and below, and the same row of the levels above and below. Few are left to be looked at singly.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2+fma"))]
fn mark_peaks(row: &[f32], around: [&[f32]; 4], marks: &mut [u8]) {
    let width = row.len();
    let ([a, b, c, d], marks) = (around.map(|row| &row[..width]), &mut marks[..width]);
    for x in 1..width - 1 {
        let (value, before, after) = (row[x], row[x - 1], row[x + 1]);
        let is_most = (value >= before) & (value >= after) & (value >= a[x]) & (value >= b[x]);
        let is_least = (value <= before) & (value <= after) & (value <= a[x]) & (value <= b[x]);
        let is_most = is_most & (value >= c[x]) & (value >= d[x]) & (value >= FAINT);
        let is_least = is_least & (value <= c[x]) & (value <= d[x]) & (value <= -FAINT);
        marks[x] = u8::from(is_most | is_least);
    }
}

/// Whether a value is larger (or, when negative, smaller) than its 26 neighbours.
fn is_extremum(planes: [&Plane; 3], at: usize, width: usize, value: f32) -> bool {
    let sign = value.signum();
    let value = value * sign;
    // Its own level first: most places fail there.
    for plane in [planes[1], planes[0], planes[2]] {
        for row in [at - width, at, at + width] {
            let neighbours = &plane.values[row - 1..=row + 1];
            let larger = neighbours.iter().any(|n| n * sign > value);
            if larger {
                return false;
            }
        }
    }
    true
}

/// Fits a parabola through an extremum's neighbours; none when it is faint, an edge, or lies elsewhere.
fn refine(octave: &Octave, number: usize, level: usize, x: usize, y: usize) -> Option<Found> {
    let (mut x, mut y, mut level) = (x, y, level);
    let (width, height) = (octave.differences[0].width, octave.differences[0].height);
    for _ in 0..4 {
        let d = |l: isize, dy: isize, dx: isize| {
            let plane = &octave.differences[(level as isize + l) as usize];
            plane.values[((y as isize + dy) * width as isize + x as isize + dx) as usize]
        };
        let centre = d(0, 0, 0);
        let gradient =
            [(d(0, 0, 1) - d(0, 0, -1)) / 2.0, (d(0, 1, 0) - d(0, -1, 0)) / 2.0, (d(1, 0, 0) - d(-1, 0, 0)) / 2.0];
        let xx = d(0, 0, 1) + d(0, 0, -1) - 2.0 * centre;
        let yy = d(0, 1, 0) + d(0, -1, 0) - 2.0 * centre;
        let ss = d(1, 0, 0) + d(-1, 0, 0) - 2.0 * centre;
        let xy = (d(0, 1, 1) - d(0, 1, -1) - d(0, -1, 1) + d(0, -1, -1)) / 4.0;
        let xs = (d(1, 0, 1) - d(1, 0, -1) - d(-1, 0, 1) + d(-1, 0, -1)) / 4.0;
        let ys = (d(1, 1, 0) - d(1, -1, 0) - d(-1, 1, 0) + d(-1, -1, 0)) / 4.0;
        let offset = solve([[xx, xy, xs], [xy, yy, ys], [xs, ys, ss]], gradient.map(|g| -g))?;
        if offset.iter().all(|o| o.abs() <= 0.5) {
            let contrast = centre + 0.5 * (0..3).map(|i| gradient[i] * offset[i]).sum::<f32>();
            let (trace, determinant) = (xx + yy, xx * yy - xy * xy);
            let ratio = CURVATURE_RATIO_MAX;
            if contrast.abs() < CONTRAST_MIN
                || determinant <= 0.0
                || trace * trace * ratio >= (ratio + 1.0).powi(2) * determinant
            {
                return None;
            }
            let grow = (1 << number) as f32;
            let sigma = BASE_SIGMA * 2f32.powf((level as f32 + offset[2]) / SCALES as f32) * grow;
            let keypoint =
                Keypoint { x: (x as f32 + offset[0]) * grow, y: (y as f32 + offset[1]) * grow, sigma, angle: 0.0 };
            return Some(Found { keypoint, octave: number, level, strength: contrast.abs() });
        }
        let step = |o: f32| {
            if o > 0.5 {
                1
            } else if o < -0.5 {
                -1
            } else {
                0isize
            }
        };
        let moved = |v: usize, o: f32| (v as isize + step(o)) as usize;
        (x, y, level) = (moved(x, offset[0]), moved(y, offset[1]), moved(level, offset[2]));
        let inside = |v: usize, side: usize| v >= BORDER_PX && v + BORDER_PX < side;
        if !inside(x, width) || !inside(y, height) || !(1..=LEVELS - 3).contains(&level) {
            return None;
        }
    }
    None
}

/// Solves three equations by Cramer's rule; none when they are not independent.
fn solve(m: [[f32; 3]; 3], b: [f32; 3]) -> Option<[f32; 3]> {
    let determinant = |m: &[[f32; 3]; 3]| {
        m[0][0] * (m[1][1] * m[2][2] - m[1][2] * m[2][1]) - m[0][1] * (m[1][0] * m[2][2] - m[1][2] * m[2][0])
            + m[0][2] * (m[1][0] * m[2][1] - m[1][1] * m[2][0])
    };
    let whole = determinant(&m);
    if whole.abs() < 1e-12 {
        return None;
    }
    Some(std::array::from_fn(|column| {
        let mut replaced = m;
        (0..3).for_each(|row| replaced[row][column] = b[row]);
        determinant(&replaced) / whole
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(width: usize, height: usize, x: f32, y: f32, sigma: f32) -> Plane {
        let mut plane = Plane::default();
        plane.resize(width, height);
        for (i, value) in plane.values.iter_mut().enumerate() {
            let squared = ((i % width) as f32 - x).powi(2) + ((i / width) as f32 - y).powi(2);
            *value = 0.2 + 0.6 * (-squared / (2.0 * sigma * sigma)).exp();
        }
        plane
    }

    #[test]
    fn a_blob_is_found_at_its_place_and_scale() {
        let mut space = ScaleSpace::default();
        for (x, y, sigma) in [(40.3, 30.6, 4.0), (33.0, 41.5, 6.0)] {
            space.build(&blob(90, 80, x, y, sigma));
            let found = find(&space, 10)[0].keypoint;
            assert!((found.x - x).abs() < 0.3 && (found.y - y).abs() < 0.3, "{found:?}");
            // The difference of Gaussians is largest near the blob's own sigma.
            assert!((found.sigma / sigma).log2().abs() < 0.4, "{found:?} for {sigma}");
        }
    }
}
