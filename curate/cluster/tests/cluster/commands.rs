//! Running `lapidary`, and the digests of what it made.

use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;
use tempfile::TempDir;

/// How long a client may take.
pub const CLIENT_WITHIN: Duration = Duration::from_secs(1800);

/// Every stage that a curation needs, by its folder below the source's: the maps, which a cluster makes, come first.
pub const STAGES: [&str; 6] = [
    "fingerprints",
    "embeddings/descriptor",
    "curation/pairs",
    "curation/groups",
    "curation/clusters",
    "curation/ranking",
];

/// A binary in the target folder of this test.
pub fn binary(name: &str) -> PathBuf {
    let me = std::env::current_exe().expect("a test has a path");
    let found = me.ancestors().skip(1).map(|folder| folder.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("`{name}` is not built beside `{}`: run `make cluster-check`", me.display()))
}

pub fn text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are UTF-8")
}

pub fn lapidary(arguments: &[&str]) -> Output {
    Command::new(binary("lapidary")).args(arguments).output().expect("it starts")
}

/// Runs a verb that must succeed.
pub fn run(out: &Path, arguments: &[&str]) -> String {
    let output = lapidary(&[arguments, &["--out", text(out)]].concat());
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "lapidary {arguments:?}: {error}");
    error.into_owned()
}

/// Runs a verb that must fail; its exit code and what it said on stderr.
pub fn refusal(out: &Path, arguments: &[&str]) -> (i32, String) {
    let output = lapidary(&[arguments, &["--out", text(out)]].concat());
    assert!(!output.status.success(), "lapidary {arguments:?} succeeded");
    (output.status.code().expect("no signal"), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// The built-in pile in shards of 1 MiB, curated by one machine.
pub struct Pile {
    folder: TempDir,
    /// The digest of each stage.
    pub digests: BTreeMap<&'static str, Value>,
}

impl Pile {
    pub fn curated() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (pile, out) = (folder.path().join("pile"), folder.path().join("out"));
        assert!(lapidary(&["draw", text(&pile)]).status.success());
        ingest(&out, &pile, "pile", 1);
        curate_alone(&out);
        let digests = digests(&out, "pile");
        Self { folder, digests }
    }

    /// The images.
    pub fn pile(&self) -> PathBuf {
        self.folder.path().join("pile")
    }

    /// What was made of them.
    pub fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }
}

/// The manifest of a stage of a source.
pub fn manifest(out: &Path, source: &str, stage: &str) -> Value {
    let path = out.join(source).join(stage).join("manifest.json");
    let text = std::fs::read(&path).unwrap_or_else(|e| panic!("read `{}`: {e}", path.display()));
    serde_json::from_slice(&text).expect("JSON")
}

/// The digest of each stage of a curation.
pub fn digests(out: &Path, source: &str) -> BTreeMap<&'static str, Value> {
    digests_of(out, source, &STAGES)
}

/// The digests of some stages.
pub fn digests_of(out: &Path, source: &str, stages: &[&'static str]) -> BTreeMap<&'static str, Value> {
    stages.iter().map(|stage| (*stage, manifest(out, source, stage)["digest"].clone())).collect()
}

/// Settings of ingest for small shards.
pub fn shard_settings(shard_mib: usize) -> [String; 2] {
    [format!("ingest.shard_mib={shard_mib}"), "ingest.row_group_mib=1".to_owned()]
}

/// Ingests a folder under a name into shards so small that there are many.
pub fn ingest(out: &Path, data: &Path, name: &str, shard_mib: usize) {
    let set = shard_settings(shard_mib);
    run(out, &["ingest", "--data", text(data), "--name", name, "--set", &set[0], "--set", &set[1], "--quiet"]);
}

/// A curation by one machine: the same verbs without a cluster.
pub fn curate_alone(out: &Path) {
    for verb in ["fingerprint", "embed", "curate"] {
        run(out, &[verb, "--quiet"]);
    }
}

/// Copies what `ingest` made, so that a second curation begins at the same images.
pub fn copy_images(from: &Path, to: &Path, source: &str) {
    std::fs::create_dir_all(to.join(source)).expect("creates");
    let copied = Command::new("cp").arg("-al").arg(from.join(source).join("images")).arg(to.join(source)).status();
    assert!(copied.expect("cp runs").success());
    std::fs::copy(from.join("current.json"), to.join("current.json")).expect("copies");
}
