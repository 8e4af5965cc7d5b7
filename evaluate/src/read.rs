//! What a frozen network makes of a probe's images, read batch by batch.
//!
//! Images that no longer decode (ingest decoded these very bytes; they were damaged on disk since) are set aside and counted, each
//! with its reason: those who read a list get it back without them.

use crate::Result;
use crate::probes::{LastBlocks, check_finite};
use image::RgbImage;
use lapidary_pipeline::sources::Reject;
use lapidary_pipeline::stage::Progress;
use lapidary_pipeline::{ImageStore, decode, interrupt};
use lapidary_schemas::ImageId;
use lapidary_train::FrozenVit;
use lapidary_train::operators::Operators;
use lapidary_train::probe::{Features, Labelled};
use rayon::prelude::*;
use std::collections::BTreeSet;

/// A network that reads images.
pub(crate) struct Reader<'a, B: Operators> {
    pub(crate) store: &'a ImageStore,
    /// Trained or untrained, and the network.
    pub(crate) network: (&'static str, &'a FrozenVit<B>),
    /// Images a batch.
    pub(crate) batch: usize,
}

impl<B: Operators> Reader<'_, B> {
    /// The class tokens of a list's images, which loses those that do not decode.
    ///
    /// # Errors
    /// When an image is gone, features are not finite, the user interrupts, or the device fails.
    pub(crate) fn class_tokens(&self, list: &mut Vec<Labelled>) -> Result<(Features, Vec<Reject>)> {
        self.read(list, self.network.1.dim(), |images| Ok(self.network.1.class_features(images)?))
    }

    /// The last blocks of a list's images, which loses those that do not decode.
    ///
    /// # Errors
    /// When an image is gone, features are not finite, the user interrupts, or the device fails.
    pub(crate) fn last_blocks(&self, list: &mut Vec<Labelled>, blocks: usize) -> Result<(LastBlocks, Vec<Reject>)> {
        let dim = (blocks + 1) * self.network.1.dim();
        let (features, rejects) = self.read(list, dim, |images| Ok(self.network.1.last_blocks(images, blocks)?))?;
        Ok((LastBlocks { features, blocks }, rejects))
    }

    fn read(
        &self,
        list: &mut Vec<Labelled>,
        dim: usize,
        features: impl Fn(&[RgbImage]) -> Result<Vec<f32>>,
    ) -> Result<(Features, Vec<Reject>)> {
        let progress = Progress::new("features", list.len() as u64, "images");
        let mut values = Vec::with_capacity(list.len() * dim);
        let undecoded = read_images(self.store, list, self.batch, |_, images| {
            values.extend(features(images)?);
            progress.add(images.len() as u64);
            Ok(())
        })?;
        let gone: BTreeSet<ImageId> = undecoded.iter().map(|(id, _)| *id).collect();
        list.retain(|labelled| !gone.contains(&labelled.id));
        let features = Features { dim, values, classes: list.iter().map(|labelled| labelled.class).collect() };
        check_finite(self.network.0, list, &features)?;
        Ok((features, undecoded.into_iter().map(|(_, reject)| reject).collect()))
    }
}

/// Gives `read` the images of a list, `batch` at a time with their places in the list; returns those that do not decode.
///
/// # Errors
/// When an image is gone, the user interrupts, or `read` fails.
pub(crate) fn read_images(
    store: &ImageStore,
    list: &[Labelled],
    batch: usize,
    mut read: impl FnMut(&[usize], &[RgbImage]) -> Result<()>,
) -> Result<Vec<(ImageId, Reject)>> {
    let mut undecoded = Vec::new();
    for (chunk, first) in list.chunks(batch.max(1)).zip((0..).step_by(batch.max(1))) {
        interrupt::check()?;
        let ids: Vec<ImageId> = chunk.iter().map(|labelled| labelled.id).collect();
        let fetched = store.fetch(&ids)?;
        let decoded: Vec<_> = (0..fetched.len())
            .into_par_iter()
            .map(|i| decode(fetched.get(i), store.rule()).map(|decoded| decoded.rgb))
            .collect();
        let (mut places, mut images) = (Vec::with_capacity(chunk.len()), Vec::with_capacity(chunk.len()));
        for ((place, id), image) in (first..).zip(ids).zip(decoded) {
            match image {
                Ok(image) => {
                    places.push(place);
                    images.push(image);
                }
                Err((reason, detail)) => undecoded.push((id, Reject::new(id.to_string(), reason, detail))),
            }
        }
        if !images.is_empty() {
            read(&places, &images)?;
        }
    }
    Ok(undecoded)
}
