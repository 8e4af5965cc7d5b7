//! What is sent to executors: a stage with all its settings, and into how many groups the shards of its input fall.
//!
//! The invariant: the bytes do not grow with the number of shards. Group i of n is every n-th shard that the images' manifest
//! names, as `--shard i/n` has it, and whoever makes the group reads the manifest itself.

use crate::{ClusterError, Result};
use lapidary_pipeline::remote::is_url;
use lapidary_pipeline::stage::{Layout, Shares, digest_of_bytes, require_shards};
use lapidary_schemas::Manifest;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Digits of a URL's digest in the name of the folder that stands for it.
const DIGITS: usize = 16;

/// A stage that is a map over shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Hashes, keypoints and measures of quality.
    Fingerprint,
    /// Embeddings, by whatever encoder the configuration names.
    Embed,
    /// The nearest cluster of each image, of a tree that was fitted on a sample.
    Assign,
}

impl Stage {
    /// The verb of `lapidary`.
    pub fn verb(self) -> &'static str {
        match self {
            Self::Fingerprint => "fingerprint",
            Self::Embed => "embed",
            Self::Assign => "assign",
        }
    }

    /// The binary beside `lapidary` that does the work; a descriptor is taken by `lapidary` itself.
    pub fn binary(self, encoder: &str) -> &'static str {
        match self {
            Self::Fingerprint | Self::Assign => "lapidary-curate",
            Self::Embed if encoder == "descriptor" => "lapidary",
            Self::Embed => "lapidary-train",
        }
    }
}

/// A build of Lapidary: what it says of itself, and what it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Build {
    /// The binary that does the work, by its name.
    pub binary: String,
    /// BLAKE3 of it, in hexadecimal; empty where it is not beside `lapidary`.
    pub digest: String,
}

/// A stage to make on executors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageTask {
    /// The version of Lapidary that made the plan.
    pub lapidary: String,
    /// The client's build of what does the work.
    pub build: Build,
    /// The stage.
    pub stage: Stage,
    /// OUT: an absolute path that means the same to all, or the URL of a place in a store.
    pub out: String,
    /// The source's name.
    pub source: String,
    /// The stage's final folder, relative to OUT.
    pub folder: String,
    /// The folder that its shares lie in, which is one for each key, relative to OUT.
    pub shares: String,
    /// The resolved configuration, as TOML.
    pub config: String,
    /// What an encoder computes on: `auto`, `cpu`, `cuda:0`, ...
    pub device: String,
    /// How many groups the shards fall into.
    pub of: usize,
}

/// The names of the shards of a stage that its manifest lists, in order.
pub fn shard_names(manifest: &Manifest) -> Vec<String> {
    let is_shard = |name: &&String| name.starts_with("part-") && name.ends_with(".parquet");
    manifest.outputs.keys().filter(is_shard).cloned().collect()
}

impl StageTask {
    /// The most groups of a plan: a task for every shard of a thousand machines' work, and still a plan of a megabyte.
    pub const MAX_GROUPS: usize = 4096;

    /// Whether OUT lies in a store, of which each machine has a folder that stands for it.
    pub fn is_in_store(&self) -> bool {
        is_url(&self.out)
    }

    /// The folder that OUT is on a machine which keeps those that stand for stores in `caches`.
    pub fn root(&self, caches: &Path) -> PathBuf {
        match self.is_in_store() {
            true => caches.join(&digest_of_bytes(self.out.as_bytes()).0[..DIGITS]),
            false => PathBuf::from(&self.out),
        }
    }

    /// The names of a group's shards, which are those of the images' shards that they come from. `root` is OUT on this machine,
    /// `index` counts from 1.
    ///
    /// # Errors
    /// When the images are not there.
    pub fn names(&self, root: &Path, index: usize) -> Result<Vec<String>> {
        let images = require_shards(&Layout::new(root).images(&self.source), "ingested images", "ingest them first")?;
        Ok(shard_names(&images).into_iter().skip(index - 1).step_by(self.of).collect())
    }

    /// What the stage's shares have made so far, as OUT has it on this machine.
    pub fn shares(&self, root: &Path) -> Shares {
        Shares::at(root.join(&self.shares))
    }

