//! What a stage is about to make, and whether it is there already.

use super::differences::differences;
use super::files::{digest_of_bytes, remove_tree, remove_unfinished, rename_folder, write_json};
use super::manifest::{is_whole, manifest_in_place};
use super::places::Places;
use super::recover::{is_unsettled, recover};
use super::run::{KEY_FILE, KeyRecord, StageRun};
use super::share::{self, Share, SharedStage, Shares};
use crate::{PipelineError, Result, remote};
use lapidary_schemas::tables::MANIFEST_FILE;
use lapidary_schemas::{Digest, Manifest};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

/// What a stage is about to make, and from what.
#[derive(Debug, Clone)]
pub struct StageSpec {
    /// The stage's name.
    pub stage: &'static str,
    /// The version of its code; raise it when the same inputs give other outputs.
    pub version: u32,
    /// The root of the output tree, which names of inputs are relative to.
    pub out: PathBuf,
    /// Its final folder.
    pub folder: PathBuf,
    /// The part of the configuration it depends on.
    pub config: Value,
    /// Its inputs by name, with their digests.
    pub inputs: BTreeMap<String, Digest>,
    /// Keep an unfinished folder of the same key and resume in it, instead of starting afresh.
    pub resumable: bool,
    /// What becomes of a folder that was made with another key.
    pub previous: Previous,
}

/// What becomes of a folder that was made with another key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Previous {
    /// It is replaced once the new one is whole: tables that follow from the source alone.
    Replaced,
    /// It is kept beside the new one, as `NAME~KEY`, and found again when it is asked for: curations, subsets, plans, runs,
    /// evaluations.
    Kept,
}

/// What became of a stage that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Its folder already had the wanted manifest.
    UpToDate,
    /// It ran.
    Ran,
    /// It would have run, had this not been a dry run.
    WouldRun,
    /// Its share of the shards was made; another process finishes the stage.
    Shared,
}

/// The answer to [`StageSpec::open`].
#[expect(clippy::large_enum_variant, reason = "one is made a stage; a box would only be in the way")]
#[derive(Debug)]
pub enum Opened {
    /// Nothing to do.
    UpToDate(Box<Manifest>),
    /// Nothing may be done.
    DryRun,
    /// Go on, and call [`StageRun::finish`].
    Run(StageRun),
}

impl StageSpec {
    /// BLAKE3 over stage, version, configuration and inputs.
    pub fn key(&self) -> Digest {
        let whole = json!([self.stage, self.version, self.config, self.inputs]);
        digest_of_bytes(whole.to_string().as_bytes())
    }

    /// What shares of the stage make.
    pub fn shares(&self) -> Shares {
        Shares::at(Places::of(&self.folder).shares_of(&self.key()))
    }

    /// The manifest of the final folder, if it is the one that this specification would make.
    pub fn up_to_date(&self) -> Option<Manifest> {
        let manifest = manifest_in_place(&self.folder).ok()?;
        (manifest.key == self.key() && is_whole(&self.folder, &manifest)).then_some(manifest)
    }

    /// Looks whether the stage is up to date and otherwise prepares its temporary folder.
    ///
    /// # Errors
    /// When the folder cannot be made, or another process is at work on it.
    pub fn open(self, dry_run: bool) -> Result<Opened> {
        self.open_or_rebuild(dry_run, false)
    }

    /// The same, but with `rebuild` a folder that was extended is not up to date.
    ///
    /// # Errors
    /// As [`StageSpec::open`].
    pub fn open_or_rebuild(self, dry_run: bool, rebuild: bool) -> Result<Opened> {
        self.open_with(dry_run, rebuild, Share::All)
    }

    /// The same for a share of the shards.
    ///
    /// # Errors
    /// As [`StageSpec::open`].
    pub fn open_share(self, dry_run: bool, share: Share) -> Result<Opened> {
        self.open_with(dry_run, false, share)
    }

    /// Does the `work` of a share of the stage, or of all of it, unless it is up to date; with `rebuild`, also when its folder was
    /// extended. `work` returns the manifest, none when it made a share that another process finishes.
    ///
    /// # Errors
    /// As [`StageSpec::open`], and what `work` says.
    pub fn run_share<E: From<PipelineError>>(
        self,
        share: Share,
        (dry_run, rebuild): (bool, bool),
        work: impl FnOnce(StageRun) -> Result<Option<Manifest>, E>,
    ) -> Result<SharedStage, E> {
        let (folder, shares) = (self.folder.clone(), self.shares());
        let (outcome, manifest) = match self.open_with(dry_run, rebuild, share)? {
            Opened::UpToDate(manifest) => (Outcome::UpToDate, Some(*manifest)),
            Opened::DryRun => (Outcome::WouldRun, None),
            Opened::Run(run) => {
                let manifest = work(run)?;
                (if manifest.is_some() { Outcome::Ran } else { Outcome::Shared }, manifest)
            }
        };
        Ok(SharedStage { outcome, folder, shares, manifest })
    }

