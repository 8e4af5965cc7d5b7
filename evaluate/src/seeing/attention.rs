//! The class token's attention in the last block, head by head, at any size of the input, and the mask of what holds most of it
//! (facebookresearch/dino visualize_attention.py).

use crate::Result;
use image::RgbImage;
use lapidary_pipeline::interrupt;
use lapidary_train::FrozenVit;
use lapidary_train::operators::Operators;

/// Bytes of attention between all tokens that are in memory at once, about.
const BYTES_AT_ONCE: usize = 128 << 20;

/// The class token's attention to the patches of some views.
#[derive(Debug, Clone)]
pub(crate) struct ClassAttention {
    pub(crate) heads: usize,
    /// Patches along a side.
    pub(crate) grid: usize,
    /// Shape `[views, heads, grid * grid]`; a head's sum is 1 less what it gives the class token and the registers.
    weights: Vec<f32>,
}

impl ClassAttention {
    /// Of square views of one side, which must be of whole patches.
    ///
    /// # Errors
    /// When the user interrupts.
    pub(crate) fn of<'a, B: Operators>(
        network: &FrozenVit<B>,
        views: impl IntoIterator<Item = &'a RgbImage>,
    ) -> Result<Self> {
        let views: Vec<&RgbImage> = views.into_iter().collect();
        let grid = views.first().map_or(0, |view| view.width() as usize / network.patch_px());
        let (mut heads, mut weights) = (0, Vec::new());
        // Heads are counted when there are some: 16 is more than most networks have.
        let at_once = (BYTES_AT_ONCE / (4 * 16 * (grid * grid + 1).pow(2))).clamp(1, 64);
        for views in views.chunks(at_once) {
            interrupt::check()?;
            let attention =
                network.vit.class_attention(network.tensor(&views.iter().copied().cloned().collect::<Vec<_>>()));
            heads = attention.dims()[1];
            let attention = attention.into_data().convert::<f32>().into_vec::<f32>();
            weights.extend(attention.expect("converted to f32 just before"));
        }
        Ok(Self { heads, grid, weights })
    }

    /// Of known weights, for tests.
    #[cfg(test)]
    pub(crate) fn from_weights(heads: usize, grid: usize, weights: Vec<f32>) -> Self {
        Self { heads, grid, weights }
    }

    /// The heads of a view, each `grid * grid` weights, row by row.
    pub(crate) fn of_view(&self, view: usize) -> impl Iterator<Item = &[f32]> {
        let patches = self.grid * self.grid;
        self.weights[view * self.heads * patches..][..self.heads * patches].chunks_exact(patches)
    }

    /// The mean of a view's heads.
    pub(crate) fn mean(&self, view: usize) -> Vec<f32> {
        let mut mean = vec![0f32; self.grid * self.grid];
        for head in self.of_view(view) {
            mean.iter_mut().zip(head).for_each(|(sum, weight)| *sum += weight / self.heads as f32);
        }
        mean
    }
}

/// The patches that hold `mass` (0 to 1) of the weights: the least ones are left out as long as together they have at most the rest.
pub(crate) fn mass_mask(weights: &[f32], mass: f64) -> Vec<bool> {
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by(|a, b| weights[*a].total_cmp(&weights[*b]));
    let sum: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
    let (mut kept, mut below) = (vec![false; weights.len()], 0.0);
    for patch in order {
        below += f64::from(weights[patch]) / sum;
        kept[patch] = below > 1.0 - mass;
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seeing::golden::{agree, golden, numbers, wave};
    use burn::tensor::{Tensor, TensorData};
    use burn_flex::Flex;
    use lapidary_train::Backbone;
    use std::path::PathBuf;

    #[test]
    fn attention_at_another_size_and_its_masks_are_dinos() {
        let golden = &golden()["attention"];
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/weights/dino/checkpoint.pth");
        let backbone = Backbone::of_file(&folder).expect("tests/golden/weights.py wrote it");
        let vit = backbone.vit::<Flex>(&Default::default()).expect("its tensors");
        let side = golden["side"].as_u64().expect("a side") as usize;
        let image = TensorData::new(wave(3 * side * side, 0.3), [1, 3, side, side]);
        let weights = vit.class_attention(Tensor::from_data(image, &Default::default()));
        let [_, heads, patches] = weights.dims();
        let weights = weights.into_data().to_vec::<f32>().expect("f32");
        let found: Vec<f64> = weights.iter().map(|weight| f64::from(*weight)).collect();
        agree("attention", &found, &numbers(&golden["weights"]), 2e-5);
        assert_eq!(golden["masks"].as_array().map(Vec::len), Some(heads));
        for (head, weights) in weights.chunks_exact(patches).enumerate() {
            let mask: Vec<f64> = mass_mask(weights, 0.6).iter().map(|kept| f64::from(u8::from(*kept))).collect();
            agree("mask", &mask, &numbers(&golden["masks"][head]), 0.0);
        }
    }

    #[test]
    fn a_mask_holds_its_mass_with_the_fewest_patches() {
        let weights = [0.1, 0.4, 0.05, 0.3, 0.15];
        assert_eq!(mass_mask(&weights, 0.6), [false, true, false, true, false]);
        assert_eq!(mass_mask(&weights, 0.75), [false, true, false, true, true]);
        assert_eq!(mass_mask(&weights, 1.0), [true; 5]);
        assert_eq!(mass_mask(&[0.25; 4], 0.5).iter().filter(|kept| **kept).count(), 2);
        assert_eq!(mass_mask(&[], 0.5), Vec::<bool>::new());
    }
}
