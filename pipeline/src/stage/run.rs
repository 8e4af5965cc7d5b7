//! A stage at work: what it has written so far, and the end of it.
//!
//! A resumable stage leaves two files of its own in its partial folder: what is being made (`.key`), and the shards that are
//! whole (`.tables`, a JSON object a line), so that a run which was cut off makes only the others.

use super::addresses::is_outside;
use super::fault::fault_point;
use super::files::{digest_of_bytes, digest_of_file, remove_unfinished, sync_folder, write_json};
use super::manifest::{json_text, manifest_in_place, seal_of};
use super::places::Places;
use super::recover::install;
use super::share::{self, Share};
use super::spec::{Previous, StageSpec};
use super::{WrittenTable, peak_memory_mib};
use crate::{PipelineError, Result, remote};
use lapidary_schemas::tables::MANIFEST_FILE;
use lapidary_schemas::{Digest, Manifest, Output, Rows};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What is being made, in a partial folder.
pub(crate) const KEY_FILE: &str = ".key";
/// The shards that are whole, in a partial folder.
pub(crate) const TABLES_FILE: &str = ".tables";

/// What a partial folder says of itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct KeyRecord {
    pub(crate) stage: String,
    pub(crate) key: Digest,
    pub(crate) previous: Previous,
    pub(crate) resumable: bool,
    pub(crate) config: Value,
    pub(crate) inputs: BTreeMap<String, Digest>,
}

impl KeyRecord {
    pub(crate) fn of(spec: &StageSpec, key: Digest) -> Self {
        Self {
            stage: spec.stage.to_owned(),
            key,
            previous: spec.previous,
            resumable: spec.resumable,
            config: spec.config.clone(),
            inputs: spec.inputs.clone(),
        }
    }

    pub(crate) fn read(partial: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(partial.join(KEY_FILE)).ok()?).ok()
    }
}

/// A shard that is whole.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Shard {
    /// Its file.
    pub name: String,
    /// Its rows, length and digest.
    #[serde(flatten)]
    pub table: WrittenTable,
    /// What the stage wants to know of it when it resumes.
    pub facts: Value,
    /// Seconds that making it took; 0 when it was taken over.
    #[serde(default)]
    pub secs: f64,
}

/// A stage at work in its temporary folder.
#[derive(Debug)]
pub struct StageRun {
    pub(super) spec: StageSpec,
    key: Digest,
    pub(super) places: Places,
    /// Where it writes.
    folder: PathBuf,
    /// Which shards it makes.
    pub(super) share: Share,
    /// An unfinished folder of the same key was found.
    pub resumed: bool,
    started: Instant,
    tables: BTreeMap<String, WrittenTable>,
    shards: BTreeMap<String, Shard>,
    /// The digests of the folders that were taken over, the latest first.
    pub(super) extends: Vec<Digest>,
    /// Held until the stage ends, so that no second process writes the same folder; a share has none.
    _lock: Option<File>,
}

impl StageRun {
    pub(super) fn start(spec: StageSpec, places: Places, share: Share, resumed: bool, lock: File) -> Self {
        let folder = places.partial();
        let mut run = Self::at(spec, places, folder, share);
        (run.resumed, run._lock) = (resumed, Some(lock));
        if resumed {
            run.read_shards();
        }
        run
    }

    /// A share of a stage: it makes some shards beside others.
    pub(super) fn start_share(spec: StageSpec, places: Places, share: Share) -> Result<Self> {
        let folder = share::open(&spec, &places)?;
        Ok(Self::at(spec, places, folder, share))
    }

    /// Finds which of a share's own shards are whole.
    pub(super) fn read_markers(&mut self, names: &[String]) -> Result<()> {
        let in_store = remote::fetch_markers(&self.folder, Some(names))?;
        let marked = share::marked(&self.folder, Some(names), &in_store);
        if remote::is_attached() {
            // What was made here when the store went away.
            for shard in marked.iter().filter(|shard| !in_store.contains(&shard.name)) {
                remote::publish_shard(&self.folder, &shard.name)?;
            }
        }
        self.shards.extend(marked.into_iter().map(|shard| (shard.name.clone(), shard)));
        Ok(())
    }

