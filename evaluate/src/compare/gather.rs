//! Facts of runs as they lie under OUT: manifests, metrics, evaluations.

use super::facts::{Evaluation, Figure, PlanFacts, RunFacts};
use crate::Result;
use crate::scores::{NetworkScores, Scores};
use lapidary_pipeline::PipelineError;
use lapidary_pipeline::stage::{Layout, ancestor, digest_of_bytes, flat, read_manifest, short_key};
use lapidary_schemas::Manifest;
use lapidary_train::METRICS_FILE;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// Stages that a run is made of, whose settings tell groups apart.
const STAGES: [&str; 7] = ["plan", "cut", "ranking", "clusters", "groups", "pairs", "curate"];

/// The finished runs of a source, by name.
pub fn finished_runs(layout: &Layout, source: &str) -> Vec<String> {
    let runs = layout.out.join(source).join("runs");
    let is_of_source = |folder: &Path| folder.parent() == Some(runs.as_path());
    let name = |folder: &Path| Some(folder.file_name()?.to_str()?.to_owned());
    let stages = layout.stages().into_iter().filter(|stage| !stage.is_aside && is_of_source(&stage.folder));
    stages.filter(|stage| stage.manifest().is_some()).filter_map(|stage| name(&stage.folder)).collect()
}

/// The facts of a run, named `RUN` or `SOURCE/RUN`, with its evaluation on a probe.
///
/// # Errors
/// When there is no such run: the finished ones are named.
pub fn gather(layout: &Layout, source: &str, named: &str, probe: &str, called: Option<&str>) -> Result<RunFacts> {
    let (source, run) = named.split_once('/').unwrap_or((source, named));
    let folder = layout.run(source, run);
    let Ok(manifest) = read_manifest(&folder) else {
        return Err(unknown(layout, source, run).into());
    };
    let mut notes = Vec::new();
    let evaluation = evaluation(layout, (source, run), probe, &manifest, &mut notes);
    let (loss, secs) = loss_and_secs(&folder.join(METRICS_FILE));
    Ok(RunFacts {
        source: source.to_owned(),
        run: run.to_owned(),
        called: called.map(str::to_owned),
        seed: manifest.config["seed"].as_u64().unwrap_or(0),
        settings: settings(layout, &manifest),
        plan: plan(&manifest),
        steps: manifest.facts["steps"].as_u64().unwrap_or(0),
        loss,
        secs,
        evaluation,
        notes,
    })
}

fn unknown(layout: &Layout, source: &str, run: &str) -> PipelineError {
    let finished = finished_runs(layout, source);
    let hint = match finished.is_empty() {
        true => format!("`{source}` has no finished run: run `lapidary pretrain` first"),
        false => format!("finished runs of `{source}`: {}", finished.join(", ")),
    };
    let is_unfinished = layout.run(source, run).with_file_name(format!(".{run}.partial")).is_dir();
    let what = if is_unfinished { "is not finished" } else { "is not a run" };
    PipelineError::Usage(format!("`{run}` {what}\nhint: {hint}"))
}

/// Reads facts from a file of JSON lines, as `--format jsonl` writes them.
///
/// # Errors
/// When the file cannot be read, or a line is none; which one is said.
pub fn read_lines(path: &Path) -> Result<Vec<RunFacts>> {
    let text = std::fs::read_to_string(path).map_err(PipelineError::io("read", path))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let read = lines.map(|(index, line)| {
        serde_json::from_str(line).map_err(|e| PipelineError::format(path, format!("line {}: {e}", index + 1)))
    });
    Ok(read.collect::<Result<_, PipelineError>>()?)
}

