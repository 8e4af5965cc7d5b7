//! Which pixels a polygon fills, to the pixel as pycocotools has it (cocodataset/cocoapi common/maskApi.c, rleFrPoly).
//!
//! Its rule: the outline is drawn on a grid five times as fine, edge by edge. Where it steps from one fine column to the next, and
//! the step lies in the middle of a column of pixels, the mask changes there: at the pixel whose upper edge is nearest below. So
//! each column of pixels has an even number of changes, and what lies between the first and the second, the third and the fourth
//! and so on is filled. A fine place is rounded by adding a half and cutting towards zero, left and above of the image as well.

use super::Mask;

/// Fine columns and rows a pixel.
const FINE: f64 = 5.0;
/// Coordinates beyond this, in pixels, are no image's.
const COORDINATE_MAX_PX: f64 = 1e5;

/// The mask of a polygon `x, y, x, y, ...` in an image of this width and height; none where it has fewer than three corners, an odd
/// number of values, or a value that is no place.
pub(super) fn of_polygon(values: &[f64], (width_px, height_px): (u32, u32)) -> Option<Mask> {
    let is_place = |value: &f64| value.abs() <= COORDINATE_MAX_PX;
    if values.len() < 6 || values.len() % 2 == 1 || !values.iter().all(is_place) {
        return None;
    }
    let corner = |pair: &[f64]| [pair[0], pair[1]].map(|value| (FINE * value + 0.5) as i32);
    let corners: Vec<[i32; 2]> = values.chunks_exact(2).map(corner).collect();
    let mut edges = Vec::new();
    let mut previous: Option<[i32; 2]> = None;
    for (index, from) in corners.iter().enumerate() {
        let to = corners[(index + 1) % corners.len()];
        walk(*from, to, |place| {
            let step = previous.replace(place).filter(|before| before[0] != place[0]);
            edges.extend(step.and_then(|before| change(before, place, (width_px, height_px))));
        });
    }
    Some(Mask::of_edges((width_px, height_px), edges))
}

/// Each fine place from one corner to another, both included: one for each step along the longer axis.
fn walk(from: [i32; 2], to: [i32; 2], mut visit: impl FnMut([i32; 2])) {
    let across = (to[0] - from[0]).abs() >= (to[1] - from[1]).abs();
    let (along, aside) = if across { (0, 1) } else { (1, 0) };
    // The line is drawn from its lower end, whichever way it is walked, so that both ways give the same places.
    let is_backwards = from[along] > to[along];
    let (low, high) = if is_backwards { (to, from) } else { (from, to) };
    let steps = high[along] - low[along];
    let slope = f64::from(high[aside] - low[aside]) / f64::from(steps);
    for step in 0..=steps {
        let step = if is_backwards { steps - step } else { step };
        let mut place = low;
        place[along] += step;
        if steps > 0 {
            place[aside] = (f64::from(low[aside]) + slope * f64::from(step) + 0.5) as i32;
        }
        visit(place);
    }
}

/// The place in the mask, column by column, that a step between two fine columns changes it at, if it does.
fn change(before: [i32; 2], after: [i32; 2], (width_px, height_px): (u32, u32)) -> Option<u32> {
    let left = if after[0] < before[0] { after[0] } else { after[0] - 1 };
    let x = (f64::from(left) + 0.5) / FINE - 0.5;
    if x.floor() != x || x < 0.0 || x > f64::from(width_px) - 1.0 {
        return None;
    }
    let y = (f64::from(before[1].min(after[1])) + 0.5) / FINE - 0.5;
    let y = y.clamp(0.0, f64::from(height_px)).ceil();
    Some(x as u32 * height_px + y as u32)
}
