//! Which checkpoints are kept: the newest few, one in so many epochs, the best by its score, and the final one.

use super::{FINAL, names, read_sidecar};
use crate::Result;
use lapidary_pipeline::PipelineError;
use std::path::{Path, PathBuf};

/// Rules of keeping.
#[derive(Debug, Clone, Copy)]
pub struct Keep {
    /// The newest that are kept while the run goes on.
    pub last: usize,
    /// Those after a multiple of so many steps are kept for good; 0 means none.
    pub every_steps: usize,
}

/// Removes the checkpoints that no rule keeps. The best by its score is always kept, the newest few only until there is a
/// final one.
///
/// # Errors
/// When a file cannot be removed.
pub fn prune(folder: &Path, keep: Keep) -> Result<()> {
    let mut names = names(folder);
    names.sort();
    let is_finished = names.iter().any(|name| name == FINAL);
    let sidecars = names.iter().filter_map(|name| Some((name, read_sidecar(folder, name).ok()?)));
    let sidecars: Vec<_> = sidecars.collect();
    let best = sidecars
        .iter()
        .filter_map(|(name, sidecar)| Some((sidecar.score?, *name)))
        .reduce(|best, next| if next.0 > best.0 { next } else { best });
    let of_steps: Vec<&String> = names.iter().filter(|name| *name != FINAL).collect();
    let newest = if is_finished { &[][..] } else { &of_steps[of_steps.len().saturating_sub(keep.last.max(1))..] };
    for name in &of_steps {
        let step = sidecars.iter().find(|(found, _)| found == name).map(|(_, sidecar)| sidecar.step);
        let for_good = step.is_some_and(|step| keep.every_steps > 0 && step > 0 && step % keep.every_steps == 0);
        let is_best = best.is_some_and(|(_, best)| best == *name);
        if for_good || is_best || newest.contains(name) {
            continue;
        }
        for extension in ["safetensors", "json"] {
            let path: PathBuf = folder.join(format!("{name}.{extension}"));
            std::fs::remove_file(&path).map_err(PipelineError::io("remove", &path))?;
        }
    }
    Ok(())
}

/// Removes what a run that was cut off has left of checkpoints: files still being written, and halves of a pair.
///
/// # Errors
/// When a file cannot be removed.
pub fn remove_halves(folder: &Path) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(()) };
    for path in entries.filter_map(|entry| entry.ok()).map(|entry| entry.path()).filter(|path| path.is_file()) {
        let extension = path.extension().and_then(|extension| extension.to_str());
        let is_whole = match extension {
            Some("json") => path.with_extension("safetensors").is_file(),
            Some("safetensors") => path.with_extension("json").is_file(),
            _ => !path.to_string_lossy().ends_with(".writing"),
        };
        if !is_whole {
            tracing::info!("removing `{}`: it was never finished", path.display());
            std::fs::remove_file(&path).map_err(PipelineError::io("remove", &path))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{Checkpoint, Networks, Skipped, step_name};
    use super::*;
    use std::collections::BTreeMap;

    fn save(folder: &Path, step: usize, name: &str, score: Option<f64>) {
        let checkpoint =
            Checkpoint { step, skipped: Skipped::default(), networks: Networks::default(), tensors: BTreeMap::new() };
        checkpoint.snapshot().save(folder, name, score).expect("saves");
    }

    fn kept(folder: &Path) -> Vec<String> {
        let mut names = names(folder);
        names.sort();
        names
    }

    #[test]
    fn the_newest_the_best_and_one_in_so_many_are_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path();
        let keep = Keep { last: 2, every_steps: 40 };
        for (step, score) in
            [(10, Some(0.2)), (20, Some(0.5)), (30, Some(0.4)), (40, None), (50, None), (60, Some(0.5))]
        {
            save(folder, step, &step_name(step), score);
            prune(folder, keep).expect("prunes");
        }
        // The first of equal scores is the best.
        assert_eq!(kept(folder), [20, 40, 50, 60].map(step_name));
        save(folder, 70, FINAL, None);
        prune(folder, keep).expect("prunes");
        assert_eq!(kept(folder), [FINAL.to_owned(), step_name(20), step_name(40)]);
        prune(folder, Keep { every_steps: 0, ..keep }).expect("prunes");
        assert_eq!(kept(folder), [FINAL.to_owned(), step_name(20)]);
    }

    #[test]
    fn halves_and_files_being_written_are_removed() {
        let temporary = tempfile::tempdir().expect("a folder");
        let folder = temporary.path();
        remove_halves(&folder.join("not-there")).expect("nothing to do");
        save(folder, 1, &step_name(1), None);
        for half in ["step-00000002.safetensors", "step-00000003.json", "step-00000004.safetensors.7-0.writing"] {
            std::fs::write(folder.join(half), "half").expect("writes");
        }
        remove_halves(folder).expect("removes");
        let mut left: Vec<String> = std::fs::read_dir(folder)
            .expect("lists")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        left.sort();
        assert_eq!(left, ["step-00000001.json", "step-00000001.safetensors"]);
    }
}
