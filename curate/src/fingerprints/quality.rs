//! What is wrong with an image by itself: too dark, too bright, blurred, nearly uniform, odd in shape, tiny, gray.
//!
//! The measures are cleanvision's (`spec/curation.md` section 6), so that its thresholds can be used: brightness of a
//! pixel is `sqrt(0.241 R^2 + 0.691 G^2 + 0.068 B^2) / 255`; blur is judged on luma of 64 pixels on the longer side by
//! the spread of its Laplacian (Pillow's FIND_EDGES) and of its histogram. They are taken from the working image.

use super::fingerprinter::resized;
use image::{GrayImage, RgbImage};
use lapidary_pipeline::pixels::{Filter, Raster, Resizer};
use lapidary_schemas::QualityIssue;
use lapidary_schemas::config::QualityConfig;
use multiversion::multiversion;

/// Measures of one image.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Quality {
    /// Brightness that 99 % of the pixels do not pass, 0 to 1: a dark image has little.
    pub brightness_p99: f32,
    /// Brightness that 5 % of the pixels do not pass, 0 to 1: a bright image has much.
    pub brightness_p5: f32,
    /// Entropy of the values of all channels together, in bits (0 to 9.6).
    pub entropy_bits: f32,
    /// 0 (blurred) to 1 (sharp).
    pub sharpness: f32,
    /// The shorter side over the longer.
    pub aspect: f32,
    /// The shorter side of the image itself.
    pub short_side_px: u32,
    /// No pixel has a colour.
    pub grayscale: bool,
}

impl Quality {
    /// Measures an image as it is, without bringing it to working size.
    pub fn of(image: &RgbImage) -> Self {
        let luma = lapidary_pipeline::luma_of_image(image);
        measure(&Raster::from(image), &luma, image.dimensions(), &mut Resizer::default())
    }

    /// The issues that an image has by the thresholds of a configuration, sorted.
    pub fn issues(&self, config: &QualityConfig) -> Vec<QualityIssue> {
        let judged = [
            (QualityIssue::TooDark, self.brightness_p99 < config.dark_max),
            (QualityIssue::TooBright, self.brightness_p5 > config.bright_min),
            (QualityIssue::Blurred, self.sharpness < config.sharpness_min),
            (QualityIssue::NearlyUniform, self.entropy_bits < config.entropy_min_bits),
            (QualityIssue::OddAspect, self.aspect < config.aspect_min),
            (QualityIssue::Tiny, self.short_side_px < config.short_side_min_px),
            (QualityIssue::Grayscale, self.grayscale),
        ];
        judged.into_iter().filter(|(_, has)| *has).map(|(issue, _)| issue).collect()
    }
}

/// The sizes, as roots of pixels, between which none of these is odd: `factor` interquartile ranges below the first
/// quartile and above the third (cleanvision's `odd_size`). When half of them are of one size, every other is odd.
pub fn usual_sizes(sizes: &[f64], factor: f64) -> [f64; 2] {
    let mut sorted = sizes.to_vec();
    sorted.sort_by(f64::total_cmp);
    // Between two values in proportion, as NumPy has it.
    let quantile = |share: f64| {
        let place = share * (sorted.len() as f64 - 1.0);
        let (low, high) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
        low + (high - low) * place.fract()
    };
    if sorted.is_empty() {
        return [0.0, f64::INFINITY];
    }
    let (first, third) = (quantile(0.25), quantile(0.75));
    [first - factor * (third - first), third + factor * (third - first)]
}

/// Measures a working image of an image of `size` pixels across and down.
pub(crate) fn measure(rgb: &Raster, luma: &GrayImage, size: (u32, u32), resizer: &mut Resizer) -> Quality {
    let (brightness_p5, brightness_p99) = brightness_percentiles(rgb);
    Quality {
        brightness_p99,
        brightness_p5,
        entropy_bits: entropy_bits(rgb),
        sharpness: sharpness(luma, resizer),
        aspect: size.0.min(size.1) as f32 / size.0.max(size.1).max(1) as f32,
        short_side_px: size.0.min(size.1),
        grayscale: rgb.pixels().iter().all(|p| (p & 0xff) == (p >> 8 & 0xff) && (p & 0xff) == (p >> 16 & 0xff)),
    }
}

