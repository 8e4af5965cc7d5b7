//! Extending: a stage whose inputs have grown or shrunk takes over what its folder holds of them, and makes the rest.
//!
//! The rule that makes this safe: along a chain of manifests that extend each other, a shard of a name only ever loses rows;
//! what is new or changed goes into shards of new names. So a shard that was made of an unchanged shard is linked (a hard
//! link, which costs the same whatever it holds), and one that was made of a shard which lost rows is written without them.

use super::files::{digest_of_file, name_of};
use super::progress::Progress;
use super::share::{self, Share};
use super::{Layout, StageRun, Table, TableWriter, WrittenTable, column, manifest_in_place};
use crate::{PipelineError, Result, interrupt, remote};
use arrow::array::{BooleanArray, RecordBatch, UInt64Array};
use arrow::compute::filter_record_batch;
use lapidary_schemas::{Digest, Manifest};
use serde_json::{Map, Value, json};
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What a stage that makes a shard of each shard of its input has left to do.
#[derive(Debug, Clone)]
pub struct ShardsLeft {
    /// Shards of its input that it has made nothing of.
    pub left: Vec<PathBuf>,
    /// Rows of all shards of its input.
    pub rows: u64,
    /// Rows of the shards that its folder did not hold when the stage began.
    pub added: u64,
    /// Rows of the shards that are left.
    pub rows_left: u64,
}

/// Rows of a shard, as its folder's manifest has them; of one that it does not name, as the shard has them itself.
fn rows_of(manifest: &Manifest, shard: &Path) -> Result<u64> {
    match manifest.outputs.get(&name_of(shard)) {
        Some(output) => Ok(output.rows),
        None => Ok(Table::open(shard, &["image_id"], 1)?.rows()),
    }
}

impl StageRun {
    /// The manifest of what the final folder holds, when the same stage made it with the same configuration and version,
    /// and each of its inputs was `related`: is among the present ones, unchanged or extended.
    ///
    /// # Errors
    /// When OUT lies in a store and the files, which are about to be taken over, cannot be brought.
    pub fn previous(&self, related: impl Fn(&str, &Digest) -> bool) -> Result<Option<Manifest>> {
        let previous = self.alike(related);
        match &previous {
            // A share takes no shard over.
            Some(previous) if self.is_share() => remote::fetch_side_files(&self.spec.folder, previous)?,
            Some(previous) => remote::fetch_all(&self.spec.folder, previous)?,
            None => {}
        }
        Ok(previous)
    }

    fn alike(&self, related: impl Fn(&str, &Digest) -> bool) -> Option<Manifest> {
        let previous = manifest_in_place(&self.spec.folder).ok()?;
        let is_alike = previous.stage == self.spec.stage
            && previous.version == self.spec.version
            && previous.config == self.spec.config
            && previous.inputs.keys().eq(self.spec.inputs.keys())
            && previous.inputs.iter().all(|(name, digest)| related(name, digest))
            && super::manifest::is_whole(&self.spec.folder, &previous);
        is_alike.then_some(previous)
    }

    /// Whether an input, which was once `digest`, is so still.
    pub fn has_same(&self, name: &str, digest: &Digest) -> bool {
        self.spec.inputs.get(name) == Some(digest)
    }

    /// Whether an input, which was once `digest`, is so still or extends it.
    pub fn has_extended(&self, layout: &Layout, name: &str, digest: &Digest) -> bool {
        self.has_same(name, digest)
            || manifest_in_place(&layout.out.join(name))
                .is_ok_and(|now| self.has_same(name, &now.digest) && now.extends.contains(digest))
    }

    /// Notes that this folder extends a previous content.
    pub fn extend(&mut self, previous: &Manifest) {
        self.extends = std::iter::once(previous.digest.clone()).chain(previous.extends.iter().cloned()).collect();
    }

    /// Takes a file of a previous content over.
    ///
    /// # Errors
    /// When it is not there, or the disk refuses.
    pub fn take_over(&mut self, previous: &Manifest, name: &str) -> Result<()> {
        let table = self.link(previous, name)?;
        self.note_table(name, table);
        Ok(())
    }

    /// Takes a shard of a previous content over.
    ///
    /// # Errors
    /// As [`StageRun::take_over`], and when the shard cannot be noted.
    pub fn take_over_shard(&mut self, previous: &Manifest, name: &str, facts: Value) -> Result<()> {
        let table = self.link(previous, name)?;
        self.note_shard(name, table, facts)
    }

    fn link(&self, previous: &Manifest, name: &str) -> Result<WrittenTable> {
        let output = previous.outputs.get(name);
        let output = output.ok_or_else(|| PipelineError::Internal(format!("there is no `{name}` to take over")))?;
        link_or_copy(&self.previous_path(name), &self.path(name))?;
        Ok(WrittenTable { rows: output.rows, bytes: output.bytes, digest: output.digest.clone() })
    }

