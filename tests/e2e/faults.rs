//! The fault harness: stages are killed at named points and at random moments, disks fill, folders refuse, two processes
//! meet. In the end nothing is lost or doubled, and an earlier result is intact whenever the new one is not whole.
//!
//! `make test` runs a sample; `make faults` (`LAPIDARY_FAULTS=240`) runs that many kills.

use crate::run::{DRAWN, TINY, binary, curated, facts, lapidary, text, tiny};
use crate::shared_data::shared;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde_json::Value;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Points inside the runtime at which a process kills itself: see `fault_point` in `lapidary_pipeline::stage`.
const POINTS: &[&str] = &[
    "file:written",
    "table:synced",
    "shard:written",
    "shard:noted",
    "finish:begun",
    "finish:digested",
    "finish:manifest-written",
    "finish:room-made",
    "finish:renamed",
    "finish:kept-aside",
    "finish:cleared",
];

/// A stage that is cut off: its command, its folder under OUT, and the digest it has in the end.
struct Victim {
    arguments: Vec<String>,
    /// The same with another setting, for an earlier result to be in place; empty where no setting changes the stage.
    earlier: Vec<String>,
    folder: &'static str,
    digest: Value,
}

/// A tree in which a whole chain has run, and its stages.
struct Chain {
    _temporary: tempfile::TempDir,
    out: PathBuf,
    victims: Vec<Victim>,
}

fn owned(arguments: &[&str]) -> Vec<String> {
    arguments.iter().map(|argument| (*argument).to_owned()).collect()
}

/// The chain on drawn images, with shards so small that there are several.
fn drawn_chain() -> Chain {
    let temporary = tempfile::tempdir().expect("a folder");
    let out = temporary.path().join("whole");
    let pile = DRAWN.pile();
    let ingest = ["ingest", "--data", text(&pile), "--set", "ingest.shard_mib=1", "--set", "ingest.row_group_mib=1"];
    let tiny_pretrain = [&["pretrain", "--device", "cpu", "--run", "r"], TINY].concat();
    let other_rate = [&tiny_pretrain[..], &["--set", "pretrain.base_learning_rate=0.0031"]].concat();
    let eval = [&["eval", "--device", "cpu", "--run", "r"], TINY].concat();
    let all: Vec<(Vec<String>, Vec<String>, &'static str)> = vec![
        (owned(&ingest), owned(&[&ingest[..], &["--set", "ingest.max_reject=0.9"]].concat()), "pile/images"),
        (owned(&["fingerprint"]), owned(&["fingerprint", "--set", "fingerprint.keypoints=40"]), "pile/fingerprints"),
        (owned(&["embed"]), Vec::new(), "pile/embeddings/descriptor"),
        (owned(&["curate"]), owned(&["curate", "--set", "curate.pdq_max_bits=20"]), "pile/curation/pairs"),
        (owned(&["curate"]), owned(&["curate", "--set", "curate.score_min=0.7"]), "pile/curation/groups"),
        (owned(&["curate"]), owned(&["curate", "--set", "seed=7"]), "pile/curation/clusters"),
        (owned(&["curate"]), owned(&["curate", "--set", "curate.leaf_order=farthest"]), "pile/curation/ranking"),
        (owned(&["cut", "--size", "120"]), Vec::new(), "pile/subsets/120"),
        (owned(&["cut", "--size", "120", "--export", "coco"]), Vec::new(), "pile/subsets/120.coco"),
        (owned(&["duplicates", text(&pile)]), Vec::new(), "pile/duplicates"),
        (
            owned(&[&["plan", "--name", "p"], TINY].concat()),
            owned(&[&["plan", "--name", "p", "--set", "seed=5"], TINY].concat()),
            "pile/plans/p",
        ),
        (owned(&tiny_pretrain), owned(&other_rate), "pile/runs/r"),
        (owned(&eval), owned(&[&eval[..], &["--set", "eval.linear_steps=20"]].concat()), "pile/evals/r/pile"),
    ];
    chain_of(temporary, out, all)
}

