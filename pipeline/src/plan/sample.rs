//! Drawing the parameters of views, as torchvision's transforms draw them, each from its own keyed generator.

use crate::images::ImageInfo;
use crate::random::{Purpose, Rng, RngExt, chance, keyed, uniform};
use lapidary_schemas::ImageId;
use lapidary_schemas::config::{BlurKind, Interpolation, ViewKind, ViewSpec};
use std::fmt;

/// A view of an image in an epoch: a row of the plan.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct View {
    /// Epoch, from 0.
    pub epoch: u32,
    /// The image's place in the epoch, from 0.
    pub position: u32,
    /// The image.
    pub image_id: ImageId,
    /// The view's index among those of its image.
    pub view: u8,
    /// Which loss reads it.
    pub kind: ViewKind,
    /// Side of the square view.
    pub size_px: u16,
    /// The filter that the crop is resized with.
    pub interpolation: Interpolation,
    /// What of the image it shows.
    pub crop: Crop,
    /// Mirrored left to right.
    pub flip: bool,
    /// Colour jitter, if any.
    pub jitter: Option<Jitter>,
    /// Reduced to luma.
    pub grayscale: bool,
    /// Standard deviation of the blur; 0 for none.
    pub blur_radius_px: f32,
    /// Whose blur.
    pub blur: BlurKind,
    /// Values from 128 up inverted.
    pub solarize: bool,
}

impl View {
    /// A view of `size_px` squared that crops (bicubic) and does nothing else.
    pub fn of_crop(image_id: ImageId, crop: Crop, size_px: u16) -> Self {
        Self {
            epoch: 0,
            position: 0,
            image_id,
            view: 0,
            kind: ViewKind::Global,
            size_px,
            interpolation: Interpolation::Bicubic,
            crop,
            flip: false,
            jitter: None,
            grayscale: false,
            blur_radius_px: 0.0,
            blur: BlurKind::Pillow,
            solarize: false,
        }
    }
}

/// A box in the decoded image, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Crop {
    pub x_px: u16,
    pub y_px: u16,
    pub width_px: u16,
    pub height_px: u16,
}

impl Crop {
    /// Whether it has pixels and lies in an image of this size.
    pub fn fits(&self, width: u32, height: u32) -> bool {
        let inside = |start: u16, len: u16, end: u32| len > 0 && u32::from(start) + u32::from(len) <= end;
        inside(self.x_px, self.width_px, width) && inside(self.y_px, self.height_px, height)
    }
}

impl Crop {
    /// The box in an image whose sides were reduced from `from` to `to` pixels: its edges, rounded.
    pub fn reduced(&self, from: (u32, u32), to: (u32, u32)) -> Self {
        let edges = |start: u16, len: u16, from: u32, to: u32| {
            let at = |edge: u32| (f64::from(edge) * f64::from(to) / f64::from(from)).round() as u16;
            let (first, end) = (at(u32::from(start)), at(u32::from(start) + u32::from(len)));
            let first = first.min(to as u16 - 1);
            (first, end.saturating_sub(first).max(1))
        };
        let (x_px, width_px) = edges(self.x_px, self.width_px, from.0, to.0);
        let (y_px, height_px) = edges(self.y_px, self.height_px, from.1, to.1);
        Self { x_px, y_px, width_px, height_px }
    }
}

impl fmt::Display for Crop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "box of {} x {} at {}, {}", self.width_px, self.height_px, self.x_px, self.y_px)
    }
}

/// Colour jitter: three factors, a turn of the hue, and the order they are applied in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Jitter {
    /// Factor of brightness; 1 changes nothing.
    pub brightness: f32,
    /// Factor of contrast; 1 changes nothing.
    pub contrast: f32,
    /// Factor of saturation; 1 changes nothing.
    pub saturation: f32,
    /// Turn of the hue, in turns.
    pub hue: f32,
    /// Index (0 to 23) of the permutation; see [`Jitter::steps`].
    pub order: u8,
}

impl Jitter {
    /// The order of the four operations (0 brightness, 1 contrast, 2 saturation, 3 hue): the permutation with this index
    /// in the factorial number system.
    pub fn steps(&self) -> [u8; 4] {
        let mut left = vec![0u8, 1, 2, 3];
        let mut index = self.order % 24;
        [6, 2, 1, 1].map(|radix| {
            let step = left.remove(usize::from(index / radix));
            index %= radix;
            step
        })
    }
}

/// Binary digits after the point that factors, turns and radii are drawn with: as many as 8-bit pixels can show, so that
/// their last bytes compress away on disk. What is stored is what was drawn; nothing is rounded afterwards.
const FACTOR_BITS: i32 = 14;
const TURN_BITS: i32 = 16;
const RADIUS_BITS: i32 = 13;

/// The nearest multiple of `2^-bits`.
fn on_grid(value: f32, bits: i32) -> f32 {
    let steps = 2f32.powi(bits);
    (value * steps).round() / steps
}

/// The images of an epoch in training order: sorted by a key drawn for (seed, epoch, image), so that the order of a subset
/// is the subset of the order.
pub fn epoch_order(seed: u64, epoch: u32, infos: &[ImageInfo]) -> Vec<ImageInfo> {
    let mut keys: Vec<(u64, ImageInfo)> = infos
        .iter()
        .map(|info| (keyed(seed, Purpose::EpochOrder, u64::from(epoch), info.id.0).next_u64(), *info))
        .collect();
    keys.sort_by_key(|(key, info)| (*key, info.id));
    keys.into_iter().map(|(_, info)| info).collect()
}

