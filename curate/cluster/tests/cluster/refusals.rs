//! What a cluster refuses, in words, and how long that takes.

use crate::commands::{binary, ingest, lapidary, refusal, run, text};
use crate::fleet::{Fleet, free_address};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

fn drawn(folder: &Path) -> PathBuf {
    let (pile, out) = (folder.join("pile"), folder.join("out"));
    assert!(lapidary(&["draw", text(&pile)]).status.success());
    ingest(&out, &pile, "pile", 1);
    out
}

/// A program in the place of `lapidary`, in a folder of its own.
fn program(folder: &Path, script: &str) -> PathBuf {
    let path = folder.join("other").join("lapidary");
    std::fs::create_dir_all(folder.join("other")).expect("creates");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("writes");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("a program");
    path
}

#[test]
fn an_executor_of_another_version_or_build_refuses_and_nothing_is_lost() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = drawn(folder.path());
    let other = program(folder.path(), "echo lapidary 9.9.9");
    let mut fleet = Fleet::start(0);
    fleet.add_executor(&["--lapidary", text(&other)]);
    let (code, error) = refusal(&out, &["fingerprint", "--cluster", &fleet.url()]);
    assert!(code == 1 && error.contains("runs Lapidary 9.9.9, the plan is of"), "{error}");
    assert!(error.contains("install the same version on all machines"), "{error}");
    assert!(!error.contains("LAPIDARY-ERROR") && error.matches("9.9.9").count() == 1, "{error}");
    drop(fleet);
    // The same version, and another binary that does the work.
    let version = String::from_utf8(lapidary(&["--version"]).stdout).expect("UTF-8");
    let other = program(folder.path(), &format!("[ \"$1\" = --version ] && echo {} && exit 0; exit 1", version.trim()));
    std::fs::write(other.with_file_name("lapidary-curate"), "another build").expect("writes");
    let mut fleet = Fleet::start(0);
    fleet.add_executor(&["--lapidary", text(&other)]);
    let (code, error) = refusal(&out, &["fingerprint", "--cluster", &fleet.url()]);
    assert!(code == 1 && error.contains("has `lapidary-curate` of another build"), "{error}");
    drop(fleet);
    // With one of the right version the same command makes it.
    let fleet = Fleet::start(1);
    run(&out, &["fingerprint", "--cluster", &fleet.url()]);
}

#[test]
fn a_stage_that_fails_says_why_after_some_tries() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = drawn(folder.path());
    let shard = out.join("pile/images/part-00000.parquet");
    let whole = std::fs::read(&shard).expect("reads");
    let mut bytes = whole.clone();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 4096].fill(0);
    std::fs::write(&shard, bytes).expect("writes");
    let fleet = Fleet::start(2);
    let (code, error) = refusal(&out, &["fingerprint", "--cluster", &fleet.url()]);
    assert!(code == 1 && error.contains("lapidary fingerprint --shard") && error.contains("failed"), "{error}");
    assert!(error.contains("it was tried several times"), "{error}");
    // One that is not there is named, and when it is back the same command goes on.
    std::fs::remove_file(&shard).expect("removes");
    let (code, error) = refusal(&out, &["fingerprint", "--cluster", &fleet.url()]);
    assert!(code == 1 && error.contains("part-0000"), "{error}");
    std::fs::write(&shard, whole).expect("writes");
    run(&out, &["fingerprint", "--cluster", &fleet.url()]);
}

#[test]
fn wrong_usage_is_not_tried_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = drawn(folder.path());
    let fleet = Fleet::start(1);
    let version = String::from_utf8(lapidary(&["--version"]).stdout).expect("UTF-8");
    let tries = folder.path().join("tries");
    let script = format!(
        "[ \"$1\" = --version ] && echo {} && exit 0; echo \"$4\" >> {}; echo 'error: not so' >&2; exit 2",
        version.trim(),
        text(&tries)
    );
    drop(fleet);
    let mut fleet = Fleet::start(0);
    fleet.add_executor(&["--lapidary", text(&program(folder.path(), &script))]);
    let (code, error) = refusal(&out, &["fingerprint", "--cluster", &fleet.url()]);
    assert!(code == 1 && error.contains("failed: not so") && !error.contains("several times"), "{error}");
    // Another group may have begun before the job ended; none is tried a second time.
    let tries = std::fs::read_to_string(tries).expect("it ran");
    let mut groups: Vec<&str> = tries.lines().collect();
    groups.sort_unstable();
    assert!(groups[0].contains('/') && groups.windows(2).all(|pair| pair[0] != pair[1]), "{groups:?}");
}

#[test]
fn a_process_that_hangs_is_killed_and_another_executor_makes_its_group() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = drawn(folder.path());
    let version = String::from_utf8(lapidary(&["--version"]).stdout).expect("UTF-8");
    let hangs = program(
        folder.path(),
        &format!("[ \"$1\" = --version ] && echo {} && exit 0; exec sleep 1000", version.trim()),
    );
    let mut fleet = Fleet::start(0);
    fleet.add_executor(&["--lapidary", text(&hangs), "--stuck-secs", "10"]);
    fleet.add_executor(&[]);
    run(&out, &["fingerprint", "--cluster", &fleet.url()]);
}

#[test]
fn a_cluster_without_executors_is_given_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = drawn(folder.path());
    let fleet = Fleet::start(0);
    let begun = Instant::now();
    let (code, error) = refusal(&out, &["fingerprint", "--cluster", &fleet.url(), "--give-up-secs", "3"]);
    assert!(code == 1 && error.contains("no new shard of fingerprint in 3 s"), "{error}");
    assert!(error.contains("--role executor") && begun.elapsed() < Duration::from_secs(60), "{error}");
    assert!(fleet.scheduler_log().contains("Received cancellation request for job"));
}

#[test]
fn nobody_there_and_odd_addresses_are_told_soon() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = drawn(folder.path());
    // A host that refuses, and one that says nothing, as behind a firewall that drops packets.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    for address in [free_address(), silent.local_addr().expect("has one")] {
        let begun = Instant::now();
        let (code, error) = refusal(&out, &["fingerprint", "--cluster", &format!("df://{address}")]);
        assert!(code == 1 && error.contains("does not answer") && error.contains("--role scheduler"), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    }
    let (code, error) = refusal(&out, &["curate", "--cluster", "nowhere"]);
    assert!(code == 2 && error.contains("df://HOST:PORT"), "{error}");
    let (code, error) = refusal(&folder.path().join("none"), &["curate", "--cluster", "df://127.0.0.1:1"]);
    assert!(code == 1 && error.contains("lapidary ingest"), "{error}");
    // Embeddings that cannot be read are none that are not there.
    run(&out, &["fingerprint", "--quiet"]);
    let embeddings = out.join("pile/embeddings/descriptor");
    std::fs::create_dir_all(&embeddings).expect("creates");
    std::fs::write(embeddings.join("manifest.json"), "{").expect("writes");
    let (code, error) = refusal(&out, &["curate", "--cluster", "df://127.0.0.1:1"]);
    assert!(code == 1 && error.contains("descriptor/manifest.json` is not valid"), "{error}");
    let worker = |arguments: &[&str]| {
        let output = Command::new(binary("lapidary-worker")).args(arguments).output().expect("runs");
        assert!(!output.status.success(), "lapidary-worker {arguments:?} succeeded");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(worker(&["--role", "executor"]).contains("--scheduler"));
    // A port that is taken is no scheduler's.
    let taken = silent.local_addr().expect("has one").to_string();
    let error = worker(&["--role", "scheduler", "--bind", &taken]);
    assert!(error.contains("in use") || error.contains("transport"), "{error}");
}
