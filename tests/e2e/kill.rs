//! The plug is pulled: SIGKILL in the middle of a stage, then the same command, then the same digests.

use crate::run::{DRAWN, TINY, binary, curated, facts, text, tiny};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Starts a verb and kills it as soon as `reached` holds. True if it was killed before it ended.
fn kill_when(out: &Path, arguments: &[&str], reached: impl Fn() -> bool) -> bool {
    let mut child: Child = Command::new(binary())
        .args(arguments)
        .args(["--out", text(out)])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let begun = Instant::now();
    loop {
        if child.try_wait().expect("waits").is_some() {
            return false;
        }
        if reached() {
            // A verb may run in a child of `lapidary`: kill what works on the folder.
            kill_all_on(out);
            child.kill().expect("kills");
            child.wait().expect("waits");
            return true;
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "{arguments:?} never came so far");
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// SIGKILL to every process of ours that names the folder.
fn kill_all_on(out: &Path) {
    for entry in std::fs::read_dir("/proc").expect("Linux").filter_map(|e| e.ok()) {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        if pid != std::process::id() && command.contains("lapidary") && command.contains(text(out)) {
            let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
        }
    }
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
    let has_bytes = |path: PathBuf| move || path.metadata().is_ok_and(|m| m.len() > 0);
    let shard = cut_off.join("pile/.images.partial/part-00000.parquet");
    assert!(kill_when(&cut_off, &ingest, has_bytes(shard)), "ingest ended before it was killed");
    assert!(!cut_off.join("pile/images").exists(), "what has no manifest is not there");
    assert_eq!(digest(&facts(&cut_off, &ingest)), expected[0]["digest"]);

    let shard = cut_off.join("pile/embeddings/.descriptor.partial/part-00000.parquet");
    assert!(kill_when(&cut_off, &["embed"], has_bytes(shard)), "embed ended before it was killed");
    assert_eq!(digest(&facts(&cut_off, &["embed"])), expected[1]["digest"]);

    curated(&cut_off, "120");
    tiny(&cut_off, &["plan"]);
    let pretrain = [&["pretrain", "--device", "cpu"], TINY].concat();
    let runs = cut_off.join("pile/runs");
    let lines = || {
        let run = std::fs::read_dir(&runs).ok()?.filter_map(|e| e.ok()).find(|e| e.path().is_dir())?;
        let text = std::fs::read_to_string(run.path().join("metrics.jsonl")).ok()?;
        Some(text.lines().count())
    };
    // A checkpoint is written every 4 steps: between the first and the second.
    assert!(kill_when(&cut_off, &pretrain, || lines().is_some_and(|n| n >= 6)), "pretrain ended before it was killed");
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
    let text = std::fs::read_to_string(run.path().join("metrics.jsonl")).expect("metrics");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn an_interrupted_run_says_so_and_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    curated(&out, "120");
    tiny(&out, &["plan"]);
    let mut child = Command::new(binary())
        .args([&["pretrain", "--device", "cpu", "--out", text(&out)], TINY].concat())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let begun = Instant::now();
    let started = || {
        let runs = std::fs::read_dir(out.join("pile/runs")).ok();
        runs.into_iter()
            .flatten()
            .filter_map(|e| e.ok())
            .any(|e| e.path().join("metrics.jsonl").metadata().is_ok_and(|m| m.len() > 0))
    };
    while !started() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it never trained");
        std::thread::sleep(Duration::from_millis(1));
    }
    // Ctrl-C reaches the whole group at a terminal; here it is sent to the trainer, whose code `lapidary` passes on.
    for entry in std::fs::read_dir("/proc").expect("Linux").filter_map(|e| e.ok()) {
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).into_owned();
        if command.contains("lapidary-train") && command.contains(text(&out)) {
            let pid = entry.file_name().to_string_lossy().into_owned();
            let _ = Command::new("kill").args(["-INT", &pid]).status();
        }
    }
    assert_eq!(child.wait().expect("waits").code(), Some(130));
    assert_eq!(tiny(&out, &["pretrain", "--device", "cpu"])[0]["outcome"], "ran");
}