/// A run's settings and those of what it was made of, but for seeds and for names of folders.
fn settings(layout: &Layout, manifest: &Manifest) -> BTreeMap<String, String> {
    let without_seed = |all: BTreeMap<String, String>| all.into_iter().filter(|(key, _)| key != "seed");
    let mut all: BTreeMap<String, String> = without_seed(flat(&manifest.config)).collect();
    for stage in STAGES {
        if let Some(found) = ancestor(layout, manifest, stage) {
            all.extend(without_seed(flat(&found.config)).map(|(key, value)| (format!("{stage}.{key}"), value)));
        }
    }
    if let Some(ingested) = ancestor(layout, manifest, "ingest") {
        all.insert("images".to_owned(), ingested.digest.short().to_owned());
    }
    // Weights that it started from, or learned from.
    let is_of_data = |name: &str| name.contains("/plans/") || name.ends_with("/images");
    let weights = manifest.inputs.iter().filter(|(name, _)| !is_of_data(name));
    all.extend(weights.map(|(name, digest)| (format!("weights.{name}"), digest.short().to_owned())));
    all
}

fn plan(manifest: &Manifest) -> PlanFacts {
    let found = manifest.inputs.iter().find(|(name, _)| name.contains("/plans/"));
    found.map_or_else(
        || PlanFacts { name: String::new(), digest: String::new() },
        |(name, digest)| PlanFacts { name: name.clone(), digest: digest.short().to_owned() },
    )
}

/// The mean loss of the last epoch and the seconds of all steps, as far as the metrics tell them.
fn loss_and_secs(path: &Path) -> (Option<f64>, Option<f64>) {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let secs = lines.iter().map(|line| line["step_secs"].as_f64()).sum::<Option<f64>>();
    let last = lines.iter().filter_map(|line| line["epoch"].as_u64()).max();
    let losses: Vec<f64> = lines
        .iter()
        .filter(|line| line["epoch"].as_u64() == last && line["skipped"] != true)
        .filter_map(|line| line["loss"].as_f64())
        .collect();
    let loss = (!losses.is_empty()).then(|| losses.iter().sum::<f64>() / losses.len() as f64);
    (loss, secs.filter(|_| !lines.is_empty()))
}

/// A run's evaluation on a probe, unless it is of another state of the run.
fn evaluation(
    layout: &Layout,
    (source, run): (&str, &str),
    probe: &str,
    manifest: &Manifest,
    notes: &mut Vec<String>,
) -> Option<Evaluation> {
    let folder = layout.eval(source, run, probe);
    let command = format!("lapidary eval --source {source} --run {run} --probe {probe}");
    let Ok(evaluated) = read_manifest(&folder) else {
        notes.push(format!("run `{run}` has no evaluation on `{probe}`: {command}"));
        return None;
    };
    if evaluated.inputs.get(&layout.name_of(&layout.run(source, run))) != Some(&manifest.digest) {
        notes.push(format!("the evaluation of run `{run}` on `{probe}` is of an earlier state of the run: {command}"));
        return None;
    }
    let Ok(scores) = serde_json::from_value::<Scores>(evaluated.facts.clone()) else {
        notes.push(format!("the evaluation of run `{run}` on `{probe}` is of an older version: {command}"));
        return None;
    };
    let images = evaluated.inputs.get(&layout.name_of(&layout.images(probe)));
    // Which labels are drawn depends on the seed, and that is part of the spread.
    let mut config = evaluated.config.clone();
    config.as_object_mut().map(|table| table.remove("seed"));
    let key = digest_of_bytes(json!([evaluated.version, config, images]).to_string().as_bytes());
    Some(Evaluation {
        probe: probe.to_owned(),
        key: short_key(&key).to_owned(),
        chance_top1: scores.chance_top1,
        trained: figures(&scores.trained),
        untrained: figures(&scores.untrained),
    })
}

fn figures(scores: &NetworkScores) -> Vec<Figure> {
    let probes =
        scores.probes.iter().map(|probe| Figure { name: probe.name.clone(), top1: probe.top1, top5: Some(probe.top5) });
    let measures = scores
        .measures
        .iter()
        .filter_map(|measure| Some(Figure { name: measure.name.clone(), top1: measure.value?, top5: None }));
    probes.chain(measures).collect()
}
