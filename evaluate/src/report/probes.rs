//! The report's tables of scores: each probe with its protocol, and the geometry of features, trained beside untrained.

use crate::score_table::figures;
use crate::scores::Scores;
use lapidary_pipeline::report::table;
use lapidary_schemas::Manifest;
use maud::{Markup, html};

/// Every probe and figure; empty for an evaluation that has only the headline.
pub(super) fn all_probes(measured: &Manifest) -> Markup {
    let scores = serde_json::from_value::<Scores>(measured.facts.clone()).ok();
    let Some(scores) = scores.filter(|scores| !scores.trained.probes.is_empty()) else { return html! {} };
    let percent = |value: f64| format!("{:.1} %", value * 100.0);
    let both = scores.trained.probes.iter().zip(&scores.untrained.probes);
    let probes: Vec<Vec<String>> = both
        .map(|(trained, untrained)| {
            let notes: String = trained.notes.iter().map(|note| format!(" Note: {note}.")).collect();
            vec![
                trained.name.clone(),
                trained.labels.to_string(),
                percent(trained.top1),
                percent(trained.top5),
                percent(untrained.top1),
                percent(untrained.top5),
                format!("{}.{notes}", trained.protocol),
            ]
        })
        .collect();
    let heading =
        ["probe", "labels", "top-1", "top-5", "untrained top-1", "untrained top-5", "protocol, comparable with what"];
    let geometry: Vec<Vec<String>> = figures(&scores.trained, &scores.untrained).into_iter().map(Vec::from).collect();
    html! {
        h3 { "Every probe" }
        p.dim { "The lists of labels stand beside the scores, in " code { "labels/" } "." }
        (table(&heading, &probes))
        @if !geometry.is_empty() {
            h3 { "Geometry of the test images' features" }
            (table(&["figure", "images", "trained", "untrained"], &geometry))
        }
    }
}
