//! Which build of Lapidary does the work. A version is the same for many commits, whose digests may differ: so clients and
//! executors compare the binaries themselves.

use crate::{Build, ClusterError, Result, Stage};
use lapidary_pipeline::stage::digest_of_file;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// The binaries that do the work of a stage.
const BINARIES: [&str; 3] = ["lapidary", "lapidary-curate", "lapidary-train"];
/// Digits of a digest that people are shown.
const DIGITS: usize = 12;

/// A file as it was when its digest was taken.
type Known = (u64, Option<SystemTime>, String);

/// The binaries beside a `lapidary`, each read again only when it has changed.
#[derive(Debug)]
pub(crate) struct Builds {
    folder: PathBuf,
    known: Mutex<HashMap<String, Known>>,
}

/// The build of what does the work of a stage, beside the `lapidary` at a path.
pub fn build_of(lapidary: &Path, stage: Stage, encoder: &str) -> Build {
    let binary = stage.binary(encoder);
    Build { binary: binary.to_owned(), digest: Builds::beside(lapidary).digest(binary) }
}

impl Builds {
    pub(crate) fn beside(lapidary: &Path) -> Self {
        Self { folder: lapidary.parent().unwrap_or(Path::new("")).to_owned(), known: Mutex::default() }
    }

    /// BLAKE3 of a binary; empty where there is none, as when `lapidary` is found on PATH.
    fn digest(&self, binary: &str) -> String {
        let path = self.folder.join(binary);
        let Ok(file) = std::fs::metadata(&path) else { return String::new() };
        let (bytes, modified) = (file.len(), file.modified().ok());
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, _, digest)) = known.get(binary).filter(|known| (known.0, known.1) == (bytes, modified)) {
            return digest.clone();
        }
        let digest = digest_of_file(&path).map(|(digest, _)| digest.0).unwrap_or_default();
        known.insert(binary.to_owned(), (bytes, modified, digest.clone()));
        digest
    }

    /// Refuses another build than the client's, where both are known.
    pub(crate) fn refuse_other(&self, theirs: &Build, worker: &str) -> Result<()> {
        let binary = BINARIES.into_iter().find(|binary| *binary == theirs.binary);
        let binary = binary.ok_or_else(|| ClusterError::Format(format!("`{}` makes no shards", theirs.binary)))?;
        let ours = self.digest(binary);
        if ours.is_empty() || theirs.digest.is_empty() || ours == theirs.digest {
            return Ok(());
        }
        let shown = |digest: &str| digest.chars().take(DIGITS).collect();
        Err(ClusterError::OtherBuild {
            worker: format!("executor {worker}"),
            binary: binary.to_owned(),
            ours: shown(&ours),
            theirs: shown(&theirs.digest),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binary_that_is_another_is_refused_and_an_unknown_one_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let lapidary = folder.path().join("lapidary");
        let binary = folder.path().join("lapidary-curate");
        std::fs::write(&binary, "one build").expect("writes");
        let theirs = build_of(&lapidary, Stage::Fingerprint, "descriptor");
        let builds = Builds::beside(&lapidary);
        builds.refuse_other(&theirs, "here").expect("the same");
        std::fs::write(&binary, "another build").expect("writes");
        let refused = builds.refuse_other(&theirs, "here").expect_err("another").to_string();
        assert!(refused.contains("executor here has `lapidary-curate` of another build"), "{refused}");
        std::fs::remove_file(&binary).expect("removes");
        builds.refuse_other(&theirs, "here").expect("it is not known");
        assert!(builds.refuse_other(&Build { binary: "sh".to_owned(), ..theirs }, "here").is_err());
        assert_eq!(Stage::Embed.binary("descriptor"), "lapidary");
        assert_eq!(Stage::Embed.binary("run-1"), "lapidary-train");
    }
}
