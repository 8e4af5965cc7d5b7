//! Several labels an image, as COCO's images have them: a logistic regression for each class on frozen features, and the mean
//! over classes of the average precision of test images. C is chosen on a held-out tenth of the train images.

use super::average_precision::average_precision;
use super::one_vs_rest::OneVsRest;
use crate::Result;
use crate::probes::{GRADIENT_MAX, Stop, held_out};
use crate::scores::Measure;
use lapidary_pipeline::{interrupt, label_sets};
use lapidary_schemas::ImageId;
use lapidary_schemas::config::EvalConfig;
use lapidary_train::TrainError;
use lapidary_train::probe::{Features, Labelled, Probe};
use std::collections::BTreeMap;

const PROTOCOL: &str = "a logistic regression for each class (scikit-learn's objective, the best C on a held-out tenth of the train \
                        images), mean over classes of scikit-learn's average precision: comparable with multi-label mAP on frozen \
                        features by the same split and classes; images without any class are left out";
/// Share of the train images that chooses C.
const HELD_OUT: f64 = 0.1;
/// What is taken where nothing can be held out: scikit-learn's default.
const C_UNCHOSEN: f64 = 1.0;

/// The classes of each of a probe's images.
#[derive(Debug)]
pub(crate) struct LabelSets {
    train: Vec<Vec<u32>>,
    test: Vec<Vec<u32>>,
}

impl LabelSets {
    /// Those of a probe; none where no image has two.
    ///
    /// # Errors
    /// When shards cannot be read, or an image has a label that no class has.
    pub(crate) fn of(probe: &Probe) -> Result<Option<Self>> {
        let sets = label_sets(&probe.folder)?;
        if sets.values().all(|set| set.len() < 2) {
            return Ok(None);
        }
        let of =
            |list: &[Labelled]| list.iter().map(|one| classes_of(one.id, &sets, probe)).collect::<Result<Vec<_>>>();
        Ok(Some(Self { train: of(&probe.train)?, test: of(&probe.test)? }))
    }
}

/// The classes of an image, ascending, each once.
fn classes_of(id: ImageId, sets: &BTreeMap<ImageId, Vec<i64>>, probe: &Probe) -> Result<Vec<u32>> {
    let named = probe.classes.len();
    let class = |label: &i64| {
        u32::try_from(*label).ok().filter(|class| (*class as usize) < named).ok_or_else(|| TrainError::Probe {
            probe: probe.name.clone(),
            detail: format!(
                "image {id} has label {label}, but {named} classes are named\nhint: mend the labels and ingest again"
            ),
        })
    };
    let labels = sets.get(&id).map_or(&[][..], Vec::as_slice);
    let mut classes = labels.iter().map(class).collect::<Result<Vec<u32>, _>>()?;
    classes.sort_unstable();
    classes.dedup();
    Ok(classes)
}

/// The mean average precision.
///
/// # Errors
/// When the user interrupts.
pub(crate) fn multi_label_map(
    (train, test): (&Features, &Features),
    sets: &LabelSets,
    classes: usize,
    config: &EvalConfig,
    seed: u64,
) -> Result<Measure> {
    let stop = Stop { iterations: config.logistic_iterations, gradient_max: GRADIENT_MAX };
    let select = |indices: &[usize]| -> (Features, Vec<Vec<u32>>) {
        (train.select(indices), indices.iter().map(|i| sets.train[*i].clone()).collect())
    };
    let (held, rest) = held_out(&train.classes, HELD_OUT, seed);
    let ((held, held_sets), (rest, rest_sets)) = (select(&held), select(&rest));
    let mut ascending = config.logistic_c.clone();
    ascending.sort_by(f64::total_cmp);
    let (mut best, mut previous, mut unconverged): (Option<(f64, f64)>, Option<OneVsRest>, _) = (None, None, 0);
    for c in ascending.into_iter().filter(|_| !held.is_empty()) {
        interrupt::check()?;
        let model = OneVsRest::fit(&rest, (&rest_sets, classes), c, stop, previous.as_ref());
        unconverged += usize::from(!model.is_converged);
        let map = mean_average_precision(&model.logits(&held), &held_sets, classes).0.unwrap_or(0.0);
        if best.is_none_or(|(most, _)| map > most) {
            best = Some((map, c));
        }
        previous = Some(model);
    }
    let c = best.map_or(C_UNCHOSEN, |(_, c)| c);
    let model = OneVsRest::fit(train, (&sets.train, classes), c, stop, None);
    unconverged += usize::from(!model.is_converged);
    let (map, tested) = mean_average_precision(&model.logits(test), &sets.test, classes);
    let absent =
        (tested < classes).then(|| format!("{} classes have no test image and do not count", classes - tested));
    let stopped = (unconverged > 0)
        .then(|| format!("{unconverged} fits used up `eval.logistic_iterations` = {}", config.logistic_iterations));
    Ok(Measure {
        name: "multi-label mAP".to_owned(),
        protocol: PROTOCOL.to_owned(),
        images: test.len(),
        value: map,
        settings: [("c", c), ("classes", tested as f64), ("held_out", held.len() as f64)]
            .map(|(name, value)| (name.to_owned(), value))
            .into(),
        notes: absent.into_iter().chain(stopped).collect(),
    })
}

