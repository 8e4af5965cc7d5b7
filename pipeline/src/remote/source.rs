//! A source in a store, as those who read folders see it: a folder of files with holes, whose bytes are asked for when they are
//! read. The folder lies under OUT and goes when the source does.

use super::helper::{Helper, Refusal, helper};
use super::without_credentials;
use crate::stage::{digest_of_bytes, remove_tree};
use crate::{PipelineError, Result, interrupt};
use lapidary_schemas::RejectReason;
use serde_json::{Value, json};
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// Digits of a URL's digest in the name of its folder.
const DIGITS: usize = 16;

/// A source in a store, laid out as a folder.
#[derive(Debug)]
pub struct StoredSource {
    /// As it was given: only the store sees it.
    url: String,
    shown: String,
    helper: Arc<Helper>,
    folder: PathBuf,
    /// Paths that no file can stand for, and why.
    unusable: Vec<(String, String)>,
    /// Why the store could not be read on; the first reason.
    failure: OnceLock<String>,
    /// Held as long as the folder is used.
    _lock: File,
}

/// A file that can be read while this is held.
#[derive(Debug)]
pub struct Held {
    path: PathBuf,
    is_scratch: bool,
}

impl Held {
    /// A file that stays.
    pub fn local(path: PathBuf) -> Self {
        Self { path, is_scratch: false }
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.is_scratch {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl StoredSource {
    /// Lists the objects at `url` and lays them out below `out`.
    ///
    /// # Errors
    /// When this build knows no stores, nothing is at the URL, the store refuses or goes away, or another process reads the
    /// same source into the same tree.
    pub fn lay_out(url: &str, out: &Path) -> Result<Self> {
        let shown = without_credentials(url);
        let helper = helper(url)?;
        let sources = out.join(".sources");
        fs::create_dir_all(&sources).map_err(PipelineError::io("create folder", &sources))?;
        let sources = sources.canonicalize().map_err(PipelineError::io("open", &sources))?;
        let name = digest_of_bytes(shown.as_bytes()).0[..DIGITS].to_owned();
        let path = sources.join(format!("{name}.lock"));
        let lock = File::create(&path).map_err(PipelineError::io("create", &path))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => {
                PipelineError::Usage(format!("another process is reading `{shown}`; wait for it"))
            }
            TryLockError::Error(error) => PipelineError::io("lock", &path)(error),
        })?;
        let folder = sources.join(name);
        let (files, scratch) = (folder.join("files"), folder.join("scratch"));
        let layout = helper.ask("lay_out", json!({"url": url, "files": files, "scratch": scratch}))?;
        tracing::info!("`{shown}`: {} objects, {} MiB", layout["objects"], layout["bytes"].as_u64().unwrap_or(0) >> 20);
        let unusable = paths_with_reasons(&layout["unusable"]);
        let url = url.to_owned();
        Ok(Self { url, shown, helper, folder, unusable, failure: OnceLock::new(), _lock: lock })
    }

    /// The folder that it is laid out as.
    pub fn root(&self) -> PathBuf {
        self.folder.join("files")
    }

    /// Its URL, without credentials.
    pub fn address(&self) -> &str {
        &self.shown
    }

    /// Paths that no file can stand for, and why.
    pub fn unusable(&self) -> &[(String, String)] {
        &self.unusable
    }

    /// Fills files in: some whole, of some the end as readers of Parquet want it, of some the beginning. Returns the paths of those
    /// that cannot be read while others can, and why; their files are gone.
    ///
    /// # Errors
    /// When the store refuses or goes away.
    pub fn fill(&self, whole: &[PathBuf], tails: &[PathBuf], heads: &[PathBuf]) -> Result<Vec<(String, String)>> {
        let names = |paths: &[PathBuf]| paths.iter().map(|path| self.name(path)).collect::<Vec<_>>();
        let request = json!({"url": self.url, "whole": names(whole), "tails": names(tails), "heads": names(heads)});
        Ok(paths_with_reasons(&self.helper.ask("fill", request)?))
    }

    /// Says which files are read next, so that they are on their way.
    pub fn prefetch<'a>(&self, paths: impl Iterator<Item = &'a Path>) {
        let names: Vec<String> = paths.map(|path| self.name(path)).collect();
        if !names.is_empty() {
            // A failure shows when the first of them is asked for.
            let _ = self.helper.tell("prefetch", json!({"url": self.url, "names": names}));
        }
    }

    /// A file with its bytes.
    ///
    /// # Errors
    /// When the object has gone or changed, or the store goes away.
    pub fn fetch(&self, path: &Path) -> Result<Held> {
        Ok(self.fetched(path)?)
    }

    fn fetched(&self, path: &Path) -> Result<Held, Refusal> {
        let fetched = self.helper.ask("fetch_object", json!({"url": self.url, "name": self.name(path)}))?;
        let path = fetched.as_str().map(PathBuf::from);
        let path =
            path.ok_or_else(|| Refusal::Other(PipelineError::Internal("an object came as no file".to_owned())))?;
        Ok(Held { path, is_scratch: true })
    }

    /// The bytes of a file. When the store goes away, [`StoredSource::refuse_failure`] says so: that is no fault of the file.
    ///
    /// # Errors
    /// The reject reason and what exactly was wrong.
    pub fn read(&self, path: &Path) -> Result<Vec<u8>, (RejectReason, String)> {
        let held = self.fetched(path).map_err(|refusal| match refusal {
            Refusal::Missing(text) => (RejectReason::MissingFile, text),
            Refusal::Damaged(text) => (RejectReason::Unreadable, text),
            Refusal::Other(error) => {
                let text = error.to_string();
                let _ = self.failure.set(text.clone());
                (RejectReason::Unreadable, text)
            }
        })?;
        fs::read(held.path()).map_err(|e| {
            let _ = self.failure.set(format!("read `{}`: {e}", held.path().display()));
            (RejectReason::Unreadable, e.to_string())
        })
    }

    /// Ends the stage when the store went away while files were read.
    ///
    /// # Errors
    /// What was heard first.
    pub fn refuse_failure(&self) -> Result<()> {
        interrupt::check()?;
        self.failure.get().map_or(Ok(()), |text| Err(PipelineError::Store(text.clone())))
    }

    /// The object's name that a file stands for.
    fn name(&self, path: &Path) -> String {
        path.strip_prefix(self.root()).unwrap_or(path).to_string_lossy().into_owned()
    }
}

/// Paths that the helper names, each with its reason.
fn paths_with_reasons(entries: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let entries = entries.as_array().into_iter().flatten();
    entries.map(|entry| (text(&entry["path"]), text(&entry["detail"]))).collect()
}

impl Drop for StoredSource {
    fn drop(&mut self) {
        if let Err(error) = remove_tree(&self.folder) {
            tracing::debug!("`{}` was not removed: {error}", self.folder.display());
        }
    }
}
