//! Evidence: runs of several seeds that `make science` left under OUT, as means, spreads and differences.
//!
//! `science.jsonl` has a line a run, as `lapidary compare --format jsonl` writes it; `subsets.jsonl` a line a subset that a run of
//! the curation was trained on. Nothing is chosen: all lines are shown, but for runs of other numbers of steps than most of their
//! source's, which are counted.

use super::chart::{Bars, Unit};
use super::text::grouped;
use crate::Result;
use crate::compare::{Comparison, Group, Quantity, RunFacts, Sample, Table, read_lines, sentences, tables};
use lapidary_pipeline::PipelineError;
use lapidary_pipeline::report::table;
use lapidary_pipeline::stage::{Layout, digest_of_bytes};
use lapidary_schemas::Digest;
use maud::{Markup, html};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

const RUNS_FILE: &str = "science.jsonl";
const SUBSETS_FILE: &str = "subsets.jsonl";
/// Where `make science` has its own tree under OUT.
const FOLDER: &str = "science";
/// Figures that are drawn: the first probe whose name begins so, of each.
const DRAWN: [&str; 3] = ["knn", "quick", "logistic 100 %"];

/// What was found under OUT.
pub(super) struct Evidence {
    /// Of the files' bytes.
    pub(super) digest: Digest,
    file: String,
    parts: Vec<Part>,
    subsets: Vec<Subset>,
}

/// The runs on a source.
struct Part {
    source: String,
    steps: u64,
    runs: usize,
    comparison: Comparison,
    /// Runs of other numbers of steps.
    left_out: usize,
}

/// A subset of a pool whose originals and classes are known.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Subset {
    arm: String,
    images: u64,
    /// Images that are no planted copies of another in the subset.
    originals: u64,
    /// The exponential of the entropy over classes.
    effective_classes: f64,
    classes: BTreeMap<String, u64>,
}

impl Evidence {
    /// Reads what is there; none where nothing is.
    ///
    /// # Errors
    /// When a file cannot be read or a line is none of its kind; which one is said.
    pub(super) fn find(layout: &Layout) -> Result<Option<Self>> {
        let folders = [layout.out.clone(), layout.out.join(FOLDER)];
        let Some(folder) = folders.into_iter().find(|folder| folder.join(RUNS_FILE).is_file()) else {
            return Ok(None);
        };
        let (runs, subsets) = (folder.join(RUNS_FILE), folder.join(SUBSETS_FILE));
        let mut bytes = std::fs::read(&runs).map_err(PipelineError::io("read", &runs))?;
        let subsets_found = if subsets.is_file() {
            bytes.extend(std::fs::read(&subsets).map_err(PipelineError::io("read", &subsets))?);
            read_subsets(&subsets)?
        } else {
            Vec::new()
        };
        let parts = parts(read_lines(&runs)?);
        let evidence =
            Self { digest: digest_of_bytes(&bytes), file: layout.name_of(&runs), parts, subsets: subsets_found };
        Ok((!evidence.parts.is_empty()).then_some(evidence))
    }

    /// The section's charts and tables.
    pub(super) fn body(&self) -> Markup {
        html! {
            p.dim {
                "Whole runs that differ in one setting, over seeds, trained on equal plans for equal steps: what " code { "make science" }
                " has written so far to " code { (self.file) } ". " code { "lapidary compare --from" } " prints the same in other formats."
            }
            @for part in &self.parts { (part.body()) }
            @if !self.subsets.is_empty() { (subsets(&self.subsets)) }
        }
    }
}

/// The runs by source, each with the steps that most of its runs have.
fn parts(runs: Vec<RunFacts>) -> Vec<Part> {
    let mut by_source: Vec<(String, Vec<RunFacts>)> = Vec::new();
    for run in runs {
        match by_source.iter_mut().find(|(source, _)| *source == run.source) {
            Some((_, of_source)) => of_source.push(run),
            None => by_source.push((run.source.clone(), vec![run])),
        }
    }
    let part = |(source, runs): (String, Vec<RunFacts>)| {
        let of_steps = |steps: u64| runs.iter().filter(|run| run.steps == steps).count();
        let steps = runs.iter().map(|run| run.steps).max_by_key(|steps| (of_steps(*steps), *steps)).unwrap_or(0);
        let all = runs.len();
        let kept: Vec<RunFacts> = runs.into_iter().filter(|run| run.steps == steps).collect();
        Part { source, steps, runs: kept.len(), left_out: all - kept.len(), comparison: Comparison::of(&kept) }
    };
    by_source.into_iter().map(part).collect()
}