/// Pixels that are looked at at a time, so that what is computed of them stays in the cache.
const BLOCK: usize = 1024;
const BRIGHTNESS_BINS: usize = 1024;

/// The 5th and the 99th percentile of brightness, to within 1 / 1024.
fn brightness_percentiles(rgb: &Raster) -> (f32, f32) {
    // Pixels are counted by turns in one of two, as neighbours often have one brightness: a count waits for the one before it.
    let mut histograms = [[0u32; BRIGHTNESS_BINS + 1]; 2];
    let mut bins = [0u16; BLOCK];
    for block in rgb.pixels().chunks(BLOCK) {
        brightness_bins(block, &mut bins);
        for (i, bin) in bins[..block.len()].iter().enumerate() {
            histograms[i % 2][usize::from(*bin)] += 1;
        }
    }
    let last = rgb.pixels().len().saturating_sub(1) as f32;
    let percentile = |share: f32| {
        let target = (share * last) as u32;
        let mut below = 0;
        let bin = (0..=BRIGHTNESS_BINS).position(|bin| {
            below += histograms[0][bin] + histograms[1][bin];
            below > target
        });
        bin.unwrap_or(0) as f32 / BRIGHTNESS_BINS as f32
    };
    (percentile(0.05), percentile(0.99))
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2"))]
fn brightness_bins(pixels: &[u32], bins: &mut [u16; BLOCK]) {
    for (pixel, bin) in pixels.iter().zip(bins) {
        let [r, g, b] = [0, 8, 16].map(|shift| (pixel >> shift & 0xff) as i32 as f32);
        let brightness = (0.241 * r * r + 0.691 * g * g + 0.068 * b * b).sqrt() * (BRIGHTNESS_BINS as f32 / 255.0);
        *bin = (brightness + 0.5) as i32 as u16;
    }
}

/// Entropy of the pooled histograms of the three channels, as Pillow's `Image.entropy` has it.
fn entropy_bits(rgb: &Raster) -> f32 {
    // By turns, as above.
    let mut by_turns = [[[0u32; 256]; 3]; 2];
    for (i, pixel) in rgb.pixels().iter().enumerate() {
        for (channel, histogram) in by_turns[i % 2].iter_mut().enumerate() {
            histogram[(pixel >> (8 * channel) & 0xff) as usize] += 1;
        }
    }
    let total = 3.0 * rgb.pixels().len() as f64;
    let bits = |count: u32| {
        let share = f64::from(count) / total;
        if count == 0 { 0.0 } else { -share * share.log2() }
    };
    let [one, other] = &by_turns;
    one.iter().flatten().zip(other.iter().flatten()).map(|(one, other)| bits(one + other)).sum::<f64>() as f32
}

fn sharpness(luma: &GrayImage, resizer: &mut Resizer) -> f32 {
    const LONGER_PX: f32 = 64.0;
    let ratio = luma.width().max(luma.height()) as f32 / LONGER_PX;
    if ratio <= 1.0 {
        return sharpness_of_small(luma.as_raw(), luma.width() as usize);
    }
    let side = |length: u32| ((length as f32 / ratio).floor() as u32).max(1);
    let (width, height) = (side(luma.width()), side(luma.height()));
    // Pillow's bicubic, which is the default of its `resize`.
    let small = resized(luma, (width, height), Filter::CatmullRom, resizer);
    sharpness_of_small(&small, width as usize)
}

/// `min(1, 1 - exp(-0.01 std(edges)) + t)` with `t = 1 - exp(-0.01 std(histogram))`, which counts from 0.18 on.
fn sharpness_of_small(small: &[u8], width: usize) -> f32 {
    let height = small.len() / width;
    let edge = |at: usize| -> f64 {
        let (x, y) = (at % width, at / width);
        if x == 0 || y == 0 || x + 1 == width || y + 1 == height {
            return f64::from(small[at]);
        }
        let around: i32 =
            [at - width, at, at + width].iter().flat_map(|row| &small[row - 1..=row + 1]).map(|v| i32::from(*v)).sum();
        f64::from((9 * i32::from(small[at]) - around).clamp(0, 255))
    };
    let edges: Vec<f64> = (0..small.len()).map(edge).collect();
    let edges = deviation(&edges);
    let mut histogram = [0f64; 256];
    small.iter().for_each(|value| histogram[usize::from(*value)] += 1.0);
    let contrast = 1.0 - (-0.01 * deviation(&histogram)).exp();
    let contrast = if contrast <= 0.18 { 0.0 } else { contrast };
    (1.0 - (-0.01 * edges).exp() + contrast).min(1.0) as f32
}

fn deviation(values: &[f64]) -> f64 {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    #[test]
    fn plain_colours_have_cleanvisions_brightness_and_pillows_entropy() {
        // spec/curation.md section 8, test 14; to within the histogram's 1 / 2048.
        for (colour, brightness) in [([255, 0, 0], 0.49092), ([0, 255, 0], 0.83126), ([0, 0, 255], 0.26077)] {
            let quality = Quality::of(&RgbImage::from_pixel(40, 30, Rgb(colour)));
            assert!((quality.brightness_p99 - brightness).abs() < 5e-4, "{quality:?}");
            assert!((quality.entropy_bits - 3f32.log2()).abs() < 1e-5);
            assert!(!quality.grayscale);
        }
    }

    #[test]
    fn percentiles_and_entropy_are_those_of_one_pixel_after_the_other() {
        let noise = |x: u32, y: u32| ((x * 7919 + y * 104_729 + x * y * 31) % 251) as u8;
        let image = RgbImage::from_fn(77, 41, |x, y| Rgb([noise(x, y), noise(y, x) / 2, noise(x + 9, y) / 3]));
        let mut brightness: Vec<usize> = image
            .pixels()
            .map(|pixel| {
                let [r, g, b] = pixel.0.map(f32::from);
                ((0.241 * r * r + 0.691 * g * g + 0.068 * b * b).sqrt() * (1024.0 / 255.0) + 0.5) as usize
            })
            .collect();
        brightness.sort_unstable();
        let at = |share: f32| brightness[(share * (brightness.len() - 1) as f32) as usize] as f32 / 1024.0;
        let quality = Quality::of(&image);
        assert_eq!((quality.brightness_p5, quality.brightness_p99), (at(0.05), at(0.99)));
        let total = image.as_raw().len() as f64;
        let mut entropy = 0.0;
        for (channel, level) in (0..3).flat_map(|channel| (0..256).map(move |level| (channel, level))) {
            let count = image.pixels().filter(|pixel| usize::from(pixel.0[channel]) == level).count() as f64;
            entropy -= if count > 0.0 { count / total * (count / total).log2() } else { 0.0 };
        }
        assert!((f64::from(quality.entropy_bits) - entropy).abs() < 1e-5, "{quality:?} {entropy}");
    }

    #[test]
    fn each_issue_is_seen_and_a_good_image_has_none() {
        let config = QualityConfig::default();
        let noise = |x: u32, y: u32| ((x * 7919 + y * 104_729 + x * y * 31) % 251) as u8;
        let good = RgbImage::from_fn(200, 150, |x, y| Rgb([noise(x, y), noise(y, x), noise(x + 9, y)]));
        assert_eq!(Quality::of(&good).issues(&config), []);
        let issues = |image: &RgbImage| Quality::of(image).issues(&config);
        let dark = RgbImage::from_fn(200, 150, |x, y| Rgb([noise(x, y) / 5, noise(y, x) / 5, noise(x + 9, y) / 5]));
        assert_eq!(issues(&dark), [QualityIssue::TooDark]);
        let bright = RgbImage::from_fn(200, 150, |x, y| Rgb([noise(x, y), noise(y, x), 9].map(|v| 250 + v % 6)));
        assert!(issues(&bright).contains(&QualityIssue::TooBright));
        let smooth = RgbImage::from_fn(200, 150, |x, y| Rgb([x as u8, y as u8, (x / 2 + y / 2) as u8]));
        assert_eq!(issues(&smooth), [QualityIssue::Blurred]);
        let uniform = RgbImage::from_pixel(200, 150, Rgb([120, 120, 120]));
        // A histogram of one peak spreads as widely as can be: by cleanvision's formula such an image is not blurred.
        assert_eq!(issues(&uniform), [QualityIssue::NearlyUniform, QualityIssue::Grayscale]);
        let strip = RgbImage::from_fn(300, 20, |x, y| Rgb([noise(x, y), noise(y, x), noise(x + 9, y)]));
        assert_eq!(issues(&strip), [QualityIssue::OddAspect, QualityIssue::Tiny]);
    }
}