    /// For a stage that makes a shard of each shard of its input, whose rows have an `image_id`: makes those that are left
    /// of its share, one after another. `make` is given a shard, the path to write and the progress to add rows to, and
    /// returns the table and the facts that the manifest keeps of it; `facts_of` computes those from a shard's batches, for
    /// shards that lost rows.
    ///
    /// # Errors
    /// What `make` says; when a table cannot be read, the disk refuses, or shards are missing that others should have made.
    pub fn make_shards<E: From<PipelineError>>(
        &mut self,
        layout: &Layout,
        input: (&Manifest, &[PathBuf]),
        facts_of: impl Fn(&[RecordBatch]) -> Result<Value>,
        mut make: impl FnMut(&Path, &Path, &Progress) -> Result<(WrittenTable, Value), E>,
    ) -> Result<ShardsLeft, E> {
        let (manifest, shards) = input;
        let left = self.extend_by_shards(layout, manifest, shards, facts_of)?;
        let progress = Progress::new(self.spec.stage, left.rows_left, "images");
        for shard in &left.left {
            interrupt::check()?;
            remote::bring(shard)?;
            let (name, begun) = (name_of(shard), Instant::now());
            let made = make(shard, &self.path(&name), &progress).and_then(|(written, facts)| {
                let facts = self.shard_facts(&name, manifest, facts);
                Ok(self.note_made_shard(&name, written, facts, begun.elapsed().as_secs_f64())?)
            });
            if self.unless_finished_meanwhile(made)?.is_none() {
                break;
            }
        }
        Ok(left)
    }

    /// What came of making a share's shards; none when it failed because others made them as well, and somebody finished the
    /// stage and removed the folder.
    ///
    /// # Errors
    /// What it failed with otherwise.
    pub fn unless_finished_meanwhile<T, E>(&self, made: Result<T, E>) -> Result<Option<T>, E> {
        match made {
            Err(_) if self.is_share() && self.spec.up_to_date().is_some() => {
                tracing::info!("{}: finished meanwhile", self.spec.stage);
                Ok(None)
            }
            made => made.map(Some),
        }
    }

    /// For a stage that knows its shards by name: the places of those that are left to make of its share, when what a run
    /// that was cut off or other shares have made is taken over.
    ///
    /// # Errors
    /// When the disk or a store refuses, or shards are missing that others should have made.
    pub fn shards_left(&mut self, names: &[String]) -> Result<Vec<usize>> {
        let is_own = |place: &usize| self.share.has(*place);
        if self.is_share() {
            let own: Vec<String> = (0..names.len()).filter(is_own).map(|place| names[place].clone()).collect();
            self.read_markers(&own)?;
        } else {
            self.take_over_shares()?;
        }
        let left = (0..names.len()).filter(|place| !self.shards().contains_key(&names[*place]));
        if self.share == Share::Finish {
            let missing: Vec<String> = left.map(|place| names[place].clone()).collect();
            share::refuse_missing(self.spec.stage, &missing, names.len())?;
            return Ok(Vec::new());
        }
        Ok(left.filter(|place| self.share.has(*place)).collect())
    }

    /// Takes over what the stage made of the shards of its input before, here, in a run that was cut off or in shares, and
    /// says which of its share are left to make.
    fn extend_by_shards(
        &mut self,
        layout: &Layout,
        input: &Manifest,
        shards: &[PathBuf],
        facts_of: impl Fn(&[RecordBatch]) -> Result<Value>,
    ) -> Result<ShardsLeft> {
        let previous = self.previous(|name, digest| self.has_extended(layout, name, digest))?;
        if self.is_share() {
            let own = shards.iter().enumerate().filter(|(place, _)| self.share.has(*place));
            let own: Vec<String> = own.map(|(_, shard)| name_of(shard)).collect();
            self.read_markers(&own)?;
        } else {
            self.take_over_shares()?;
        }
        let mut found = ShardsLeft { left: Vec::new(), rows: 0, added: 0, rows_left: 0 };
        let mut missing = Vec::new();
        for (place, shard) in shards.iter().enumerate() {
            // A share opens no shard but its own: with n processes each file is opened once, not n times.
            if self.is_share() && !self.share.has(place) {
                continue;
            }
            interrupt::check()?;
            let name = name_of(shard);
            let rows = rows_of(input, shard)?;
            found.rows += rows;
            let before = previous.as_ref().filter(|previous| previous.outputs.contains_key(&name));
            if before.is_none() {
                found.added += rows;
            }
            if self.shards().contains_key(&name) {
                continue;
            }
            let Some(previous) = before else {
                if self.share.has(place) {
                    found.left.push(shard.clone());
                    found.rows_left += rows;
                } else {
                    missing.push(name);
                }
                continue;
            };
            // Who finishes the stage takes over what was made before.
            if self.is_share() {
                continue;
            }
            let facts = &previous.facts["shards"][&name];
            if facts["of"] == json!(input.outputs.get(&name).map(|output| &output.digest)) {
                self.take_over_shard(previous, &name, facts.clone())?;
            } else {
                self.take_over_rows(shard, &name, input, &facts_of)?;
            }
        }
        if self.share == Share::Finish {
            share::refuse_missing(self.spec.stage, &missing, shards.len())?;
        }
        if let Some(previous) = &previous {
            self.extend(previous);
        }
        Ok(found)
    }

