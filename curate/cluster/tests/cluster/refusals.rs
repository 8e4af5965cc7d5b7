//! What a cluster refuses, in words, and how long that takes.

use crate::fleet::{Fleet, free_address};
use crate::made::{binary, ingest, lapidary, refusal, run, text};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

fn drawn(folder: &Path) -> std::path::PathBuf {
    let (pile, out) = (folder.join("pile"), folder.join("out"));
    assert!(lapidary(&["draw", text(&pile)]).status.success());
    ingest(&out, &pile, "pile", 1);
    out
}

#[test]
fn an_executor_of_another_version_refuses_and_nothing_is_lost() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = drawn(folder.path());
    let other = folder.path().join("lapidary");
    std::fs::write(&other, "#!/bin/sh\necho lapidary 9.9.9\n").expect("writes");
    std::fs::set_permissions(&other, std::fs::Permissions::from_mode(0o755)).expect("a program");
    let mut fleet = Fleet::start(0);
    fleet.add_executor(&["--lapidary", text(&other), "--advertise", "127.0.0.1"]);
    let (code, error) = refusal(&out, &["fingerprint", "--cluster", &fleet.url()]);
    assert!(
        code == 1 && error.contains("127.0.0.1") && error.contains("runs Lapidary 9.9.9, the plan is of"),
        "{error}"
    );
    assert!(error.contains("install the same version on all machines"), "{error}");
    // With one of the right version the same command makes it.
    drop(fleet);
    let fleet = Fleet::start(1);
    run(&out, &["fingerprint", "--cluster", &fleet.url()]);
}

#[test]
fn a_stage_that_fails_says_why_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = drawn(folder.path());
    let shard = out.join("pile/images/part-00000.parquet");
    let mut bytes = std::fs::read(&shard).expect("reads");
    let middle = bytes.len() / 2;
    bytes[middle..middle + 4096].fill(0);
    std::fs::write(&shard, bytes).expect("writes");
    let fleet = Fleet::start(1);
    let (code, error) = refusal(&out, &["fingerprint", "--cluster", &fleet.url()]);
    assert!(code == 1 && error.contains("lapidary fingerprint --shard") && error.contains("failed"), "{error}");
}

#[test]
fn nobody_there_and_odd_addresses_are_told_soon() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = drawn(folder.path());
    let begun = Instant::now();
    let (code, error) = refusal(&out, &["fingerprint", "--cluster", &format!("df://{}", free_address())]);
    assert!(code == 1 && error.contains("does not answer") && error.contains("--role scheduler"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(60));
    let (code, error) = refusal(&out, &["curate", "--cluster", "nowhere"]);
    assert!(code == 2 && error.contains("df://HOST:PORT"), "{error}");
    let (code, error) = refusal(&folder.path().join("none"), &["curate", "--cluster", "df://127.0.0.1:1"]);
    assert!(code == 1 && error.contains("lapidary ingest"), "{error}");
    let worker =
        std::process::Command::new(binary("lapidary-worker")).args(["--role", "executor"]).output().expect("runs");
    assert!(!worker.status.success() && String::from_utf8_lossy(&worker.stderr).contains("--scheduler"));
}
