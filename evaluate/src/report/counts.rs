//! What came in, and what became of it: inputs, rejects, images by reason, planted copies.

use super::chart::{Bars, Unit};
use super::frames::{counted, scan};
use super::made::Made;
use super::text::{grouped, percent, words};
use crate::Result;
use lapidary_pipeline::report::table;
use lapidary_schemas::tables::REJECTS_FILE;
use lapidary_schemas::{DecisionReason, RejectReason};
use maud::{Markup, html};
use polars::prelude::*;
use serde_json::Value;
use std::path::Path;

/// Rejected inputs that are listed by name.
const REJECTS_LISTED: u32 = 40;

/// Images by decision: code, count and meaning, the kept first, then the most frequent.
pub(super) fn by_reason(made: &Made) -> Vec<(String, u64, &'static str)> {
    let counts = made.curated.iter().flat_map(|c| c.facts["images_by_reason"].as_object().into_iter().flatten());
    let mut rows: Vec<(String, u64, &'static str)> = counts
        .map(|(code, count)| {
            let meaning = DecisionReason::from_code(code).map_or("", DecisionReason::text);
            (code.clone(), count.as_u64().unwrap_or(0), meaning)
        })
        .collect();
    rows.sort_by_key(|(code, count, _)| (code != DecisionReason::Kept.code(), std::cmp::Reverse(*count), code.clone()));
    rows
}

/// The section on counts.
pub(super) fn counts(made: &Made) -> Result<Markup> {
    let rejects = made.images.folder.join(REJECTS_FILE);
    let rejected = counted(scan(&rejects)?, "reason")?;
    let ingested = made.images.manifest.rows;
    let cells = |stage: &str, what: &str, count: u64, meaning: &str| {
        vec![stage.to_owned(), what.to_owned(), grouped(count), meaning.to_owned()]
    };
    let mut rows = vec![cells("ingest", "inputs", ingested.input, "files, rows or records that the source lists")];
    for (code, count) in &rejected {
        let meaning = RejectReason::from_code(code).map_or("", RejectReason::text);
        rows.push(cells("ingest", &format!("rejected: {}", words(code)), *count, meaning));
    }
    rows.push(cells("ingest", "images", ingested.output, "inputs less those that were rejected"));
    let reasons = by_reason(made);
    rows.extend(reasons.iter().map(|(code, count, meaning)| cells("curate", &words(code), *count, meaning)));
    let names: Vec<String> = reasons
        .iter()
        .map(|(code, _, _)| words(code))
        .chain(rejected.iter().map(|(code, _)| format!("rejected: {}", words(code))))
        .collect();
    let values = reasons.iter().map(|(_, count, _)| *count).chain(rejected.iter().map(|(_, count)| *count));
    let series = [("images".to_owned(), values.map(|count| count as f64).collect())];
    let planted = made.curated.as_ref().map(|curated| planted(&curated.facts["truth"]));
    let grown = made.curated.as_ref().filter(|curated| !curated.stages[2].extends.is_empty());
    Ok(html! {
        p.dim { "Every input ends in one row: rejected, dropped for a reason, or kept. The counts add up." }
        div.beside.table-first {
        div id="counts-table" { (table(&["stage", "what", "images", "meaning"], &rows)) }
        div.charts {
            (Bars { title: "Inputs by what became of them", x: "images", names: &names, series: &series, spreads: &[], unit: Unit::Count, marker: None }.figure())
            @if let Some(planted) = planted { (planted) }
        }
        }
        @if let Some(curated) = grown { (added(&curated.facts)) }
        (listed_rejects(&rejects, ingested.rejected)?)
    })
}

fn planted(truth: &Value) -> Markup {
    let Some(kinds) = truth["by_kind"].as_object().filter(|kinds| !kinds.is_empty()) else { return html! {} };
    let recall = |score: &Value| score["recall"].as_f64().unwrap_or(f64::NAN);
    let names: Vec<String> = kinds.keys().map(|kind| words(kind)).collect();
    let series = [("recall".to_owned(), kinds.values().map(recall).collect())];
    let rows: Vec<Vec<String>> = kinds
        .iter()
        .map(|(kind, score)| {
            vec![words(kind), score["planted"].to_string(), score["found"].to_string(), percent(recall(score))]
        })
        .collect();
    html! {
        div {
            (Bars { title: "Planted copies that were found", x: "share of the kind's copies", names: &names, series: &series, spreads: &[], unit: Unit::Percent, marker: None }.figure())
            details { summary { "Counts of each kind" } (table(&["kind", "planted", "found", "recall"], &rows)) }
        }
    }
}

/// What was merged into a tree that was there, and how well it fits.
fn added(facts: &Value) -> Markup {
    let tree = &facts["tree"];
    let images = |which: &str| grouped(tree["drift"][which]["images"].as_u64().unwrap_or(0));
    html! {
        p.dim {
            "The tree of clusters was built from " (images("built_from")) " images; " (images("added"))
            " were merged into it since. They lie " (format!("{:.2}", tree["distance_ratio"].as_f64().unwrap_or(1.0)))
            " times as far from their centroids, by the mean square, as those do when they are left out."
            @if let Some(why) = facts["rebuild_because"].as_str() { " It should be built anew: " (why) "." }
        }
    }
}

fn listed_rejects(path: &Path, count: u64) -> Result<Markup> {
    if count == 0 {
        return Ok(html! {});
    }
    let frame = scan(path)?
        .select([col("path"), col("reason"), col("detail")])
        .sort(["reason", "path"], SortMultipleOptions::default())
        .limit(REJECTS_LISTED)
        .collect()?;
    let column = |name: &str| -> Result<Vec<String>> {
        Ok(frame.column(name)?.str()?.iter().map(|text| text.unwrap_or_default().to_owned()).collect())
    };
    let (paths, reasons, details) = (column("path")?, column("reason")?, column("detail")?);
    let rows: Vec<Vec<String>> =
        (0..frame.height()).map(|row| vec![paths[row].clone(), words(&reasons[row]), details[row].clone()]).collect();
    Ok(html! {
        details {
            summary { "The rejected inputs" @if (rows.len() as u64) < count { ": " (rows.len()) " of " (grouped(count)) } }
            (table(&["path", "reason", "detail"], &rows))
        }
    })
}
