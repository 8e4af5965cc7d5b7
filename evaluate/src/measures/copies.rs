//! How well an encoder finds copies: copies of test images are made by code, each is compared with all originals by cosine
//! similarity, and the pairs of all copies are ranked together. Their micro average precision (uAP, as in the Image Similarity
//! Challenge, Douze et al. 2021) asks for one threshold that suits all images. The built-in descriptor is measured on the same
//! pairs.

use super::average_precision::average_precision;
use super::planted::{KINDS, copies_of};
use crate::Result;
use crate::matrix::{Matrix, multiply};
use crate::probes::check_finite;
use crate::read::read_images;
use crate::scores::Measure;
use lapidary_pipeline::stage::Progress;
use lapidary_pipeline::{ImageStore, describe};
use lapidary_train::FrozenVit;
use lapidary_train::operators::Operators;
use lapidary_train::probe::{Features, Labelled, stratified};
use rayon::prelude::*;
use std::collections::BTreeMap;

const PROTOCOL: &str = "lapidary's own: micro average precision of all pairs of six kinds of planted copies with the originals; \
                        compare with the built-in descriptor's beside it, not with DISC's figures";
const DESCRIPTOR: &str =
    "the same pairs by lapidary's built-in descriptor, which needs no training: compare with `copy uAP`";

/// What copies are made of, and how.
pub(crate) struct CopySearch<'a> {
    pub(crate) store: &'a ImageStore,
    /// The test images; each decodes.
    pub(crate) test: &'a [Labelled],
    /// Of them, originals at most.
    pub(crate) images: usize,
    /// Images a batch.
    pub(crate) batch: usize,
    pub(crate) seed: u64,
}

/// The encoder's measure and the descriptor's.
///
/// # Errors
/// When an image is gone, features are not finite, or the user interrupts.
pub(crate) fn copy_measures<B: Operators>(
    search: &CopySearch<'_>,
    (name, network): (&'static str, &FrozenVit<B>),
) -> Result<Vec<Measure>> {
    let list = stratified(search.test, 1.0, search.images, search.seed);
    let progress = Progress::new("copies", list.len() as u64, "images");
    let (mut learned, mut described) = (Pairs::default(), Pairs::default());
    read_images(search.store, &list, search.batch, |places, images| {
        let made: Vec<Vec<_>> = places
            .par_iter()
            .zip(images)
            .map(|(place, image)| copies_of(image, list[*place].id, search.seed, search.store.rule()))
            .collect::<Result<_>>()?;
        learned.originals.extend(network.class_features(images)?);
        described.originals.extend(descriptors(images)?);
        // Kind by kind, so that a batch of features has the size of a batch of images.
        for kind in 0..KINDS.len() {
            let copies: Vec<_> = made.iter().map(|copies| copies[kind].clone()).collect();
            learned.copies[kind].extend(network.class_features(&copies)?);
            described.copies[kind].extend(descriptors(&copies)?);
        }
        progress.add(images.len() as u64);
        Ok(())
    })?;
    let learned = learned.scored(network.dim());
    for features in [&learned.originals].into_iter().chain(&learned.copies) {
        check_finite(name, &list, features)?;
    }
    let described = described.scored(described.originals.len() / list.len().max(1));
    Ok(vec![learned.measure("copy uAP", PROTOCOL), described.measure("copy uAP, descriptor", DESCRIPTOR)])
}

fn descriptors(images: &[image::RgbImage]) -> Result<Vec<f32>> {
    let described: Vec<Vec<f32>> = images.par_iter().map(describe).collect::<Result<_, _>>()?;
    Ok(described.concat())
}

/// Values of originals and of their copies, kind by kind, as they come.
#[derive(Debug, Default)]
struct Pairs {
    originals: Vec<f32>,
    copies: [Vec<f32>; KINDS.len()],
}

impl Pairs {
    fn scored(&self, dim: usize) -> Scored {
        let of =
            |values: &Vec<f32>| Features { dim, values: values.clone(), classes: vec![0; values.len() / dim.max(1)] };
        Scored { originals: of(&self.originals), copies: self.copies.each_ref().map(of) }
    }
}

/// The same, image by image; copy i of a kind is of original i.
#[derive(Debug)]
struct Scored {
    originals: Features,
    copies: [Features; KINDS.len()],
}

impl Scored {
    fn measure(&self, name: &str, protocol: &str) -> Measure {
        let originals = self.originals.clone().normalised();
        let by_kind: Vec<Vec<(f32, bool)>> =
            self.copies.iter().map(|copies| pairs(&originals, &copies.clone().normalised())).collect();
        let mut all = by_kind.concat();
        let of_kind = |(kind, mut items): (&&str, Vec<(f32, bool)>)| {
            average_precision(&mut items).map(|precision| ((*kind).to_owned(), precision))
        };
        Measure {
            name: name.to_owned(),
            protocol: protocol.to_owned(),
            images: KINDS.len() * originals.len(),
            value: average_precision(&mut all),
            settings: KINDS.iter().zip(by_kind).filter_map(of_kind).collect::<BTreeMap<_, _>>(),
            notes: Vec::new(),
        }
    }
}

/// Each copy with each original: their similarity, and whether the one is of the other.
fn pairs(originals: &Features, copies: &Features) -> Vec<(f32, bool)> {
    let count = originals.len();
    let mut similarities = vec![0f32; copies.len() * count];
    let (copies, originals) = (Matrix::new(&copies.values, copies.dim), Matrix::new(&originals.values, originals.dim));
    multiply(&mut similarities, copies, originals.transposed(), false);
    similarities
        .into_iter()
        .zip(0..)
        .map(|(similarity, at): (f32, usize)| (similarity, at / count == at % count))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::{features, measures};

    #[test]
    fn the_micro_average_precision_is_scikit_learns_over_all_pairs() {
        let originals = features(40, 16, 4, 0.3, 0.9);
        let copies = std::array::from_fn(|kind| {
            let noise = features(40, 16, 4, 2.0 + kind as f64, 0.0);
            let values = originals.values.iter().zip(&noise.values).map(|(a, b)| a + 0.4 * (1 + kind) as f32 * b);
            Features { values: values.collect(), ..originals.clone() }
        });
        let measure = Scored { originals, copies }.measure("copy uAP", PROTOCOL);
        let golden = &measures()["copies"];
        let near = |found: f64, name: &str| {
            let expected = golden[name].as_f64().expect("a number");
            assert!((found - expected).abs() < 1e-6, "{name}: {found} against {expected}");
        };
        near(measure.value.expect("pairs"), "all");
        KINDS.iter().for_each(|kind| near(measure.settings[*kind], kind));
        assert_eq!(measure.images, 240);
    }
}
