//! What patch tokens say of pixels: segmentation by a linear layer and by the nearest train patches, and by the class token's
//! attention alone, on images whose instances have masks.
//!
//! Everything is measured on the view that the network sees of an image, masks cut and scaled with it (nearest pixel). A pixel has
//! the class of the smallest instance there, or is background, which is a class; pixels of crowds count for nothing. Views and maps
//! are the same for every network: they are made once.
//!
//! Memory: 5 bytes a pixel of each view, and a network's tokens and scores of all patches (4 bytes times their width and labels): 100
//! images of 196 patches of 384 values and 81 labels take 25 MB and 90 MB.

mod confusion;
mod emergent;
mod labels;
mod linear;
mod patch_knn;
pub(crate) mod upsample;

pub(crate) use confusion::mean;

use crate::Result;
use crate::masks::Instances;
use crate::pictures::{decoded, sampled};
use crate::scores::Measure;
use crate::seeing::attention::ClassAttention;
use confusion::Confusion;
use emergent::{Overlaps, overlaps};
use image::RgbImage;
use labels::LabelMap;
use lapidary_pipeline::stage::Progress;
use lapidary_pipeline::{ImageStore, interrupt};
use lapidary_schemas::ImageId;
use lapidary_schemas::config::EvalConfig;
use lapidary_train::FrozenVit;
use lapidary_train::operators::Operators;
use lapidary_train::probe::{Labelled, Probe};
use linear::LinearHead;
use patch_knn::{NEIGHBOURS, PatchBank};
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use upsample::{greatest, upsampled};

const LINEAR: &str = "lapidary's own: a linear layer on standardised patch tokens of the last block, cross-entropy over pixels, 500 \
                      steps of Adam; logits bilinear to the view's pixels; mIoU over the classes in the test views, background among \
                      them. Compare with itself only";
const KNN: &str = "lapidary's own: the 20 nearest train patches vote by exp(cosine / `eval.knn_temperature`); votes bilinear to the \
                   view's pixels; mIoU as above. Compare with itself only";
const ATTENTION: &str = "Caron et al. 2021, fig. 4 (there PASCAL VOC12): the patches that hold `eval.attention_mass` of a head's class \
                         attention against the union of the objects in the view; mean over images. Compare with the centred \
                         box and the untrained network";
const CENTRED_BOX: &str = "a centred square of the objects' own area, to compare attention with: what knowing nothing but that objects are in the \
     middle gives";

/// Tokens of patches, view by view and row by row.
#[derive(Debug, Clone)]
struct Tokens {
    dim: usize,
    values: Vec<f32>,
}

impl Tokens {
    fn len(&self) -> usize {
        self.values.len() / self.dim
    }

    fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.dim..][..self.dim]
    }
}

/// Images with masks, as a network sees them.
pub(crate) struct DenseProbe {
    train: Views,
    test: Views,
    /// The test images where attention is computed at a side of its own.
    larger: Option<Views>,
    /// Classes and the background.
    labels: usize,
    mass: f64,
    batch: usize,
    temperature: f64,
    seed: u64,
    notes: Vec<String>,
}

#[derive(Default)]
struct Views {
    images: Vec<RgbImage>,
    maps: Vec<LabelMap>,
}

