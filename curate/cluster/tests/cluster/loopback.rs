//! `lapidary curate --cluster` over three executors: in peace, with one that is killed or told to end, with a scheduler that
//! forgets, with a client that is interrupted.

use crate::commands::{CLIENT_WITHIN, Pile, binary, copy_images, digests, lapidary, manifest, run, text};
use crate::fleet::{Fleet, finished, made_so_far, wait_for_shard};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// The built-in pile in small shards, curated by one machine.
pub static ALONE: LazyLock<Pile> = LazyLock::new(Pile::curated);

/// A tree that is fitted on a sample of it ...
pub const ON_A_SAMPLE: [&str; 2] = ["--set", "curate.tree_max_images=200"];
/// ... and the digests of one machine's curation with that.
pub static ALONE_ON_A_SAMPLE: LazyLock<BTreeMap<&'static str, Value>> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    let out = images_alone(folder.path());
    for verb in ["fingerprint", "embed", "curate"] {
        run(&out, &[&[verb][..], &ON_A_SAMPLE].concat());
    }
    digests(&out, "pile")
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
    assert!(finished(&mut client, "lapidary curate --cluster", CLIENT_WITHIN).success());
}

/// What the client says of each stage that executors made, out of its JSON.
pub fn made_by_executors(stdout: &[u8]) -> Vec<Value> {
    let lines = std::str::from_utf8(stdout).expect("UTF-8").lines();
    let facts = lines.map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    facts.filter(|facts| !facts["cluster"].is_null()).map(|mut facts| facts["cluster"].take()).collect()
}

#[test]
fn three_executors_make_what_one_machine_makes() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = images_alone(folder.path());
    let fleet = Fleet::start(3);
    let output = lapidary(&["curate", "--json", "--cluster", &fleet.url(), "--out", text(&out)]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(digests(&out, "pile"), ALONE.digests);
    let shards = manifest(&out, "pile", "fingerprints")["facts"]["shards"].as_object().expect("shards").len();
    assert!(shards >= 3, "{shards} shards");
    let made = made_by_executors(&output.stdout);
    assert_eq!(made.len(), 2, "fingerprints and embeddings");
    for stage in &made {
        assert_eq!(stage["shards"].as_u64(), Some(shards as u64), "{stage}");
        assert!(stage["executors"].as_u64().is_some_and(|executors| executors >= 2), "{stage}");
    }
    // Typed again, everything is there, and no cluster is needed for it.
    drop(fleet);
    let again = lapidary(&["curate", "--cluster", "df://127.0.0.1:1", "--out", text(&out)]);
    let said = String::from_utf8_lossy(&again.stdout);
    assert!(again.status.success() && said.matches("up to date").count() == 6, "{said}");
}

#[test]
fn executors_assign_images_to_a_tree_that_was_fitted_on_a_sample() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = images_alone(folder.path());
    let fleet = Fleet::start(2);
    let curate = ["curate", "--json", "--cluster", &fleet.url(), "--out", text(&out)];
    let output = lapidary(&[&curate[..], &ON_A_SAMPLE].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(digests(&out, "pile"), *ALONE_ON_A_SAMPLE);
    assert_ne!(ALONE_ON_A_SAMPLE["curation/clusters"], ALONE.digests["curation/clusters"]);
    let stages: Vec<Value> = made_by_executors(&output.stdout).into_iter().map(|made| made["stage"].clone()).collect();
    assert_eq!(stages, ["fingerprint", "embed", "assign"]);
}

#[test]
fn an_executor_that_is_killed_at_work_loses_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = images_alone(folder.path());
    let mut fleet = Fleet::start(3);
    let mut client = curate(&out, &fleet);
    wait_for_shard(&mut client, &out, "pile", "fingerprints");
    fleet.kill_busy_executor();
    is_well(client);
    assert_eq!(digests(&out, "pile"), ALONE.digests);
}

#[test]
fn an_executor_that_is_told_to_end_gives_its_group_away_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = images_alone(folder.path());
    // Were it not to say so, the scheduler would wait for ten minutes.
    let mut fleet = Fleet::start_with(3, 600, &[]);
    let client = curate(&out, &fleet);
    let begun = Instant::now();
    let status = fleet.terminate_busy_executor();
    assert!(status.success(), "{status}");
    is_well(client);
    assert!(begun.elapsed() < Duration::from_secs(300), "{:?}", begun.elapsed());
    assert_eq!(digests(&out, "pile"), ALONE.digests);
}

#[test]
fn a_scheduler_that_is_restarted_is_given_the_job_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = images_alone(folder.path());
    let mut fleet = Fleet::start(3);
    let mut client = curate(&out, &fleet);
    wait_for_shard(&mut client, &out, "pile", "fingerprints");
    fleet.restart_scheduler();
    is_well(client);
    assert_eq!(digests(&out, "pile"), ALONE.digests);
}

#[test]
fn a_client_that_is_interrupted_cancels_its_job() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = images_alone(folder.path());
    let fleet = Fleet::start(1);
    let mut client = curate(&out, &fleet);
    // Ballista runs tasks on threads of low priority: what they start is not to have it.
    let (theirs, ours) = fleet.niceness_at_work();
    assert_eq!(theirs, ours);
    wait_for_shard(&mut client, &out, "pile", "fingerprints");
    kill(Pid::from_raw(i32::try_from(client.id()).expect("an id")), Signal::SIGINT).expect("a signal");
    let status = finished(&mut client, "a client that was interrupted", Duration::from_secs(30));
    assert_eq!(status.code(), Some(130), "{status}");
    let log = fleet.scheduler_log();
    assert!(log.contains("Received cancellation request for job"), "{log}");
    // The executor ends the group that it has begun, and is given no other.
    std::thread::sleep(Duration::from_secs(5));
    let made = made_so_far(&out, "pile", "fingerprints");
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(made_so_far(&out, "pile", "fingerprints"), made);
    is_well(curate(&out, &fleet));
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
    // The device is the executors': a client that has no such one asks for it all the same.
    run(&out, &["embed", "--cluster", &fleet.url(), "--encoder", "descriptor", "--device", "cuda"]);
    assert_eq!(digest(&out, "embeddings/descriptor"), ALONE.digests["embeddings/descriptor"]);
}
