//! `lapidary curate --cluster` over three executors: in peace, with one that is killed, with a scheduler that forgets.

use crate::fleet::{Fleet, made_so_far, wait_until};
use crate::made::{binary, copy_images, curate_alone, digests, ingest, lapidary, manifest, run, text};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use tempfile::TempDir;

/// The built-in pile in small shards, curated by one machine.
struct Alone {
    folder: TempDir,
    digests: BTreeMap<&'static str, Value>,
}

impl Alone {
    fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }
}

static ALONE: LazyLock<Alone> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    let (pile, out) = (folder.path().join("pile"), folder.path().join("out"));
    assert!(lapidary(&["draw", text(&pile)]).status.success());
    ingest(&out, &pile, "pile", 1);
    curate_alone(&out);
    let digests = digests(&out, "pile");
    Alone { folder, digests }
});

/// An output tree that holds the pile's images and nothing else.
fn images_alone(folder: &Path) -> PathBuf {
    let out = folder.join("out");
    copy_images(&ALONE.out(), &out, "pile");
    out
}

fn curate(out: &Path, fleet: &Fleet) -> Child {
    let mut command = Command::new(binary("lapidary"));
    command.args(["curate", "--cluster", &fleet.url(), "--out", text(out)]);
    command.stdout(Stdio::null()).stderr(Stdio::inherit()).spawn().expect("it starts")
}

fn is_well(mut client: Child) {
    assert!(client.wait().expect("waits").success(), "lapidary curate --cluster");
}

#[test]
fn three_executors_make_what_one_machine_makes() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = images_alone(folder.path());
    let fleet = Fleet::start(3);
    let said = run(&out, &["curate", "--cluster", &fleet.url()]);
    assert_eq!(digests(&out, "pile"), ALONE.digests);
    assert!(said.contains("shards of") && said.contains("executors"), "{said}");
    let shards = manifest(&out, "pile", "fingerprints")["facts"]["shards"].as_object().expect("shards").len();
    assert!(shards >= 3, "{shards} shards");
    // Typed again, everything is there, and no cluster is needed for it.
    drop(fleet);
    let again = lapidary(&["curate", "--cluster", "df://127.0.0.1:1", "--out", text(&out)]);
    let said = String::from_utf8_lossy(&again.stdout);
    assert!(again.status.success() && said.matches("up to date").count() == 6, "{said}");
}

#[test]
fn an_executor_that_is_killed_loses_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = images_alone(folder.path());
    let mut fleet = Fleet::start(3);
    let client = curate(&out, &fleet);
    wait_until("a shard is made", || made_so_far(&out, "pile", "fingerprints") > 0);
    fleet.kill_executor();
    is_well(client);
    assert_eq!(digests(&out, "pile"), ALONE.digests);
}

#[test]
fn a_scheduler_that_is_restarted_is_given_the_job_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = images_alone(folder.path());
    let mut fleet = Fleet::start(3);
    let client = curate(&out, &fleet);
    wait_until("a shard is made", || made_so_far(&out, "pile", "fingerprints") > 0);
    fleet.restart_scheduler();
    is_well(client);
    assert_eq!(digests(&out, "pile"), ALONE.digests);
}

#[test]
fn stages_alone_go_to_a_cluster_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = images_alone(folder.path());
    let fleet = Fleet::start(2);
    // Settings go along: other keypoints are another table.
    let set = ["--set", "fingerprint.keypoints=8"];
    let alone = folder.path().join("alone");
    copy_images(&ALONE.out(), &alone, "pile");
    run(&alone, &[&["fingerprint"], &set[..]].concat());
    run(&out, &[&["fingerprint", "--cluster", &fleet.url()], &set[..]].concat());
    let digest = |out: &Path, stage: &str| manifest(out, "pile", stage)["digest"].clone();
    assert_eq!(digest(&out, "fingerprints"), digest(&alone, "fingerprints"));
    assert_ne!(digest(&out, "fingerprints"), ALONE.digests["fingerprints"]);
    run(&out, &["embed", "--cluster", &fleet.url(), "--encoder", "descriptor"]);
    assert_eq!(digest(&out, "embeddings/descriptor"), ALONE.digests["embeddings/descriptor"]);
}
