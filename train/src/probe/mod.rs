//! A probe: labelled images, split into what a classifier may learn from and what it is tested on.
//!
//! The lists are functions of the seed and the image ids: the same images whatever the order of the files, and stratified,
//! so that every class keeps its share. A class of one image is learned from, not tested on.

mod accuracy;
#[cfg(target_arch = "x86_64")]
mod codes;
pub mod features;
pub mod knn;
mod neighbours;

use crate::{Result, TrainError};
pub use accuracy::Accuracy;
pub use features::Features;
use lapidary_pipeline::random::{Purpose, Rng, keyed};
use lapidary_pipeline::stage::{Layout, require_manifest};
use lapidary_pipeline::{Ranges, labels_by_split};
use lapidary_schemas::config::EvalConfig;
use lapidary_schemas::{Digest, ImageId};
pub use neighbours::Neighbours;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// An image and its class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Labelled {
    /// The image.
    pub id: ImageId,
    /// Index of its class.
    pub class: u32,
}

/// Labelled images of a source.
#[derive(Debug)]
pub struct Probe {
    /// The source's name.
    pub name: String,
    /// Its images.
    pub folder: PathBuf,
    /// Digest of their manifest.
    pub digest: Digest,
    /// Class names.
    pub classes: Vec<String>,
    /// What a classifier may learn from, by id.
    pub train: Vec<Labelled>,
    /// What it is tested on, by id.
    pub test: Vec<Labelled>,
    /// Images that have no label: they are set aside.
    pub unlabelled: u64,
}

/// Below this, exp(similarity / temperature) passes the range of f64.
const KNN_TEMPERATURE_MIN: f64 = 0.002;
const TEST_SPLITS: &[&str] = &["test", "val", "validation", "valid", "val2017"];

/// The ranges of what features and the k-NN probe are computed with.
pub fn check(config: &EvalConfig, ranges: &mut Ranges) {
    ranges.within("eval.batch", config.batch, 1..=1 << 20);
    if config.knn_neighbours.is_empty() {
        ranges.refuse("eval.knn_neighbours = [] must name one number at least".to_owned());
    }
    for k in &config.knn_neighbours {
        ranges.count_at_least("eval.knn_neighbours", *k, 1);
    }
    ranges.at_least("eval.knn_temperature", config.knn_temperature, KNN_TEMPERATURE_MIN);
}

impl Probe {
    /// Opens a source as a probe: its test split is what is called so, else a seeded fifth of each class.
    ///
    /// # Errors
    /// When the source has no labels, or nothing to learn from or test on.
    pub fn open(layout: &Layout, name: &str, config: &EvalConfig, seed: u64) -> Result<Self> {
        let folder = layout.images(name);
        let manifest =
            require_manifest(&folder, "ingested probe", "run `lapidary ingest --data DIR --as-probe` first")?;
        let classes: Vec<String> = serde_json::from_value(manifest.facts["classes"].clone()).unwrap_or_default();
        let fault = |detail: &str| TrainError::Probe { probe: name.to_owned(), detail: detail.to_owned() };
        if classes.len() < 2 {
            return Err(fault("it names fewer than two classes; a probe needs labels"));
        }
        let by_split = labels_by_split(&folder)?;
        let unlabelled = unlabelled(manifest.rows.output, &by_split);
        if unlabelled > 0 {
            let images = manifest.rows.output;
            tracing::warn!("{unlabelled} of {images} images of probe `{name}` have no label and are set aside");
        }
        let by_split = labelled_by_split(by_split, &classes).map_err(|detail| fault(&detail))?;
        let test_split = TEST_SPLITS.iter().find(|split| by_split.contains_key(**split) && by_split.len() > 1);
        let (mut train, mut test) = (Vec::new(), Vec::new());
        for (split, labelled) in by_split {
            match test_split {
                Some(test_split) if split == *test_split => test.extend(labelled),
                Some(_) => train.extend(labelled),
                None => {
                    let (learned, tested) = split_off_a_fifth(labelled, seed);
                    train.extend(learned);
                    test.extend(tested);
                }
            }
        }
        train = stratified(&train, 1.0, config.max_train, seed);
        test = stratified(&test, 1.0, config.max_test, seed);
        let learned = classes_to_learn(&train, &test).map_err(|why| fault(&why))?;
        let never_learned: BTreeSet<&str> = test
            .iter()
            .filter(|labelled| !learned.contains(&labelled.class))
            .filter_map(|labelled| classes.get(labelled.class as usize).map(String::as_str))
            .collect();
        if !never_learned.is_empty() {
            let names = never_learned.into_iter().collect::<Vec<_>>().join(", ");
            tracing::warn!(
                "probe `{name}`: no image to learn from has one of these classes, so none is recognised: {names}"
            );
        }
        Ok(Self { name: name.to_owned(), folder, digest: manifest.digest, classes, train, test, unlabelled })
    }

