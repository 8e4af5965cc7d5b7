//! The report: one HTML file, read offline, on what came in, what was dropped and why, what was trained, and how it compares.
//!
//! It is made from the manifests and tables of whatever stages have run; what has not run says how to run it. The kit around it
//! (page, tables, pictures) is the pipeline's, the charts are this folder's.

mod attention;
mod balance;
mod chart;
mod classes;
pub(crate) mod commands;
mod counts;
mod evaluation;
mod evidence;
mod features;
mod frames;
mod gallery;
mod groups;
pub(crate) mod lineage;
pub(crate) mod made;
mod pair_table;
mod pairs;
mod probe_sets;
mod robustness;
mod summary;
pub(crate) mod text;
mod training;
mod unit_map;
mod viewer;

use crate::Result;
use classes::ClassCounts;
use evidence::Evidence;
use lapidary_pipeline::remote::put_file;
use lapidary_pipeline::report::{Extras, card, page_with};
use lapidary_pipeline::stage::{Layout, Outcome, digest_of_bytes, write_synced};
use lapidary_pipeline::{ImageStore, Pictures};
use made::{Made, Measured};
use maud::{Markup, html};
use pair_table::PairTable;
use serde_json::json;
use std::path::PathBuf;
use text::{grouped, percent};

/// Raised when the page changes, so that it is written anew.
const VERSION: u32 = 5;
/// What the report adds to the kit.
const EXTRAS: Extras = Extras { style: include_str!("page/report.css"), script: include_str!("page/report.js") };

/// What a report is about.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The source.
    pub source: String,
    /// Its subset, if one was cut.
    pub subset: String,
    /// The runs, in the order in which they are shown.
    pub runs: Vec<String>,
    /// Whether somebody named these runs: then one that is not there is an error.
    pub runs_are_named: bool,
    /// The probe sets; without any all on which the runs were measured are shown.
    pub probes: Vec<String>,
    /// The probe set that comes first of these.
    pub first_probe: String,
}

/// A section: anchor, heading, body.
type Section = (String, String, Markup);

fn section(anchor: &str, heading: &str, body: Markup) -> Section {
    (anchor.to_owned(), heading.to_owned(), body)
}

/// Writes `OUT/SOURCE/report.html` from whatever stages are there; skips when none of them has changed.
///
/// # Errors
/// When the source was not ingested, a run that was named is not there, or a table cannot be read.
pub fn report(layout: &Layout, subject: &Subject, dry_run: bool) -> Result<(Outcome, PathBuf)> {
    let path = layout.report(&subject.source);
    let made = Made::of(layout, subject)?;
    let digests: Vec<&str> = made.manifests().iter().map(|manifest| manifest.digest.0.as_str()).collect();
    let evidence = Evidence::find(layout)?;
    let found = evidence.as_ref().map(|evidence| &evidence.digest);
    let key = digest_of_bytes(json!([env!("CARGO_PKG_VERSION"), VERSION, digests, found]).to_string().as_bytes());
    let mark = format!("<!-- made from {key} -->");
    if std::fs::read_to_string(&path).is_ok_and(|text| text.ends_with(&mark)) {
        return Ok((Outcome::UpToDate, path));
    }
    if dry_run {
        return Ok((Outcome::WouldRun, path));
    }
    let mut lead = vec![format!("Source {}", made.source)];
    lead.extend(made.subset.as_ref().map(|_| format!("subset {}", subject.subset)));
    lead.extend(made.runs.iter().map(|run| format!("run {}", run.name)));
    let html = page_with(
        &format!("Lapidary: {}", made.source),
        &lead.join(", "),
        &sections(layout, &made, evidence.as_ref())?,
        EXTRAS,
    );
    write_synced(&path, format!("{html}{mark}").as_bytes())?;
    put_file(&path)?;
    Ok((Outcome::Ran, path))
}

