//! Shares: a stage that makes a shard of each shard of its input, made by several processes, on one machine or on many that see
//! the same OUT, whatever scheduler starts them.
//!
//! Process i of n makes every n-th shard into `.NAME.shares/KEY` beside the final folder, a marker after each: what the partial
//! folder's list says of a shard, in a file of its own. Each key, that is each set of settings, inputs and code, has a folder
//! of its own, so that shards of one never come into another. No process waits for another; two that make the same shard
//! each rename it into place. Who finishes takes over the shards whose bytes are those of their markers, as if an interrupted
//! run of its own had made them.

use super::files::{remove_tree, write_json};
use super::places::Places;
use super::run::{KEY_FILE, KeyRecord, Shard};
use super::spec::{Outcome, StageSpec};
use crate::{PipelineError, Result, remote};
use lapidary_schemas::{Digest, Manifest};
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// How a marker's name ends.
const MARKER: &str = ".json";

/// Which shards of a stage a process makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Share {
    /// All that are not there.
    #[default]
    All,
    /// Every `of`-th from the `index`-th, counted from 1.
    Part {
        /// Which.
        index: usize,
        /// Of how many.
        of: usize,
    },
    /// None: all must be there, and become the stage.
    Finish,
}

impl Share {
    /// Whether the shard at a place is of this share.
    pub(super) fn has(self, place: usize) -> bool {
        match self {
            Self::All => true,
            Self::Part { index, of } => place % of == index - 1,
            Self::Finish => false,
        }
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => return Ok(Self::All),
            "finish" => return Ok(Self::Finish),
            _ => {}
        }
        let parts = text.split_once('/').and_then(|(index, of)| Some((index.parse().ok()?, of.parse().ok()?)));
        match parts {
            Some((index, of)) if (1..=of).contains(&index) => Ok(Self::Part { index, of }),
            _ => Err(format!("`{text}` is no share: write 1/8 to 8/8")),
        }
    }
}

/// What shares of a stage have made so far, for whoever waits for them.
#[derive(Debug, Clone)]
pub struct Shares {
    folder: PathBuf,
}

impl Shares {
    /// The shares in a folder; nobody may have begun them, or they may be finished and gone.
    pub fn at(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Where they lie.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The names of the shards that have a marker, sorted.
    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().filter_map(|entry| entry.ok());
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<String> = names.filter_map(|name| Some(name.strip_suffix(MARKER)?.to_owned())).collect();
        names.sort();
        names
    }

    /// The same after the markers that a store has were brought, where OUT lies in one.
    ///
    /// # Errors
    /// When the store refuses or goes away.
    pub fn fetched_names(&self) -> Result<Vec<String>> {
        remote::fetch_markers(&self.folder, None)?;
        Ok(self.names())
    }

    /// A shard as its marker has it, wherever its file lies.
    pub fn marker(&self, name: &str) -> Option<Shard> {
        serde_json::from_slice(&fs::read(self.folder.join(format!("{name}{MARKER}"))).ok()?).ok()
    }

    /// A shard as its marker has it, when its file is as long as that says.
    pub fn shard(&self, name: &str) -> Option<Shard> {
        self.shard_here_or_among(name, &[])
    }

    /// The same, also when its file is not here but among those that a store has.
    fn shard_here_or_among(&self, name: &str, in_store: &[String]) -> Option<Shard> {
        let shard = self.marker(name)?;
        let here = fs::metadata(self.folder.join(&shard.name));
        let is_there = here.map_or_else(|_| in_store.contains(&shard.name), |file| file.len() == shard.table.bytes);
        is_there.then_some(shard)
    }
}

/// What became of a stage whose shards several processes can make.
#[derive(Debug, Clone)]
pub struct SharedStage {
    /// Whether it ran, or a share of it.
    pub outcome: Outcome,
    /// Its final folder.
    pub folder: PathBuf,
    /// What shares of it make.
    pub shares: Shares,
    /// Its manifest, when it is whole.
    pub manifest: Option<Manifest>,
}

/// Makes the folder for the shares of a stage, or finds it.
///
/// # Errors
/// When the disk refuses.
pub(super) fn open(spec: &StageSpec, places: &Places) -> Result<PathBuf> {
    let key = spec.key();
    let folder = places.shares_of(&key);
    fs::create_dir_all(&folder).map_err(PipelineError::io("create folder", &folder))?;
    write_json(&folder.join(KEY_FILE), &KeyRecord::of(spec, key))?;
    Ok(folder)
}

/// Notes in the folder of shares that a shard is whole.
///
/// # Errors
/// When the marker cannot be written.
pub(super) fn mark(folder: &Path, shard: &Shard) -> Result<()> {
    write_json(&folder.join(format!("{}{MARKER}", shard.name)), shard)
}

/// Of these shards, or all, those of shares that are whole: here, or among those `in_store`.
pub(super) fn marked(folder: &Path, names: Option<&[String]>, in_store: &[String]) -> Vec<Shard> {
    let shares = Shares::at(folder.to_owned());
    let names = names.map_or_else(|| shares.names(), <[String]>::to_vec);
    names.iter().filter_map(|name| shares.shard_here_or_among(name, in_store)).collect()
}

/// Removes the folder of shares of a stage that is whole, here and in a store. A process that still makes a share which another
/// has made as well may write into it at this moment: what it leaves is removed when the stage is asked for once more.
///
/// # Errors
/// When the store refuses.
pub(super) fn clear(places: &Places, key: &Digest) -> Result<()> {
    let folder = places.shares_of(key);
    remote::clear_shares(&folder)?;
    if let Err(error) = remove_tree(&folder) {
        tracing::warn!("what shares left is not removed: {error}");
    }
    // Shares of other keys stay, and with them the folder of all.
    let _ = fs::remove_dir(places.shares());
    Ok(())
}

/// Says which shards nobody has made.
pub(super) fn refuse_missing(stage: &str, missing: &[String], of: usize) -> Result<()> {
    let Some(first) = missing.first() else { return Ok(()) };
    Err(PipelineError::Usage(format!(
        "{} of {of} shards of {stage} are not there, `{first}` the first of them\n\
         hint: `--shard i/n` makes them; the same command without it makes them here",
        missing.len()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read_and_take_every_shard_once() {
        assert_eq!("2/3".parse(), Ok(Share::Part { index: 2, of: 3 }));
        for text in ["0/3", "4/3", "1", "a/b", "1/0", ""] {
            assert!(text.parse::<Share>().is_err(), "{text}");
        }
        for place in 0..10 {
            let takers = (1..=3).filter(|index| Share::Part { index: *index, of: 3 }.has(place)).count();
            assert_eq!(takers, 1);
        }
    }
}