    /// Whether its images are still enough to learn from and to test on, after some were taken out; or why not.
    ///
    /// # Errors
    /// Says what is missing.
    pub fn check_learnable(&self) -> Result<(), String> {
        classes_to_learn(&self.train, &self.test).map(|_| ())
    }
}

/// How many of so many images have no label.
fn unlabelled(images: u64, by_split: &BTreeMap<String, Vec<(ImageId, i64)>>) -> u64 {
    images.saturating_sub(by_split.values().map(Vec::len).sum::<usize>() as u64)
}

/// The classes that can be learned; or why none can.
fn classes_to_learn(train: &[Labelled], test: &[Labelled]) -> Result<BTreeSet<u32>, String> {
    if train.is_empty() || test.is_empty() {
        let (learn, tested) = (train.len(), test.len());
        return Err(format!("it has {learn} labelled images to learn from and {tested} to test on; a class needs two"));
    }
    let learned: BTreeSet<u32> = train.iter().map(|labelled| labelled.class).collect();
    if learned.len() < 2 {
        return Err("all images to learn from are of one class; a probe needs two".to_owned());
    }
    Ok(learned)
}

/// The index of the class that a label means; none when no class has it.
fn class_of(label: i64, classes: &[String]) -> Option<u32> {
    u32::try_from(label).ok().filter(|class| (*class as usize) < classes.len())
}

/// The labelled images of each split; or which image has a label that no class has.
fn labelled_by_split(
    by_split: BTreeMap<String, Vec<(ImageId, i64)>>,
    classes: &[String],
) -> Result<BTreeMap<String, Vec<Labelled>>, String> {
    let labelled = |(id, label): (ImageId, i64)| match class_of(label, classes) {
        Some(class) => Ok(Labelled { id, class }),
        None => {
            let named = classes.len();
            Err(format!(
                "image {id} has label {label}, but {named} classes are named\nhint: mend the labels and ingest again"
            ))
        }
    };
    by_split
        .into_iter()
        .map(|(split, labels)| Ok((split, labels.into_iter().map(labelled).collect::<Result<_, String>>()?)))
        .collect()
}

/// What is learned from and what is tested on: a fifth of each class, but of a class of one image nothing.
fn split_off_a_fifth(labelled: Vec<Labelled>, seed: u64) -> (Vec<Labelled>, Vec<Labelled>) {
    let mut of_class: BTreeMap<u32, usize> = BTreeMap::new();
    labelled.iter().for_each(|one| *of_class.entry(one.class).or_default() += 1);
    let (single, rest): (Vec<Labelled>, Vec<Labelled>) =
        labelled.into_iter().partition(|one| of_class.get(&one.class) == Some(&1));
    let fifth = stratified(&rest, 0.2, usize::MAX, seed);
    let learned = rest.into_iter().filter(|one| fifth.binary_search(one).is_err()).chain(single);
    (learned.collect(), fifth)
}

/// At most `count` images of each class, sorted; the first `count` of any greater count.
pub fn per_class(labelled: &[Labelled], count: usize, seed: u64) -> Vec<Labelled> {
    first_of_classes(labelled, seed, |_| count)
}

/// A share of each class, and at most about `most` images in all (0: no bound), sorted; at least one of each class.
pub fn stratified(labelled: &[Labelled], share: f64, most: usize, seed: u64) -> Vec<Labelled> {
    let bound = if most == 0 { 1.0 } else { most as f64 / labelled.len().max(1) as f64 };
    let share = share.min(bound).min(1.0);
    first_of_classes(labelled, seed, |size| ((size as f64 * share).round() as usize).max(1))
}