impl Part {
    fn body(&self) -> Markup {
        let tables = tables(&self.comparison);
        let (every, first): (Vec<&Table>, Vec<&Table>) =
            tables.iter().partition(|table| table.title.starts_with("Every"));
        let drawn = |of: &Table| {
            let headings: Vec<&str> = of.headings.iter().map(String::as_str).collect();
            table(&headings, &of.rows)
        };
        html! {
            h3 { "Runs on " (self.source) ", " (grouped(self.steps)) " steps each" }
            p.dim {
                (self.runs) @if self.runs == 1 { " run" } @else { " runs" }
                @if self.left_out > 0 { "; " (self.left_out) " of other numbers of steps are left out" } "."
            }
            div.beside {
                div.charts { (self.chart()) }
                div.evidence { @for of in first { h4 { (of.title) } (drawn(of)) } }
            }
            @if !every.is_empty() {
                details { summary { "Every probe" } @for of in every { h4 { (of.title) } (drawn(of)) } }
            }
            ul { @for line in sentences(&self.comparison) { li { (line) } } }
        }
    }

    /// Means of the headline probes with their spreads.
    fn chart(&self) -> Markup {
        let groups = &self.comparison.groups;
        let names: Vec<String> = groups.iter().map(|group| group.name.clone()).collect();
        let figures = headline(groups);
        let of = |value: fn(&Sample) -> f64| -> Vec<Vec<f64>> {
            let sample = |group: &Group, figure: &str| group.sample(figure, Quantity::Top1).map_or(f64::NAN, value);
            figures.iter().map(|figure| groups.iter().map(|group| sample(group, figure)).collect()).collect()
        };
        let (means, spreads) = (of(|sample| sample.mean), of(|sample| sample.deviation.unwrap_or(f64::NAN)));
        let series: Vec<(String, Vec<f64>)> = figures.iter().cloned().zip(means).collect();
        let title = format!("Top-1 on {}: means, and standard deviations over seeds", self.source);
        let x = "share of test images";
        Bars { title: &title, x, names: &names, series: &series, spreads: &spreads, unit: Unit::Percent, marker: None }
            .figure()
    }
}

fn headline(groups: &[Group]) -> Vec<String> {
    let names = || groups.iter().flat_map(|group| &group.figures).map(|figure| figure.figure.as_str());
    DRAWN.iter().filter_map(|start| names().find(|name| name.starts_with(start)).map(str::to_owned)).collect()
}

fn read_subsets(path: &Path) -> Result<Vec<Subset>> {
    let text = std::fs::read_to_string(path).map_err(PipelineError::io("read", path))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let read = lines.map(|(index, line)| {
        serde_json::from_str(line).map_err(|e| PipelineError::format(path, format!("line {}: {e}", index + 1)))
    });
    Ok(read.collect::<Result<_, PipelineError>>()?)
}

