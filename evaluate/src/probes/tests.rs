//! The probes together: what is said of clipped k, of few labels, and that no score hangs on the number of threads.

use super::*;
use crate::golden::features;
use burn_flex::Flex;

fn list(indices: Vec<usize>) -> LabelList {
    LabelList { name: "some".to_owned(), file: "some.csv".to_owned(), indices, notes: vec!["a note".to_owned()] }
}

fn config() -> EvalConfig {
    EvalConfig { knn_neighbours: vec![3, 500], logistic_c: vec![0.1, 10.0], linear_steps: 20, ..EvalConfig::default() }
}

#[test]
fn each_k_is_reported_and_one_above_the_images_is_clipped_and_said() {
    let (train, test, config) = (features(120, 12, 4, 0.3, 0.7), features(40, 12, 4, 1.1, 0.7), config());
    let frozen = FrozenFeatures { train: &train, test: &test, classes: 4, config: &config, seed: 1 };
    let scores = frozen.knn::<Flex>(&Default::default());
    assert_eq!(scores.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["knn 3", "knn 500"]);
    assert!(scores[0].notes.is_empty() && scores[0].settings["k"] == 3.0);
    assert_eq!(scores[1].notes, ["k = 500 is clipped to the 120 train images"]);
    assert_eq!(scores[1].settings["k"], 120.0);
    assert!(scores[0].top1 > 0.3 && scores[0].top1 < 1.0, "{scores:?}");
}

#[test]
fn probes_by_labels_say_what_they_learned_from_and_do_not_depend_on_threads() {
    let (train, test, config) = (features(120, 12, 4, 0.3, 0.7), features(40, 12, 4, 1.1, 0.7), config());
    let frozen = FrozenFeatures { train: &train, test: &test, classes: 4, config: &config, seed: 1 };
    // Of each class one label, then all.
    let lists = [list(vec![0, 1, 2, 4]), list((0..120).collect())];
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        pool.install(|| frozen.by_labels(&lists)).expect("not interrupted")
    };
    let scores = run(1);
    assert_eq!(scores, run(3));
    let names: Vec<(&str, usize)> = scores.iter().map(|s| (s.name.as_str(), s.labels)).collect();
    assert_eq!(names, [("logistic some", 4), ("logistic some", 120), ("ridge some", 4), ("ridge some", 120)]);
    assert_eq!(scores[0].notes, ["a note", "no class has two labels: C is not chosen but 1"]);
    assert_eq!(scores[1].notes, ["a note"]);
    assert!(scores[1].top1 > scores[0].top1 && scores[3].top1 > 0.5, "{scores:?}");
}