    /// Takes over the shards that shares of this stage have made, those whose bytes are what their markers say: two processes
    /// on different devices may have made one shard, or a disk may have lost what was not synced.
    fn take_over_shares(&mut self) -> Result<()> {
        let folder = self.places.shares_of(&self.spec.key());
        let in_store = remote::fetch_markers(&folder, None)?;
        for shard in share::marked(&folder, None, &in_store) {
            if self.shards().contains_key(&shard.name) {
                continue;
            }
            remote::fetch_shard(&folder, &shard.name)?;
            let (name, path) = (&shard.name, self.path(&shard.name));
            link_or_copy(&folder.join(name), &path)?;
            if digest_of_file(&path)?.0 != shard.table.digest {
                tracing::warn!("{}: `{name}` is not what its marker says, and is made again", self.spec.stage);
                fs::remove_file(&path).map_err(PipelineError::io("remove", &path))?;
                continue;
            }
            self.note_shard(name, shard.table, shard.facts)?;
        }
        Ok(())
    }

    /// Writes a previous shard without the rows that its input has lost since.
    fn take_over_rows(
        &mut self,
        shard: &Path,
        name: &str,
        input: &Manifest,
        facts_of: impl Fn(&[RecordBatch]) -> Result<Value>,
    ) -> Result<()> {
        remote::bring(shard)?;
        let mut ids: HashSet<u64> = HashSet::new();
        for batch in Table::open(shard, &["image_id"], 65_536)? {
            ids.extend(column::<UInt64Array>(&batch?, "image_id")?.values());
        }
        let from = Table::open(&self.previous_path(name), &[], 4096)?;
        let mut table = TableWriter::create(&self.path(name), from.schema().clone())?;
        let mut batches = Vec::new();
        for batch in from {
            let batch = rows_among(&batch?, &ids)?;
            table.write(&batch)?;
            batches.push(batch);
        }
        if table.rows() != ids.len() as u64 {
            return Err(PipelineError::Internal(format!("`{name}` gained rows, which its name forbids")));
        }
        let facts = self.shard_facts(name, input, facts_of(&batches)?);
        self.note_shard(name, table.finish()?, facts)
    }

    /// The facts of a shard that was made of the shard of the same name of its input.
    pub fn shard_facts(&self, name: &str, input: &Manifest, facts: Value) -> Value {
        let mut all = facts.as_object().cloned().unwrap_or_default();
        all.insert("of".to_owned(), json!(input.outputs.get(name).map(|output| &output.digest)));
        Value::Object(all)
    }

    /// The facts of all shards by name, as the manifest keeps them for the next that extends it.
    pub fn facts_of_shards(&self) -> Value {
        let facts = self.shards().iter().map(|(name, shard)| (name.clone(), shard.facts.clone()));
        Value::Object(facts.collect::<Map<_, _>>())
    }

    /// The path of a file of the previous content.
    pub fn previous_path(&self, name: &str) -> PathBuf {
        self.spec.folder.join(name)
    }
}

/// Links a file, or copies it where the file system has no hard links.
fn link_or_copy(from: &Path, to: &Path) -> Result<()> {
    // A run that was cut off may have linked it without a note.
    if to.exists() {
        fs::remove_file(to).map_err(PipelineError::io("remove", to))?;
    }
    if fs::hard_link(from, to).is_err() {
        fs::copy(from, to).map_err(PipelineError::io("copy", from))?;
    }
    Ok(())
}

/// The rows of a batch whose image is among `ids`.
pub(crate) fn rows_among(batch: &RecordBatch, ids: &HashSet<u64>) -> Result<RecordBatch> {
    let of_rows: &UInt64Array = column(batch, "image_id")?;
    let mask: BooleanArray = of_rows.values().iter().map(|id| Some(ids.contains(id))).collect();
    filter_record_batch(batch, &mask).map_err(|e| PipelineError::Internal(e.to_string()))
}
