//! The scores of every run: each probe with its protocol, other measures, the geometry of features, trained beside untrained.

use super::chart::{Bars, Line, Lines, Unit};
use super::made::Measured;
use super::text::{grouped, percent, wilson};
use crate::score_table::figures;
use crate::scores::{Measure, NetworkScores, Scores};
use lapidary_pipeline::report::table;
use maud::{Markup, html};
use serde_json::Value;
use std::collections::BTreeMap;

/// A probe set's charts and tables, for the runs that were measured on it.
pub(super) fn evaluation(set: &Measured<'_>) -> Markup {
    let scored = set.scored();
    let Some((_, first)) = scored.first() else { return of_old_versions(set) };
    html! {
        p.dim {
            "Probe " (first.probe) ": " (grouped(first.train_images as u64)) " train images and "
            (grouped(first.test_images as u64)) " test images of " (first.classes) " classes; guessing the most frequent class is right for "
            (percent(first.chance_top1)) ". Every score of a trained network stands beside that of the same network before its
             first step. Intervals are Wilson's at 95 %, over test images; other seeds vary as well."
        }
        div.beside { (chart(&scored)) (probes(set, &scored)) }
        (protocols(&scored))
        (measures(set, &scored))
        @for (name, scores) in &scored { (geometry(set, if scored.len() > 1 { name } else { "" }, scores)) }
        (notes(set, &scored))
    }
}

/// Scores of all runs by probe, in the order in which the first that has it names it.
fn names(scored: &[(&str, &Scores)]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for probe in scored.iter().flat_map(|(_, scores)| &scores.trained.probes) {
        if !names.contains(&probe.name) {
            names.push(probe.name.clone());
        }
    }
    names
}

fn top1(network: &NetworkScores, name: &str) -> f64 {
    network.probes.iter().find(|probe| probe.name == name).map_or(f64::NAN, |probe| probe.top1)
}

fn chart(scored: &[(&str, &Scores)]) -> Markup {
    let names = names(scored);
    let of = |network: fn(&Scores) -> &NetworkScores, scores: &Scores| -> Vec<f64> {
        names.iter().map(|name| top1(network(scores), name)).collect()
    };
    let label = |run: &str, what: &str| if scored.len() > 1 { format!("{run}, {what}") } else { what.to_owned() };
    let mut series: Vec<(String, Vec<f64>)> =
        scored.iter().map(|(run, scores)| (label(run, "trained"), of(|s| &s.trained, scores))).collect();
    // Of several runs one untrained twin is enough for the eye; the table has all.
    series.extend(scored.first().map(|(run, scores)| (label(run, "untrained"), of(|s| &s.untrained, scores))));
    let chance = scored.first().map_or(f64::NAN, |(_, scores)| scores.chance_top1);
    let by_labels = by_labels(scored);
    html! { div.charts {
        (Bars { title: "Top-1 by probe", x: "share of test images", names: &names, series: &series, spreads: &[], unit: Unit::Percent, marker: Some((chance, "chance")) }.figure())
        @if !by_labels.is_empty() {
            (Lines { title: "Top-1 by number of labels", x: "labels", y: "top-1 (%)", lines: &by_labels }.figure())
        }
    } }
}

/// Curves over the number of labels, of the families of probes that were measured with three or more: `logistic 10 %` and
/// `logistic 5 a class` are of one family.
fn by_labels(scored: &[(&str, &Scores)]) -> Vec<Line> {
    type Places = BTreeMap<usize, f64>;
    let families = |network: &NetworkScores| -> BTreeMap<String, Places> {
        let mut families: BTreeMap<String, Places> = BTreeMap::new();
        for probe in &network.probes {
            let family = probe.name.split(' ').next().unwrap_or_default().to_owned();
            families.entry(family).or_default().insert(probe.labels, probe.top1 * 100.0);
        }
        families.retain(|_, places| places.len() >= 3);
        families
    };
    let several = scored.len() > 1;
    let of_network = |head: &str, network: &NetworkScores, tail: &str| -> Vec<Line> {
        let line = |(family, places): (String, Places)| {
            Line::new(&format!("{head}{family}{tail}"), places.into_iter().map(|(labels, top1)| (labels as f64, top1)))
        };
        families(network).into_iter().map(line).collect()
    };
    let of_run = |(i, (run, scores)): (usize, &(&str, &Scores))| -> Vec<Line> {
        let head = if several { format!("{run}: ") } else { String::new() };
        let mut lines = of_network(&head, &scores.trained, "");
        if i == 0 {
            lines.extend(of_network(&head, &scores.untrained, ", untrained"));
        }
        lines
    };
    scored.iter().enumerate().flat_map(of_run).collect()
}

