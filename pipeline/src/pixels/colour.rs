//! Colour operations on 8-bit RGB, rounded as Pillow rounds them (ImageEnhance, `convert("L")`, `convert("HSV")`, ImageOps).
//!
//! Each is one pass without branches over words of a pixel each, so that the compiler makes vectors of it; `multiversion`
//! compiles a pass for AVX-512, AVX2 and plain x86-64, and the processor chooses. The tests say plainly what the turn of a
//! hue computes, and hold the two equal for every colour.

use multiversion::multiversion;

/// Luma as Pillow's `convert("L")` computes it (ITU-R 601, 16-bit fixed point).
#[inline(always)]
pub fn luma([r, g, b]: [u32; 3]) -> u32 {
    (r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16
}

#[inline(always)]
fn channels(pixel: u32) -> [u32; 3] {
    [pixel & 255, pixel >> 8 & 255, pixel >> 16 & 255]
}

#[inline(always)]
fn pixel([r, g, b]: [u32; 3]) -> u32 {
    r | g << 8 | b << 16
}

/// The integer below a value of 0 to 2^23, by the place of its digits: a cast would check for more and make no vectors.
#[inline(always)]
fn whole(x: f32) -> u32 {
    (x.floor() + 8_388_608.0).to_bits() & 0x7f_ffff
}

/// Pillow's blend of two 8-bit values: `from + factor * (to - from)`, clipped to 0..255 and cut to an integer.
#[inline(always)]
fn blend(from: u32, to: u32, factor: f32) -> u32 {
    let (from, to) = (from as i32, to as i32);
    whole((from as f32 + factor * (to - from) as f32).clamp(0.0, 255.0))
}

/// Scales towards black (`ImageEnhance.Brightness`).
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2"))]
pub(super) fn brightness(pixels: &mut [u32], factor: f32) {
    for p in pixels {
        *p = pixel(channels(*p).map(|v| blend(0, v, factor)));
    }
}

/// Scales away from the rounded mean of luma (`ImageEnhance.Contrast`).
pub(super) fn contrast(pixels: &mut [u32], factor: f32) {
    let mean = (luma_sum(pixels) as f64 / pixels.len() as f64 + 0.5) as u32;
    contrast_around(pixels, mean, factor);
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2"))]
fn contrast_around(pixels: &mut [u32], mean: u32, factor: f32) {
    for p in pixels {
        *p = pixel(channels(*p).map(|v| blend(mean, v, factor)));
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2"))]
fn luma_sum(pixels: &[u32]) -> u64 {
    let mut sum = 0;
    // A block's sum fits 32 bits.
    for block in pixels.chunks(1 << 16) {
        let mut part = 0;
        for p in block {
            part += luma(channels(*p));
        }
        sum += u64::from(part);
    }
    sum
}

/// Scales away from each pixel's luma (`ImageEnhance.Color`).
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2"))]
pub(super) fn saturation(pixels: &mut [u32], factor: f32) {
    for p in pixels {
        let gray = luma(channels(*p));
        *p = pixel(channels(*p).map(|v| blend(gray, v, factor)));
    }
}

/// Turns the hue by `turns`, through Pillow's 8-bit HSV.
pub(super) fn hue(pixels: &mut [u32], turns: f32) {
    // torchvision: np.int32(turns * 255) wraps into 8 bits.
    hue_by(pixels, (turns * 255.0) as i32 as u32 & 255);
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2"))]
fn hue_by(pixels: &mut [u32], shift: u32) {
    for p in pixels {
        *p = turned(*p, shift);
    }
}

/// A sum of two numbers as rounded, and what the rounding took away (Knuth's TwoSum).
#[inline(always)]
fn two_sum(a: f32, b: f32) -> (f32, f32) {
    let sum = a + b;
    let of_b = sum - a;
    (sum, (a - (sum - of_b)) + (b - of_b))
}

/// Pillow's way to HSV and back, without branches. Where Pillow computes in f64, f32 does here when no colour shows the
/// difference.
#[inline(always)]
fn turned(p: u32, shift: u32) -> u32 {
    let [r, g, b] = channels(p);
    let (most, least) = (r.max(g).max(b), r.min(g).min(b));
    // A gray pixel has neither hue nor saturation; a range of 1 keeps the arithmetic finite.
    let gray = most == least;
    let range = if gray { 1.0 } else { (most - least) as i32 as f32 };
    let value = most as i32 as f32;
    // Hue in sixths: its base is the greatest channel's, and it leans to one neighbour or the other.
    let (is_r, is_g) = (r == most, g == most);
    let base: f32 = if is_r {
        0.0
    } else if is_g {
        2.0
    } else {
        4.0
    };
    let plus = if is_r {
        b
    } else if is_g {
        r
    } else {
        g
    };
    let minus = if is_r {
        g
    } else if is_g {
        b
    } else {
        r
    };
    let below = |channel: u32| (most - channel) as i32 as f32 / range;
    // Pillow adds in f64 and rounds once: what each f32 sum leaves over is added in the end.
    let (lean, left) = two_sum(below(plus), -below(minus));
    let (sum, more_left) = two_sum(base, lean);
    let sixths = sum + (left + more_left);
    let turn = sixths / 6.0;
    let turn = if turn < 0.0 { turn + 1.0 } else { turn };
    let hue = (whole(turn * 255.0) + shift) & 255;
    let saturation = whole(range / if gray { 1.0 } else { value } * 255.0) as i32 as f32 / 255.0;
    // `hue * 6 / 255` and what it leaves; 6 is 0 again.
    let sector = (hue * 6 * 257 + 257) >> 16;
    let share = (hue * 6 - sector * 255) as i32 as f32 / 255.0;
    let low = whole(value * (1.0 - saturation) + 0.5);
    let falling = whole(value * (1.0 - saturation * share) + 0.5);
    let rising = whole(value * (1.0 - saturation * (1.0 - share)) + 0.5);
    let is = |number: u32| sector == number;
    let pick = |high: bool, falls: bool, rises: bool| {
        if high {
            most
        } else if falls {
            falling
        } else if rises {
            rising
        } else {
            low
        }
    };
    let red = pick(is(0) | is(5) | is(6), is(1), is(4));
    let green = pick(is(1) | is(2), is(3), is(0) | is(6));
    let blue = pick(is(3) | is(4), is(5), is(2));
    if gray { p } else { pixel([red, green, blue]) }
}

/// Replaces each pixel by its luma.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2"))]
pub(super) fn grayscale(pixels: &mut [u32]) {
    for p in pixels {
        *p = luma(channels(*p)) * 0x01_0101;
    }
}

/// Inverts values from 128 up.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2"))]
pub(super) fn solarize(pixels: &mut [u32]) {
    for p in pixels {
        *p = pixel(channels(*p).map(|v| if v >= 128 { 255 - v } else { v }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(of: [u32; 3], change: impl Fn(&mut [u32])) -> [u32; 3] {
        let mut pixels = [pixel(of)];
        change(&mut pixels);
        channels(pixels[0])
    }

    /// Pillow's `convert("HSV")`, as Convert.c has it.
    fn hsv_from_rgb([r, g, b]: [u32; 3]) -> [u32; 3] {
        let (most, least) = (r.max(g).max(b), r.min(g).min(b));
        if most == least {
            return [0, 0, most];
        }
        let range = (most - least) as f32;
        let below = |channel: u32| (most - channel) as f32 / range;
        let sector = if r == most {
            below(b) - below(g)
        } else if g == most {
            (2.0 + f64::from(below(r)) - f64::from(below(b))) as f32
        } else {
            (4.0 + f64::from(below(g)) - f64::from(below(r))) as f32
        };
        let turn = ((f64::from(sector) / 6.0 + 1.0) % 1.0) as f32;
        [(f64::from(turn) * 255.0) as u32, (f64::from(range / most as f32) * 255.0) as u32, most]
    }

    /// Its way back.
    fn rgb_from_hsv([h, s, v]: [u32; 3]) -> [u32; 3] {
        if s == 0 {
            return [v; 3];
        }
        let sixths = f64::from(h) * 6.0 / 255.0;
        let share = (sixths - sixths.floor()) as f32;
        let (value, s) = (f64::from(v), (f64::from(s) / 255.0) as f32);
        let p = (value * (1.0 - f64::from(s))).round() as u32;
        let q = (value * (1.0 - f64::from(s * share))).round() as u32;
        let t = (value * (1.0 - f64::from(s) * (1.0 - f64::from(share)))).round() as u32;
        match sixths.floor() as u32 % 6 {
            0 => [v, t, p],
            1 => [q, v, p],
            2 => [p, v, t],
            3 => [p, q, v],
            4 => [t, p, v],
            _ => [v, p, q],
        }
    }

    #[test]
    fn every_colour_turns_as_pillow_turns_it() {
        for shift in [0u32, 1, 25, 128, 230] {
            // Every colour once in all; each shift sees a fifth of them, and all grays.
            let colours: Vec<u32> = (0..1 << 24).filter(|c| c % 5 == shift % 5 || c % 0x01_0101 == 0).collect();
            let mut turned = colours.clone();
            hue_by(&mut turned, shift);
            for (before, after) in colours.into_iter().zip(turned) {
                let [h, s, v] = hsv_from_rgb(channels(before));
                let expected = rgb_from_hsv([(h + shift) & 255, s, v]);
                assert_eq!(channels(after), expected, "{:?} by {shift}", channels(before));
            }
        }
    }

    #[test]
    fn factors_of_one_change_nothing() {
        let colour = [200, 30, 90];
        assert_eq!(one(colour, |p| brightness(p, 1.0)), colour);
        assert_eq!(one(colour, |p| contrast(p, 1.0)), colour);
        assert_eq!(one(colour, |p| saturation(p, 1.0)), colour);
    }

    #[test]
    fn extremes_are_what_their_names_say() {
        assert_eq!(one([200, 30, 90], |p| brightness(p, 0.0)), [0; 3]);
        assert_eq!(one([200, 30, 90], |p| brightness(p, 2.0)), [255, 60, 180]);
        assert_eq!(one([200, 30, 90], |p| saturation(p, 0.0)), one([200, 30, 90], grayscale));
        assert_eq!(one([255, 0, 127], solarize), [0, 0, 127]);
    }

    #[test]
    fn a_third_of_a_turn_takes_red_to_green() {
        let [r, g, b] = one([255, 0, 0], |p| hue(p, 1.0 / 3.0));
        assert!(r < 8 && g > 247 && b < 8, "{r} {g} {b}");
    }
}