/// Of each class the first images in an order that only seed and ids decide: how many, `count` says by the class's size.
fn first_of_classes(labelled: &[Labelled], seed: u64, count: impl Fn(usize) -> usize) -> Vec<Labelled> {
    let mut by_class: BTreeMap<u32, Vec<(u64, Labelled)>> = BTreeMap::new();
    for one in labelled {
        let key = keyed(seed, Purpose::ProbeSample, one.id.0, 0).next_u64();
        by_class.entry(one.class).or_default().push((key, *one));
    }
    let mut chosen = Vec::new();
    for mut class in by_class.into_values() {
        class.sort_unstable();
        let count = count(class.len());
        chosen.extend(class.into_iter().take(count).map(|(_, one)| one));
    }
    chosen.sort_unstable();
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stratified_tenth_has_a_tenth_of_each_class_and_repeats() {
        let labelled: Vec<Labelled> =
            (0..1000).map(|i| Labelled { id: ImageId(i * 7919), class: u32::from(i % 5 == 0) }).collect();
        let tenth = stratified(&labelled, 0.1, 0, 1);
        assert_eq!(tenth.iter().filter(|l| l.class == 1).count(), 20);
        assert_eq!(tenth.len(), 100);
        let mut turned = labelled.clone();
        turned.reverse();
        assert_eq!(tenth, stratified(&turned, 0.1, 0, 1), "the order of files does not count");
        assert_ne!(tenth, stratified(&labelled, 0.1, 0, 2));
        assert_eq!(stratified(&labelled, 1.0, 50, 1).len(), 50);
    }

    #[test]
    fn so_many_a_class_are_taken_and_fewer_are_the_first_of_more() {
        let labelled: Vec<Labelled> =
            (0..100).map(|i| Labelled { id: ImageId(i * 7919), class: u32::from(i % 50 == 0) }).collect();
        let (five, two) = (per_class(&labelled, 5, 1), per_class(&labelled, 2, 1));
        assert_eq!((five.len(), two.len()), (7, 4), "a class of two gives both");
        assert!(two.iter().all(|one| five.contains(one)));
        assert_ne!(five, per_class(&labelled, 5, 2));
    }

    #[test]
    fn a_label_that_no_class_has_is_none() {
        let classes = ["a".to_owned(), "b".to_owned()];
        assert_eq!(
            [-1, 0, 1, 2, 1 << 32].map(|label| class_of(label, &classes)),
            [None, Some(0), Some(1), None, None],
            "2^32 is not taken for 0"
        );
        let of =
            |label| labelled_by_split(BTreeMap::from([("train".to_owned(), vec![(ImageId(255), label)])]), &classes);
        assert_eq!(of(1).expect("a class")["train"], [Labelled { id: ImageId(255), class: 1 }]);
        let told = of(7).expect_err("no class");
        assert!(told.contains("image 00000000000000ff has label 7, but 2 classes are named"), "{told}");
    }

    #[test]
    fn images_without_labels_are_counted_and_one_class_or_no_label_is_refused() {
        let labels = |count: u64| BTreeMap::from([("train".to_owned(), (0..count).map(|i| (ImageId(i), 0)).collect())]);
        assert_eq!((unlabelled(10, &labels(7)), unlabelled(7, &labels(7)), unlabelled(3, &labels(0))), (3, 0, 3));
        let of = |classes: &[u32]| -> Vec<Labelled> {
            classes.iter().zip(0..).map(|(class, id)| Labelled { id: ImageId(id), class: *class }).collect()
        };
        assert_eq!(classes_to_learn(&of(&[0, 2, 2]), &of(&[1])), Ok(BTreeSet::from([0, 2])));
        let why = classes_to_learn(&of(&[1, 1]), &of(&[0])).expect_err("one class");
        assert!(why.contains("of one class"), "{why}");
        for (train, test) in [(of(&[]), of(&[0])), (of(&[0, 1]), of(&[]))] {
            let why = classes_to_learn(&train, &test).expect_err("nothing").to_string();
            assert!(why.contains(&format!("{} labelled images to learn from", train.len())), "{why}");
        }
    }

    #[test]
    fn a_fifth_is_tested_on_and_a_class_of_one_image_is_learned_from() {
        for of_each in 1..=6u64 {
            let labelled: Vec<Labelled> =
                (0..3 * of_each).map(|i| Labelled { id: ImageId(i * 7919), class: (i % 3) as u32 }).collect();
            let (learned, tested) = split_off_a_fifth(labelled, 1);
            assert_eq!(learned.len() + tested.len(), 3 * of_each as usize, "none is lost");
            assert_eq!(tested.len(), if of_each == 1 { 0 } else { 3 }, "{of_each} of each");
        }
    }
}
