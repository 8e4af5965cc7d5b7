//! Images a second of the maps, with 1, 2 and 4 executors of one thread.
//!
//! The clock runs from the submission until all shards are made: starting executors, the dry run before and the finish after are
//! not in it. With more executors than cores the last number says what sharing a core costs, not how a cluster grows.

use crate::cases::Set;
use crate::commands::{lapidary, text};
use crate::fleet::Fleet;
use serde_json::{Map, Value, json};
use std::path::Path;

const EXECUTORS: [usize; 3] = [1, 2, 4];

/// The speed of each real set, or of the pile where there is none.
pub fn of(sets: &[Set], work: &Path) -> Value {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Option<f64> = load.split_whitespace().next().and_then(|load| load.parse().ok());
    let mut speeds = Map::from_iter([("cores".to_owned(), json!(cores)), ("load_before".to_owned(), json!(load))]);
    let is_real = sets.iter().any(|set| set.name != "pile");
    for set in sets.iter().filter(|set| !is_real || set.name != "pile") {
        let mut by_executors = Map::new();
        for executors in EXECUTORS {
            let made = of_one(set, work, executors);
            let shared = if executors > cores { ", which share the cores" } else { "" };
            for stage in ["fingerprint", "embed"] {
                println!(
                    "{}, {executors} executors of one thread on {cores} cores{shared}: {stage} {} images/s",
                    set.name, made[stage]["images_per_sec"]
                );
            }
            by_executors.insert(executors.to_string(), made);
        }
        speeds.insert(set.name.to_owned(), Value::Object(by_executors));
    }
    Value::Object(speeds)
}

/// What the client said of both maps.
fn of_one(set: &Set, work: &Path, executors: usize) -> Value {
    let out = set.images_alone(work);
    let fleet = Fleet::start(executors);
    let mut all = Map::new();
    for stage in ["fingerprint", "embed"] {
        let output = lapidary(&[stage, "--json", "--cluster", &fleet.url(), "--out", text(&out)]);
        assert!(output.status.success(), "{stage}: {}", String::from_utf8_lossy(&output.stderr));
        let said = String::from_utf8_lossy(&output.stdout);
        let first = said.lines().next().and_then(|line| serde_json::from_str::<Value>(line).ok()).expect("JSON");
        let mut made = first["cluster"].clone();
        let (images, secs) = (made["images"].as_f64(), made["map_secs"].as_f64());
        made["images_per_sec"] = json!((images.expect("images") / secs.expect("seconds")).round());
        all.insert(stage.to_owned(), made);
    }
    Value::Object(all)
}
