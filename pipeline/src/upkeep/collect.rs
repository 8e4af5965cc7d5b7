//! Garbage: what nothing refers to any more, or nothing can go on from.
//!
//! Never garbage: the folder of a name as it stands, runs, unfinished work that can be resumed, and what any of these was
//! made of. Garbage: folders of other settings that none of those was made of, unfinished work that would start afresh, what a
//! process left that was killed while it put a folder into its place, shares that nobody finishes, and in a store what no
//! manifest names. The last two are left alone until nobody has written to them for a day.

use crate::Result;
use crate::remote;
use crate::stage::{
    AbandonedShares, FolderState, Layout, MAX_DEPTH, StageFolder, abandoned_shares, remove_abandoned, remove_stage,
    remove_tree,
};
use lapidary_schemas::Digest;
use lapidary_schemas::tables::MANIFEST_FILE;
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Something that can go.
#[derive(Debug, Clone, Serialize)]
pub struct Garbage {
    /// Its path, or its URL.
    pub path: PathBuf,
    /// What it takes up.
    pub bytes: u64,
    /// Why it can go.
    pub why: &'static str,
}

/// Finds what can go and, unless it is a `dry_run`, removes it.
///
/// # Errors
/// When something cannot be removed, or a store goes away.
pub fn collect(layout: &Layout, dry_run: bool) -> Result<Vec<Garbage>> {
    let stages = layout.stages();
    let used = in_use(&stages);
    let mut garbage = Vec::new();
    for (index, stage) in stages.iter().enumerate() {
        let why = match &stage.state {
            FolderState::Whole(_) if !used.contains(&index) => "made with other settings; nothing was made of it",
            FolderState::Unfinished { is_running: false, resumable: false, .. } => "unfinished; it would start afresh",
            _ => continue,
        };
        garbage.push(Garbage { path: stage.files().to_owned(), bytes: bytes_below(stage.files()), why });
        if !dry_run {
            match stage.state {
                FolderState::Whole(_) => {
                    remote::check_removal(&stage.folder)?;
                    remove_stage(&stage.folder)?;
                }
                FolderState::Unfinished { .. } => remove_tree(stage.files())?,
            }
        }
    }
    for path in left_over(layout) {
        garbage.push(Garbage {
            bytes: bytes_below(&path),
            path: path.clone(),
            why: "left by a process that was killed",
        });
        if !dry_run {
            remove_tree(&path)?;
        }
    }
    let shares = abandoned_shares(layout, &remote::list_shares()?);
    for shares in shares.iter().filter(|shares| shares.folder.is_dir()) {
        let bytes = bytes_below(&shares.folder);
        if dry_run || remove_abandoned(&shares.folder)? {
            garbage.push(Garbage { path: shares.folder.clone(), bytes, why: shares.why });
        }
    }
    garbage.extend(collect_in_store(&shares, dry_run)?);
    Ok(garbage)
}

/// The same of what lies in a store: markers of shares, and objects that nothing names.
fn collect_in_store(shares: &[AbandonedShares], dry_run: bool) -> Result<Vec<Garbage>> {
    // Those that somebody has come to here meanwhile are still there.
    let is_left = |shares: &&AbandonedShares| dry_run || !shares.folder.is_dir();
    let in_store = || shares.iter().filter(is_left).filter_map(|shares| Some((shares, shares.bytes_in_store?)));
    let folders: Vec<&Path> = in_store().map(|(shares, _)| shares.folder.as_path()).collect();
    let removed = if dry_run { Vec::new() } else { remote::remove_shares(&folders)? };
    let has_gone = |folder: &PathBuf| dry_run || removed.contains(folder);
    let markers = in_store().filter(|(shares, _)| has_gone(&shares.folder)).map(|(shares, bytes)| {
        let path = PathBuf::from(remote::in_words(&shares.folder));
        Garbage { path, bytes, why: shares.why }
    });
    let swept = remote::sweep(&folders, dry_run)?.into_iter().map(|(url, bytes)| {
        let why = "no manifest in the store names it";
        Garbage { path: url.into(), bytes, why }
    });
    Ok(markers.chain(swept).collect())
}

/// The indices of what stays and of all that it was made of.
fn in_use(stages: &[StageFolder]) -> BTreeSet<usize> {
    let is_run = |stage: &StageFolder| stage.input_name.split('/').nth(1) == Some("runs");
    let stays = |stage: &StageFolder| !stage.is_aside || is_run(stage) || stage.manifest().is_none();
    let mut used = BTreeSet::new();
    let mut to_visit: Vec<usize> = (0..stages.len()).filter(|index| stays(&stages[*index])).collect();
    while let Some(index) = to_visit.pop() {
        if !used.insert(index) {
            continue;
        }
        for (name, digest) in stages[index].inputs() {
            to_visit.extend((0..stages.len()).filter(|other| is_input(&stages[*other], name, digest)));
        }
    }
    used
}

fn is_input(stage: &StageFolder, name: &str, digest: &Digest) -> bool {
    stage.input_name == *name && stage.manifest().is_some_and(|manifest| manifest.digest == *digest)
}

/// Folders that were being removed: without their manifest nothing brings them back.
fn left_over(layout: &Layout) -> Vec<PathBuf> {
    let entries = walkdir::WalkDir::new(&layout.out).max_depth(MAX_DEPTH).into_iter().filter_map(|entry| entry.ok());
    let is_left = |entry: &walkdir::DirEntry| {
        let name = entry.file_name().to_string_lossy();
        name.starts_with('.') && name.ends_with(".old") && !entry.path().join(MANIFEST_FILE).is_file()
    };
    entries.filter(|entry| entry.file_type().is_dir() && is_left(entry)).map(|entry| entry.into_path()).collect()
}

/// What the files below a path take up.
pub(super) fn bytes_below(path: &Path) -> u64 {
    let files = walkdir::WalkDir::new(path).into_iter().filter_map(|entry| entry.ok());
    files.filter_map(|entry| entry.metadata().ok()).filter(|meta| meta.is_file()).map(|meta| meta.len()).sum()
}
