//! Every stage's folder in an output tree, whatever its state.

use super::Layout;
use super::manifest::manifest_from_json;
use super::places::{Places, key_in_name};
use super::recover::recover_unlocked;
use super::run::KeyRecord;
use lapidary_schemas::tables::MANIFEST_FILE;
use lapidary_schemas::{Digest, Manifest};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// How deep below OUT a stage's folder lies: `SOURCE/adapted/RUN/PROBE/KIND`.
pub(crate) const MAX_DEPTH: usize = 5;

/// A stage's folder.
#[derive(Debug, Clone)]
pub struct StageFolder {
    /// Its final place, also while it is unfinished.
    pub folder: PathBuf,
    /// The final place relative to OUT, as manifests name inputs: without the key of one that is kept aside.
    pub input_name: String,
    /// It was made with other settings than the folder of its name, and is kept beside it.
    pub is_aside: bool,
    /// How far it has come.
    pub state: FolderState,
}

/// How far a stage's folder has come.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "a tree has some dozens of them")]
pub enum FolderState {
    /// Whole.
    Whole(Manifest),
    /// Being made, or interrupted.
    Unfinished {
        /// The partial folder.
        partial: PathBuf,
        /// The same command resumes in it.
        resumable: bool,
        /// What it is made with; empty where that is not known.
        config: serde_json::Value,
        /// What it is made of.
        inputs: BTreeMap<String, Digest>,
        /// A process is at work on it.
        is_running: bool,
    },
}

impl StageFolder {
    /// Its inputs with their digests.
    pub fn inputs(&self) -> &BTreeMap<String, Digest> {
        match &self.state {
            FolderState::Whole(manifest) => &manifest.inputs,
            FolderState::Unfinished { inputs, .. } => inputs,
        }
    }

    /// Its manifest, once it is whole.
    pub fn manifest(&self) -> Option<&Manifest> {
        match &self.state {
            FolderState::Whole(manifest) => Some(manifest),
            FolderState::Unfinished { .. } => None,
        }
    }

    /// The folder that its files lie in.
    pub fn files(&self) -> &Path {
        match &self.state {
            FolderState::Whole(_) => &self.folder,
            FolderState::Unfinished { partial, .. } => partial,
        }
    }
}

impl Layout {
    /// Every stage's folder, by its path. An unfinished one stands beside the whole one of its name. What a process was
    /// killed in the middle of putting into its place is put there first.
    pub fn stages(&self) -> Vec<StageFolder> {
        self.recover_all();
        let mut found = Vec::new();
        let mut walk = walkdir::WalkDir::new(&self.out).max_depth(MAX_DEPTH).sort_by_file_name().into_iter();
        while let Some(entry) = walk.next() {
            let Ok(entry) = entry else { continue };
            if !entry.file_type().is_dir() || entry.depth() == 0 {
                continue;
            }
            let name = entry.file_name().to_string_lossy();
            let unfinished = name.strip_prefix('.').and_then(|name| name.strip_suffix(".partial"));
            let stage = match unfinished {
                Some(name) => Some(self.unfinished(entry.path(), name)),
                None if name.starts_with('.') => None,
                None => self.whole(entry.path()),
            };
            if stage.is_some() || name.starts_with('.') {
                walk.skip_current_dir();
            }
            found.extend(stage);
        }
        found
    }

    /// Ends or undoes what processes were cut off from, where none is at work.
    fn recover_all(&self) {
        let entries = walkdir::WalkDir::new(&self.out).max_depth(MAX_DEPTH).into_iter().filter_map(|entry| entry.ok());
        let stopped: Vec<PathBuf> = entries
            .filter(|entry| entry.file_type().is_dir())
            .filter_map(|entry| {
                let name = entry.file_name().to_str()?.strip_prefix('.')?;
                let name = [".partial", ".old", ".aside"].iter().find_map(|end| name.strip_suffix(end))?;
                Some(entry.path().with_file_name(name))
            })
            .collect();
        stopped.iter().for_each(|folder| recover_unlocked(folder));
    }

    fn whole(&self, folder: &Path) -> Option<StageFolder> {
        let path = folder.join(MANIFEST_FILE);
        let manifest = manifest_from_json(&path, &std::fs::read(&path).ok()?).ok()?;
        Some(self.stage(folder.to_owned(), FolderState::Whole(manifest)))
    }

    fn unfinished(&self, partial: &Path, name: &str) -> StageFolder {
        let folder = partial.with_file_name(name);
        let record = KeyRecord::read(partial);
        let state = FolderState::Unfinished {
            partial: partial.to_owned(),
            resumable: record.as_ref().is_some_and(|record| record.resumable),
            config: record.as_ref().map(|record| record.config.clone()).unwrap_or_default(),
            inputs: record.map(|record| record.inputs).unwrap_or_default(),
            is_running: Places::of(&folder).is_locked(),
        };
        self.stage(folder, state)
    }

    fn stage(&self, folder: PathBuf, state: FolderState) -> StageFolder {
        let name = self.name_of(&folder);
        let key = folder.file_name().and_then(|name| key_in_name(name.to_str()?)).map(str::len);
        let input_name = key.map_or(name.clone(), |digits| name[..name.len() - digits - 1].to_owned());
        StageFolder { folder, input_name, is_aside: key.is_some(), state }
    }

    /// The whole folder that a manifest's input names: the one of that name, or one kept aside, whose digest it is.
    pub fn input(&self, name: &str, digest: &Digest) -> Option<(PathBuf, Manifest)> {
        let folder = self.out.join(name);
        let mut candidates = vec![folder.clone()];
        let prefix = format!("{}~", folder.file_name()?.to_str()?);
        let beside = std::fs::read_dir(folder.parent()?).into_iter().flatten().filter_map(|entry| entry.ok());
        candidates.extend(
            beside.filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix)).map(|entry| entry.path()),
        );
        candidates.into_iter().find_map(|folder| {
            let manifest = super::manifest_in_place(&folder).ok().filter(|manifest| manifest.digest == *digest)?;
            Some((folder, manifest))
        })
    }
}
