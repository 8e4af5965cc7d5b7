//! The stage runtime: a stage reads tables and writes one folder, whole or not at all.
//!
//! A stage writes into `.NAME.partial` beside its final folder and renames when it is done: what has a manifest is
//! complete, what has none is not there. A folder whose manifest has the key (stage, version, configuration, inputs) that
//! is asked for is up to date and skipped. A stage whose inputs have only grown may take over what its folder holds and
//! add to it: see [`StageRun::former`].

mod environment;
mod explain;
mod extend;
mod layout;
mod lineage;
mod matches;
pub mod progress;
mod table;

pub use environment::{environment, peak_memory_mib};
pub use explain::explain;
pub use extend::ShardsLeft;
pub use layout::{Current, Layout};
pub use lineage::{StageState, StageStatus, ancestor, status};
pub use progress::Progress;
pub use table::{Table, TableWriter, WrittenTable, column, list_values, read_table, table_properties};

use crate::{PipelineError, Result};
use lapidary_schemas::tables::MANIFEST_FILE;
use lapidary_schemas::{Digest, Manifest, Output, Rows};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What a stage is about to make, and from what.
#[derive(Debug, Clone)]
pub struct StageSpec {
    /// The stage's name.
    pub stage: &'static str,
    /// The version of its code; raise it when the same inputs give other outputs.
    pub version: u32,
    /// Its final folder.
    pub folder: PathBuf,
    /// The part of the configuration it depends on.
    pub config: Value,
    /// Its inputs by name, with their digests.
    pub inputs: BTreeMap<String, Digest>,
    /// Keep an unfinished folder of the same key and go on in it, instead of starting afresh.
    pub resumable: bool,
}

/// What became of a stage that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Its folder already had the wanted manifest.
    UpToDate,
    /// It ran.
    Ran,
    /// It would have run, had this not been a dry run.
    WouldRun,
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

/// A stage at work in its temporary folder.
#[derive(Debug)]
pub struct StageRun {
    spec: StageSpec,
    key: Digest,
    partial: PathBuf,
    /// An unfinished folder of the same key was found.
    pub resumed: bool,
    started: Instant,
    tables: BTreeMap<String, WrittenTable>,
    /// The digests of the folders that were taken over, the latest first.
    extends: Vec<Digest>,
    /// Held until the stage ends, so that no second process writes the same folder.
    _lock: File,
}

impl StageSpec {
    fn key(&self) -> Digest {
        let whole = json!([self.stage, self.version, self.config, self.inputs]);
        digest_of_bytes(whole.to_string().as_bytes())
    }

    /// The manifest of the final folder, if it is the one that this specification would make.
    pub fn up_to_date(&self) -> Option<Manifest> {
        let manifest = read_manifest(&self.folder).ok()?;
        (manifest.key == self.key() && self.is_whole(&manifest)).then_some(manifest)
    }

    /// Whether all files that a manifest of the folder names are there, at their length.
    fn is_whole(&self, manifest: &Manifest) -> bool {
        let is_there = |name: &str, bytes: u64| fs::metadata(self.folder.join(name)).is_ok_and(|f| f.len() == bytes);
        manifest.outputs.iter().all(|(name, output)| is_there(name, output.bytes))
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
        if let Some(manifest) = self.up_to_date().filter(|manifest| !rebuild || manifest.extends.is_empty()) {
            return Ok(Opened::UpToDate(Box::new(manifest)));
        }
        if dry_run {
            return Ok(Opened::DryRun);
        }
        let name = self.folder.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let parent = self.folder.parent().unwrap_or(Path::new(".")).to_owned();
        fs::create_dir_all(&parent).map_err(PipelineError::io("create folder", &parent))?;
        let lock_path = parent.join(format!(".{name}.lock"));
        let lock = File::create(&lock_path).map_err(PipelineError::io("create", &lock_path))?;
        lock.try_lock().map_err(|_| {
            PipelineError::Usage(format!(
                "another process is writing `{}`; wait for it, or end it",
                self.folder.display()
            ))
        })?;
        let partial = parent.join(format!(".{name}.partial"));
        let key = self.key();
        let key_file = partial.join(".key");
        let resumed = self.resumable && fs::read_to_string(&key_file).is_ok_and(|found| found == key.0);
        if !resumed {
            remove_folder(&partial)?;
            fs::create_dir_all(&partial).map_err(PipelineError::io("create folder", &partial))?;
            fs::write(&key_file, &key.0).map_err(PipelineError::io("write", &key_file))?;
        }
        let started = Instant::now();
        let (tables, extends) = (BTreeMap::new(), Vec::new());
        Ok(Opened::Run(StageRun { spec: self, key, partial, resumed, started, tables, extends, _lock: lock }))
    }
}

