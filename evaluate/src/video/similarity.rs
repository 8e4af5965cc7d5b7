//! How well a mask is found: region similarity J and contour accuracy F of DAVIS (Perazzi et al. 2016;
//! davischallenge/davis2017-evaluation metrics.py).

/// Share of the image's diagonal that a contour may be off.
const BOUND: f64 = 0.008;

/// Intersection over union; 1 where neither has a pixel.
pub(super) fn region(truth: &[bool], found: &[bool]) -> f64 {
    let pairs = || truth.iter().zip(found);
    let both = pairs().filter(|(truth, found)| **truth && **found).count();
    let either = pairs().filter(|(truth, found)| **truth || **found).count();
    if either == 0 { 1.0 } else { both as f64 / either as f64 }
}

/// The F measure of the contours' pixels that lie near the other contour: within a disc of 0.008 of the diagonal, rounded up.
pub(super) fn contour(truth: &[bool], found: &[bool], width: usize) -> f64 {
    let height = truth.len() / width;
    let reach = (BOUND * ((width * width + height * height) as f64).sqrt()).ceil() as usize;
    let (truth, found) = (boundary(truth, width), boundary(found, width));
    let count = |pixels: &[bool]| pixels.iter().filter(|pixel| **pixel).count();
    let (of_truth, of_found) = (count(&truth), count(&found));
    let near = |pixels: &[bool], other: &[bool]| {
        let grown = dilated(other, width, reach);
        pixels.iter().zip(&grown).filter(|(pixel, near)| **pixel && **near).count() as f64
    };
    let (precision, recall) = match (of_found, of_truth) {
        (0, 0) => (1.0, 1.0),
        (0, _) => (1.0, 0.0),
        (_, 0) => (0.0, 1.0),
        _ => (near(&found, &truth) / of_found as f64, near(&truth, &found) / of_truth as f64),
    };
    if precision + recall == 0.0 { 0.0 } else { 2.0 * precision * recall / (precision + recall) }
}

/// The pixels that differ from the one to the right, below, or to the right and below; in the last column and row, where those are
/// not, from the one that is.
fn boundary(mask: &[bool], width: usize) -> Vec<bool> {
    let height = mask.len() / width;
    let differs = |pixel: usize| {
        let (right, below) = (pixel % width + 1 < width, pixel / width + 1 < height);
        let unlike = |other: usize| mask[pixel] != mask[other];
        match (right, below) {
            (true, true) => unlike(pixel + 1) || unlike(pixel + width) || unlike(pixel + width + 1),
            (true, false) => unlike(pixel + 1),
            (false, true) => unlike(pixel + width),
            (false, false) => false,
        }
    };
    (0..mask.len()).map(differs).collect()
}

/// The pixels within a disc around any of these.
fn dilated(pixels: &[bool], width: usize, reach: usize) -> Vec<bool> {
    let (width, height, reach) = (width as isize, (pixels.len() / width) as isize, reach as isize);
    let mut grown = vec![false; pixels.len()];
    for pixel in (0..pixels.len() as isize).filter(|pixel| pixels[*pixel as usize]) {
        for down in -reach..=reach {
            let across = ((reach * reach - down * down) as f64).sqrt() as isize;
            let (x, y) = (pixel % width, pixel / width + down);
            if (0..height).contains(&y) {
                let (from, to) = ((x - across).max(0), (x + across).min(width - 1));
                grown[(y * width + from) as usize..=(y * width + to) as usize].fill(true);
            }
        }
    }
    grown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seeing::golden::{golden, numbers};

    #[test]
    fn figures_are_those_of_daviss_evaluation() {
        let (height, width) = (60, 90);
        for case in golden()["similarity"].as_array().expect("a list") {
            let disc = |name: &str| -> Vec<bool> {
                let [x, y, radius] = numbers(&case[name])[..] else { panic!("a disc") };
                let inside = |pixel: usize| {
                    let (dx, dy) = ((pixel % width) as f64 - x, (pixel / width) as f64 - y);
                    radius >= 0.0 && dx * dx + dy * dy <= radius * radius
                };
                (0..height * width).map(inside).collect()
            };
            let (truth, found) = (disc("truth"), disc("found"));
            for (name, value) in [("j", region(&truth, &found)), ("f", contour(&truth, &found, width))] {
                let expected = case[name].as_f64().expect("a number");
                assert!((value - expected).abs() < 1e-12, "{}, {name}: {value} against {expected}", case["name"]);
            }
        }
    }
}
