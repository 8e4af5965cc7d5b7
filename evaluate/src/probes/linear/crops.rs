//! Features of random crops of the train images, epoch by epoch, in a drawn order: computed once, for all who learn from them.
//!
//! An epoch is never in memory: `eval.batch` images are decoded, cropped and read at a time. An epoch costs what the features
//! of all train images cost.

use super::inputs::LastBlocks;
use crate::Result;
use crate::probes::check_finite;
use crate::read::read_images;
use lapidary_pipeline::ImageStore;
use lapidary_pipeline::pixels::{Executor, Raster};
use lapidary_pipeline::plan::views_of_image;
use lapidary_pipeline::random::{Purpose, Rng, keyed};
use lapidary_pipeline::stage::Progress;
use lapidary_schemas::config::{Interpolation, ViewSpec};
use lapidary_train::FrozenVit;
use lapidary_train::operators::Operators;
use lapidary_train::probe::{Features, Labelled};
use rayon::prelude::*;

/// Crops of a list of images.
pub(crate) struct Crops<'a, B: Operators> {
    pub(crate) store: &'a ImageStore,
    /// The train images; each decodes.
    pub(crate) list: &'a [Labelled],
    /// Trained or untrained, and the network.
    pub(crate) network: (&'static str, &'a FrozenVit<B>),
    /// Last blocks to read.
    pub(crate) blocks: usize,
    /// Images a batch.
    pub(crate) batch: usize,
    pub(crate) interpolation: Interpolation,
    pub(crate) seed: u64,
}

impl<B: Operators> Crops<'_, B> {
    /// Gives `learn` the features of an epoch's crops, in the epoch's order, with the images' indices in the list: of the
    /// first `most` images that `is_read` by their indices.
    ///
    /// # Errors
    /// When an image is gone, features are not finite, or the user interrupts.
    pub(crate) fn epoch(
        &self,
        epoch: usize,
        (most, is_read): (usize, impl Fn(usize) -> bool),
        mut learn: impl FnMut(&[usize], &LastBlocks),
    ) -> Result<()> {
        let order = order_of_epoch(self.seed, epoch, self.list).into_iter().filter(|index| is_read(*index));
        let order: Vec<usize> = order.take(most).collect();
        let ordered: Vec<Labelled> = order.iter().map(|index| self.list[*index]).collect();
        let progress = Progress::new("crops", ordered.len() as u64, "images");
        let spec = view_spec(self.network.1.image_px(), self.interpolation);
        read_images(self.store, &ordered, self.batch, |places, images| {
            let infos = places.iter().map(|place| self.store.info(ordered[*place].id));
            let infos = infos.collect::<Option<Vec<_>>>().expect("images that were fetched are in the store");
            let plane = 3 * self.network.1.image_px().pow(2);
            let mut pixels = vec![0f32; images.len() * plane];
            pixels.par_chunks_exact_mut(plane).zip(images).zip(infos).try_for_each_init(
                Executor::default,
                |executor, ((pixels, image), info)| {
                    let views = views_of_image(self.seed, epoch as u32, 0, info, std::slice::from_ref(&spec));
                    executor.render_into(&Raster::from(image), &views[0], pixels)
                },
            )?;
            let values = self.network.1.last_blocks_of_pixels(pixels, self.blocks);
            let read: Vec<Labelled> = places.iter().map(|place| ordered[*place]).collect();
            let classes = read.iter().map(|labelled| labelled.class).collect();
            let features = Features { dim: (self.blocks + 1) * self.network.1.dim(), values, classes };
            check_finite(self.network.0, &read, &features)?;
            let indices: Vec<usize> = places.iter().map(|place| order[*place]).collect();
            learn(&indices, &LastBlocks { features, blocks: self.blocks });
            progress.add(images.len() as u64);
            Ok(())
        })?;
        Ok(())
    }
}

/// The indices of a list in an order that seed, epoch and ids alone decide.
fn order_of_epoch(seed: u64, epoch: usize, list: &[Labelled]) -> Vec<usize> {
    let key = |one: &Labelled| keyed(seed, Purpose::ProbeOrder, epoch as u64, one.id.0).next_u64();
    let mut keyed: Vec<(u64, usize)> = list.iter().zip(0..).map(|(one, index)| (key(one), index)).collect();
    keyed.sort_unstable();
    keyed.into_iter().map(|(_, index)| index).collect()
}

/// torchvision's `RandomResizedCrop` and `RandomHorizontalFlip` at their defaults.
fn view_spec(side: usize, interpolation: Interpolation) -> ViewSpec {
    ViewSpec {
        size_px: u16::try_from(side).expect("a network's images are at most 65,535 px: checked when it was configured"),
        interpolation,
        area: [0.08, 1.0],
        flip_p: 0.5,
        jitter_p: 0.0,
        grayscale_p: 0.0,
        blur_p: 0.0,
        solarize_p: 0.0,
        ..ViewSpec::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapidary_schemas::ImageId;

    #[test]
    fn each_epoch_has_every_image_in_an_order_of_its_own() {
        let list: Vec<Labelled> = (0..50).map(|i| Labelled { id: ImageId(i * 7919), class: 0 }).collect();
        let (first, second) = (order_of_epoch(1, 0, &list), order_of_epoch(1, 1, &list));
        let sorted = |mut order: Vec<usize>| {
            order.sort_unstable();
            order
        };
        assert_eq!((sorted(first.clone()), sorted(second.clone())), ((0..50).collect(), (0..50).collect()));
        assert!(first != second && first == order_of_epoch(1, 0, &list));
    }
}
