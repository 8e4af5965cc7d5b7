//! The plug is pulled: SIGKILL in the middle of a stage, then the same command, then the same digests.

use crate::run::{DRAWN, TINY, binary, curated, facts, lines, text, tiny};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::Value;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Runs a verb and kills it, with all that it started, as soon as `reached` holds. False if it ended before that.
pub fn kill_when(out: &Path, arguments: &[&str], reached: &dyn Fn() -> bool) -> bool {
    let mut child: Child = Command::new(binary())
        .args(arguments)
        .args(["--out", text(out)])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // A verb may run in a child of `lapidary`: a group of its own is killed with one call.
        .process_group(0)
        .spawn()
        .expect("it starts");
    let group = Pid::from_raw(i32::try_from(child.id()).expect("Linux counts processes in 32 bits"));
    let begun = Instant::now();
    loop {
        if child.try_wait().expect("waits").is_some() {
            return false;
        }
        if reached() {
            killpg(group, Signal::SIGKILL).expect("kills");
            child.wait().expect("waits");
            return true;
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "{arguments:?} never came so far");
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// Kills a stage while its first shard is being written. On a busy machine the stage may be done by then: it is run
/// again until it was cut off. Whenever its folder is there, it is whole.
fn cut_off_while_writing(out: &Path, arguments: &[&str], folder: &Path) {
    let name = folder.file_name().expect("a name").to_string_lossy();
    let partial = folder.with_file_name(format!(".{name}.partial"));
    let is_begun = || {
        let entries = std::fs::read_dir(&partial).into_iter().flatten().filter_map(|entry| entry.ok());
        let is_shard = |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with("part-00000");
        entries.filter(is_shard).any(|entry| entry.metadata().is_ok_and(|meta| meta.len() > 0))
    };
    for _ in 0..50 {
        kill_when(out, arguments, &is_begun);
        if !folder.exists() {
            return;
        }
        assert!(folder.join("manifest.json").is_file(), "what has no manifest is not there");
        std::fs::remove_dir_all(folder).expect("removes");
    }
    panic!("{arguments:?} always ended before it was killed");
}

fn digest(facts: &[Value]) -> Value {
    facts[0]["digest"].clone()
}

#[test]
fn a_killed_stage_ends_with_the_digests_of_an_uninterrupted_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let (whole, cut_off) = (folder.path().join("whole"), folder.path().join("cut-off"));
    let expected: Vec<Value> = curated(&whole, "120");
    tiny(&whole, &["plan"]);
    let trained = tiny(&whole, &["pretrain", "--device", "cpu"]);

    let pile = DRAWN.pile();
    let ingest = ["ingest", "--data", text(&pile)];
    cut_off_while_writing(&cut_off, &ingest, &cut_off.join("pile/images"));
    assert_eq!(digest(&facts(&cut_off, &ingest)), expected[0]["digest"]);

    cut_off_while_writing(&cut_off, &["embed"], &cut_off.join("pile/embeddings/descriptor"));
    assert_eq!(digest(&facts(&cut_off, &["embed"])), expected[2]["digest"]);

    curated(&cut_off, "120");
    tiny(&cut_off, &["plan"]);
    let pretrain = [&["pretrain", "--device", "cpu"], TINY].concat();
    let runs = cut_off.join("pile/runs");
    let lines = || {
        let run = std::fs::read_dir(&runs).ok()?.filter_map(|e| e.ok()).find(|e| e.path().is_dir())?;
        let text = std::fs::read_to_string(run.path().join("metrics.jsonl")).ok()?;
        Some(text.lines().count())
    };
    // A checkpoint is written every 4 steps: between the first and the second. As above, again where it was too late.
    let mut attempts = 0;
    while !kill_when(&cut_off, &pretrain, &|| lines().is_some_and(|n| n >= 5)) {
        std::fs::remove_dir_all(&runs).expect("removes");
        attempts += 1;
        assert!(attempts < 20, "pretrain always ended before it was killed");
    }
    let unfinished = facts(&cut_off, &["status"]);
    let states = unfinished[0].as_array().expect("a list").iter().map(|s| s["state"].clone()).collect::<Vec<_>>();
    assert!(states.contains(&"unfinished".into()), "{states:?}");
    assert_eq!(digest(&tiny(&cut_off, &["pretrain", "--device", "cpu"])), digest(&trained));
    let steps: Vec<u64> = metrics(&cut_off).iter().map(|line| line["step"].as_u64().expect("a step")).collect();
    assert_eq!(steps, (0..12).collect::<Vec<_>>(), "each step once, in order");
    for (resumed, uninterrupted) in metrics(&cut_off).iter().zip(metrics(&whole)) {
        assert_eq!(resumed["loss"], uninterrupted["loss"]);
    }
}

fn metrics(out: &Path) -> Vec<Value> {
    let runs = std::fs::read_dir(out.join("pile/runs")).expect("runs").filter_map(|e| e.ok());
    let run = runs.into_iter().find(|e| e.path().join("manifest.json").is_file()).expect("a finished run");
    lines(&run.path())
}
