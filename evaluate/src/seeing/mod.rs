//! What a network sees, as pictures and tables for a reader: attention maps, patches in colour, maps of features, nearest neighbours,
//! matches of patches. No figure of [`crate::Scores`] comes from here; what each file holds is said in evaluate/seeing.md.
//!
//! Pictures are drawn of the trained network alone. A file that would be empty is not written.

pub(crate) mod attention;
mod canvas;
#[cfg(test)]
pub(crate) mod golden;
mod map;
mod matches;
mod neighbours;
mod patch_colours;
mod pca;
mod strips;
mod tsne;

pub use map::MAP_FILE;
pub use matches::{MATCHES, MATCHES_FILE};
pub use neighbours::NEIGHBOURS_FILE;
pub use patch_colours::PATCH_COLOURS_FILE;

use crate::Result;
use crate::pictures::decoded;
use image::RgbImage;
use image::imageops::crop_imm;
use lapidary_pipeline::{ImageStore, PipelineError};
use lapidary_schemas::ImageId;
use lapidary_schemas::config::EvalConfig;
use lapidary_train::FrozenVit;
use lapidary_train::operators::Operators;
use lapidary_train::probe::{Features, Labelled, Neighbours, Probe};
use matches::{Pair, write_matches};
use std::path::Path;

/// The folder of attention maps.
pub const ATTENTION: &str = "attention";
/// Images whose patches are matched, of those that are drawn.
const MATCHED: usize = 3;

/// Side of the pictures that views are shown by.
const PICTURE_PX: usize = 256;

/// An image as the network sees it, and as a reader does.
#[derive(Debug, Clone)]
struct Shown {
    /// What the network sees.
    view: RgbImage,
    /// The same part of the image with more pixels, where it has them.
    picture: RgbImage,
}

impl Shown {
    fn of<B: Operators>(network: &FrozenVit<B>, image: &RgbImage, side_px: usize) -> Result<Self> {
        Ok(Self { view: network.view(image, side_px)?, picture: network.view(image, PICTURE_PX.max(side_px))? })
    }
}

/// What is drawn and listed.
pub(crate) struct Seeing<'a> {
    pub(crate) store: &'a ImageStore,
    pub(crate) probe: &'a Probe,
    pub(crate) config: &'a EvalConfig,
    pub(crate) seed: u64,
    /// Where files go.
    pub(crate) folder: &'a Path,
}

impl Seeing<'_> {
    /// Writes all files of a network, whose features of the train and test images are known.
    ///
    /// # Errors
    /// When an image is gone, a file cannot be written, or the user interrupts.
    pub(crate) fn write<B: Operators>(
        &self,
        network: &FrozenVit<B>,
        (train, test): (&Features, &Features),
        device: &B::Device,
    ) -> Result<()> {
        let (config, probe) = (self.config, self.probe);
        if config.map_images > 0 {
            map::write_map(self.folder, &probe.test, test, &probe.classes, config.map_images, self.seed)?;
        }
        if config.neighbour_queries > 0 {
            let queries = config.neighbour_queries;
            neighbours::write_neighbours::<B>(self.folder, probe, (train, test), queries, self.seed, device)?;
        }
        let drawn = self.drawn();
        if drawn.is_empty() {
            return Ok(());
        }
        let side_px = network.whole_patches_px(config.attention_px);
        let ids: Vec<ImageId> = drawn.iter().map(|one| one.id).collect();
        let images = decoded(self.store, &ids)?;
        let shown: Vec<Shown> = images.iter().map(|image| Shown::of(network, image, side_px)).collect::<Result<_>>()?;
        let folder = self.folder.join(ATTENTION);
        std::fs::create_dir_all(&folder).map_err(PipelineError::io("create folder", &folder))?;
        for (id, strip) in ids.iter().zip(strips::strips(network, &shown, config.attention_mass)?) {
            save(&strip, &folder.join(format!("{id}.png")))?;
        }
        save(&patch_colours::patch_colours(network, &shown), &self.folder.join(PATCH_COLOURS_FILE))?;
        write_matches(
            self.folder,
            network,
            &self.pairs(network, &drawn, (&images[..], &shown[..]), (train, test), device)?,
        )
    }

    /// The first of what is drawn, each beside its own upper left part and beside its nearest train image.
    fn pairs<B: Operators>(
        &self,
        network: &FrozenVit<B>,
        drawn: &[Labelled],
        (images, shown): (&[RgbImage], &[Shown]),
        (train, test): (&Features, &Features),
        device: &B::Device,
    ) -> Result<Vec<Pair>> {
        let matched = &drawn[..drawn.len().min(MATCHED)];
        let index =
            |one: &Labelled| self.probe.test.binary_search(one).expect("what is drawn is of the probe's images");
        let queries = test.select(&matched.iter().map(index).collect::<Vec<_>>()).normalised();
        let nearest = Neighbours::find::<B>(&train.clone().normalised(), &queries, 1, device);
        let mut pairs = Vec::new();
        for (number, one) in matched.iter().enumerate() {
            let (id, first) = (one.id.to_string(), &shown[number]);
            let side_px = first.view.width() as usize;
            let (width, height) = images[number].dimensions();
            let part = crop_imm(&images[number], 0, 0, (width * 3 / 4).max(1), (height * 3 / 4).max(1)).to_image();
            let part = Shown::of(network, &part, side_px)?;
            pairs.push(Pair { kind: "view", names: [id.clone(), id.clone()], shown: [first.clone(), part] });
            if let Some((_, at)) = nearest.of(number).first() {
                let other = self.probe.train[*at as usize].id;
                let image = decoded(self.store, &[other])?.remove(0);
                let other_shown = Shown::of(network, &image, side_px)?;
                let shown = [first.clone(), other_shown];
                pairs.push(Pair { kind: "neighbour", names: [id, other.to_string()], shown });
            }
        }
        Ok(pairs)
    }

    /// Test images, a class after the other.
    fn drawn(&self) -> Vec<Labelled> {
        let mut seen: Vec<usize> = vec![0; self.probe.classes.len()];
        let mut ordered: Vec<(usize, Labelled)> = Vec::new();
        for one in &self.probe.test {
            ordered.push((seen[one.class as usize], *one));
            seen[one.class as usize] += 1;
        }
        ordered.sort_by_key(|(nth, one)| (*nth, one.class));
        ordered.into_iter().take(self.config.attention_images).map(|(_, one)| one).collect()
    }
}

fn save(image: &RgbImage, path: &Path) -> Result<()> {
    Ok(image.save(path).map_err(|e| PipelineError::format(path, e))?)
}
