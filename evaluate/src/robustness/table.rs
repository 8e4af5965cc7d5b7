//! Robustness for readers: `robustness.csv`, and lines for a terminal.

use super::Robustness;
use crate::Result;
use crate::csv_file::CsvFile;
use std::path::Path;

/// The table's file.
pub const ROBUSTNESS_FILE: &str = "robustness.csv";

/// Writes `robustness.csv` into a folder: a row for each network, transformation and strength, strength 0 being the views as they
/// are. Columns: `network`, `transformation`, `strength`, `value`, `images`, `top1`, `cosine`.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn write_robustness(folder: &Path, networks: &[(&str, &Robustness)]) -> Result<()> {
    let heading = ["network", "transformation", "strength", "value", "images", "top1", "cosine"];
    let mut file = CsvFile::create(&folder.join(ROBUSTNESS_FILE), &heading)?;
    for (network, found) in networks {
        let images = found.images.to_string();
        let clean = found.clean_top1.to_string();
        file.row([*network, "none", "0", "", &images, &clean, "1"])?;
        for of in &found.transformations {
            for (number, strength) in (1..).zip(&of.strengths) {
                let [number, value] = [f64::from(number), strength.value].map(|value| value.to_string());
                let [top1, cosine] = [strength.top1, strength.cosine].map(|value| value.to_string());
                file.row([*network, &of.name, &number, &value, &images, &top1, &cosine])?;
            }
        }
    }
    file.finish()
}

/// A line a transformation: top-1 at each strength and the mean cosine, trained, then the means untrained.
pub(crate) fn robustness_lines(trained: &Robustness, untrained: Option<&Robustness>) -> Vec<String> {
    let percent = |value: f64| format!("{:.0}", value * 100.0);
    let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len().max(1) as f64;
    let line = |name: &str, images: &str, steps: &str, trained: &str, untrained: &str| {
        format!("{name:<18} {images:>7} {steps:>24} {trained:>12} {untrained:>14}")
    };
    let of_untrained = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let images = trained.images.to_string();
    let mut lines = vec![
        line("robustness", "images", "top-1 %, weak to strong", "mean, cosine", "untrained"),
        line(
            &format!("as they are, {}", trained.probe),
            &images,
            &percent(trained.clean_top1),
            "",
            &of_untrained(untrained.map(|u| percent(u.clean_top1))),
        ),
    ];
    for (index, of) in trained.transformations.iter().enumerate() {
        let summed = |found: &Robustness| {
            let strengths = &found.transformations.get(index)?.strengths;
            let [top1, cosine]: [Vec<f64>; 2] =
                [strengths.iter().map(|s| s.top1).collect(), strengths.iter().map(|s| s.cosine).collect()];
            Some(format!("{:.1}, {:.2}", mean(top1) * 100.0, mean(cosine)))
        };
        let steps: Vec<String> = of.strengths.iter().map(|strength| percent(strength.top1)).collect();
        let untrained = of_untrained(untrained.and_then(summed));
        lines.push(line(&of.name, &images, &steps.join("  "), &of_untrained(summed(trained)), &untrained));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::{Strength, Transformed};
    use super::*;

    fn found() -> Robustness {
        let strengths = (1..=5).map(|s| Strength { value: f64::from(s) / 2.0, top1: 0.5 / f64::from(s), cosine: 0.9 });
        let of = Transformed { name: "blur".to_owned(), meaning: "px".to_owned(), strengths: strengths.collect() };
        let (probe, protocol) = ("knn 20".to_owned(), "p".to_owned());
        Robustness { probe, protocol, images: 64, clean_top1: 0.625, transformations: vec![of] }
    }

    #[test]
    fn the_table_has_a_row_for_each_strength_and_lines_say_both_networks() {
        let folder = tempfile::tempdir().expect("a folder");
        write_robustness(folder.path(), &[("trained", &found()), ("untrained", &found())]).expect("writes");
        let text = std::fs::read_to_string(folder.path().join(ROBUSTNESS_FILE)).expect("it is there");
        let rows: Vec<&str> = text.lines().collect();
        assert_eq!(rows.len(), 1 + 2 * 6);
        assert_eq!(rows[1], "trained,none,0,,64,0.625,1");
        assert_eq!(rows[3], "trained,blur,2,1,64,0.25,0.9");
        let lines = robustness_lines(&found(), Some(&found()));
        assert!(lines[2].contains("50  25  17  12  10") && lines[2].ends_with("22.8, 0.90"), "{lines:#?}");
        assert!(robustness_lines(&found(), None)[2].ends_with(" -"));
    }
}
