//! Rotation and perspective, sampled as Pillow samples (`Image.transform`, BILINEAR): the source of a pixel's middle is found, what
//! lies outside the image is the fill, and the mean of the four pixels around is cut to an integer.

use image::{Rgb, RgbImage};
use nalgebra::{SMatrix, SVector};

/// The image turned about its middle by so many degrees, counter-clockwise, at its own size (`Image.rotate`).
pub(super) fn rotated(image: &RgbImage, degrees: f64, fill: Rgb<u8>) -> RgbImage {
    // Pillow rounds to 15 digits, so that quarter turns are exact.
    let round = |value: f64| (value * 1e15).round() / 1e15;
    let (sin, cos) = (-degrees.rem_euclid(360.0).to_radians()).sin_cos();
    let (sin, cos) = (round(sin), round(cos));
    let (x, y) = (f64::from(image.width()) / 2.0, f64::from(image.height()) / 2.0);
    let (across, down) = (-cos * x - sin * y + x, sin * x - cos * y + y);
    sampled(image, fill, |x, y| (cos * x + sin * y + across, -sin * x + cos * y + down))
}

/// The image with its corners (upper left, upper right, lower right, lower left; the middles of the corner pixels are meant) moved
/// to other places (torchvision's `perspective`).
pub(super) fn perspective(image: &RgbImage, corners: [(f64, f64); 4], fill: Rgb<u8>) -> RgbImage {
    let (right, bottom) = (f64::from(image.width()) - 1.0, f64::from(image.height()) - 1.0);
    let starts = [(0.0, 0.0), (right, 0.0), (right, bottom), (0.0, bottom)];
    coefficients(starts, corners).map_or_else(|| image.clone(), |coefficients| warped(image, coefficients, fill))
}

/// Each pixel from where a projective map takes it.
fn warped(image: &RgbImage, [a, b, c, d, e, f, g, h]: [f64; 8], fill: Rgb<u8>) -> RgbImage {
    sampled(image, fill, |x, y| {
        let depth = g * x + h * y + 1.0;
        ((a * x + b * y + c) / depth, (d * x + e * y + f) / depth)
    })
}

/// The map that takes each end to its start; none where three ends lie on a line.
fn coefficients(starts: [(f64, f64); 4], ends: [(f64, f64); 4]) -> Option<[f64; 8]> {
    let mut left = SMatrix::<f64, 8, 8>::zeros();
    let mut right = SVector::<f64, 8>::zeros();
    for (index, ((sx, sy), (ex, ey))) in starts.into_iter().zip(ends).enumerate() {
        left.row_mut(2 * index).copy_from_slice(&[ex, ey, 1.0, 0.0, 0.0, 0.0, -sx * ex, -sx * ey]);
        left.row_mut(2 * index + 1).copy_from_slice(&[0.0, 0.0, 0.0, ex, ey, 1.0, -sy * ex, -sy * ey]);
        (right[2 * index], right[2 * index + 1]) = (sx, sy);
    }
    left.lu().solve(&right).map(Into::into)
}

/// Each pixel from where `source` says that its middle comes from.
fn sampled(image: &RgbImage, fill: Rgb<u8>, source: impl Fn(f64, f64) -> (f64, f64)) -> RgbImage {
    let (width, height) = (f64::from(image.width()), f64::from(image.height()));
    RgbImage::from_fn(image.width(), image.height(), |x, y| {
        let (x, y) = source(f64::from(x) + 0.5, f64::from(y) + 0.5);
        if (0.0..width).contains(&x) && (0.0..height).contains(&y) { bilinear(image, x - 0.5, y - 0.5) } else { fill }
    })
}

/// The mean around a place, weighed by nearness; beyond the edge its value goes on.
fn bilinear(image: &RgbImage, x: f64, y: f64) -> Rgb<u8> {
    let at = |x: f64, y: f64| {
        let inside = |at: f64, len: u32| (at.max(0.0) as u32).min(len - 1);
        image.get_pixel(inside(x, image.width()), inside(y, image.height()))
    };
    let (left, above) = (x.floor(), y.floor());
    let corners = [at(left, above), at(left + 1.0, above), at(left, above + 1.0), at(left + 1.0, above + 1.0)];
    let mix = |from: f64, to: f64, share: f64| from + (to - from) * share;
    Rgb(std::array::from_fn(|channel| {
        let [a, b, c, d] = corners.map(|pixel| f64::from(pixel.0[channel]));
        mix(mix(a, b, x - left), mix(c, d, x - left), y - above) as u8
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seeing::golden::{agree, golden, numbers, picture};

    const FILL: Rgb<u8> = Rgb([124, 116, 104]);

    #[test]
    fn rotations_are_pillows_to_the_level() {
        let image = picture("drawn");
        for degrees in [5.0, 30.0, -45.0, 90.0] {
            let expected = picture(&format!("rotate{degrees}"));
            assert!(rotated(&image, degrees, FILL) == expected, "{degrees} degrees");
        }
        assert_eq!(rotated(&image, 0.0, FILL), image);
    }

    #[test]
    fn perspective_is_pillows_to_the_level_by_torchvisions_coefficients() {
        let (image, warps) = (picture("drawn"), golden()["warps"].clone());
        for name in ["mild", "strong"] {
            let corners = warps[name]["corners"].as_array().expect("four");
            let corners: [(f64, f64); 4] = std::array::from_fn(|i| {
                let [x, y] = numbers(&corners[i])[..] else { panic!("a place") };
                (x, y)
            });
            let starts = [(0.0, 0.0), (59.0, 0.0), (59.0, 43.0), (0.0, 43.0)];
            let expected = numbers(&warps[name]["coefficients"]);
            let found = coefficients(starts, corners).expect("a map");
            // torchvision solves for them in f32.
            agree("coefficients", &found, &expected, 2e-5);
            let expected = warped(&image, std::array::from_fn(|i| expected[i]), FILL);
            assert!(expected == picture(&format!("warp-{name}")), "{name}");
            // Along the outline a rounding decides between a pixel and the fill.
            let pairs = perspective(&image, corners, FILL);
            let off =
                pairs.pixels().zip(expected.pixels()).filter(|(a, b)| (0..3).any(|c| a.0[c].abs_diff(b.0[c]) > 1));
            assert!(off.count() < 8, "{name}");
        }
        let same = perspective(&image, [(0.0, 0.0), (59.0, 0.0), (59.0, 43.0), (0.0, 43.0)], FILL);
        let off = same.pixels().zip(image.pixels()).filter(|(a, b)| (0..3).any(|c| a.0[c].abs_diff(b.0[c]) > 1));
        assert!(off.count() < 8, "corners that stay");
        assert_eq!(perspective(&image, [(0.0, 0.0); 4], FILL), image, "no map");
    }
}