impl StageRun {
    /// The temporary folder.
    pub fn folder(&self) -> &Path {
        &self.partial
    }

    /// The path of a file to write.
    pub fn path(&self, name: &str) -> PathBuf {
        self.partial.join(name)
    }

    /// Notes that the table `name` is written.
    pub fn note_table(&mut self, name: &str, table: WrittenTable) {
        self.tables.insert(name.to_owned(), table);
    }

    /// Digests and syncs every file that is no noted table, writes the manifest and renames the folder to its final name.
    ///
    /// `varying` names files that hold times; they do not count in the manifest's digest.
    ///
    /// # Errors
    /// When a file cannot be written, or when rows in are not rows out plus rejects.
    pub fn finish(self, rows: Rows, facts: Value, varying: &[&str]) -> Result<Manifest> {
        if rows.input != rows.output + rows.rejected {
            return Err(PipelineError::Internal(format!(
                "stage {}: {} rows in, but {} out and {} rejected",
                self.spec.stage, rows.input, rows.output, rows.rejected
            )));
        }
        let key_file = self.path(".key");
        fs::remove_file(&key_file).map_err(PipelineError::io("remove", &key_file))?;
        let mut outputs = BTreeMap::new();
        for entry in walkdir::WalkDir::new(&self.partial).sort_by_file_name() {
            let entry = entry.map_err(|e| PipelineError::format(&self.partial, e))?;
            if !entry.file_type().is_file() {
                continue;
            }
            let path = entry.path();
            let name = path.strip_prefix(&self.partial).unwrap_or(path).to_string_lossy().into_owned();
            let table = match self.tables.get(&name) {
                Some(table) => table.clone(),
                None => {
                    let (digest, bytes) = digest_of_file(path)?;
                    WrittenTable { rows: 0, bytes, digest }
                }
            };
            let WrittenTable { rows, bytes, digest } = table;
            let repeatable = !varying.contains(&name.as_str());
            outputs.insert(name, Output { digest, bytes, rows, repeatable });
        }
        let repeatable: BTreeMap<&str, &Digest> =
            outputs.iter().filter(|(_, o)| o.repeatable).map(|(name, o)| (name.as_str(), &o.digest)).collect();
        let wall_secs = self.started.elapsed().as_secs_f64();
        let digest = digest_of_bytes(json!([self.spec.stage, repeatable]).to_string().as_bytes());
        // A folder that nothing was added to does not extend itself.
        let extends = self.extends.into_iter().filter(|former| *former != digest).collect();
        let manifest = Manifest {
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
        };
        write_json(&self.partial.join(MANIFEST_FILE), &manifest)?;
        let folder = &self.spec.folder;
        let old = folder.with_file_name(format!(
            ".{}.old",
            folder.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
        ));
        remove_folder(&old)?;
        if folder.exists() {
            fs::rename(folder, &old).map_err(PipelineError::io("rename", folder))?;
        }
        fs::rename(&self.partial, folder).map_err(PipelineError::io("rename", &self.partial))?;
        sync_folder(folder.parent().unwrap_or(Path::new(".")));
        remove_folder(&old)?;
        Ok(manifest)
    }
}

/// Reads the manifest of a stage's folder.
///
/// # Errors
/// When there is none, or it is not one.
pub fn read_manifest(folder: &Path) -> Result<Manifest> {
    let path = folder.join(MANIFEST_FILE);
    let text = fs::read(&path).map_err(PipelineError::io("read", &path))?;
    serde_json::from_slice(&text).map_err(|e| PipelineError::format(&path, e))
}

/// The manifest of an input folder, or what to type to make it.
///
/// # Errors
/// [`PipelineError::Missing`] when there is none.
pub fn require_manifest(folder: &Path, what: &'static str, hint: &str) -> Result<Manifest> {
    if !folder.join(MANIFEST_FILE).is_file() {
        return Err(PipelineError::Missing { what, path: folder.to_owned(), hint: hint.to_owned() });
    }
    read_manifest(folder)
}

/// Writes JSON, synced to disk, under a temporary name that is then renamed.
///
/// # Errors
/// When the file cannot be written.
pub fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|e| PipelineError::format(path, e))?;
    write_synced(path, text.as_bytes())
}