/// What the subsets of each arm hold, over seeds.
fn subsets(all: &[Subset]) -> Markup {
    let mut by_arm: Vec<(&str, Vec<&Subset>)> = Vec::new();
    for subset in all {
        match by_arm.iter_mut().find(|(arm, _)| *arm == subset.arm) {
            Some((_, of_arm)) => of_arm.push(subset),
            None => by_arm.push((&subset.arm, vec![subset])),
        }
    }
    let row = |(arm, subsets): &(&str, Vec<&Subset>)| {
        let said = |digits: usize, value: fn(&Subset) -> f64| {
            let sample = Sample::of(subsets.iter().map(|subset| value(subset)).collect());
            let spread = sample.deviation.map(|deviation| format!(" ± {deviation:.digits$}")).unwrap_or_default();
            format!("{:.digits$}{spread}", sample.mean)
        };
        let least = |subset: &Subset| subset.classes.values().min().copied().unwrap_or(0) as f64;
        vec![
            (*arm).to_owned(),
            subsets.len().to_string(),
            said(0, |subset| subset.images as f64),
            said(0, |subset| subset.originals as f64),
            said(2, |subset| subset.effective_classes),
            said(0, least),
        ]
    };
    let rows: Vec<Vec<String>> = by_arm.iter().map(row).collect();
    html! {
        h3 { "What the subsets hold" }
        p.dim {
            "Each arm chose as many images from the same pool, whose classes are thinned and a part of which are planted copies. Originals
             are images that are no copies of another; effective classes are the exponential of the entropy over classes."
        }
        (table(&["subset", "seeds", "images", "originals", "effective classes", "images of the least class"], &rows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{Evaluation, Figure, PlanFacts};

    fn run(source: &str, called: &str, seed: u64, steps: u64, top1: f64) -> String {
        let figure = |top1: f64| vec![Figure { name: "knn 20".to_owned(), top1, top5: Some(0.9) }];
        let evaluation = Evaluation {
            probe: "probe".to_owned(),
            key: "k".to_owned(),
            chance_top1: 0.1,
            trained: figure(top1),
            untrained: figure(0.2),
        };
        let run = RunFacts {
            source: source.to_owned(),
            run: format!("{called}-s{seed}"),
            called: Some(called.to_owned()),
            seed,
            settings: BTreeMap::new(),
            plan: PlanFacts { name: "p".to_owned(), digest: seed.to_string() },
            steps,
            loss: Some(1.0),
            secs: Some(2.0),
            evaluation: Some(evaluation),
            notes: Vec::new(),
        };
        serde_json::to_string(&run).expect("JSON")
    }

    #[test]
    fn runs_are_grouped_by_source_with_their_spread_and_rehearsals_are_counted_out() {
        let folder = tempfile::tempdir().expect("a folder");
        let layout = Layout::new(folder.path());
        assert!(Evidence::find(&layout).expect("reads").is_none());
        std::fs::create_dir(folder.path().join(FOLDER)).expect("creates");
        let lines = [
            run("c10", "hybrid", 1, 400, 0.40),
            run("c10", "hybrid", 2, 400, 0.44),
            run("c10", "dino", 1, 400, 0.30),
            run("c10", "dino", 2, 400, 0.31),
            run("c10", "hybrid", 3, 5, 0.10),
            run("tailed", "random", 1, 400, 0.25),
        ];
        let path = folder.path().join(FOLDER).join(RUNS_FILE);
        std::fs::write(&path, lines.join("\n")).expect("writes");
        let subset = |arm: &str, originals: u64| {
            format!(
                "{{\"arm\": \"{arm}\", \"seed\": 1, \"images\": 40, \"originals\": {originals}, \"effective_classes\": 7.5, \"classes\": {{\"a\": 30, \"b\": 10}}}}\n"
            )
        };
        let subsets = folder.path().join(FOLDER).join(SUBSETS_FILE);
        std::fs::write(&subsets, subset("random", 30) + &subset("random", 34)).expect("writes");
        let found = Evidence::find(&layout).expect("reads").expect("evidence");
        let text = found.body().into_string();
        for part in [
            "Runs on c10, 400 steps each",
            "1 of other numbers of steps",
            "Runs on tailed",
            "42.00 ± 2.83",
            "32 ± 3",
            "science/science.jsonl",
            "hybrid",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        // Another line is another digest, and a broken one is named.
        std::fs::write(&path, lines[..3].join("\n")).expect("writes");
        assert_ne!(Evidence::find(&layout).expect("reads").expect("evidence").digest, found.digest);
        std::fs::write(&path, format!("{}\n{{\"source\"", lines[0])).expect("writes");
        let error = Evidence::find(&layout).err().expect("no line").to_string();
        assert!(error.contains("line 2") && error.contains(RUNS_FILE), "{error}");
    }
}