impl DenseProbe {
    /// Samples, decodes and cuts the images of a probe; none where `eval.dense_images` is 0.
    ///
    /// # Errors
    /// When an image is gone, or the user interrupts.
    pub(crate) fn open<B: Operators>(
        store: &ImageStore,
        probe: &Probe,
        config: &EvalConfig,
        seed: u64,
        network: &FrozenVit<B>,
    ) -> Result<Option<Self>> {
        if config.dense_images == 0 {
            return Ok(None);
        }
        let sample = |list: &[Labelled]| -> Vec<ImageId> {
            sampled(list, config.dense_images, seed).iter().map(|one| one.id).collect()
        };
        let (train, test) = (sample(&probe.train), sample(&probe.test));
        let instances = Instances::read(&probe.folder, &train.iter().chain(&test).copied().collect::<BTreeSet<_>>())?;
        let (own, other) = (network.whole_patches_px(0), network.whole_patches_px(config.attention_px));
        let views = |list: &[ImageId], side_px: usize| Views::of(store, list, &instances, network, side_px);
        let mut notes = Vec::new();
        if instances.bad > 0 {
            notes.push(format!("{} segmentations are no masks of their images and are left out", instances.bad));
        }
        Ok(Some(Self {
            train: views(&train, own)?,
            larger: (own != other).then(|| views(&test, other)).transpose()?,
            test: views(&test, own)?,
            labels: probe.classes.len() + 1,
            mass: config.attention_mass,
            batch: config.batch.max(1),
            temperature: config.knn_temperature,
            seed,
            notes,
        }))
    }

    /// Every measure of a network; where there are no masks, one that says so.
    ///
    /// # Errors
    /// When the user interrupts.
    pub(crate) fn measures<B: Operators>(&self, network: &FrozenVit<B>, device: &B::Device) -> Result<Vec<Measure>> {
        let mut measures = Vec::new();
        if self.test.images.is_empty() {
            let why = "no test image of the probe's sample has a mask: segmentation and attention are not measured";
            let notes = std::iter::once(why.to_owned()).chain(self.notes.iter().cloned()).collect();
            measures.push(Measure { notes, ..measure("segmentation", LINEAR, 0, None) });
            return Ok(measures);
        }
        if self.train.images.is_empty() {
            let notes = vec!["no train image of the probe's sample has a mask: no segmentation is learned".to_owned()];
            measures.push(Measure { notes, ..measure("segmentation", LINEAR, 0, None) });
        } else {
            measures.extend(self.segmentation(network, device)?);
        }
        measures.extend(self.emergent(network)?);
        if let Some(first) = measures.first_mut() {
            first.notes.extend(self.notes.iter().cloned());
        }
        Ok(measures)
    }

    fn segmentation<B: Operators>(&self, network: &FrozenVit<B>, device: &B::Device) -> Result<Vec<Measure>> {
        let (labels, patch_px) = (self.labels, network.patch_px());
        let tokens = |views: &Views| self.tokens(network, &views.images);
        let (train, test) = (tokens(&self.train)?, tokens(&self.test)?);
        let shares: Vec<f32> = self.train.maps.iter().flat_map(|map| map.shares(patch_px, labels)).collect();
        let head = LinearHead::fit::<B>(&train, &shares, labels, self.seed, device)?;
        let patches = test.len() / self.test.images.len();
        let logits: Vec<Vec<f32>> =
            test.values.chunks_exact(patches * test.dim).map(|tokens| head.logits::<B>(tokens, device)).collect();
        let linear = self.measured("linear segmentation mIoU", LINEAR, &logits);
        let Some(bank) = PatchBank::new(&train, &shares, labels, self.temperature) else { return Ok(vec![linear]) };
        let mut votes = Vec::new();
        for tokens in test.values.chunks(self.batch * patches * test.dim) {
            interrupt::check()?;
            let voted = bank.votes::<B>(&Tokens { dim: test.dim, values: tokens.to_vec() }, device);
            votes.extend(voted.chunks_exact(patches * labels).map(<[f32]>::to_vec));
        }
        let mut knn = self.measured("patch k-NN mIoU", KNN, &votes);
        knn.settings.extend([("k".to_owned(), NEIGHBOURS as f64), ("train patches".to_owned(), bank.len() as f64)]);
        Ok(vec![linear, knn])
    }