/// The data half on COCO's photographs, with a tree that is fitted on a sample.
fn coco_chain() -> Option<Chain> {
    let data = shared("coco")?;
    let temporary = tempfile::tempdir().expect("a folder");
    let out = temporary.path().join("whole");
    let ingest = ["ingest", "--data", text(&data), "--set", "ingest.shard_mib=16", "--set", "ingest.row_group_mib=4"];
    let curate = ["curate", "--set", "curate.tree_max_images=300"];
    let other_seed = [&curate[..], &["--set", "seed=7"]].concat();
    let all = vec![
        (owned(&ingest), owned(&[&ingest[..], &["--set", "ingest.max_reject=0.9"]].concat()), "coco/images"),
        (owned(&["fingerprint"]), Vec::new(), "coco/fingerprints"),
        (owned(&["embed"]), Vec::new(), "coco/embeddings/descriptor"),
        (owned(&curate), owned(&other_seed), "coco/curation/tree"),
        (owned(&curate), owned(&other_seed), "coco/curation/assignment"),
        (owned(&curate), owned(&other_seed), "coco/curation/clusters"),
    ];
    Some(chain_of(temporary, out, all))
}

fn chain_of(temporary: tempfile::TempDir, out: PathBuf, all: Vec<(Vec<String>, Vec<String>, &'static str)>) -> Chain {
    let victims = all
        .into_iter()
        .map(|(arguments, earlier, folder)| {
            // An export is said after its cut.
            let said = facts(&out, &refers_to(&arguments)).pop().expect("it says what it made");
            Victim { arguments, earlier, folder, digest: said["digest"].clone() }
        })
        .collect();
    Chain { _temporary: temporary, out, victims }
}

/// A small generator of its own, so that a failure is repeated by its number.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// What ends a process.
#[derive(Debug)]
enum Cut {
    Point(String),
    After(Duration),
}

/// Runs a stage and cuts it off; whether it was.
fn cut_off(out: &Path, arguments: &[String], cut: &Cut) -> bool {
    let mut command = Command::new(binary());
    command.args(arguments).args(["--out", text(out)]).stdout(Stdio::null()).stderr(Stdio::null());
    if let Cut::Point(point) = cut {
        command.env("LAPIDARY_TEST_KILL_AT", point);
    }
    let mut child = command.spawn().expect("it starts");
    if let Cut::After(delay) = cut {
        std::thread::sleep(*delay);
        // The process that was started is the work: there is no other to kill.
        let _ = child.kill();
    }
    child.wait().expect("waits").code().is_none()
}

/// A copy of a tree that costs no bytes: whole folders are never written again in place.
fn linked(out: &Path, to: &Path) {
    let status = Command::new("cp").args(["-al", text(out), text(to)]).status().expect("cp starts");
    assert!(status.success());
}

fn refers_to(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

/// No damaged file anywhere.
fn assert_intact(out: &Path, context: &str) {
    let verified = lapidary(&["verify", "--json", "--out", text(out)]);
    let said = String::from_utf8_lossy(&verified.stdout).into_owned();
    assert!(verified.status.success() || said.trim() == "[]", "{context}: {said}");
}

/// Names that only a process at work may leave.
fn assert_tidy(out: &Path, context: &str) {
    let left = |path: &Path| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        [".old", ".aside", ".partial", ".writing"].iter().any(|end| name.ends_with(end)) || name == ".key"
    };
    let mut to_visit = vec![out.to_owned()];
    while let Some(folder) = to_visit.pop() {
        for entry in std::fs::read_dir(&folder).expect("lists").map(|entry| entry.expect("reads")) {
            assert!(!left(&entry.path()), "{context}: `{}` is left", entry.path().display());
            if entry.file_type().expect("known").is_dir() {
                to_visit.push(entry.path());
            }
        }
    }
}

fn trial(chain: &Chain, number: u64) -> bool {
    let mut dice = Dice(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    dice.below(2);
    let victim = &chain.victims[(number as usize) % chain.victims.len()];
    let cut = if dice.below(3) > 0 {
        let point = POINTS[dice.below(POINTS.len() as u64) as usize];
        Cut::Point(format!("{point}#{}", 1 + dice.below(3)))
    } else {
        Cut::After(Duration::from_micros(dice.below(900_000)))
    };
    let with_earlier = !victim.earlier.is_empty() && dice.below(2) == 1;
    let context = format!("trial {number}: {:?} {cut:?}, an earlier result: {with_earlier}", victim.arguments);
    let temporary = tempfile::tempdir_in(chain.out.parent().expect("has one")).expect("a folder");
    let out = temporary.path().join("out");
    linked(&chain.out, &out);
    std::fs::remove_dir_all(out.join(victim.folder)).expect("removes");
    let earlier = with_earlier.then(|| facts(&out, &refers_to(&victim.earlier)).remove(0)["digest"].clone());

    let was_cut = cut_off(&out, &victim.arguments, &cut);
    let there = out.join(victim.folder).join("manifest.json").is_file();
    if out.join(victim.folder).exists() {
        assert!(there, "{context}: what has no manifest is not there");
    }
    assert_intact(&out, &context);
    // Once more, somewhere on the way.
    let again = Cut::After(Duration::from_micros(dice.below(500_000)));
    let was_cut = cut_off(&out, &victim.arguments, &again) | was_cut;
    assert_intact(&out, &context);
    if let Some(earlier) = &earlier {
        let is_there = digests(&out).contains(earlier);
        let replaced = ["pile/images", "coco/images", "pile/fingerprints"].contains(&victim.folder)
            && digests(&out).contains(&victim.digest);
        assert!(is_there || replaced, "{context}: the earlier result is gone");
    }
    let said = facts(&out, &refers_to(&victim.arguments)).pop().expect("it says what it made");
    assert_eq!(said["digest"], victim.digest, "{context}");
    let rows = &said["rows"];
    let count = |name: &str| rows[name].as_u64().expect("a count");
    assert_eq!(count("input"), count("output") + count("rejected"), "{context}");
    assert_tidy(&out, &context);
    was_cut
}

/// The digests of all whole folders, those that are kept aside included.
fn digests(out: &Path) -> Vec<Value> {
    let all = facts(out, &["status", "--all"]).remove(0);
    all.as_array().expect("a list").iter().map(|stage| stage["digest"].clone()).collect()
}

#[test]
fn killed_stages_lose_nothing_and_double_nothing() {
    let wanted: u64 = std::env::var("LAPIDARY_FAULTS").ok().and_then(|n| n.parse().ok()).unwrap_or(16);
    let first: u64 = std::env::var("LAPIDARY_FAULTS_FROM").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    let begun = Instant::now();
    let drawn = drawn_chain();
    let coco = if wanted > 16 { coco_chain() } else { None };
    let (mut kills, mut number) = (0, first);
    while kills < wanted {
        let chain = match &coco {
            Some(coco) if number % 4 == 3 => coco,
            _ => &drawn,
        };
        kills += u64::from(trial(chain, number));
        number += 1;
        assert!(number < first + 4 * wanted + 40, "{kills} kills in {number} trials: too few come in time");
    }
    eprintln!("{kills} of {} trials were cut off, in {:.0} s", number - first, begun.elapsed().as_secs_f64());
}

/// How a run is started, and whom a signal is sent to.
#[derive(Clone, Copy, PartialEq)]
enum Started {
    /// The process that was started gets it.
    Alone,
    /// Its whole group does, as at a terminal.
    InAGroup,
    /// It is process 1 of a container.
    AsInit,
}

/// A run that is told to stop saves and exits 130, and nothing runs on.
fn stopped_by(signal: Signal, times: usize, started: Started) {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    curated(&out, "120");
    tiny(&out, &["plan", "--set", "plan.epochs=20"]);
    let mut command = if started == Started::AsInit {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child", text(&binary())]);
        command
    } else {
        Command::new(binary())
    };
    let long = [&["pretrain", "--device", "cpu", "--run", "r"], TINY, &["--set", "pretrain.steps=140"]].concat();
    command.args(&long).args(["--out", text(&out)]).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    let mut child = command.spawn().expect("it starts");
    let metrics = out.join("pile/runs/.r.partial/metrics.jsonl");
    let begun = Instant::now();
    while !metrics.metadata().is_ok_and(|m| m.len() > 0) {
        assert!(begun.elapsed() < Duration::from_secs(60) && child.try_wait().expect("waits").is_none(), "no training");
        std::thread::sleep(Duration::from_millis(1));
    }
    let pid = |id: u32| Pid::from_raw(i32::try_from(id).expect("Linux counts processes in 32 bits"));
    for _ in 0..times {
        match started {
            Started::Alone => kill(pid(child.id()), signal),
            Started::InAGroup => killpg(pid(child.id()), signal),
            Started::AsInit => kill(pid(only_child_of(child.id())), signal),
        }
        .expect("is there");
    }
    assert_eq!(child.wait().expect("waits").code(), Some(130), "{signal}");
    assert_eq!(running_in(&out), 0, "nothing runs on");
    let state = facts(&out, &["runs"]).remove(0);
    assert_eq!(state[0]["state"], "interrupted", "{state:#}");
    // Told twice it may not have saved, but it never leaves half a checkpoint.
    assert!(times > 1 || state[0]["step"].as_u64() > Some(0), "{state:#}");
    assert_eq!(facts(&out, &long)[0]["outcome"], "ran");
}

fn only_child_of(process: u32) -> u32 {
    let children = std::fs::read_to_string(format!("/proc/{process}/task/{process}/children")).expect("Linux");
    children.trim().parse().expect("one child")
}

fn running_in(out: &Path) -> usize {
    let processes = std::fs::read_dir("/proc").expect("Linux").filter_map(|entry| entry.ok());
    let is_ours = |entry: &std::fs::DirEntry| {
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).into_owned();
        command.contains("lapidary") && command.contains(text(out))
    };
    processes.filter(is_ours).count()
}

#[test]
fn a_signal_to_the_process_that_was_started_stops_the_work() {
    stopped_by(Signal::SIGINT, 1, Started::Alone);
    stopped_by(Signal::SIGTERM, 1, Started::Alone);
    stopped_by(Signal::SIGTERM, 2, Started::Alone);
    stopped_by(Signal::SIGINT, 1, Started::InAGroup);
    stopped_by(Signal::SIGINT, 2, Started::InAGroup);
}

#[test]
fn the_first_process_of_a_container_heeds_sigterm() {
    let may_unshare = Command::new("unshare").args(["--pid", "--fork", "true"]).stderr(Stdio::null()).status();
    if !may_unshare.is_ok_and(|status| status.success()) {
        eprintln!("skipped: this process may not make a namespace of process ids");
        return;
    }
    stopped_by(Signal::SIGTERM, 1, Started::AsInit);
}

/// The shards that were whole are not made again.
#[test]
fn a_killed_stage_resumes_after_its_last_whole_shard() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    let pile = DRAWN.pile();
    let ingest = ["ingest", "--data", text(&pile), "--set", "ingest.shard_mib=1", "--set", "ingest.row_group_mib=1"];
    let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(path).expect("there"));
    let stages = [(&ingest[..], "images"), (&["fingerprint"], "fingerprints"), (&["embed"], "embeddings/descriptor")];
    for (arguments, stage) in stages {
        let killed = cut_off(&out, &owned(arguments), &Cut::Point("shard:noted#2".to_owned()));
        assert!(killed, "{stage}");
        let place = out.join("pile").join(stage);
        let name = place.file_name().expect("a name").to_string_lossy().into_owned();
        let partial = place.with_file_name(format!(".{name}.partial"));
        let before = ["part-00000.parquet", "part-00001.parquet"].map(|shard| inode(&partial.join(shard)));
        assert_eq!(facts(&out, arguments)[0]["outcome"], "ran");
        let after = ["part-00000.parquet", "part-00001.parquet"].map(|shard| inode(&place.join(shard)));
        assert_eq!(before, after, "{stage}");
    }
}

