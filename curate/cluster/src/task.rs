//! What is sent to executors: a stage with all its settings, and into how many groups the shards of its input fall.
//!
//! The invariant: the bytes do not grow with the number of shards. Group i of n is every n-th shard of the listing of the
//! images' folder, as `--shard i/n` has it, and whoever makes the group lists the folder itself.

use crate::{ClusterError, Result};
use lapidary_pipeline::stage::{Layout, Shares};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A stage that is a map over shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Hashes, keypoints and measures of quality.
    Fingerprint,
    /// Embeddings, by whatever encoder the configuration names.
    Embed,
}

impl Stage {
    /// The verb of `lapidary`.
    pub fn verb(self) -> &'static str {
        match self {
            Self::Fingerprint => "fingerprint",
            Self::Embed => "embed",
        }
    }
}

/// A stage to make on executors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageTask {
    /// The version of Lapidary that made the plan.
    pub lapidary: String,
    /// The stage.
    pub stage: Stage,
    /// OUT, as an absolute path that means the same to all.
    pub out: PathBuf,
    /// The source's name.
    pub source: String,
    /// The stage's final folder, relative to OUT.
    pub folder: String,
    /// The resolved configuration, as TOML.
    pub config: String,
    /// What an encoder computes on: `auto`, `cpu`, `cuda:0`, ...
    pub device: String,
    /// How many groups the shards fall into.
    pub of: usize,
}

impl StageTask {
    /// The most groups of a plan: a task for every shard of a thousand machines' work, and still a plan of a megabyte.
    pub const MAX_GROUPS: usize = 4096;

    /// The names of a group's shards, which are those of the images' shards they are made of. `index` counts from 1.
    ///
    /// # Errors
    /// When the images are not there.
    pub fn names(&self, index: usize) -> Result<Vec<String>> {
        let shards = Layout::shards(&Layout::new(&self.out).images(&self.source))?;
        let ours = shards.into_iter().skip(index - 1).step_by(self.of);
        Ok(ours.filter_map(|shard| shard.file_name()?.to_str().map(str::to_owned)).collect())
    }

    /// What the stage's shares have made so far.
    pub fn shares(&self) -> Shares {
        Shares::of(&self.out.join(&self.folder))
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

    pub(crate) fn task(of: usize) -> StageTask {
        StageTask {
            lapidary: "0.1.0".to_owned(),
            stage: Stage::Fingerprint,
            out: PathBuf::from("/shared/out"),
            source: "pile".to_owned(),
            folder: "pile/fingerprints".to_owned(),
            config: "seed = 7\n".to_owned(),
            device: "auto".to_owned(),
            of,
        }
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
        let images = folder.path().join("pile/images");
        std::fs::create_dir_all(&images).expect("creates");
        let all: Vec<String> = (0..7).map(|i| format!("part-{i:05}.parquet")).collect();
        all.iter().for_each(|name| std::fs::write(images.join(name), b"").expect("writes"));
        let task = StageTask { out: folder.path().to_owned(), ..task(3) };
        assert_eq!(task.names(1).expect("lists"), [0, 3, 6].map(|at| all[at].clone()));
        let mut taken: Vec<String> = (1..=3).flat_map(|index| task.names(index).expect("lists")).collect();
        taken.sort();
        assert_eq!(taken, all);
    }
}