    fn at(spec: StageSpec, places: Places, folder: PathBuf, share: Share) -> Self {
        Self {
            key: spec.key(),
            spec,
            places,
            folder,
            share,
            resumed: false,
            started: Instant::now(),
            tables: BTreeMap::new(),
            shards: BTreeMap::new(),
            extends: Vec::new(),
            _lock: None,
        }
    }

    /// The temporary folder.
    pub fn folder(&self) -> PathBuf {
        self.folder.clone()
    }

    /// Whether it makes a share of the shards, which another process finishes.
    pub fn is_share(&self) -> bool {
        matches!(self.share, Share::Part { .. })
    }

    /// The path of a file to write.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    /// Notes that the table `name` is written.
    pub fn note_table(&mut self, name: &str, table: WrittenTable) {
        self.tables.insert(name.to_owned(), table);
    }

    /// Notes that a shard is whole: a run that is cut off after this does not make it again.
    ///
    /// # Errors
    /// When the note cannot be written.
    pub fn note_shard(&mut self, name: &str, table: WrittenTable, facts: Value) -> Result<()> {
        self.note_made_shard(name, table, facts, 0.0)
    }

    /// The same of a shard that was made just now, in so many seconds.
    pub(super) fn note_made_shard(&mut self, name: &str, table: WrittenTable, facts: Value, secs: f64) -> Result<()> {
        fault_point("shard:written");
        let shard = Shard { name: name.to_owned(), table: table.clone(), facts, secs };
        if self.is_share() {
            share::mark(&self.folder, &shard)?;
            remote::publish_shard(&self.folder, name)?;
        } else {
            self.list_shard(&shard)?;
        }
        self.shards.insert(name.to_owned(), shard);
        self.note_table(name, table);
        fault_point("shard:noted");
        Ok(())
    }