fn is_root() -> bool {
    nix::unistd::Uid::effective().is_root()
}

/// A file system of a few MiB; none where this process may not mount.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path, mib: u32) -> Option<Self> {
        std::fs::create_dir_all(at).expect("creates");
        let size = format!("size={mib}m");
        let mounted = is_root()
            && Command::new("mount")
                .args(["-t", "tmpfs", "-o", &size, "tmpfs", text(at)])
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success());
        if !mounted {
            eprintln!("skipped: this process may not mount a small disk");
        }
        mounted.then(|| Self(at.to_owned()))
    }

    fn remount(&self, how: &str) {
        let remounted = Command::new("mount").args(["-o", &format!("remount,{how}"), text(&self.0)]).status();
        assert!(remounted.expect("mount starts").success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l", text(&self.0)]).status();
    }
}

#[test]
fn a_full_disk_and_a_folder_that_refuses_leave_what_was_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(disk) = SmallDisk::mount(&folder.path().join("disk"), 24) else { return };
    let out = disk.0.join("out");
    let pile = DRAWN.pile();
    let small = ["ingest", "--data", text(&pile), "--set", "ingest.shard_mib=1"];
    let ingested = facts(&out, &small).remove(0);
    // Room for the first shards of another ingest, and not for all.
    let filler = disk.0.join("filler");
    let room = ingested["facts"]["image_bytes"].as_u64().expect("bytes") / 2;
    let free = || nix::sys::statvfs::statvfs(&disk.0).map(|d| d.blocks_available() * d.fragment_size()).expect("asks");
    std::fs::write(&filler, vec![1; usize::try_from(free() - room).expect("fits")]).expect("fills");
    let other = [&small[..], &["--set", "ingest.max_reject=0.5", "--rebuild"]].concat();
    let refused = lapidary(&[&other[..], &["--out", text(&out)]].concat());
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{error}");
    assert!(error.contains("No space left"), "{error}");
    assert_eq!(facts(&out, &small)[0]["digest"], ingested["digest"]);
    assert_intact(&out, "a full disk");
    std::fs::remove_file(&filler).expect("removes");
    let rest = facts(&out, &other).remove(0);
    assert_eq!(rest["digest"], ingested["digest"], "the same images: {rest:#}");

    disk.remount("ro");
    let refused = lapidary(&["fingerprint", "--out", text(&out)]);
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && error.contains("Read-only"), "{error}");
    assert_intact(&out, "a disk that only reads");
    disk.remount("rw");
    assert_eq!(facts(&out, &["fingerprint"])[0]["outcome"], "ran");
}

