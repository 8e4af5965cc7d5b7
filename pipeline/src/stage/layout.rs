//! Where things lie under `OUT`, and what the last commands made, so that the next one finds it.

use super::files::{WRITING, write_json};
use super::manifest_in_place;
use crate::{PipelineError, Result, remote};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::path::{Path, PathBuf};

const CURRENT_FILE: &str = "current.json";

/// The folders of one output tree.
#[derive(Debug, Clone)]
pub struct Layout {
    /// The tree's root (`OUT`).
    pub out: PathBuf,
}

/// What the last commands made: the defaults of the next. Kept in `OUT/current.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Current {
    /// The source last ingested.
    pub source: String,
    /// The source last ingested as a probe.
    pub probe: String,
    /// The subset last cut.
    pub subset: String,
    /// The plan last written.
    pub plan: String,
    /// The run last trained.
    pub run: String,
}

impl Layout {
    /// The tree under `out`.
    pub fn new(out: impl Into<PathBuf>) -> Self {
        Self { out: out.into() }
    }

    /// `OUT/SOURCE/images`.
    pub fn images(&self, source: &str) -> PathBuf {
        self.out.join(source).join("images")
    }

    /// `OUT/SOURCE/embeddings/ENCODER`.
    pub fn embeddings(&self, source: &str, encoder: &str) -> PathBuf {
        self.out.join(source).join("embeddings").join(encoder)
    }

    /// `OUT/SOURCE/fingerprints`.
    pub fn fingerprints(&self, source: &str) -> PathBuf {
        self.out.join(source).join("fingerprints")
    }

    /// `OUT/SOURCE/duplicates`.
    pub fn duplicates(&self, source: &str) -> PathBuf {
        self.out.join(source).join("duplicates")
    }

    /// `OUT/SOURCE/curation`, which holds the four stages of a curation.
    pub fn curation(&self, source: &str) -> PathBuf {
        self.out.join(source).join("curation")
    }

    /// `OUT/SOURCE/curation/pairs`.
    pub fn pairs(&self, source: &str) -> PathBuf {
        self.curation(source).join("pairs")
    }

    /// `OUT/SOURCE/curation/groups`.
    pub fn groups(&self, source: &str) -> PathBuf {
        self.curation(source).join("groups")
    }

    /// `OUT/SOURCE/curation/tree`, where the tree of clusters is fitted on a sample.
    pub fn tree(&self, source: &str) -> PathBuf {
        self.curation(source).join("tree")
    }

    /// `OUT/SOURCE/curation/assignment`, where the tree of clusters is fitted on a sample.
    pub fn assignment(&self, source: &str) -> PathBuf {
        self.curation(source).join("assignment")
    }

    /// `OUT/SOURCE/curation/clusters`.
    pub fn clusters(&self, source: &str) -> PathBuf {
        self.curation(source).join("clusters")
    }

    /// `OUT/SOURCE/curation/ranking`.
    pub fn ranking(&self, source: &str) -> PathBuf {
        self.curation(source).join("ranking")
    }

    /// `OUT/SOURCE/subsets/SIZE`.
    pub fn subset(&self, source: &str, subset: &str) -> PathBuf {
        self.out.join(source).join("subsets").join(subset)
    }

    /// `OUT/SOURCE/plans/NAME`.
    pub fn plan(&self, source: &str, plan: &str) -> PathBuf {
        self.out.join(source).join("plans").join(plan)
    }

    /// `OUT/SOURCE/runs/RUN`.
    pub fn run(&self, source: &str, run: &str) -> PathBuf {
        self.out.join(source).join("runs").join(run)
    }

    /// `OUT/SOURCE/evals/RUN/PROBE`.
    pub fn eval(&self, source: &str, run: &str, probe: &str) -> PathBuf {
        self.out.join(source).join("evals").join(run).join(probe)
    }

    /// `OUT/SOURCE/adapted/RUN/PROBE/KIND`.
    pub fn adapted(&self, source: &str, run: &str, probe: &str, kind: &str) -> PathBuf {
        self.out.join(source).join("adapted").join(run).join(probe).join(kind)
    }

    /// `OUT/SOURCE/report.html`.
    pub fn report(&self, source: &str) -> PathBuf {
        self.out.join(source).join("report.html")
    }

    /// A folder's name relative to `OUT`, as manifests name their inputs.
    pub fn name_of(&self, folder: &Path) -> String {
        folder.strip_prefix(&self.out).unwrap_or(folder).to_string_lossy().into_owned()
    }

    /// The shards `part-*.parquet` of a stage's folder, by name, all of them here.
    ///
    /// # Errors
    /// When the folder cannot be listed or holds no shard; when OUT lies in a store that goes away.
    pub fn shards(folder: &Path) -> Result<Vec<PathBuf>> {
        if remote::is_attached()
            && let Ok(manifest) = manifest_in_place(folder)
        {
            remote::fetch_shards(folder, &manifest)?;
        }
        Self::shards_by_name(folder)
    }

    /// Brings a shard that [`Layout::shards_by_name`] named, where OUT lies in a store and it is not here.
    ///
    /// # Errors
    /// When it is not in the store or not as it was written, or the store goes away.
    pub fn bring(shard: &Path) -> Result<()> {
        remote::bring(shard)
    }

    /// The same for who reads one after another: where OUT lies in a store, a shard is brought when its turn comes.
    ///
    /// # Errors
    /// When the folder cannot be listed or holds no shard.
    pub fn shards_by_name(folder: &Path) -> Result<Vec<PathBuf>> {
        let is_shard = |name: &str| name.starts_with("part-") && name.ends_with(".parquet");
        let in_store = if remote::is_attached() { manifest_in_place(folder).ok() } else { None };
        let mut shards: Vec<PathBuf> = match in_store {
            Some(manifest) => {
                manifest.outputs.keys().filter(|name| is_shard(name)).map(|name| folder.join(name)).collect()
            }
            None => {
                let entries = std::fs::read_dir(folder).map_err(PipelineError::io("list", folder))?;
                let paths = entries.filter_map(|entry| entry.ok().map(|e| e.path()));
                paths.filter(|path| path.file_name().is_some_and(|name| is_shard(&name.to_string_lossy()))).collect()
            }
        };
        if shards.is_empty() {
            return Err(PipelineError::format(folder, "it holds no shards"));
        }
        shards.sort();
        Ok(shards)
    }

    /// What the last commands made.
    pub fn current(&self) -> Current {
        std::fs::read(self.out.join(CURRENT_FILE))
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default()
    }

    /// Remembers what a command made. Commands that run side by side on one tree wait for each other here.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn remember(&self, change: impl FnOnce(&mut Current)) -> Result<()> {
        std::fs::create_dir_all(&self.out).map_err(PipelineError::io("create folder", &self.out))?;
        let path = self.out.join(".current.lock");
        let lock = File::create(&path).map_err(PipelineError::io("create", &path))?;
        lock.lock().map_err(PipelineError::io("lock", &path))?;
        self.remove_unfinished_current();
        let before = self.current();
        let mut after = before.clone();
        change(&mut after);
        if before != after {
            let path = self.out.join(CURRENT_FILE);
            write_json(&path, &after)?;
            remote::put_file(&path)?;
        }
        Ok(())
    }

    /// Removes what a process left that was cut off while it wrote `current.json`; the caller holds the lock.
    fn remove_unfinished_current(&self) {
        for entry in std::fs::read_dir(&self.out).into_iter().flatten().filter_map(|entry| entry.ok()) {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(CURRENT_FILE) && name.ends_with(WRITING) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}
