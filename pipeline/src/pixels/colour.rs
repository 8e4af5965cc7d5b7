//! Colour operations on 8-bit RGB, rounded as Pillow rounds them (ImageEnhance, `convert("L")`, `convert("HSV")`, ImageOps).

use crate::fingerprint::luma;
use image::RgbImage;

/// Pillow's blend of two 8-bit values: `from + factor * (to - from)`, clipped to 0..255 and cut to an integer.
fn blend(from: u8, to: u8, factor: f32) -> u8 {
    (f32::from(from) + factor * (f32::from(to) - f32::from(from))).clamp(0.0, 255.0) as u8
}

/// Scales towards black (`ImageEnhance.Brightness`).
pub(super) fn brightness(rgb: &mut RgbImage, factor: f32) {
    let table: [u8; 256] = std::array::from_fn(|v| blend(0, v as u8, factor));
    rgb.iter_mut().for_each(|v| *v = table[usize::from(*v)]);
}

/// Scales away from the rounded mean of luma (`ImageEnhance.Contrast`).
pub(super) fn contrast(rgb: &mut RgbImage, factor: f32) {
    let luma = luma(rgb);
    let sum: u64 = luma.iter().map(|v| u64::from(*v)).sum();
    let mean = (sum as f64 / luma.len() as f64 + 0.5) as u8;
    let table: [u8; 256] = std::array::from_fn(|v| blend(mean, v as u8, factor));
    rgb.iter_mut().for_each(|v| *v = table[usize::from(*v)]);
}

/// Scales away from each pixel's luma (`ImageEnhance.Color`).
pub(super) fn saturation(rgb: &mut RgbImage, factor: f32) {
    let luma = luma(rgb);
    for (pixel, gray) in rgb.chunks_exact_mut(3).zip(luma) {
        pixel.iter_mut().for_each(|v| *v = blend(gray, *v, factor));
    }
}

/// Turns the hue by `turns`, through Pillow's 8-bit HSV.
pub(super) fn hue(rgb: &mut RgbImage, turns: f32) {
    let shift = ((turns * 255.0) as i32) as u8;
    for pixel in rgb.chunks_exact_mut(3) {
        let [h, s, v] = hsv_from_rgb([pixel[0], pixel[1], pixel[2]]);
        pixel.copy_from_slice(&rgb_from_hsv([h.wrapping_add(shift), s, v]));
    }
}

/// Replaces each pixel by its luma.
pub(super) fn grayscale(rgb: &mut RgbImage) {
    let luma = luma(rgb);
    for (pixel, gray) in rgb.chunks_exact_mut(3).zip(luma) {
        pixel.fill(gray);
    }
}

/// Inverts values from 128 up.
pub(super) fn solarize(rgb: &mut RgbImage) {
    rgb.iter_mut().filter(|v| **v >= 128).for_each(|v| *v = 255 - *v);
}

fn hsv_from_rgb([r, g, b]: [u8; 3]) -> [u8; 3] {
    let (most, least) = (r.max(g).max(b), r.min(g).min(b));
    if most == least {
        return [0, 0, most];
    }
    let range = f32::from(most - least);
    let below = |channel: u8| f32::from(most - channel) / range;
    let sector = if r == most {
        below(b) - below(g)
    } else if g == most {
        2.0 + below(r) - below(b)
    } else {
        4.0 + below(g) - below(r)
    };
    let turn = (f64::from(sector) / 6.0 + 1.0) % 1.0;
    [(turn * 255.0) as u8, (f64::from(range / f32::from(most)) * 255.0) as u8, most]
}

fn rgb_from_hsv([h, s, v]: [u8; 3]) -> [u8; 3] {
    if s == 0 {
        return [v; 3];
    }
    let sixths = f32::from(h) * 6.0 / 255.0;
    let (sector, share) = (sixths.floor(), sixths - sixths.floor());
    let (value, s) = (f32::from(v), f32::from(s) / 255.0);
    let rounded = |x: f32| x.round().clamp(0.0, 255.0) as u8;
    let p = rounded(value * (1.0 - s));
    let q = rounded(value * (1.0 - s * share));
    let t = rounded(value * (1.0 - s * (1.0 - share)));
    match sector as u8 % 6 {
        0 => [v, t, p],
        1 => [q, v, p],
        2 => [p, v, t],
        3 => [p, q, v],
        4 => [t, p, v],
        _ => [v, p, q],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(pixel: [u8; 3], change: impl Fn(&mut RgbImage)) -> [u8; 3] {
        let mut image = RgbImage::from_pixel(1, 1, image::Rgb(pixel));
        change(&mut image);
        image.get_pixel(0, 0).0
    }

    #[test]
    fn factors_of_one_and_turns_of_zero_change_nothing() {
        let pixel = [200, 30, 90];
        assert_eq!(one(pixel, |i| brightness(i, 1.0)), pixel);
        assert_eq!(one(pixel, |i| contrast(i, 1.0)), pixel);
        assert_eq!(one(pixel, |i| saturation(i, 1.0)), pixel);
    }

    #[test]
    fn extremes_are_what_their_names_say() {
        assert_eq!(one([200, 30, 90], |i| brightness(i, 0.0)), [0; 3]);
        assert_eq!(one([200, 30, 90], |i| brightness(i, 2.0)), [255, 60, 180]);
        assert_eq!(one([200, 30, 90], |i| saturation(i, 0.0)), one([200, 30, 90], grayscale));
        assert_eq!(one([255, 0, 127], solarize), [0, 0, 127]);
    }

    #[test]
    fn a_third_of_a_turn_takes_red_to_green() {
        let [r, g, b] = one([255, 0, 0], |i| hue(i, 1.0 / 3.0));
        assert!(r < 8 && g > 247 && b < 8, "{r} {g} {b}");
    }
}
