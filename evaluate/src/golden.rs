//! What tests of probes and of geometry share: the inputs of tests/golden/probes.py and its numbers.

use lapidary_train::probe::Features;
use serde_json::Value;

/// probes.json.
pub(crate) fn golden() -> Value {
    serde_json::from_str(include_str!("../../tests/golden/probes.json")).expect("tests/golden/probes.py wrote it")
}

pub(crate) fn numbers(list: &Value) -> Vec<f64> {
    list.as_array().expect("a list").iter().map(|value| value.as_f64().expect("a number")).collect()
}

/// The formula of probes.py: a wave, and each class's own direction.
pub(crate) fn features(rows: usize, width: usize, classes: usize, phase: f64, apart: f64) -> Features {
    let class = |row: usize| (7 * row + row / 3) % classes;
    let values = (0..rows * width).map(|i| {
        let x = i as f64;
        let wave = (1.7 * x + phase).sin() + 0.8 * (0.013 * x * x * phase).sin();
        (wave + apart * ((class(i / width) * width + i % width) as f64).sin()) as f32
    });
    Features { dim: width, values: values.collect(), classes: (0..rows).map(|row| class(row) as u32).collect() }
}

/// trained_probes.json.
pub(crate) fn trained() -> Value {
    serde_json::from_str(include_str!("../../tests/golden/trained_probes.json")).expect("trained_probes.py wrote it")
}

/// measures.json.
pub(crate) fn measures() -> Value {
    serde_json::from_str(include_str!("../../tests/golden/measures.json")).expect("measures.py wrote it")
}

/// The sets of measures.py: each image has its class, and every third the next one too.
pub(crate) fn label_sets(rows: usize, classes: usize) -> Vec<Vec<u32>> {
    let class = |row: usize| (7 * row + row / 3) % classes;
    let set = |row: usize| {
        let mut set = vec![class(row) as u32];
        set.extend(row.is_multiple_of(3).then(|| ((class(row) + 1) % classes) as u32));
        set.sort_unstable();
        set
    };
    (0..rows).map(set).collect()
}