    fn open_with(self, dry_run: bool, rebuild: bool, share: Share) -> Result<Opened> {
        let folder = self.folder.clone();
        let opened = self.open_here(dry_run, rebuild, share)?;
        if let Opened::UpToDate(manifest) = &opened
            && !dry_run
        {
            // What was made here when the store went away is published now, and what a late process left of its share goes.
            let places = Places::of(&folder);
            if remote::publish(&folder)? || places.shares_of(&manifest.key).exists() {
                share::clear(&places, &manifest.key)?;
            }
        }
        Ok(opened)
    }

    fn open_here(self, dry_run: bool, rebuild: bool, share: Share) -> Result<Opened> {
        let is_current = |manifest: &Manifest| !rebuild || manifest.extends.is_empty();
        let places = Places::of(&self.folder);
        if let Some(manifest) = self.up_to_date().filter(is_current) {
            // What a process left that was cut off just before its end goes now.
            if !dry_run
                && is_unsettled(&places)
                && let Some(_lock) = places.try_lock()?
            {
                recover(&places)?;
            }
            return Ok(Opened::UpToDate(Box::new(manifest)));
        }
        if dry_run {
            return Ok(Opened::DryRun);
        }
        if matches!(share, Share::Part { .. }) {
            return StageRun::start_share(self, places, share).map(Opened::Run);
        }
        let lock = places.lock()?;
        recover(&places)?;
        if let Some(manifest) = self.up_to_date().filter(is_current) {
            return Ok(Opened::UpToDate(Box::new(manifest)));
        }
        self.refuse_what_is_no_stage()?;
        let key = self.key();
        if self.previous == Previous::Kept
            && let Some(manifest) = self.bring_back(&places, &key)?.filter(is_current)
        {
            return Ok(Opened::UpToDate(Box::new(manifest)));
        }
        let resumed = self.find_unfinished(&places, &key)?;
        let partial = places.partial();
        if !resumed {
            remove_tree(&partial)?;
            fs::create_dir_all(&partial).map_err(PipelineError::io("create folder", &partial))?;
            write_json(&partial.join(KEY_FILE), &KeyRecord::of(&self, key.clone()))?;
        }
        remove_unfinished(&partial)?;
        self.say_what_differs(&key);
        Ok(Opened::Run(StageRun::start(self, places, share, resumed, lock)))
    }

    /// Whether the partial folder is of this key and can be resumed. One of another key that could be resumed makes room, and
    /// one of this key that made room comes back.
    fn find_unfinished(&self, places: &Places, key: &Digest) -> Result<bool> {
        let partial = places.partial();
        let found = KeyRecord::read(&partial);
        if self.resumable && found.as_ref().is_some_and(|record| record.key == *key) {
            return Ok(true);
        }
        if self.previous == Previous::Replaced || !self.resumable {
            return Ok(false);
        }
        if let Some(record) = found {
            let aside = places.aside(&record.key).partial();
            remove_tree(&aside)?;
            rename_folder(&partial, &aside)?;
            tracing::info!(
                "an unfinished `{}` of other settings ({}) is kept; the command that began it resumes it",
                self.folder.display(),
                differences(&record.config, &record.inputs, self).join(", ")
            );
        }
        let aside = places.aside(key).partial();
        let is_kept = KeyRecord::read(&aside).is_some_and(|record| record.key == *key);
        if is_kept {
            remove_tree(&partial)?;
            rename_folder(&aside, &partial)?;
        }
        Ok(is_kept)
    }

    /// A folder of this key that was kept aside takes its place again, and the one that has it is kept in turn.
    fn bring_back(&self, places: &Places, key: &Digest) -> Result<Option<Manifest>> {
        let aside = places.aside(key).folder;
        let Some(manifest) = manifest_in_place(&aside).ok().filter(|m| m.key == *key && is_whole(&aside, m)) else {
            return Ok(None);
        };
        if self.folder.exists() {
            rename_folder(&self.folder, &places.leaving())?;
        }
        rename_folder(&aside, &self.folder)?;
        recover(places)?;
        remote::publish(&self.folder)?;
        remote::removed(&aside)?;
        tracing::info!("`{}` was made before with these settings", self.folder.display());
        Ok(Some(manifest))
    }

    /// A folder without a manifest is not ours to replace.
    fn refuse_what_is_no_stage(&self) -> Result<()> {
        let holds_something = fs::read_dir(&self.folder).is_ok_and(|mut entries| entries.next().is_some());
        if holds_something && !self.folder.join(MANIFEST_FILE).is_file() {
            return Err(PipelineError::Usage(format!(
                "`{}` holds files but no manifest: stage {} would replace it\nhint: move it away, or remove it",
                self.folder.display(),
                self.stage
            )));
        }
        Ok(())
    }

    /// Says what becomes of a folder of other settings, and what differs.
    fn say_what_differs(&self, key: &Digest) {
        let Ok(before) = manifest_in_place(&self.folder) else { return };
        if self.previous == Previous::Kept && before.key != *key {
            tracing::info!(
                "`{}` was made with other settings ({}): it is kept as `{}`, unless the new one holds all of it",
                self.folder.display(),
                differences(&before.config, &before.inputs, self).join(", "),
                Places::of(&self.folder).aside(&before.key).folder.display()
            );
        }
    }
}