/// Writes bytes, synced to disk, under a temporary name that is then renamed.
///
/// # Errors
/// When the file cannot be written.
pub fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = path.with_extension("writing");
    fs::write(&temporary, bytes).map_err(PipelineError::io("write", &temporary))?;
    File::open(&temporary).and_then(|f| f.sync_all()).map_err(PipelineError::io("sync", &temporary))?;
    fs::rename(&temporary, path).map_err(PipelineError::io("rename", &temporary))
}

/// BLAKE3 of bytes.
pub fn digest_of_bytes(bytes: &[u8]) -> Digest {
    Digest(blake3::hash(bytes).to_hex().to_string())
}

/// BLAKE3 and length of a file, which is synced to disk on the way.
///
/// # Errors
/// When the file cannot be read.
pub fn digest_of_file(path: &Path) -> Result<(Digest, u64)> {
    const BLOCK_BYTES: usize = 8 << 20;
    let mut file = File::open(path).map_err(PipelineError::io("open", path))?;
    let len = file.metadata().map_err(PipelineError::io("read", path))?.len();
    let handle = file.try_clone().map_err(PipelineError::io("open", path))?;
    // Written back to the disk while it is hashed on all cores.
    let synced = std::thread::spawn(move || handle.sync_all());
    let mut hasher = blake3::Hasher::new();
    let mut block = vec![0; BLOCK_BYTES.min(len as usize)];
    let mut left = len;
    while left > 0 {
        let part = &mut block[..BLOCK_BYTES.min(left as usize)];
        file.read_exact(part).map_err(PipelineError::io("read", path))?;
        hasher.update_rayon(part);
        left -= part.len() as u64;
    }
    match synced.join() {
        Ok(synced) => synced.map_err(PipelineError::io("sync", path))?,
        Err(_) => return Err(PipelineError::Internal("syncing a file panicked".to_owned())),
    }
    Ok((Digest(hasher.finalize().to_hex().to_string()), len))
}

fn remove_folder(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(PipelineError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Makes a rename last through a power cut; file systems that cannot are left alone.
fn sync_folder(path: &Path) {
    if let Err(error) = File::open(path).and_then(|f| f.sync_all()) {
        tracing::debug!("`{}` was not synced: {error}", path.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(folder: PathBuf, resumable: bool) -> StageSpec {
        StageSpec { stage: "test", version: 1, folder, config: json!({"a": 1}), inputs: BTreeMap::new(), resumable }
    }

    fn run(spec: StageSpec) -> StageRun {
        match spec.open(false).expect("opens") {
            Opened::Run(run) => run,
            other => panic!("expected to run, got {other:?}"),
        }
    }

    const ROWS: Rows = Rows { input: 3, output: 2, rejected: 1 };

    #[test]
    fn a_stage_is_whole_or_not_there() {
        let temporary = tempfile::tempdir().expect("a folder");
        let folder = temporary.path().join("stage");
        let stage = run(spec(folder.clone(), false));
        fs::write(stage.path("a.txt"), "x").expect("writes");
        assert!(!folder.exists());
        stage.finish(ROWS, json!({}), &[]).expect("finishes");
        assert!(matches!(spec(folder.clone(), false).open(false), Ok(Opened::UpToDate(_))));
        fs::write(folder.join("a.txt"), "xy").expect("writes");
        assert!(spec(folder, false).up_to_date().is_none(), "a changed output is not up to date");
    }

    #[test]
    fn rows_must_add_up() {
        let temporary = tempfile::tempdir().expect("a folder");
        let stage = run(spec(temporary.path().join("stage"), false));
        let error = stage.finish(Rows { input: 3, output: 1, rejected: 1 }, json!({}), &[]).expect_err("one is lost");
        assert!(error.to_string().contains("3 rows in"), "{error}");
    }

    #[test]
    fn only_a_resumable_stage_of_the_same_key_keeps_its_partial_folder() {
        let temporary = tempfile::tempdir().expect("a folder");
        let folder = temporary.path().join("stage");
        fs::write(run(spec(folder.clone(), true)).path("half"), "x").expect("writes");
        let again = run(spec(folder.clone(), true));
        assert!(again.resumed && again.path("half").exists());
        drop(again);
        let mut other = spec(folder, true);
        other.config = json!({"a": 2});
        let other = run(other);
        assert!(!other.resumed && !other.path("half").exists());
    }

    #[test]
    fn two_processes_do_not_write_one_folder() {
        let temporary = tempfile::tempdir().expect("a folder");
        let folder = temporary.path().join("stage");
        let _first = run(spec(folder.clone(), false));
        let error = spec(folder, false).open(false).expect_err("locked");
        assert!(error.to_string().contains("another process"), "{error}");
    }
}
