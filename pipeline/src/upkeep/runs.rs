//! The runs of a tree: how far each has come, what sets it apart from the others, and how good it is.

use crate::remote;
use crate::stage::{FolderState, Layout, StageFolder, flat};
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// How far a run has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum RunState {
    /// A process trains it.
    Running {
        /// Steps in its metrics.
        step: u64,
    },
    /// It was stopped; the same command resumes it.
    Interrupted {
        /// Steps in its last checkpoint.
        step: u64,
    },
    /// It is whole.
    Finished {
        /// Its steps.
        step: u64,
    },
}

/// A run.
#[derive(Debug, Clone, Serialize)]
pub struct RunSummary {
    /// Its source.
    pub source: String,
    /// Its name, as `--run` takes it.
    pub run: String,
    /// How far it has come.
    #[serde(flatten)]
    pub state: RunState,
    /// The last loss.
    pub loss: Option<f64>,
    /// The best k-NN top-1 over its evaluations, with the probe's name.
    pub best_probe: Option<(String, f64)>,
    /// The settings in which the runs of its source differ.
    pub settings: BTreeMap<String, String>,
}

/// All runs of a tree, by source and name.
pub fn runs(layout: &Layout) -> Vec<RunSummary> {
    let stages = layout.stages();
    let is_run = |stage: &&StageFolder| stage.input_name.split('/').nth(1) == Some("runs");
    let mut all: Vec<RunSummary> = stages.iter().filter(is_run).filter_map(|stage| summary(stage, &stages)).collect();
    // What all runs of a source have in common tells nothing.
    let sources: BTreeSet<String> = all.iter().map(|run| run.source.clone()).collect();
    for source in sources {
        let of_source: Vec<usize> = (0..all.len()).filter(|index| all[*index].source == source).collect();
        let keys: BTreeSet<String> = of_source.iter().flat_map(|index| all[*index].settings.keys().cloned()).collect();
        for key in keys {
            let values: BTreeSet<Option<&String>> =
                of_source.iter().map(|index| all[*index].settings.get(&key)).collect();
            if values.len() == 1 {
                of_source.iter().for_each(|index| drop(all[*index].settings.remove(&key)));
            }
        }
    }
    all
}

fn summary(stage: &StageFolder, stages: &[StageFolder]) -> Option<RunSummary> {
    let source = stage.input_name.split('/').next()?.to_owned();
    let run = stage.folder.file_name()?.to_string_lossy().into_owned();
    let last = last_metrics(stage.files());
    let (state, config) = match &stage.state {
        FolderState::Whole(manifest) => {
            (RunState::Finished { step: manifest.facts["steps"].as_u64().unwrap_or(0) }, &manifest.config)
        }
        FolderState::Unfinished { config, is_running: true, .. } => {
            let step = last["step"].as_u64().map_or(0, |step| step + 1);
            (RunState::Running { step }, config)
        }
        FolderState::Unfinished { partial, config, .. } => {
            (RunState::Interrupted { step: last_checkpoint(partial) }, config)
        }
    };
    let mut settings = flat(config);
    let plan = stage.inputs().keys().find_map(|name| Some(name.split_once("/plans/")?.1.to_owned()));
    settings.extend(plan.map(|plan| ("plan".to_owned(), plan)));
    Some(RunSummary {
        source,
        run,
        state,
        loss: last["loss"].as_f64(),
        best_probe: best_probe(stage, stages),
        settings,
    })
}

/// The last whole line of the metrics.
fn last_metrics(folder: &Path) -> Value {
    let path = folder.join("metrics.jsonl");
    let text = remote::bring(&path).ok().and_then(|()| std::fs::read_to_string(&path).ok()).unwrap_or_default();
    text.lines().rev().find_map(|line| serde_json::from_str(line).ok()).unwrap_or_default()
}

/// Steps in the last checkpoint of a run.
fn last_checkpoint(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder.join("checkpoints")).into_iter().flatten().filter_map(|entry| entry.ok());
    let step = |entry: std::fs::DirEntry| -> Option<u64> {
        let path = entry.path();
        path.extension().filter(|extension| *extension == "json")?;
        serde_json::from_slice::<Value>(&std::fs::read(path).ok()?).ok()?["step"].as_u64()
    };
    entries.filter_map(step).max().unwrap_or(0)
}

fn best_probe(run: &StageFolder, stages: &[StageFolder]) -> Option<(String, f64)> {
    let digest = &run.manifest()?.digest;
    let scores = stages.iter().filter_map(|stage| {
        let manifest = stage.manifest().filter(|manifest| manifest.stage == "eval")?;
        (manifest.inputs.get(&run.input_name) == Some(digest)).then_some(())?;
        let probe = stage.input_name.rsplit('/').next()?.to_owned();
        Some((probe, manifest.facts["trained"]["knn_top1"].as_f64()?))
    });
    scores.max_by(|a, b| a.1.total_cmp(&b.1))
}