    /// Removes a shard that turned out to hold nothing.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn remove_shard(&mut self, name: &str) -> Result<()> {
        let path = self.path(name);
        fs::remove_file(&path).map_err(PipelineError::io("remove", &path))?;
        self.shards.remove(name);
        self.tables.remove(name);
        Ok(())
    }

    /// Adds a line to the list of the shards that are whole.
    fn list_shard(&self, shard: &Shard) -> Result<()> {
        let path = self.path(TABLES_FILE);
        let text = serde_json::to_string(shard).map_err(|e| PipelineError::format(&path, e))?;
        let append = || -> std::io::Result<()> {
            let mut file = OpenOptions::new().append(true).create(true).open(&path)?;
            // A line of its own also after one that was cut off.
            file.write_all(format!("\n{text}\n").as_bytes())?;
            file.sync_all()
        };
        append().map_err(PipelineError::io("write", &path))
    }

    /// The shards that are whole, those of a run that was cut off included, by name.
    pub fn shards(&self) -> &BTreeMap<String, Shard> {
        &self.shards
    }

    /// Reads which shards are whole; a line that was cut off, or whose file is not as it says, counts for nothing.
    fn read_shards(&mut self) {
        let text = fs::read_to_string(self.path(TABLES_FILE)).unwrap_or_default();
        for shard in text.lines().filter_map(|line| serde_json::from_str::<Shard>(line).ok()) {
            let is_there = fs::metadata(self.path(&shard.name)).is_ok_and(|meta| meta.len() == shard.table.bytes);
            if is_there {
                self.note_table(&shard.name, shard.table.clone());
                self.shards.insert(shard.name.clone(), shard);
            }
        }
        if !self.shards.is_empty() {
            tracing::info!("{}: {} shards are there from before", self.spec.stage, self.shards.len());
        }
    }

    /// Digests and syncs every file that is no noted table, writes the manifest and renames the folder to its final name.
    ///
    /// `varying` names files that hold times; they do not count in the manifest's digest.
    ///
    /// # Errors
    /// When a file cannot be written, when rows in are not rows out plus rejects, or when an input was changed meanwhile.
    pub fn finish(self, rows: Rows, facts: Value, varying: &[&str]) -> Result<Manifest> {
        if rows.input != rows.output + rows.rejected {
            return Err(PipelineError::Internal(format!(
                "stage {}: {} rows in, but {} out and {} rejected",
                self.spec.stage, rows.input, rows.output, rows.rejected
            )));
        }
        fault_point("finish:begun");
        self.refuse_changed_inputs()?;
        remove_unfinished(&self.folder())?;
        let outputs = self.outputs(varying)?;
        fault_point("finish:digested");
        let repeatable: BTreeMap<&str, &Digest> =
            outputs.iter().filter(|(_, o)| o.repeatable).map(|(name, o)| (name.as_str(), &o.digest)).collect();
        let wall_secs = self.started.elapsed().as_secs_f64();
        let digest = digest_of_bytes(json!([self.spec.stage, repeatable]).to_string().as_bytes());
        // A folder that nothing was added to does not extend itself.
        let extends = self.extends.into_iter().filter(|previous| *previous != digest).collect();
        let mut manifest = Manifest {
            stage: self.spec.stage.to_owned(),
            version: self.spec.version,
            lapidary: env!("CARGO_PKG_VERSION").to_owned(),
            digest,
            extends,
            config: self.spec.config,
            inputs: self.spec.inputs,
            key: self.key,
            rows,
            outputs,
            facts,
            wall_secs,
            rows_per_sec: rows.input as f64 / wall_secs.max(1e-9),
            peak_memory_mib: peak_memory_mib(),
            seal: String::new(),
        };
        manifest.seal = seal_of(&json_text(&manifest)?);
        let partial = self.places.partial();
        write_json(&partial.join(MANIFEST_FILE), &manifest)?;
        sync_folder(&partial);
        fault_point("finish:manifest-written");
        install(&self.places, &manifest, self.spec.previous)?;
        remote::publish(&self.places.folder)?;
        share::clear(&self.places, &manifest.key)?;
        Ok(manifest)
    }

    /// Every file of the partial folder but the runtime's own.
    fn outputs(&self, varying: &[&str]) -> Result<BTreeMap<String, Output>> {
        let partial = self.folder();
        let mut outputs = BTreeMap::new();
        for entry in walkdir::WalkDir::new(&partial).sort_by_file_name() {
            let entry = entry.map_err(|e| PipelineError::format(&partial, e))?;
            let path = entry.path();
            let name = path.strip_prefix(&partial).unwrap_or(path).to_string_lossy().into_owned();
            if !entry.file_type().is_file() || [KEY_FILE, TABLES_FILE, MANIFEST_FILE].contains(&name.as_str()) {
                continue;
            }
            let WrittenTable { rows, bytes, digest } = match self.tables.get(&name) {
                Some(table) => table.clone(),
                None => {
                    let (digest, bytes) = digest_of_file(path)?;
                    WrittenTable { rows: 0, bytes, digest }
                }
            };
            let repeatable = !varying.contains(&name.as_str());
            outputs.insert(name, Output { digest, bytes, rows, repeatable });
        }
        Ok(outputs)
    }

    /// What was read may have been replaced by another process: then nobody knows what this was made of.
    fn refuse_changed_inputs(&self) -> Result<()> {
        for (name, digest) in self.spec.inputs.iter().filter(|(name, _)| !is_outside(name)) {
            if manifest_in_place(&self.spec.out.join(name)).is_ok_and(|now| now.digest != *digest) {
                return Err(PipelineError::Usage(format!(
                    "`{name}` was made again while stage {} read it\nhint: the same command reads what is there now",
                    self.spec.stage
                )));
            }
        }
        Ok(())
    }
}
