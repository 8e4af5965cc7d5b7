//! The report: one HTML file that shows which images were dropped and why, what was trained, and how it compares.

mod balance;
mod curation;
mod probes;
mod training;

use crate::Result;
use lapidary_pipeline::report::{card, page, table};
use lapidary_pipeline::stage::{
    CuratedManifests, Layout, Outcome, digest_of_bytes, read_curated, read_manifest, require_manifest, write_synced,
};
use lapidary_pipeline::{ImageStore, Pictures};
use lapidary_schemas::Manifest;
use maud::{Markup, html};
use serde_json::json;
use std::path::PathBuf;

/// Raised when the page changes, so that it is written anew.
const VERSION: u32 = 3;

/// What a report is about.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The source.
    pub source: String,
    /// Its subset, if one was cut.
    pub subset: String,
    /// The run, if one was trained.
    pub run: String,
    /// The probe, if one was ingested.
    pub probe: String,
}

/// A section: anchor, heading, body.
type Section = (String, String, Markup);

fn section(anchor: &str, heading: &str, body: Markup) -> Section {
    (anchor.to_owned(), heading.to_owned(), body)
}

/// Writes `OUT/SOURCE/report.html` from whatever stages are there; skips when none of them has changed.
///
/// # Errors
/// When the source was not ingested, or a table cannot be read.
pub fn report(layout: &Layout, subject: &Subject, dry_run: bool) -> Result<(Outcome, PathBuf)> {
    let path = layout.report(&subject.source);
    let images = layout.images(&subject.source);
    let ingested = require_manifest(&images, "ingested images", "run `lapidary ingest --data DIR` first")?;
    let folders = [
        layout.subset(&subject.source, &subject.subset),
        layout.run(&subject.source, &subject.run),
        layout.eval(&subject.source, &subject.run, &subject.probe),
    ];
    let curated = read_curated(layout, &subject.source).ok();
    let [cut, trained, measured] = folders.each_ref().map(|folder| read_manifest(folder).ok());
    let of_curation = curated.iter().flat_map(|curated| &curated.stages);
    let after = [cut.as_ref(), trained.as_ref(), measured.as_ref()].into_iter().flatten();
    let manifests: Vec<&Manifest> = std::iter::once(&ingested).chain(of_curation).chain(after).collect();
    let digests: Vec<&str> = manifests.iter().map(|m| m.digest.0.as_str()).collect();
    let key = digest_of_bytes(json!([env!("CARGO_PKG_VERSION"), VERSION, digests]).to_string().as_bytes());
    let mark = format!("<!-- made from {key} -->");
    if std::fs::read_to_string(&path).is_ok_and(|text| text.ends_with(&mark)) {
        return Ok((Outcome::UpToDate, path));
    }
    if dry_run {
        return Ok((Outcome::WouldRun, path));
    }
    let pictures = Pictures::new(ImageStore::open(&images)?);
    let mut sections = vec![section("counts", "In and out", curation::counts(&images, &ingested, curated.as_ref())?)];
    if let Some(curated) = &curated {
        let (facts, source) = (&curated.facts, &subject.source);
        let groups = curation::groups(&layout.groups(source), facts, &pictures)?;
        sections.push(section("duplicates", "Duplicate groups", groups));
        let pairs = curation::pairs(&layout.pairs(source), facts, &pictures)?;
        sections.push(section("pairs", "Pairs and thresholds", pairs));
        let ranking = layout.ranking(source);
        let montage = curation::montage(&layout.clusters(source), &ranking, &pictures)?;
        sections.push(section("clusters", "Clusters", montage));
        let classes: Vec<String> = serde_json::from_value(ingested.facts["classes"].clone()).unwrap_or_default();
        sections.push(section("sizes", "Balance at every size", balance::curves(&ranking, &images, classes.len())?));
    }
    if cut.is_some() {
        let classes = serde_json::from_value(ingested.facts["classes"].clone()).unwrap_or_default();
        sections.push(section("balance", "Class balance", curation::balance(&images, &folders[0], classes)?));
    }
    if let Some(trained) = &trained {
        sections.push(section("training", "Pretraining", training::curves(&folders[1], trained)?));
    }
    if let Some(measured) = &measured {
        sections.push(section(
            "probes",
            "Probes",
            html! { (training::probes(measured)) (probes::all_probes(measured)) },
        ));
        sections.push(section("attention", "Where the class token looks", training::attention(&folders[2])?));
    }
    sections.push(section("lineage", "Lineage", lineage(&manifests)));
    let cards = headline(&ingested, curated.as_ref(), cut.as_ref(), measured.as_ref());
    sections[0].2 = html! { (cards) (sections[0].2) };
    let lead = format!("source {}, subset {}, run {}", subject.source, subject.subset, subject.run);
    let html = page(&format!("Lapidary: {}", subject.source), &lead, &sections);
    write_synced(&path, format!("{html}{mark}").as_bytes())?;
    Ok((Outcome::Ran, path))
}

fn headline(
    ingested: &Manifest,
    curated: Option<&CuratedManifests>,
    cut: Option<&Manifest>,
    measured: Option<&Manifest>,
) -> Markup {
    let percent = |value: &serde_json::Value| format!("{:.1} %", value.as_f64().unwrap_or(0.0) * 100.0);
    html! {
        div.cards {
            (card(&ingested.rows.input.to_string(), "inputs"))
            (card(&ingested.rows.rejected.to_string(), "rejected"))
            @if let Some(curated) = curated {
                (card(&curated.facts["images_by_reason"]["kept"].to_string(), "kept after duplicates"))
                @if curated.facts["truth"].is_object() {
                    (card(&percent(&curated.facts["truth"]["recall"]), "of planted copies found"))
                    (card(&percent(&curated.facts["truth"]["precision"]), "of grouped pairs right"))
                }
            }
            @if let Some(cut) = cut { (card(&cut.rows.output.to_string(), "in the subset")) }
            @if let Some(measured) = measured {
                (card(&percent(&measured.facts["trained"]["knn_top1"]), "k-NN top-1"))
                (card(&percent(&measured.facts["untrained"]["knn_top1"]), "k-NN top-1, untrained"))
            }
        }
    }
}

fn lineage(manifests: &[&Manifest]) -> Markup {
    let rows: Vec<Vec<String>> = manifests
        .iter()
        .map(|m| {
            let inputs: Vec<&str> = m.inputs.keys().map(String::as_str).collect();
            vec![
                m.stage.clone(),
                m.digest.short().to_owned(),
                m.rows.output.to_string(),
                format!("{:.1} s", m.wall_secs),
                format!("{:.0} MiB", m.peak_memory_mib),
                inputs.join(", "),
            ]
        })
        .collect();
    html! {
        p.dim { "Every stage's manifest names its inputs by digest. " code { "lapidary explain IMAGE" } " follows one image." }
        (table(&["stage", "digest", "rows", "wall time", "peak memory", "made from"], &rows))
    }
}
