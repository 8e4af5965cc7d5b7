//! The rest of a view's augmentation on the training device: jitter, grayscale, blur, solarise and normalise, as batched
//! operations on levels of 0 to 255, from the same rows of the plan that the CPU's executor applies.
//!
//! Each operation is [`lapidary_pipeline::pixels`]'s with its rounding. Where it is not every view's, a mask of 0 and 1 mixes
//! what was and what would be; levels are whole numbers, so that the mixing is exact.

use crate::operators::Operators;
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use lapidary_pipeline::pixels::{MEAN, STD, box_taps, kernel_taps};
use lapidary_pipeline::plan::{Jitter, View};
use lapidary_schemas::config::BlurKind;

/// Levels, shape `[views, 3, size, size]`.
type Levels<B> = Tensor<B, 4>;

/// Finishes cropped views of one size and normalises them.
///
/// # Shapes
/// - levels: `[rows.len(), 3, size, size]`, 0 to 255
/// - returns: the same
pub fn finish<B: Operators>(levels: Levels<B>, rows: &[View]) -> Levels<B> {
    let views = Views { rows, device: levels.device() };
    let mut levels = levels;
    for round in 0..4 {
        levels = views.jitter(levels, round);
    }
    levels = views.mixed(levels, |view| view.grayscale, |x| luma(&x).repeat_dim(1, 3));
    levels = views.blur(levels, BlurKind::Pillow);
    levels = views.blur(levels, BlurKind::Torchvision);
    levels = views.mixed(
        levels,
        |view| view.solarize,
        |x| {
            let high = x.clone().greater_equal_elem(127.5).float();
            x.clone() + high * (x * -2.0 + 255.0)
        },
    );
    let channel = |values: [f32; 3]| Tensor::<B, 1>::from_floats(values, &views.device).reshape([1, 3, 1, 1]);
    (levels / 255.0 - channel(MEAN)) / channel(STD)
}

struct Views<'a, B: Backend> {
    rows: &'a [View],
    device: B::Device,
}

impl<B: Operators> Views<'_, B> {
    /// A number for each view, shape `[views, 1, 1, 1]`.
    fn column(&self, of: impl Fn(&View) -> f32) -> Levels<B> {
        let values: Vec<f32> = self.rows.iter().map(of).collect();
        Tensor::from_data(TensorData::new(values, [self.rows.len(), 1, 1, 1]), &self.device)
    }

    /// Changes the views that `chosen` names.
    fn mixed(
        &self,
        levels: Levels<B>,
        chosen: impl Fn(&View) -> bool,
        change: impl FnOnce(Levels<B>) -> Levels<B>,
    ) -> Levels<B> {
        if !self.rows.iter().any(&chosen) {
            return levels;
        }
        let mask = self.column(|view| f32::from(u8::from(chosen(view))));
        let kept = levels.clone() * (mask.clone() * -1.0 + 1.0);
        kept + change(levels) * mask
    }

    /// The operation that each view's jitter has at this place (0 to 3) of its order.
    fn jitter(&self, levels: Levels<B>, round: usize) -> Levels<B> {
        let at = |step: u8| move |view: &View| view.jitter.is_some_and(|jitter| jitter.steps()[round] == step);
        let factor = |of: fn(&Jitter) -> f32| self.column(|view| view.jitter.as_ref().map_or(1.0, of));
        let levels = self.mixed(levels, at(0), |x| blend(x.zeros_like(), x, factor(|j| j.brightness)));
        let levels = self.mixed(levels, at(1), |x| {
            let [views, _, height, width] = x.dims();
            let mean = luma(&x).reshape([views, height * width]).mean_dim(1).reshape([views, 1, 1, 1]);
            blend((mean + 0.5).floor(), x, factor(|j| j.contrast))
        });
        let levels = self.mixed(levels, at(2), |x| blend(luma(&x), x, factor(|j| j.saturation)));
        let turns = |view: &View| view.jitter.map_or(0.0, |jitter| jitter.hue);
        let hue_here = |view: &View| at(3)(view) && turns(view) != 0.0;
        self.mixed(levels, hue_here, |x| turn_hue(x, self.column(|view| ((turns(view) * 255.0) as i32 & 255) as f32)))
    }

    /// Blurs the views that are blurred in this way.
    fn blur(&self, levels: Levels<B>, kind: BlurKind) -> Levels<B> {
        let blurred = |view: &View| view.blur == kind && view.blur_radius_px > 0.0;
        let taps_of = |view: &View| match kind {
            _ if !blurred(view) => vec![1.0],
            BlurKind::Pillow => box_taps(view.blur_radius_px),
            BlurKind::Torchvision => kernel_taps(view.blur_radius_px),
        };
        self.mixed(levels, blurred, |levels| {
            let taps: Vec<Vec<f32>> = self.rows.iter().map(taps_of).collect();
            let reach = taps.iter().map(Vec::len).max().unwrap_or(1);
            let weight = |distance: usize| {
                let values: Vec<f32> = taps.iter().map(|taps| taps.get(distance).copied().unwrap_or(0.0)).collect();
                Tensor::<B, 1>::from_floats(&values[..], &self.device).reshape([self.rows.len(), 1, 1, 1])
            };
            let weights: Vec<Levels<B>> = (0..reach).map(weight).collect();
            // Columns of pixels are the last axis: rows are filtered first.
            match kind {
                BlurKind::Pillow => [3, 3, 3, 2, 2, 2]
                    .into_iter()
                    .fold(levels, |levels, axis| (filtered(levels, &weights, axis, false) + 0.5).floor()),
                BlurKind::Torchvision => {
                    let rows = filtered(levels, &weights, 3, true);
                    filtered(rows, &weights, 2, true).round().clamp(0.0, 255.0)
                }
            }
        })
    }
}

