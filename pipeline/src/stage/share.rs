//! Shares: a stage that makes a shard of each shard of its input, made by several processes, on one machine or on many that see
//! the same OUT, whatever scheduler starts them.
//!
//! Process i of n makes every n-th shard into `.NAME.shares` beside the final folder, a marker after each: what the partial
//! folder's list says of a shard, in a file of its own. No process waits for another; a shard that two make is the same
//! bytes, renamed into place twice. Who finishes takes the shards over as if an interrupted run of its own had made them.

use super::files::{remove_tree, write_json};
use super::places::Places;
use super::run::{KEY_FILE, KeyRecord, Shard};
use super::spec::StageSpec;
use crate::{PipelineError, Result, remote};
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
    /// The shares of the stage whose final folder this is; nobody may have begun them, or they may be finished and gone.
    pub fn of(stage_folder: &Path) -> Self {
        Self { folder: Places::of(stage_folder).shares() }
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
        remote::fetch_markers(&self.folder)?;
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

/// Where the shards of shares lie.
pub(super) fn folder(places: &Places) -> PathBuf {
    places.shares()
}

/// Makes the folder for the shares of a stage, or finds it.
///
/// # Errors
/// When it holds shards that were made with other settings or from other inputs.
pub(super) fn open(spec: &StageSpec, places: &Places) -> Result<PathBuf> {
    let folder = places.shares();
    fs::create_dir_all(&folder).map_err(PipelineError::io("create folder", &folder))?;
    let key = spec.key();
    match KeyRecord::read(&folder) {
        Some(record) if record.key != key => {
            return Err(PipelineError::Usage(format!(
                "`{}` holds shards that were made with other settings or of other images\n\
             hint: remove that folder, or finish with those settings first",
                folder.display()
            )));
        }
        Some(_) => {}
        None => write_json(&folder.join(KEY_FILE), &KeyRecord::of(spec, key))?,
    }
    remote::open_shares(&folder)?;
    Ok(folder)
}

/// Notes in the folder of shares that a shard is whole.
///
/// # Errors
/// When the marker cannot be written.
pub(super) fn mark(folder: &Path, shard: &Shard) -> Result<()> {
    write_json(&folder.join(format!("{}{MARKER}", shard.name)), shard)
}

/// The shards of shares that are whole, here or among those `in_store`, if they are of this stage.
pub(super) fn marked(spec: &StageSpec, folder: &Path, in_store: &[String]) -> Vec<Shard> {
    if KeyRecord::read(folder).is_none_or(|record| record.key != spec.key()) {
        return Vec::new();
    }
    let shares = Shares { folder: folder.to_owned() };
    shares.names().iter().filter_map(|name| shares.shard_here_or_among(name, in_store)).collect()
}

/// Removes the folder of shares of a stage that is whole, here and in a store. A process that still makes a share which another
/// has made as well may write into it at this moment: then it stays here until the stage is finished once more.
///
/// # Errors
/// When the store refuses.
pub(super) fn clear(places: &Places) -> Result<()> {
    remote::clear_shares(&places.shares())?;
    if let Err(error) = remove_tree(&places.shares()) {
        tracing::warn!("what shares left is not removed: {error}");
    }
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
