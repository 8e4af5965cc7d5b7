//! A thumbnail of luma, and how well two of them agree under a dihedral.

use super::Dihedral;
use super::fingerprinter::resized;
use image::GrayImage;
use lapidary_pipeline::pixels::{Filter, Resizer};
use multiversion::multiversion;
use std::borrow::Cow;

/// Pixels across and down; the aspect is lost.
const SIDE: usize = Thumbnail::SIDE;

/// 32 x 32 luma values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Thumbnail(pub(crate) Vec<u8>);

impl Thumbnail {
    /// Pixels across and down; the aspect is lost.
    pub(crate) const SIDE: usize = 32;

    /// The value at a place between pixels, bilinear; none outside, pixels reaching half a pixel around their centres.
    pub(crate) fn sample(&self, x: f32, y: f32) -> Option<f32> {
        let last = (SIDE - 1) as f32;
        if !(-0.5..=last + 0.5).contains(&x) || !(-0.5..=last + 0.5).contains(&y) {
            return None;
        }
        let (x, y) = (x.clamp(0.0, last), y.clamp(0.0, last));
        let (column, row) = ((x as usize).min(SIDE - 2), (y as usize).min(SIDE - 2));
        let (fx, fy) = (x - column as f32, y - row as f32);
        let at = |row: usize, column: usize| f32::from(self.0[row * SIDE + column]);
        let above = at(row, column) + fx * (at(row, column + 1) - at(row, column));
        let below = at(row + 1, column) + fx * (at(row + 1, column + 1) - at(row + 1, column));
        Some(above + fy * (below - above))
    }

    /// The thumbnail of an image.
    pub(crate) fn of(luma: &GrayImage, resizer: &mut Resizer) -> Self {
        Self(resized(luma, (SIDE as u32, SIDE as u32), Filter::Box, resizer))
    }

    /// Whether it is uniform: its values deviate by less than a level.
    pub(crate) fn is_uniform(&self) -> bool {
        let (count, first) = ((SIDE * SIDE) as i64, i64::from(self.0[0]));
        let (mut sum, mut squares) = (0, 0);
        for value in &self.0 {
            let value = i64::from(*value) - first;
            // Two values so far apart deviate by more than a level, whatever the others are.
            if value.abs() >= 64 {
                return false;
            }
            (sum, squares) = (sum + value, squares + value * value);
        }
        squares * count - sum * sum < count * count
    }

    /// Pearson's correlation of a transformed thumbnail with another, -1 to 1; 0 when one is uniform, none when both
    /// are.
    pub(crate) fn correlation(&self, dihedral: Dihedral, other: &Self) -> Option<f32> {
        let count = (SIDE * SIDE) as f64;
        let transformed = match dihedral {
            Dihedral::None => Cow::Borrowed(&self.0),
            _ => Cow::Owned(dihedral.transformed(&self.0, SIDE)),
        };
        let [x, y, xx, yy, xy] = sums(&transformed, &other.0).map(f64::from);
        let (of_a, of_b) = (xx - x * x / count, yy - y * y / count);
        match (of_a < count, of_b < count) {
            (true, true) => None,
            (false, false) => Some(((xy - x * y / count) / (of_a * of_b).sqrt()) as f32),
            _ => Some(0.0),
        }
    }
}

/// The sums of the values of either, of their squares and of their products.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2"))]
fn sums(a: &[u8], b: &[u8]) -> [u32; 5] {
    // 1,024 squares of levels fit 27 bits.
    let [mut x, mut y, mut xx, mut yy, mut xy] = [0u32; 5];
    for (a, b) in a.iter().zip(b) {
        let (a, b) = (u32::from(*a), u32::from(*b));
        (x, y, xx, yy, xy) = (x + a, y + b, xx + a * a, yy + b * b, xy + a * b);
    }
    [x, y, xx, yy, xy]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turned_thumbnail_correlates_under_its_transform() {
        let pixel =
            |x: u32, y: u32| image::Luma([(60.0 + 50.0 * ((x as f32 / 9.0).sin() + (y as f32 / 17.0).cos())) as u8]);
        let image = GrayImage::from_fn(128, 96, pixel);
        let mirrored = image::imageops::flip_horizontal(&image);
        let transformed = image::imageops::rotate90(&image);
        let mut resizer = Resizer::default();
        let mut of = |image: &GrayImage| Thumbnail::of(image, &mut resizer);
        let (image, mirrored, transformed) = (of(&image), of(&mirrored), of(&transformed));
        assert!(image.correlation(Dihedral::Mirror, &mirrored).expect("a number") > 0.999);
        assert!(image.correlation(Dihedral::None, &mirrored).expect("a number") < 0.9);
        assert!(image.correlation(Dihedral::Right, &transformed).expect("a number") > 0.999);
        let flat = Thumbnail(vec![7; SIDE * SIDE]);
        assert_eq!(
            (flat.correlation(Dihedral::None, &image), flat.correlation(Dihedral::Half, &flat)),
            (Some(0.0), None)
        );
        assert!(flat.is_uniform() && !image.is_uniform());
    }

    proptest::proptest! {
        #[test]
        fn it_is_uniform_when_its_correlation_with_itself_is_none(
            seed in 0u64..u64::MAX, base in 0u8..200, spread in 1u64..6, outlier in 0u8..=255
        ) {
            use lapidary_pipeline::random::{Purpose, Rng, keyed};
            let mut rng = keyed(seed, Purpose::Scene, 0, 0);
            let mut values: Vec<u8> = (0..SIDE * SIDE).map(|_| base + (rng.next_u64() % spread) as u8).collect();
            values[77] = outlier;
            let thumbnail = Thumbnail(values);
            proptest::prop_assert_eq!(thumbnail.is_uniform(), thumbnail.correlation(Dihedral::None, &thumbnail).is_none());
        }
    }
}
