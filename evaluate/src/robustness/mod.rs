//! Robustness: how features and what a probe makes of them change when test images are transformed, each transformation at five
//! strengths. These are the probe's shifted copies.
//!
//! The k-NN probe's bank is the clean train images, as in [`crate::probes`]; the queries are the transformed views of a seeded,
//! stratified sample of the test images. Nothing is learned from what is transformed.

mod table;
mod transformation;
mod warp;

pub use table::ROBUSTNESS_FILE;
pub(crate) use table::{robustness_lines, write_robustness};

use crate::Result;
use crate::pictures::{decoded, sampled};
use image::RgbImage;
use lapidary_pipeline::stage::Progress;
use lapidary_pipeline::{ImageStore, interrupt};
use lapidary_schemas::ImageId;
use lapidary_schemas::config::EvalConfig;
use lapidary_train::FrozenVit;
use lapidary_train::operators::Operators;
use lapidary_train::probe::{Features, Labelled, Neighbours, knn};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use transformation::Transformation;

const PROTOCOL: &str = "lapidary's own: the view that the network sees is transformed in 8 bits (crop, colour and blur as Pillow and \
                        torchvision, rotation, perspective and JPEG as Pillow); k-NN with the clean train images, and the cosine \
                        between a view's feature and the same view's when it is transformed. Compare with the untrained network and \
                        other runs";

/// How a network's features stand transformations of test images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Robustness {
    /// The probe that says the classes: `knn 20`.
    pub probe: String,
    /// How it is measured, and what it can be held beside.
    pub protocol: String,
    /// Test images.
    pub images: usize,
    /// Top-1 on these images as they are, 0 to 1.
    pub clean_top1: f64,
    /// Each transformation.
    pub transformations: Vec<Transformed>,
}

/// A transformation, from weak to strong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Transformed {
    /// Its name.
    pub name: String,
    /// What its values mean.
    pub meaning: String,
    /// Five strengths.
    pub strengths: Vec<Strength>,
}

/// What a strength does.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Strength {
    /// The transformation's value.
    pub value: f64,
    /// Top-1 of the probe, 0 to 1.
    pub top1: f64,
    /// Mean cosine between the features of clean and transformed views.
    pub cosine: f64,
}

/// The views that are transformed: the same for every network of a run.
pub(crate) struct RobustnessProbe {
    list: Vec<Labelled>,
    views: Vec<RgbImage>,
    classes: usize,
    seed: u64,
}

impl RobustnessProbe {
    /// A sample of the test images; none where `eval.robustness_images` is 0.
    ///
    /// # Errors
    /// When an image is gone.
    pub(crate) fn open<B: Operators>(
        store: &ImageStore,
        test: &[Labelled],
        classes: usize,
        config: &EvalConfig,
        seed: u64,
        network: &FrozenVit<B>,
    ) -> Result<Option<Self>> {
        if config.robustness_images == 0 {
            return Ok(None);
        }
        let list = sampled(test, config.robustness_images, seed);
        let ids: Vec<ImageId> = list.iter().map(|one| one.id).collect();
        let side_px = network.whole_patches_px(0);
        let views =
            decoded(store, &ids)?.par_iter().map(|image| Ok(network.view(image, side_px)?)).collect::<Result<_>>()?;
        Ok(Some(Self { list, views, classes, seed }))
    }