#[test]
fn two_processes_on_one_tree_do_not_disturb_each_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let (out, pile, probe) = (folder.path().join("out"), DRAWN.pile(), DRAWN.probe());
    let start = |arguments: &[&str]| {
        let mut command = Command::new(binary());
        command.args(arguments).args(["--out", text(&out)]).stdout(Stdio::null()).stderr(Stdio::piped());
        command.spawn().expect("it starts")
    };
    // The same stage twice: one makes it, the other is refused or finds it made.
    let both = [start(&["ingest", "--data", text(&pile)]), start(&["ingest", "--data", text(&pile)])];
    let codes = both.map(|child| child.wait_with_output().expect("waits").status.code());
    assert!(codes.contains(&Some(0)) && codes.iter().all(|code| [Some(0), Some(2)].contains(code)), "{codes:?}");
    assert_eq!(facts(&out, &["ingest", "--data", text(&pile)])[0]["outcome"], "up_to_date");
    // Two stages, each of which notes what it made.
    let both = [start(&["ingest", "--as-probe", "--data", text(&probe)]), start(&["fingerprint", "--source", "pile"])];
    for child in both {
        let output = child.wait_with_output().expect("waits");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let current: Value =
        serde_json::from_slice(&std::fs::read(out.join("current.json")).expect("reads")).expect("JSON");
    assert_eq!((&current["source"], &current["probe"]), (&"pile".into(), &"probe".into()));
}