/// Each value's neighbours along an axis, weighted by their distance. Beyond the edge its value goes on, or the image is
/// mirrored.
fn filtered<B: Operators>(levels: Levels<B>, weights: &[Levels<B>], axis: usize, mirrored: bool) -> Levels<B> {
    let len = levels.dims()[axis] as isize;
    let at = |distance: isize| {
        let index = |i: isize| {
            if mirrored {
                let period = 2 * (len - 1).max(1);
                let i = i.rem_euclid(period);
                i.min(period - i).min(len - 1)
            } else {
                i.clamp(0, len - 1)
            }
        };
        let indices: Vec<i32> = (0..len).map(|i| index(i + distance) as i32).collect();
        levels.clone().select(axis, Tensor::from_ints(&indices[..], &levels.device()))
    };
    let mut sum = levels.clone() * weights[0].clone();
    for (distance, weight) in weights.iter().enumerate().skip(1) {
        let distance = distance as isize;
        sum = sum + (at(-distance) + at(distance)) * weight.clone();
    }
    sum
}

/// `from + factor * (to - from)`, clipped and cut to an integer.
fn blend<B: Operators>(from: Levels<B>, to: Levels<B>, factor: Levels<B>) -> Levels<B> {
    (from.clone() + factor * (to - from)).clamp(0.0, 255.0).floor()
}

/// Pillow's luma, shape `[views, 1, size, size]`. Its fixed-point sums are below 2^24, so that f32 holds them exactly.
fn luma<B: Operators>(levels: &Levels<B>) -> Levels<B> {
    let [r, g, b] = channels(levels);
    ((r * 19595.0 + g * 38470.0 + b * 7471.0 + 32768.0) / 65536.0).floor()
}

fn channels<B: Operators>(levels: &Levels<B>) -> [Levels<B>; 3] {
    std::array::from_fn(|channel| levels.clone().narrow(1, channel, 1))
}

/// A sum as rounded, and what the rounding took away (Knuth's TwoSum).
fn two_sum<B: Operators>(a: Levels<B>, b: Levels<B>) -> (Levels<B>, Levels<B>) {
    let sum = a.clone() + b.clone();
    let of_b = sum.clone() - a.clone();
    (sum.clone(), (a - (sum - of_b.clone())) + (b - of_b))
}

