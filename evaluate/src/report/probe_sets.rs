//! Several probe sets in one section: a heading for each, and in front of the scores a table of all.

use super::evaluation::evaluation;
use super::made::Measured;
use super::text::{grouped, percent};
use crate::Result;
use crate::score_table::linear_headline;
use crate::scores::Scores;
use lapidary_pipeline::report::table;
use maud::{Markup, html};

/// Probe sets of which pictures are shown; they share what pictures one alone has, so that the page stays one that can be sent.
pub(super) const PICTURED_MAX: usize = 3;

/// What a section has of each probe set, under a heading each where there are several; none when it has nothing of any.
pub(super) fn of_each(
    sets: &[Measured<'_>],
    body: impl Fn(&Measured<'_>) -> Result<Option<Markup>>,
) -> Result<Option<Markup>> {
    let mut bodies = Vec::new();
    for set in sets {
        bodies.extend(body(set)?.map(|body| (set.probe, body)));
    }
    let several = sets.len() > 1;
    Ok((!bodies.is_empty()).then(|| {
        html! { @for (probe, body) in &bodies { div.probe-set {
            @if several { h3 { "Probe set " (probe) } }
            (body)
        } } }
    }))
}

/// The scores on each probe set, in front of them a table of all where there are several.
pub(super) fn evaluations(sets: &[Measured<'_>]) -> Result<Option<Markup>> {
    let bodies = of_each(sets, |set| Ok(Some(evaluation(set))))?;
    let overview = (sets.len() > 1).then(|| overview(sets));
    Ok(bodies.map(|bodies| html! { @if let Some(overview) = &overview { (overview) } (bodies) }))
}

/// A row for each run on each probe set: what the set is, and the headline scores, trained and untrained.
fn overview(sets: &[Measured<'_>]) -> Markup {
    let row = |set: &Measured<'_>, run: &str, scores: &Scores| {
        let (linear, trained, untrained) = linear_headline(scores);
        vec![
            set.probe.to_owned(),
            run.to_owned(),
            scores.classes.to_string(),
            grouped(scores.train_images as u64),
            grouped(scores.test_images as u64),
            percent(scores.chance_top1),
            percent(scores.trained.knn_top1),
            percent(scores.untrained.knn_top1),
            linear,
            percent(trained),
            percent(untrained),
        ]
    };
    let rows: Vec<Vec<String>> = sets
        .iter()
        .flat_map(|set| set.scored().into_iter().map(|(run, scores)| row(set, run, scores)).collect::<Vec<_>>())
        .collect();
    let headings = [
        "probe set",
        "run",
        "classes",
        "train images",
        "test images",
        "chance",
        "k-NN top-1",
        "untrained",
        "linear probe",
        "top-1",
        "untrained",
    ];
    html! {
        p.dim {
            "Figures of different probe sets cannot be held against each other: classes, images and labels differ."
            @if sets.len() > PICTURED_MAX {
                " Pictures are of the first " (PICTURED_MAX) "; " code { "lapidary report --probe NAME" } " shows those of another."
            }
        }
        div.probe-overview { (table(&headings, &rows)) }
    }
}