    /// The mIoU of scores, `[patches, labels]` for each test view.
    fn measured(&self, name: &str, protocol: &str, scores: &[Vec<f32>]) -> Measure {
        let count = |confusion: Confusion, (scores, map): (&Vec<f32>, &LabelMap)| {
            let grid = ((scores.len() / self.labels) as f64).sqrt().round() as usize;
            let pixels = upsampled(scores, (grid, grid), (map.side_px, map.side_px));
            confusion.with(map, &greatest(&pixels, self.labels))
        };
        let none = || Confusion::new(self.labels);
        let confusion = scores.par_iter().zip(&self.test.maps).fold(none, count).reduce(none, Confusion::plus);
        let ious = confusion.intersections_over_unions();
        let objects = ious.iter().filter(|(label, _)| *label > 0);
        let mut measure = measure(name, protocol, self.test.images.len(), mean(ious.iter().map(|(_, iou)| *iou)));
        let parts = [
            ("mIoU without background", mean(objects.clone().map(|(_, iou)| *iou))),
            ("pixel accuracy", confusion.accuracy()),
            ("classes in the test views", Some(objects.count() as f64)),
            ("train images", Some(self.train.images.len() as f64)),
        ];
        measure.settings.extend(parts.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
        measure
    }

    fn emergent<B: Operators>(&self, network: &FrozenVit<B>) -> Result<Vec<Measure>> {
        let views = self.larger.as_ref().unwrap_or(&self.test);
        let attention = ClassAttention::of(network, &views.images)?;
        let found: Vec<Overlaps> = views
            .maps
            .par_iter()
            .enumerate()
            .filter_map(|(view, map)| overlaps(&attention, view, map, self.mass))
            .collect();
        let of = |name: &str, protocol: &str, figure: fn(&Overlaps) -> f64| {
            let mut measure = measure(name, protocol, found.len(), mean(found.iter().map(figure)));
            let side_px = views.images.first().map_or(0, RgbImage::width);
            let settings = [("mass", self.mass), ("side_px", f64::from(side_px))];
            measure.settings.extend(settings.map(|(name, value)| (name.to_owned(), value)));
            measure
        };
        Ok(vec![
            of("attention, best head", ATTENTION, |found| found.best_head),
            of("attention, mean of heads", ATTENTION, |found| found.mean_head),
            of("centred box", CENTRED_BOX, |found| found.centred_box),
        ])
    }

    fn tokens<B: Operators>(&self, network: &FrozenVit<B>, views: &[RgbImage]) -> Result<Tokens> {
        let progress = Progress::new("patch tokens", views.len() as u64, "images");
        let mut values = Vec::new();
        for views in views.chunks(self.batch) {
            interrupt::check()?;
            values.extend(network.patch_features(views));
            progress.add(views.len() as u64);
        }
        Ok(Tokens { dim: network.dim(), values })
    }
}

impl Views {
    /// Those of a list that have masks, `side_px` squared.
    fn of<B: Operators>(
        store: &ImageStore,
        list: &[ImageId],
        instances: &Instances,
        network: &FrozenVit<B>,
        side_px: usize,
    ) -> Result<Self> {
        let list: Vec<ImageId> = list.iter().filter(|id| instances.by_image.contains_key(id)).copied().collect();
        let mut views = Self::default();
        for ids in list.chunks(64) {
            interrupt::check()?;
            let cut = |(id, image): (&ImageId, &RgbImage)| -> Result<(RgbImage, LabelMap)> {
                let middle = network.middle(image.dimensions(), side_px);
                let map = LabelMap::of(&instances.by_image[id], &middle, side_px);
                Ok((network.view(image, side_px)?, map))
            };
            let pairs = ids.par_iter().zip(&decoded(store, ids)?).map(cut).collect::<Result<Vec<_>>>()?;
            for (image, map) in pairs {
                views.images.push(image);
                views.maps.push(map);
            }
        }
        Ok(views)
    }
}

/// A measure without settings and notes.
pub(crate) fn measure(name: &str, protocol: &str, images: usize, value: Option<f64>) -> Measure {
    let (settings, notes) = (BTreeMap::new(), Vec::new());
    Measure { name: name.to_owned(), protocol: protocol.to_owned(), images, value, settings, notes }
}