fn probes(set: &Measured<'_>, scored: &[(&str, &Scores)]) -> Markup {
    let several = scored.len() > 1;
    let mut rows = Vec::new();
    for name in names(scored) {
        for (run, scores) in scored {
            let Some(trained) = scores.trained.probes.iter().find(|probe| probe.name == name) else { continue };
            let untrained = scores.untrained.probes.iter().find(|probe| probe.name == name);
            let (low, high) = wilson(trained.top1, scores.test_images as u64);
            let beside = |of: fn(&crate::ProbeScore) -> f64| {
                untrained.map_or_else(|| "-".to_owned(), |probe| percent(of(probe)))
            };
            let cells = [
                grouped(trained.labels as u64),
                percent(trained.top1),
                format!("{:.1} to {:.1}", low * 100.0, high * 100.0),
                percent(trained.top5),
                beside(|probe| probe.top1),
                beside(|probe| probe.top5),
            ];
            let head = [Some(name.clone()), several.then(|| (*run).to_owned())];
            rows.push(head.into_iter().flatten().chain(cells).collect::<Vec<String>>());
        }
    }
    let head = if several { vec!["probe", "run"] } else { vec!["probe"] };
    let cells = ["labels", "top-1", "95 % interval", "top-5", "top-1, untrained", "top-5, untrained"];
    let headings: Vec<&str> = head.into_iter().chain(cells).collect();
    html! { div {
        (set.heading("Every probe"))
        div.probes-table { (table(&headings, &rows)) }
        p.dim { "The lists of labels stand beside the scores, in " code { "labels/" } "." }
    } }
}

/// Each protocol once, with the probes that follow it and what they can be held beside.
fn protocols(scored: &[(&str, &Scores)]) -> Markup {
    let mut followed: Vec<(&str, Vec<&str>)> = Vec::new();
    for probe in scored.iter().flat_map(|(_, scores)| &scores.trained.probes) {
        match followed.iter_mut().find(|(protocol, _)| *protocol == probe.protocol) {
            Some((_, names)) if names.contains(&probe.name.as_str()) => {}
            Some((_, names)) => names.push(&probe.name),
            None => followed.push((&probe.protocol, vec![&probe.name])),
        }
    }
    html! { dl.protocols { @for (protocol, names) in followed { dt { (names.join(", ")) } dd { (protocol) "." } } } }
}

/// Figures that are no accuracies: whatever an evaluation has, by name.
fn measures(set: &Measured<'_>, scored: &[(&str, &Scores)]) -> Markup {
    let value = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), percent);
    let row = |run: &str, scores: &Scores, measure: &Measure| {
        let beside = scores.untrained.measures.iter().find(|other| other.name == measure.name);
        let settings: Vec<String> = measure
            .settings
            .iter()
            .map(|(name, value)| format!("{} {}", name.replace('_', " "), super::chart::number(*value)))
            .collect();
        vec![
            measure.name.clone(),
            run.to_owned(),
            grouped(measure.images as u64),
            value(measure.value),
            value(beside.and_then(|other| other.value)),
            settings.join(", "),
            measure.protocol.clone(),
        ]
    };
    let of_run = |(run, scores): &(&str, &Scores)| -> Vec<Vec<String>> {
        scores.trained.measures.iter().map(|measure| row(run, scores, measure)).collect()
    };
    let mut rows: Vec<Vec<String>> = scored.iter().flat_map(of_run).collect();
    if rows.is_empty() {
        return html! {};
    }
    rows.sort_by(|a, b| a[0].cmp(&b[0]));
    let headings =
        ["measure", "run", "images", "trained", "untrained", "parts and settings", "protocol, comparable with what"];
    html! {
        (set.heading("Other measures"))
        (table(&headings, &rows))
    }
}

fn geometry(set: &Measured<'_>, run: &str, scores: &Scores) -> Markup {
    let rows: Vec<Vec<String>> = figures(&scores.trained, &scores.untrained).into_iter().map(Vec::from).collect();
    html! { @if !rows.is_empty() {
        @let of_run = if run.is_empty() { String::new() } else { format!(": {run}") };
        (set.heading(&format!("Geometry of the test images' features{of_run}")))
        (table(&["figure", "images", "trained", "untrained"], &rows))
    } }
}

/// What was noted of probes and measures, each note once.
fn notes(set: &Measured<'_>, scored: &[(&str, &Scores)]) -> Markup {
    let mut lines: Vec<(String, String)> = Vec::new();
    for (_, scores) in scored {
        let of_probes = scores.trained.probes.iter().map(|probe| (&probe.name, &probe.notes));
        let of_measures = scores.trained.measures.iter().map(|measure| (&measure.name, &measure.notes));
        for (name, notes) in of_probes.chain(of_measures) {
            for note in notes {
                if !lines.iter().any(|(_, told)| told == note) {
                    lines.push((name.clone(), note.clone()));
                }
            }
        }
    }
    html! { @if !lines.is_empty() {
        (set.heading("Notes"))
        ul { @for (name, note) in lines { li { (name) ": " (note) } } }
    } }
}

/// An evaluation of an older version has the headline alone.
fn of_old_versions(set: &Measured<'_>) -> Markup {
    let share = |value: &Value| value.as_f64().map_or_else(|| "-".to_owned(), percent);
    let measured = set.runs.iter().map(|(run, eval)| ((*run).to_owned(), &eval.eval.manifest.facts));
    let row = |(name, facts): (String, &Value)| {
        let of = |network: &str| {
            ["knn_top1", "knn_top5", "linear_top1", "linear_top5"].map(|key| share(&facts[network][key]))
        };
        [vec![name], of("trained").to_vec(), of("untrained").to_vec()].concat()
    };
    let rows: Vec<Vec<String>> = measured.map(row).collect();
    let headings = [
        "run",
        "k-NN top-1",
        "k-NN top-5",
        "linear top-1",
        "linear top-5",
        "untrained k-NN top-1",
        "untrained k-NN top-5",
        "untrained linear top-1",
        "untrained linear top-5",
    ];
    html! {
        p.dim { "Measured by an older version; " code { "lapidary eval" } " measures everything." }
        (table(&headings, &rows))
    }
}