/// All views of an image in an epoch.
pub fn views_of_image(seed: u64, epoch: u32, position: u32, info: &ImageInfo, specs: &[ViewSpec]) -> Vec<View> {
    let all = specs.iter().flat_map(|spec| std::iter::repeat_n(spec, usize::from(spec.count)));
    all.enumerate()
        .map(|(view, spec)| {
            // Epochs and views share a word: both are small.
            let second = u64::from(epoch) << 8 | view as u64;
            let mut rng = keyed(seed, Purpose::View, info.id.0, second);
            let crop = sample_crop(&mut rng, info.width, info.height, spec);
            let flip = chance(&mut rng, spec.flip_p);
            let has_jitter = chance(&mut rng, spec.jitter_p);
            // Drawn even when unused, so that a probability moves no later draw.
            let jitter = sample_jitter(&mut rng, spec);
            let grayscale = chance(&mut rng, spec.grayscale_p);
            let blurred = chance(&mut rng, spec.blur_p);
            let radius = on_grid(uniform(&mut rng, spec.blur_radius_px[0], spec.blur_radius_px[1]), RADIUS_BITS);
            let solarize = chance(&mut rng, spec.solarize_p);
            View {
                epoch,
                position,
                image_id: info.id,
                view: view as u8,
                kind: spec.kind,
                size_px: spec.size_px,
                interpolation: spec.interpolation,
                crop,
                flip,
                jitter: has_jitter.then_some(jitter),
                grayscale,
                blur_radius_px: if blurred { radius } else { 0.0 },
                blur: spec.blur,
                solarize,
            }
        })
        .collect()
}

/// torchvision's `RandomResizedCrop.get_params`: ten tries, then the largest central box within the aspect's bounds.
fn sample_crop(rng: &mut impl Rng, width: u32, height: u32, spec: &ViewSpec) -> Crop {
    let area = f64::from(width) * f64::from(height);
    let log_aspect = spec.aspect.map(f32::ln);
    for _ in 0..10 {
        let target = area * f64::from(uniform(rng, spec.area[0], spec.area[1]));
        let aspect = f64::from(uniform(rng, log_aspect[0], log_aspect[1])).exp();
        let w = (target * aspect).sqrt().round_ties_even() as u32;
        let h = (target / aspect).sqrt().round_ties_even() as u32;
        if 0 < w && w <= width && 0 < h && h <= height {
            let y_px = rng.random_range(0..=height - h);
            let x_px = rng.random_range(0..=width - w);
            return crop_of(x_px, y_px, w, h);
        }
    }
    let aspect = f64::from(width) / f64::from(height);
    let [least, greatest] = spec.aspect.map(f64::from);
    let (w, h) = if aspect < least {
        (width, (f64::from(width) / least).round_ties_even() as u32)
    } else if aspect > greatest {
        ((f64::from(height) * greatest).round_ties_even() as u32, height)
    } else {
        (width, height)
    };
    let (w, h) = (w.clamp(1, width), h.clamp(1, height));
    crop_of((width - w) / 2, (height - h) / 2, w, h)
}

fn crop_of(x_px: u32, y_px: u32, width_px: u32, height_px: u32) -> Crop {
    let px = |value: u32| u16::try_from(value).expect("sides of images fit 16 bits: checked before planning");
    Crop { x_px: px(x_px), y_px: px(y_px), width_px: px(width_px), height_px: px(height_px) }
}

fn sample_jitter(rng: &mut impl Rng, spec: &ViewSpec) -> Jitter {
    let order = rng.random_range(0..24u8);
    let mut factor = |strength: f32| on_grid(uniform(rng, (1.0 - strength).max(0.0), 1.0 + strength), FACTOR_BITS);
    let (brightness, contrast, saturation) = (factor(spec.brightness), factor(spec.contrast), factor(spec.saturation));
    let hue = on_grid(uniform(rng, -spec.hue, spec.hue), TURN_BITS);
    Jitter { brightness, contrast, saturation, hue, order }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_24_orders_are_the_24_permutations() {
        let jitter = |order| Jitter { brightness: 1.0, contrast: 1.0, saturation: 1.0, hue: 0.0, order };
        let all: BTreeSet<[u8; 4]> = (0..24).map(|order| jitter(order).steps()).collect();
        assert_eq!(all.len(), 24);
        assert_eq!(jitter(0).steps(), [0, 1, 2, 3]);
        assert_eq!(jitter(23).steps(), [3, 2, 1, 0]);
    }

    proptest! {
        #[test]
        fn a_reduced_crop_lies_in_the_reduced_image(width in 1u32..900, height in 1u32..900, reduction in 1u32..9, seed in any::<u64>()) {
            let crop = sample_crop(&mut keyed(seed, Purpose::View, 0, 0), width, height, &ViewSpec::default());
            let to = (width.div_ceil(reduction), height.div_ceil(reduction));
            prop_assert!(crop.reduced((width, height), to).fits(to.0, to.1));
            prop_assert_eq!(crop.reduced((width, height), (width, height)), crop);
        }

        #[test]
        fn crops_lie_in_the_image(seed in any::<u64>(), width in 1u32..900, height in 1u32..900, low in 0.01f32..1.0) {
            let spec = ViewSpec { area: [low, 1.0], ..ViewSpec::default() };
            let mut rng = keyed(seed, Purpose::View, 0, 0);
            let crop = sample_crop(&mut rng, width, height, &spec);
            prop_assert!(crop.fits(width, height));
        }
    }
}