    /// As JSON.
    pub(crate) fn to_json(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|e| ClusterError::Format(e.to_string()))
    }

    /// From JSON of whatever version.
    pub(crate) fn from_json(json: &[u8]) -> Result<Self> {
        let task: Self = serde_json::from_slice(json).map_err(|e| ClusterError::Format(e.to_string()))?;
        if task.of == 0 || task.of > Self::MAX_GROUPS {
            return Err(ClusterError::Format(format!("{} groups of shards", task.of)));
        }
        Ok(task)
    }

    /// The version of Lapidary that JSON is of, also where nothing else of it is understood.
    pub(crate) fn version_in(json: &[u8]) -> Result<String> {
        #[derive(Deserialize)]
        struct Versioned {
            lapidary: String,
        }
        let versioned: Versioned = serde_json::from_slice(json).map_err(|e| ClusterError::Format(e.to_string()))?;
        Ok(versioned.lapidary)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use lapidary_pipeline::stage::write_json;
    use serde_json::json;

    pub(crate) fn task(of: usize) -> StageTask {
        StageTask {
            lapidary: "0.1.0".to_owned(),
            build: Build { binary: "lapidary-curate".to_owned(), digest: String::new() },
            stage: Stage::Fingerprint,
            out: "/shared/out".to_owned(),
            source: "pile".to_owned(),
            folder: "pile/fingerprints".to_owned(),
            shares: "pile/.fingerprints.shares/00".to_owned(),
            config: "seed = 7\n".to_owned(),
            device: "auto".to_owned(),
            of,
        }
    }

    /// Ingested images of so many shards, as far as their manifest says.
    pub(crate) fn images(root: &Path, shards: usize) -> Vec<String> {
        let names: Vec<String> = (0..shards).map(|i| format!("part-{i:05}.parquet")).collect();
        let output = json!({"digest": "ab", "bytes": 1, "rows": 3, "repeatable": true});
        let mut outputs: serde_json::Map<_, _> = names.iter().map(|name| (name.clone(), output.clone())).collect();
        outputs.insert("rejects.parquet".to_owned(), output);
        let manifest = json!({
            "stage": "ingest", "version": 1, "lapidary": "0.1.0", "digest": "cd", "config": {}, "inputs": {}, "key": "ef",
            "rows": {"input": 3, "output": 3, "rejected": 0}, "outputs": outputs, "facts": {}, "wall_secs": 1.0,
            "rows_per_sec": 3.0, "peak_memory_mib": 1.0,
        });
        let folder = root.join("pile/images");
        std::fs::create_dir_all(&folder).expect("creates");
        write_json(&folder.join("manifest.json"), &manifest).expect("writes");
        names
    }

    #[test]
    fn json_holds_all_of_it_and_odd_json_is_refused() {
        let json = task(3).to_json().expect("encodes");
        assert_eq!(StageTask::from_json(&json).expect("decodes"), task(3));
        assert_eq!(StageTask::version_in(br#"{"lapidary": "9.0.0", "later": []}"#).expect("reads"), "9.0.0");
        for of in [0, StageTask::MAX_GROUPS + 1, usize::MAX] {
            assert!(StageTask::from_json(&task(of).to_json().expect("encodes")).is_err(), "{of}");
        }
        for odd in ["", "{}", "[1]", "{\"lapidary\": 1}", "\u{0}"] {
            assert!(StageTask::from_json(odd.as_bytes()).is_err(), "{odd}");
        }
    }

    #[test]
    fn groups_take_every_shard_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let all = images(folder.path(), 7);
        let task = task(3);
        let names = |index: usize| task.names(folder.path(), index).expect("lists");
        assert_eq!(names(1), [0, 3, 6].map(|at| all[at].clone()));
        let mut taken: Vec<String> = (1..=3).flat_map(names).collect();
        taken.sort();
        assert_eq!(taken, all);
        assert!(task.names(&folder.path().join("none"), 1).is_err());
    }

    #[test]
    fn a_store_has_a_folder_of_its_own_on_each_machine() {
        let caches = Path::new("/var/caches");
        assert_eq!(task(1).root(caches), Path::new("/shared/out"));
        let [a, b] = ["s3://bucket/a", "s3://bucket/b"].map(|out| StageTask { out: out.to_owned(), ..task(1) });
        assert!(a.root(caches).starts_with(caches) && a.root(caches) != b.root(caches));
    }
}