/// Turns the hue by `shift` 255ths, through Pillow's 8-bit HSV, as the CPU's executor does.
fn turn_hue<B: Operators>(levels: Levels<B>, shift: Levels<B>) -> Levels<B> {
    let [r, g, b] = channels(&levels);
    let most = r.clone().max_pair(g.clone()).max_pair(b.clone());
    let least = r.clone().min_pair(g.clone()).min_pair(b.clone());
    let one_if = |condition: Tensor<B, 4, burn::tensor::Bool>| condition.float();
    let coloured = one_if(most.clone().greater(least.clone()));
    let gray = coloured.clone() * -1.0 + 1.0;
    let range = most.clone() - least + gray.clone();
    let is_r = one_if(r.clone().equal(most.clone()));
    let is_g = one_if(g.clone().equal(most.clone())) * (is_r.clone() * -1.0 + 1.0);
    let is_b = (is_r.clone() + is_g.clone()) * -1.0 + 1.0;
    let below = |channel: Levels<B>| (most.clone() - channel) / range.clone();
    let (below_r, below_g, below_b) = (below(r), below(g), below(b));
    let plus = is_r.clone() * below_b.clone() + is_g.clone() * below_r.clone() + is_b.clone() * below_g.clone();
    let minus = is_r * below_g + is_g.clone() * below_b + is_b.clone() * below_r;
    // Pillow adds in f64 and rounds once: what each f32 sum leaves over is added in the end.
    let (lean, left) = two_sum(plus, minus * -1.0);
    let (sum, more_left) = two_sum(is_g * 2.0 + is_b * 4.0, lean);
    let turn = (sum + (left + more_left)) / 6.0;
    let turn = turn.clone() + one_if(turn.lower_elem(0.0));
    let hue = (turn * 255.0).floor() + shift;
    let hue = hue.clone() - one_if(hue.greater_equal_elem(255.5)) * 256.0;
    let saturation = (range / (most.clone() + gray.clone() * (most.clone() * -1.0 + 1.0)) * 255.0).floor() / 255.0;
    // Half a step more, so that no division falls short of an integer.
    let sector = ((hue.clone() * 6.0 + 0.5) / 255.0).floor();
    let share = (hue * 6.0 - sector.clone() * 255.0) / 255.0;
    let rounded = |x: Levels<B>| (most.clone() * x + 0.5).floor();
    let low = rounded(saturation.clone() * -1.0 + 1.0);
    let falling = rounded(saturation.clone() * share.clone() * -1.0 + 1.0);
    let rising = rounded(saturation * (share * -1.0 + 1.0) * -1.0 + 1.0);
    let is = |numbers: &[f32]| {
        let at = |number: f32| one_if(sector.clone().sub_scalar(number).abs().lower_elem(0.5));
        numbers[1..].iter().fold(at(numbers[0]), |sum, number| sum + at(*number))
    };
    let channel = |high: &[f32], falls: f32, rises: f32, lows: &[f32]| {
        is(high) * most.clone()
            + is(&[falls]) * falling.clone()
            + if rises == 0.0 { is(&[0.0, 6.0]) } else { is(&[rises]) } * rising.clone()
            + is(lows) * low.clone()
    };
    let red = channel(&[0.0, 5.0, 6.0], 1.0, 4.0, &[2.0, 3.0]);
    let green = channel(&[1.0, 2.0], 3.0, 0.0, &[4.0, 5.0]);
    let blue = channel(&[3.0, 4.0], 5.0, 2.0, &[0.0, 1.0, 6.0]);
    Tensor::cat(vec![red, green, blue], 1) * coloured + levels * gray
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upload::views_of;
    use burn_flex::Flex;
    use lapidary_pipeline::ImageInfo;
    use lapidary_pipeline::loader::{Pixels, ViewGroup};
    use lapidary_pipeline::pixels::{Executor, Raster};
    use lapidary_pipeline::plan::views_of_image;
    use lapidary_schemas::ImageId;
    use lapidary_schemas::config::{ViewKind, ViewSpec};

    #[test]
    fn the_device_finishes_views_as_the_executor_does() {
        const SIDE: usize = 32;
        let scene = image::RgbImage::from_fn(90, 70, |x, y| {
            let wave = |a: f32, b: f32| (127.5 + 127.0 * (x as f32 * a + y as f32 * b).sin()) as u8;
            image::Rgb([wave(0.11, 0.05), wave(0.04, 0.17), ((x * 7919 + y * 104_729) % 256) as u8])
        });
        let image = Raster::from(&scene);
        let spec =
            ViewSpec { size_px: SIDE as u16, blur_p: 0.5, solarize_p: 0.3, grayscale_p: 0.2, ..ViewSpec::default() };
        let specs = [spec.clone(), ViewSpec { blur: BlurKind::Torchvision, ..spec }];
        let rows: Vec<View> =
            (0..40).flat_map(|id| views_of_image(3, 0, 0, &ImageInfo::new(ImageId(id), 90, 70), &specs)).collect();
        let mut executor = Executor::default();
        let plane = 3 * SIDE * SIDE;
        let mut levels = vec![0u8; rows.len() * plane];
        let mut wanted = vec![0f32; rows.len() * plane];
        for ((row, levels), wanted) in rows.iter().zip(levels.chunks_mut(plane)).zip(wanted.chunks_mut(plane)) {
            executor.crop_into(&image, row, levels).expect("crops");
            executor.render_into(&image, row, wanted).expect("renders");
        }
        let group = ViewGroup {
            kind: ViewKind::Global,
            size_px: SIDE,
            views: rows.len(),
            pixels: Pixels::Cropped(levels, rows),
        };
        // The share of values that are another level.
        let others = |found: Vec<f32>| {
            assert_eq!(found.len(), wanted.len());
            let off = |at: usize| (found[at] - wanted[at]).abs() * STD[at / (SIDE * SIDE) % 3] * 255.0;
            (0..wanted.len()).filter(|at| off(*at) > 0.01).count() as f64 / wanted.len() as f64
        };
        let on_cpu = views_of::<Flex>(&group, &(0..1), &Default::default());
        assert_eq!(others(on_cpu.into_data().to_vec().expect("f32")), 0.0);
        #[cfg(feature = "wgpu")]
        if let Some(gpu) = crate::gpu::resolve(crate::backend::DeviceChoice::Wgpu(None)).ok().and_then(|gpu| gpu.gpu())
        {
            // Its division may fall on the other side of a whole number.
            let on_gpu = views_of::<crate::operators::Gpu>(&group, &(0..1), &gpu);
            let others = others(on_gpu.into_data().to_vec().expect("f32"));
            println!("on a GPU {others:.1e} of the values are another level");
            assert!(others < 1e-3, "{others}");
        }
    }
}
