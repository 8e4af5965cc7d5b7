//! `make cluster-check`, after the tests: real images over clusters on loopback, in peace, with kills and on an S3 server, held to
//! one machine's digests; speed with 1, 2 and 4 executors of one thread; what each stage costs; and from that a billion images on
//! paper.
//!
//! Its last line is one JSON object, whatever fails or is skipped: `all_equal` is true when every case ran and gave one
//! machine's digests, false when one did not, and null when some were skipped. It exits with 1 when it is false. COCO and
//! CIFAR-10 are looked for in `LAPIDARY_DATA`, by default `../shared/data`; without them the built-in pile is all.
//!
//! Each case is a whole curation of six digests. `LAPIDARY_CHECK=maps` is for machines that have other things to do: it leaves the
//! pile out where there are real images, and of every case but the first on each set it makes the two stages that a cluster makes.
//! `LAPIDARY_CHECK_WORK` names a folder to work in: what one machine has curated there is not curated again.

mod cases;
#[path = "../../tests/cluster/commands.rs"]
#[expect(dead_code, reason = "tests use the rest of it")]
mod commands;
mod costs;
#[path = "../../tests/cluster/fleet.rs"]
#[expect(dead_code, reason = "tests use the rest of it")]
mod fleet;
mod paper;
#[path = "../../tests/cluster/run.rs"]
mod run;
mod speed;
#[path = "../../../../tests/e2e/store_server.rs"]
#[expect(dead_code, reason = "tests of the main workspace use the rest of it")]
mod store_server;

use cases::{Case, Scope, Set};
use commands::{lapidary, text};
use costs::Costs;
use serde_json::{Map, Value, json};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The sets of real images, and the size of their shards in MiB: so small that there are some for everybody.
const REAL: [(&str, usize); 2] = [("coco", 4), ("cifar10", 4)];

fn main() -> ExitCode {
    let mut whole = json!({"equal": {}, "skipped": [], "all_equal": false});
    let outcome = tried(|| check(&mut whole));
    if let Err(error) = &outcome {
        whole["error"] = json!(error);
    }
    println!("{whole}");
    if outcome.is_ok() && whole["all_equal"] != false { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What a step returns, or why it panicked.
fn tried<T>(step: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(step)).map_err(|panicked| {
        let text = panicked.downcast_ref::<String>().cloned();
        text.or_else(|| panicked.downcast_ref::<&str>().map(ToString::to_string))
            .unwrap_or_else(|| "a panic".to_owned())
    })
}

/// The error of a step, as JSON.
fn or_error(outcome: Result<Value, String>) -> Value {
    outcome.unwrap_or_else(|error| json!({"error": error}))
}

fn check(whole: &mut Value) {
    let scratch = tempfile::tempdir().expect("a folder");
    let work = std::env::var_os("LAPIDARY_CHECK_WORK").map_or_else(|| scratch.path().to_owned(), PathBuf::from);
    let has_time = std::env::var_os("LAPIDARY_CHECK").is_none_or(|check| check != "maps");
    whole["compared"] = json!(if has_time { "curation" } else { "maps, and a curation by three executors" });
    let data = std::env::var_os("LAPIDARY_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"), PathBuf::from);
    let mut skipped: Vec<String> = Vec::new();
    let mut sets = Vec::new();
    for (name, shard_mib) in REAL {
        let folder = data.join(name);
        if folder.is_dir() {
            sets.push(Set::curated(&work, name, &folder, shard_mib));
        } else {
            skipped.push(format!("{name}: `{}` is not there", folder.display()));
        }
    }
    if has_time || sets.is_empty() {
        let pile = work.join("pile");
        assert!(lapidary(&["draw", text(&pile)]).status.success(), "it draws");
        sets.insert(0, Set::curated(&work, "pile", &pile, 1));
    } else {
        skipped.push("pile: LAPIDARY_CHECK=maps".to_owned());
    }
    for set in &sets {
        let mut results = Map::new();
        for case in cases::ALL {
            let scope = if has_time || matches!(case, Case::Cluster) { Scope::Curation } else { Scope::Maps };
            let result = tried(|| set.is_same(&work, case, scope));
            let value = match result {
                Ok(Some(is_same)) => json!(is_same),
                Ok(None) => {
                    skipped.push(format!(
                        "{}, {}: its binaries are not built (make build STORES=1)",
                        set.name,
                        case.name()
                    ));
                    Value::Null
                }
                Err(error) => json!({"error": error}),
            };
            println!("{}, {}: {value}", set.name, case.name());
            results.insert(case.name().to_owned(), value);
        }
        whole["equal"][set.name] = Value::Object(results);
    }
    let results = whole["equal"].as_object().into_iter().flat_map(Map::values).filter_map(Value::as_object);
    let has_failed = results.flat_map(Map::values).any(|result| !result.is_null() && *result != true);
    whole["all_equal"] = match (has_failed, skipped.is_empty()) {
        (true, _) => json!(false),
        (false, true) => json!(true),
        (false, false) => Value::Null,
    };
    whole["skipped"] = json!(skipped);
    whole["speed"] = or_error(tried(|| speed::of(&sets, &work)));
    let photographs = sets.iter().find(|set| set.name == "coco").unwrap_or(&sets[0]);
    let many = sets.iter().find(|set| set.name == "cifar10").unwrap_or(&sets[0]);
    let single = whole["speed"][photographs.name]["1"].clone();
    let measured = tried(|| {
        let costs = Costs::of((&photographs.alone, photographs.name), (&many.alone, many.name), &single);
        let paper = paper::billion(&costs);
        println!("{}", paper.text);
        json!({"costs": costs, "paper": paper.facts})
    });
    whole["model"] = or_error(measured);
}