fn sections(layout: &Layout, made: &Made, evidence: Option<&Evidence>) -> Result<Vec<Section>> {
    let source = &made.source;
    let pictures = Pictures::new(ImageStore::open(&made.images.folder)?);
    let classes = made.subset.as_ref().map(|subset| ClassCounts::read(made, &subset.folder)).transpose()?;
    let found = summary::sentences(made, classes.as_ref())?;
    let mut sections = vec![
        section(
            "found",
            "What was found",
            html! { ol.found { @for sentence in &found { li { (summary::marked(sentence)) } } } (headline(made)) (hints()) },
        ),
        section("lineage", "Lineage", lineage::lineage(layout, made)),
        section("counts", "In and out", counts::counts(made)?),
    ];
    if let Some(curated) = &made.curated {
        let table = PairTable::read(&layout.pairs(source))?;
        let groups = groups::groups(&layout.groups(source), &curated.facts, &table, &pictures)?;
        sections.push(section("duplicates", "Duplicate groups", groups));
        sections.push(section("pairs", "Pairs", pairs::pairs(&table, &curated.facts, &pictures)?));
        sections.push(section("gallery", "Gallery", gallery::gallery(layout, made, &pictures)?));
        let curves = balance::curves(&layout.ranking(source), &made.images.folder, made.classes.len())?;
        let balance = classes.as_ref().map(|counts| classes::balance(made, counts));
        sections.push(section("balance", "Balance", html! { (curves) @if let Some(balance) = &balance { (balance) } }));
    }
    if !made.runs.is_empty() {
        sections.push(section("training", "Training", training::training(&made.runs)?));
    }
    let measured = made.measured();
    let pictured = &measured[..measured.len().min(probe_sets::PICTURED_MAX)];
    let of_sets = [
        ("evaluation", "Evaluation", probe_sets::evaluations(&measured)?),
        ("robustness", "Robustness", probe_sets::of_each(&measured, |set| Ok(robustness::robustness(set)))?),
        ("attention", "Attention", probe_sets::of_each(pictured, |set| attention::attention(set, pictured.len()))?),
        ("features", "Features", probe_sets::of_each(pictured, |set| features::features(layout, set, pictured.len()))?),
    ];
    for (anchor, heading, body) in of_sets {
        sections.extend(body.map(|body| section(anchor, heading, body)));
    }
    if let Some(evidence) = evidence {
        sections.push(section("evidence", "Evidence", evidence.body()));
    }
    if let Some((_, _, body)) = sections.last_mut() {
        let last = std::mem::replace(body, html! {});
        *body = html! { (last) (viewer::dialog()) };
    }
    Ok(sections)
}

/// How the page is read.
fn hints() -> Markup {
    html! { p.dim {
        "Point at a curve, or focus it and use the arrow keys, to read its values; every chart has a table under it. Pictures open in a
         viewer, where the arrow keys go on to the next."
    } }
}

/// The figures that a reader looks for first.
fn headline(made: &Made) -> Markup {
    let rows = made.images.manifest.rows;
    let facts = made.curated.as_ref().map(|curated| &curated.facts);
    let share = |value: &serde_json::Value| value.as_f64().map(percent);
    let truth = facts.map(|facts| &facts["truth"]);
    let first = made.measured().first().map(Measured::scored).unwrap_or_default();
    let best = first.into_iter().map(|(_, scores)| scores);
    let best = best.max_by(|a, b| a.trained.knn_top1.total_cmp(&b.trained.knn_top1));
    html! {
        div.cards {
            (card(&grouped(rows.input), "inputs"))
            (card(&grouped(rows.rejected), "rejected"))
            @if let Some(facts) = facts { (card(&grouped(facts["images_by_reason"]["kept"].as_u64().unwrap_or(0)), "images kept")) }
            @if let Some(recall) = truth.and_then(|truth| share(&truth["recall"])) { (card(&recall, "of planted copies found")) }
            @if let Some(precision) = truth.and_then(|truth| share(&truth["precision"])) { (card(&precision, "of grouped pairs right")) }
            @if let Some(subset) = &made.subset { (card(&grouped(subset.manifest.rows.output), "images in the subset")) }
            @if let Some(scores) = best {
                (card(&percent(scores.trained.knn_top1), "k-NN top-1"))
                (card(&percent(scores.untrained.knn_top1), "k-NN top-1, untrained"))
            }
        }
    }
}
