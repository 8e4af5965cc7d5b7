//! The scores as `lapidary eval` prints them: a line a probe, then other measures and the geometry, trained beside
//! untrained.

use crate::geometry::Geometry;
use crate::robustness::robustness_lines;
use crate::scores::{Measure, NetworkScores, Scores};

/// A figure of a geometry, where it has one.
type Figure = fn(&Geometry) -> Option<f64>;

/// Lines for people.
pub fn said_of_scores(scores: &Scores) -> Vec<String> {
    let mut lines = vec![format!("{:<18} {:>7} {:>16} {:>18}", "probe", "labels", "trained", "untrained")];
    lines.push(format!("{:<18} {:>7} {:>16} {:>18}", "", "", "top-1    top-5", "top-1    top-5"));
    let percent = |value: f64| format!("{:.1} %", value * 100.0);
    for (trained, untrained) in scores.trained.probes.iter().zip(&scores.untrained.probes) {
        lines.push(format!(
            "{:<18} {:>7} {:>7} {:>8} {:>9} {:>8}",
            trained.name,
            trained.labels,
            percent(trained.top1),
            percent(trained.top5),
            percent(untrained.top1),
            percent(untrained.top5)
        ));
    }
    lines.push(format!("{:<18} {:>7} {:>7}", "chance", "", percent(scores.chance_top1)));
    lines.extend(measures(&scores.trained, &scores.untrained));
    lines.extend(geometry(&scores.trained, &scores.untrained));
    if let Some(robustness) = &scores.trained.robustness {
        lines.extend(robustness_lines(robustness, scores.untrained.robustness.as_ref()));
    }
    lines.extend(notes(&scores.trained));
    lines
}

/// Lines for people of several probe sets, one each: top-1 of the headline k-NN probe and of logistic regression on all labels
/// (of `quick`, where that was not measured), trained beside untrained.
pub fn said_of_all(all: &[Scores]) -> Vec<String> {
    let line = |[name, images, knn, knn_untrained, other, linear, linear_untrained]: [String; 7]| {
        format!("{name:<20} {images:>7} {knn:>8} {knn_untrained:>10}   {other:<15} {linear:>8} {linear_untrained:>10}")
    };
    let heading = ["probe set", "images", "k-NN", "untrained", "linear", "", "untrained"].map(str::to_owned);
    let percent = |value: f64| format!("{:.1} %", value * 100.0);
    let of = |scores: &Scores| {
        let (name, trained, untrained) = linear_headline(scores);
        [
            scores.probe.clone(),
            scores.test_images.to_string(),
            percent(scores.trained.knn_top1),
            percent(scores.untrained.knn_top1),
            name,
            percent(trained),
            percent(untrained),
        ]
    };
    std::iter::once(line(heading)).chain(all.iter().map(|scores| line(of(scores)))).collect()
}

/// The linear probe that heads a table, logistic regression on all labels or else `quick`: its name, and its top-1 trained and
/// untrained.
pub(crate) fn linear_headline(scores: &Scores) -> (String, f64, f64) {
    let find = |network: &NetworkScores| network.probes.iter().find(|probe| probe.name == "logistic 100 %").cloned();
    match (find(&scores.trained), find(&scores.untrained)) {
        (Some(trained), Some(untrained)) => (trained.name, trained.top1, untrained.top1),
        _ => ("quick".to_owned(), scores.trained.linear_top1, scores.untrained.linear_top1),
    }
}

fn measures(trained: &NetworkScores, untrained: &NetworkScores) -> Vec<String> {
    if trained.measures.is_empty() {
        return Vec::new();
    }
    let percent = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{:.1} %", value * 100.0));
    let line = |measure: &Measure| {
        // A network whose features allow no such figure has none.
        let beside = untrained.measures.iter().find(|other| other.name == measure.name).and_then(|other| other.value);
        format!("{:<24} {:>7} {:>10} {:>18}", measure.name, measure.images, percent(measure.value), percent(beside))
    };
    let heading = format!("{:<24} {:>7} {:>10} {:>18}", "measure", "images", "trained", "untrained");
    std::iter::once(heading).chain(trained.measures.iter().map(line)).collect()
}

