//! `make cluster-check`, after the tests: real images over clusters on loopback, in peace and with kills, held to one machine's
//! digests; speed with 1, 2 and 4 executors of one thread; what each stage costs; and from that a billion images on paper.
//!
//! Its last line is one JSON object; it fails when any digest differs. COCO and CIFAR-10 are looked for in `LAPIDARY_DATA`, by
//! default `../shared/data`; without them the built-in pile is all.

mod costs;
#[path = "../../tests/cluster/fleet.rs"]
mod fleet;
#[expect(dead_code, reason = "tests use the rest of it")]
#[path = "../../tests/cluster/made.rs"]
mod made;
mod paper;

use costs::Costs;
use fleet::{Fleet, made_so_far, wait_until};
use made::{binary, copy_images, curate_alone, digests, ingest, lapidary, run, text};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

/// A set of images in shards, curated by one machine.
struct Set {
    name: &'static str,
    alone: PathBuf,
}

/// What befalls a cluster while it works.
#[derive(Clone, Copy)]
enum Event {
    Nothing,
    ExecutorKilled,
    SchedulerRestarted,
}

const EVENTS: [(&str, Event); 3] = [
    ("three_executors", Event::Nothing),
    ("executor_killed", Event::ExecutorKilled),
    ("scheduler_restarted", Event::SchedulerRestarted),
];

fn main() -> ExitCode {
    let work = tempfile::tempdir().expect("a folder");
    let data = std::env::var_os("LAPIDARY_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"), PathBuf::from);
    let pile = work.path().join("pile");
    assert!(lapidary(&["draw", text(&pile)]).status.success(), "it draws");
    // Shards so small that there are some for everybody.
    let mut sets = vec![Set::curated(work.path(), "pile", &pile, 1)];
    for (name, shard_mib) in [("coco", 4), ("cifar10", 4)] {
        let folder = data.join(name);
        if folder.is_dir() {
            sets.push(Set::curated(work.path(), name, &folder, shard_mib));
        } else {
            println!("{name}: skipped, `{}` is not there", folder.display());
        }
    }
    let mut equal = Map::new();
    for set in &sets {
        let mut cases = Map::new();
        for (case, event) in EVENTS {
            cases.insert(case.to_owned(), json!(set.is_same_on_cluster(work.path(), event)));
            println!("{}, {case}: {}", set.name, cases[case]);
        }
        cases.insert("shards_in_a_loop".to_owned(), json!(set.is_same_in_shares(work.path())));
        println!("{}, shards in a loop: {}", set.name, cases["shards_in_a_loop"]);
        equal.insert(set.name.to_owned(), Value::Object(cases));
    }
    let photographs = sets.iter().find(|set| set.name == "coco").unwrap_or(&sets[0]);
    let mut images_per_sec = Map::new();
    let mut single = Value::Null;
    for executors in [1, 2, 4] {
        let (speed, made) = photographs.speed(work.path(), executors);
        println!("{executors} executors of one thread: {speed}");
        images_per_sec.insert(executors.to_string(), speed);
        if executors == 1 {
            single = made;
        }
    }
    let tables = sets.iter().find(|set| set.name == "cifar10").unwrap_or(&sets[0]);
    let costs = Costs::of(&photographs.alone, photographs.name, &tables.alone, tables.name, &single);
    let paper = paper::billion(&costs);
    println!("{}", paper.text);
    let is_equal = equal.values().filter_map(Value::as_object).flat_map(Map::values).all(|case| case == true);
    let whole = json!({
        "equal": equal, "all_equal": is_equal,
        "images_per_sec": {"set": photographs.name, "executors_of_one_thread": images_per_sec},
        "costs": costs, "paper": paper.facts,
    });
    println!("{whole}");
    if is_equal { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Set {
    fn curated(work: &Path, name: &'static str, data: &Path, shard_mib: usize) -> Self {
        let alone = work.join(format!("{name}-alone"));
        ingest(&alone, data, name, shard_mib);
        curate_alone(&alone);
        println!("{name}: curated by one machine");
        Self { name, alone }
    }

    /// An output tree with this set's images alone; what was there is removed.
    fn images_alone(&self, work: &Path) -> PathBuf {
        let out = work.join("out");
        if out.exists() {
            std::fs::remove_dir_all(&out).expect("removes");
        }
        copy_images(&self.alone, &out, self.name);
        out
    }

    fn is_same_on_cluster(&self, work: &Path, event: Event) -> bool {
        let out = self.images_alone(work);
        let mut fleet = Fleet::start(3);
        let mut client = Command::new(binary("lapidary"));
        client.args(["curate", "--quiet", "--cluster", &fleet.url(), "--out", text(&out)]).stdout(Stdio::null());
        let mut client = client.spawn().expect("it starts");
        wait_until("a shard is made", || made_so_far(&out, self.name, "fingerprints") > 0);
        match event {
            Event::Nothing => {}
            Event::ExecutorKilled => fleet.kill_executor(),
            Event::SchedulerRestarted => fleet.restart_scheduler(),
        }
        client.wait().expect("waits").success() && digests(&out, self.name) == digests(&self.alone, self.name)
    }

    /// `--shard i/n` in any order, one of them twice.
    fn is_same_in_shares(&self, work: &Path) -> bool {
        let out = self.images_alone(work);
        for stage in ["fingerprint", "embed"] {
            for share in ["3/3", "1/3", "3/3", "2/3"] {
                run(&out, &[stage, "--quiet", "--shard", share]);
            }
            run(&out, &["finish", stage, "--quiet"]);
        }
        run(&out, &["curate", "--quiet"]);
        digests(&out, self.name) == digests(&self.alone, self.name)
    }

    /// Images a second by the clock, of the stages that are maps; and what executors said of their work.
    fn speed(&self, work: &Path, executors: usize) -> (Value, Value) {
        let out = self.images_alone(work);
        let fleet = Fleet::start(executors);
        let (mut speeds, mut all) = (Map::new(), Map::new());
        for stage in ["fingerprint", "embed"] {
            let begun = Instant::now();
            let output = lapidary(&[stage, "--json", "--cluster", &fleet.url(), "--out", text(&out)]);
            let secs = begun.elapsed().as_secs_f64();
            assert!(output.status.success(), "{stage}: {}", String::from_utf8_lossy(&output.stderr));
            let said = String::from_utf8_lossy(&output.stdout);
            let first = said.lines().next().and_then(|line| serde_json::from_str::<Value>(line).ok()).expect("JSON");
            let made = first["cluster"].clone();
            speeds.insert(stage.to_owned(), json!((made["images"].as_f64().expect("images") / secs).round()));
            all.insert(stage.to_owned(), made);
        }
        (Value::Object(speeds), Value::Object(all))
    }
}
