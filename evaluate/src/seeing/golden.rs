//! What tests share: the numbers and pictures of tests/golden/seeing.py, and its formula.

use image::RgbImage;
use serde_json::Value;
use std::path::PathBuf;

/// seeing.json.
pub(crate) fn golden() -> Value {
    serde_json::from_str(include_str!("../../../tests/golden/seeing.json")).expect("tests/golden/seeing.py wrote it")
}

pub(crate) fn numbers(list: &Value) -> Vec<f64> {
    list.as_array().expect("a list").iter().map(|value| value.as_f64().expect("a number")).collect()
}

/// The first values of the wave of a phase.
pub(crate) fn wave(count: usize, phase: f64) -> Vec<f32> {
    let value = |x: f64| ((1.7 * x + phase).sin() + 0.8 * (0.013 * x * x * phase).sin()) as f32;
    (0..count).map(|i| value(i as f64)).collect()
}

/// A picture by its name, without ending.
pub(crate) fn picture(name: &str) -> RgbImage {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/seeing");
    image::open(folder.join(format!("{name}.png"))).expect("tests/golden/seeing.py wrote it").to_rgb8()
}

/// Whether all values agree to within `most`.
pub(crate) fn agree(name: &str, found: &[f64], expected: &[f64], most: f64) {
    assert_eq!(found.len(), expected.len(), "{name}");
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() <= most, "{name}, value {index}: {found} against {expected}");
    }
}