fn geometry(trained: &NetworkScores, untrained: &NetworkScores) -> Vec<String> {
    let figures = figures(trained, untrained);
    if figures.is_empty() {
        return Vec::new();
    }
    let line = |[name, images, trained, untrained]: [String; 4]| {
        format!("{name:<18} {images:>7} {trained:>16} {untrained:>18}")
    };
    let heading = line(["geometry", "images", "trained", "untrained"].map(str::to_owned));
    std::iter::once(heading).chain(figures.into_iter().map(line)).collect()
}

/// Each figure of the geometry: its name, the images it is of, and its value trained and untrained.
pub(crate) fn figures(trained: &NetworkScores, untrained: &NetworkScores) -> Vec<[String; 4]> {
    let (Some(trained), Some(untrained)) = (&trained.geometry, &untrained.geometry) else { return Vec::new() };
    let rows: [(&str, Figure); 12] = [
        ("k-means ACC", |g| Some(g.agreement.acc)),
        ("k-means NMI", |g| Some(g.agreement.nmi)),
        ("k-means ARI", |g| Some(g.agreement.ari)),
        ("k-means FMI", |g| Some(g.agreement.fmi)),
        ("silhouette classes", |g| g.silhouette_of_classes),
        ("silhouette k-means", |g| g.silhouette_of_clusters),
        ("RankMe", |g| Some(g.rankme)),
        ("LiDAR", |g| g.lidar),
        ("uniformity", |g| g.uniformity),
        ("alignment", |g| g.alignment),
        ("channel std, mean", |g| Some(g.channel_std_mean)),
        ("channel std, least", |g| Some(g.channel_std_min)),
    ];
    let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"));
    let line = |(name, of): (&str, Figure)| {
        let images = if matches!(name, "LiDAR" | "alignment") { trained.view_images } else { trained.images };
        [name.to_owned(), images.to_string(), number(of(trained)), number(of(untrained))]
    };
    rows.into_iter().map(line).collect()
}

/// What was noted of probes and measures, each note once.
fn notes(scores: &NetworkScores) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let of_probes = scores.probes.iter().map(|probe| (&probe.name, &probe.notes));
    let of_measures = scores.measures.iter().map(|measure| (&measure.name, &measure.notes));
    for (name, notes) in of_probes.chain(of_measures) {
        for note in notes {
            if !lines.iter().any(|told| told.ends_with(&format!(": {note}"))) {
                lines.push(format!("note: {name}: {note}"));
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::features;
    use crate::probes::ProbeScore;
    use lapidary_train::probe::Accuracy;

    #[test]
    fn each_probe_has_a_line_with_its_protocols_name_and_each_note_stands_once() {
        let score = |name: &str| {
            let score = ProbeScore::new(name.to_owned(), "p", 7, Accuracy { tested: 8, first: 2, in_five: 6 });
            score.noting(["few labels".to_owned()])
        };
        let network = NetworkScores {
            knn_top1: 0.0,
            knn_top5: 0.0,
            linear_top1: 0.0,
            linear_top5: 0.0,
            linear_learning_rate: 0.0,
            probes: vec![score("knn 20"), score("quick 10 %")],
            measures: Vec::new(),
            geometry: Some(Geometry::of(&features(40, 8, 4, 0.3, 1.0), None, 1)),
            robustness: None,
        };
        let scores = Scores {
            run: "r".to_owned(),
            probe: "p".to_owned(),
            classes: 4,
            train_images: 7,
            linear_labels: 7,
            test_images: 8,
            chance_top1: 0.25,
            trained: network.clone(),
            untrained: network,
        };
        let lines = said_of_scores(&scores);
        let text = lines.join("\n");
        assert!(lines.iter().any(|line| line.starts_with("knn 20 ") && line.contains("25.0 %   75.0 %")), "{text}");
        assert!(lines.iter().any(|line| line.starts_with("quick 10 %")), "{text}");
        assert!(lines.iter().any(|line| line.starts_with("LiDAR") && line.contains(" - ")), "{text}");
        assert_eq!(
            lines.iter().filter(|line| line.starts_with("note:")).collect::<Vec<_>>(),
            ["note: knn 20: few labels"]
        );
    }
}