/// The mean over classes that an image has of their average precision, and how many such classes there are.
fn mean_average_precision(logits: &[f32], sets: &[Vec<u32>], classes: usize) -> (Option<f64>, usize) {
    let of_class = |class: usize| {
        let scores = logits.iter().skip(class).step_by(classes).zip(sets);
        let mut items: Vec<(f32, bool)> =
            scores.map(|(score, set)| (*score, set.binary_search(&(class as u32)).is_ok())).collect();
        average_precision(&mut items)
    };
    let precisions: Vec<f64> = (0..classes).filter_map(of_class).collect();
    let mean = precisions.iter().sum::<f64>() / precisions.len() as f64;
    ((!precisions.is_empty()).then_some(mean), precisions.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::{features, label_sets as drawn_sets, measures};
    use lapidary_schemas::Digest;

    #[test]
    fn the_mean_average_precision_is_scikit_learns() {
        let (train, test) = (features(120, 12, 4, 0.3, 0.7), features(40, 12, 4, 1.1, 0.7));
        let sets = LabelSets { train: drawn_sets(120, 4), test: drawn_sets(40, 4) };
        for c in ["0.01", "1.0", "100.0"] {
            let expected = measures()["multi_label"][c].as_f64().expect("a number");
            let config = EvalConfig { logistic_c: vec![c.parse().expect("a number")], ..EvalConfig::default() };
            let measure = multi_label_map((&train, &test), &sets, 4, &config, 1).expect("not interrupted");
            let off = (measure.value.expect("a mean") - expected).abs();
            println!("C {c}: mAP within {off:.1e}");
            // The regressions stop at a gradient of 1e-4, which may swap two test images of nearly equal logits.
            assert!(off < 2e-3, "C = {c}: {measure:?} against {expected}");
            assert_eq!(measure.settings["classes"], 4.0);
        }
    }

    #[test]
    fn a_class_without_a_test_image_does_not_count_and_a_c_is_chosen() {
        let (train, test) = (features(200, 12, 4, 0.3, 0.7), features(60, 12, 4, 1.1, 0.7));
        let without = |sets: Vec<Vec<u32>>| -> Vec<Vec<u32>> {
            sets.into_iter().map(|set| set.into_iter().filter(|class| *class != 2).collect()).collect()
        };
        let sets = LabelSets { train: drawn_sets(200, 4), test: without(drawn_sets(60, 4)) };
        let config = EvalConfig { logistic_c: vec![1e-9, 0.1, 1e6], ..EvalConfig::default() };
        let measure = multi_label_map((&train, &test), &sets, 4, &config, 1).expect("not interrupted");
        assert_eq!(measure.notes, ["1 classes have no test image and do not count"]);
        assert!(measure.settings["held_out"] > 15.0 && measure.settings["c"] > 1e-9, "{measure:?}");
        let sets = LabelSets { train: without(sets.train), ..sets };
        let again = multi_label_map((&train, &test), &sets, 4, &config, 1).expect("not interrupted");
        assert!(again.value.is_some_and(f64::is_finite), "a class without a train image is no trouble: {again:?}");
    }

    #[test]
    fn labels_beyond_the_names_are_refused_and_repeated_ones_count_once() {
        let probe = Probe {
            name: "p".to_owned(),
            folder: "p".into(),
            digest: Digest("d".to_owned()),
            classes: ["a", "b", "c"].map(str::to_owned).to_vec(),
            train: vec![],
            test: vec![],
            unlabelled: 0,
        };
        let sets = BTreeMap::from([(ImageId(1), vec![2, 0, 2]), (ImageId(2), vec![3])]);
        assert_eq!(classes_of(ImageId(1), &sets, &probe).expect("classes"), [0, 2]);
        assert_eq!(classes_of(ImageId(9), &sets, &probe).expect("none"), [0u32; 0]);
        let error = classes_of(ImageId(2), &sets, &probe).expect_err("no such class").to_string();
        assert!(error.contains("0000000000000002 has label 3, but 3 classes are named"), "{error}");
    }
}
