//! Removing a stage's folder by its name.

use super::collect::bytes_below;
use crate::remote;
use crate::stage::{FolderState, Layout, StageFolder, remove_stage, remove_tree};
use crate::{PipelineError, Result};
use serde::Serialize;
use std::path::PathBuf;

/// What was removed.
#[derive(Debug, Clone, Serialize)]
pub struct Removed {
    /// Its path.
    pub path: PathBuf,
    /// What it took up.
    pub bytes: u64,
}

/// Removes the stage's folder that `name` stands for: relative to OUT (`birds/runs/x`), to its source (`runs/x`), or a
/// run's name. What was finished goes, and what is unfinished of the same name. With `dry_run` only says what would go.
///
/// # Errors
/// When nothing, or more than one thing, is called so; when a process is at work on it; when another machine has published it
/// since; or when something was made of it, unless `force`.
pub fn remove(layout: &Layout, name: &str, force: bool, dry_run: bool) -> Result<Vec<Removed>> {
    let stages = layout.stages();
    let name = name.trim_end_matches('/');
    let is_named = |stage: &StageFolder| {
        let path = layout.name_of(&stage.folder);
        let in_source = path.split_once('/').map_or("", |(_, rest)| rest);
        path == name || in_source == name || in_source.strip_prefix("runs/") == Some(name)
    };
    let named: Vec<&StageFolder> = stages.iter().filter(|stage| is_named(stage)).collect();
    let mut paths: Vec<String> = named.iter().map(|stage| layout.name_of(&stage.folder)).collect();
    paths.dedup();
    match &paths[..] {
        [] => {
            return Err(PipelineError::Usage(format!(
                "nothing under `{}` is called `{name}`\nhint: `lapidary status --all` lists what is there",
                layout.out.display()
            )));
        }
        [_] => {}
        several => {
            return Err(PipelineError::Usage(format!("`{name}` may be any of {}", several.join(", "))));
        }
    }
    for stage in &named {
        if matches!(stage.state, FolderState::Unfinished { is_running: true, .. }) {
            return Err(PipelineError::Usage(format!(
                "a process is writing `{}`; end it first",
                stage.folder.display()
            )));
        }
        let made_of_it = made_of(stage, &stages, layout);
        if !force && !made_of_it.is_empty() {
            return Err(PipelineError::Usage(format!(
                "{} was made of `{name}`\nhint: remove that first, or add --force",
                made_of_it.join(", ")
            )));
        }
        if stage.manifest().is_some() {
            remote::check_removal(&stage.folder)?;
        }
    }
    let mut removed = Vec::new();
    for stage in named {
        removed.push(Removed { path: stage.files().to_owned(), bytes: bytes_below(stage.files()) });
        if !dry_run {
            match stage.state {
                FolderState::Whole(_) => remove_stage(&stage.folder)?,
                FolderState::Unfinished { .. } => remove_tree(stage.files())?,
            }
        }
    }
    Ok(removed)
}

/// What was made of a stage's folder.
fn made_of(stage: &StageFolder, stages: &[StageFolder], layout: &Layout) -> Vec<String> {
    let Some(manifest) = stage.manifest() else { return Vec::new() };
    let of_it = |other: &&StageFolder| other.inputs().get(&stage.input_name) == Some(&manifest.digest);
    stages.iter().filter(of_it).map(|other| format!("`{}`", layout.name_of(&other.folder))).collect()
}