    /// What becomes of a network's features; `train` are those of the clean train images.
    ///
    /// # Errors
    /// When the user interrupts.
    pub(crate) fn measure<B: Operators>(
        &self,
        network: &FrozenVit<B>,
        train: &Features,
        config: &EvalConfig,
        device: &B::Device,
    ) -> Result<Robustness> {
        let bank = train.clone().normalised();
        let k = config.knn_neighbours.first().copied().unwrap_or(1);
        let top1 = |features: &Features| {
            let neighbours = Neighbours::find::<B>(&bank, features, k, device);
            let labels = (&bank.classes[..], &features.classes[..]);
            knn::accuracy(&neighbours, labels, self.classes, k, config.knn_temperature).top1()
        };
        let clean = self.features(network, &self.views, config.batch)?;
        let images = self.views.len() as u64;
        let progress = Progress::new("transformed", images * Transformation::ALL.len() as u64, "images");
        let mut transformations = Vec::new();
        for transformation in Transformation::ALL {
            let (name, meaning, values) = transformation.described();
            let mut strengths = Vec::new();
            for value in values {
                interrupt::check()?;
                let apply = |(view, one): (&RgbImage, &Labelled)| transformation.apply(view, value, one.id, self.seed);
                let views = self.views.par_iter().zip(&self.list).map(apply).collect::<Result<Vec<_>>>()?;
                let features = self.features(network, &views, config.batch)?;
                strengths.push(Strength { value, top1: top1(&features), cosine: mean_cosine(&clean, &features) });
            }
            transformations.push(Transformed { name: name.to_owned(), meaning: meaning.to_owned(), strengths });
            progress.add(images);
        }
        Ok(Robustness {
            probe: format!("knn {k}"),
            protocol: PROTOCOL.to_owned(),
            images: self.views.len(),
            clean_top1: top1(&clean),
            transformations,
        })
    }

    /// Class features of views, of unit length.
    fn features<B: Operators>(&self, network: &FrozenVit<B>, views: &[RgbImage], batch: usize) -> Result<Features> {
        let mut values = Vec::with_capacity(views.len() * network.dim());
        for views in views.chunks(batch.max(1)) {
            interrupt::check()?;
            values.extend(network.features_of_views(views, |pixels| network.vit.forward(pixels)));
        }
        // A transformed view whose feature is no number would be nearest to nothing.
        values.iter_mut().filter(|value| !value.is_finite()).for_each(|value| *value = 0.0);
        let classes = self.list.iter().map(|one| one.class).collect();
        Ok(Features { dim: network.dim(), values, classes }.normalised())
    }
}

/// The mean of the rows' products; rows must be of unit length.
fn mean_cosine(a: &Features, b: &Features) -> f64 {
    let cosine =
        |row: usize| a.row(row).iter().zip(b.row(row)).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    (0..a.len()).map(cosine).sum::<f64>() / a.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn_flex::Flex;
    use lapidary_pipeline::draw::Scene;
    use lapidary_pipeline::random::{Purpose, keyed};
    use lapidary_schemas::config::ModelConfig;
    use lapidary_train::model::{Vit, initialise};

    #[test]
    fn clean_views_are_told_apart_best_and_stronger_noise_moves_features_further() {
        let model =
            ModelConfig { image_px: 32, patch_px: 8, dim: 24, depth: 1, heads: 2, ..ModelConfig::default() }.resolved();
        let device = Default::default();
        let network = FrozenVit::<Flex>::new(initialise(Vit::new(&model, false, &device), 5), &model, &device);
        let scene = |index: u64| Scene::single(&mut keyed(1, Purpose::Scene, 9, index), (index % 4) as usize).paint();
        let list: Vec<Labelled> = (0..24).map(|i| Labelled { id: ImageId(i), class: (i % 4) as u32 }).collect();
        let views: Vec<RgbImage> = (0..24).map(|i| network.view(&scene(i), 32).expect("resizes")).collect();
        let probe = RobustnessProbe { list, views, classes: 4, seed: 1 };
        // The bank is the clean views themselves, so that the nearest of a clean view is itself.
        let train = probe.features(&network, &probe.views, 7).expect("features");
        let config = EvalConfig { knn_neighbours: vec![1], ..EvalConfig::default() };
        let found = probe.measure(&network, &train, &config, &device).expect("measures");
        assert_eq!((found.images, found.clean_top1, found.transformations.len()), (24, 1.0, 11));
        for of in &found.transformations {
            assert_eq!(of.strengths.len(), 5);
            assert!(of.strengths.iter().all(|s| s.cosine <= 1.0 + 1e-6 && (0.0..=1.0).contains(&s.top1)), "{of:?}");
            assert!(of.strengths[0].cosine > of.strengths[4].cosine, "{of:?}");
        }
        let noise = found.transformations.iter().find(|of| of.name == "noise").expect("noise");
        assert!(noise.strengths.windows(2).all(|pair| pair[0].cosine > pair[1].cosine), "{noise:?}");
        assert_eq!(found, probe.measure(&network, &train, &config, &device).expect("again"));
    }
}
