//! A finished run that is trained further: killed on the way it ends in the bits of one that was not, on one thread too, and
//! the finished run is there at every moment.

use crate::kill::kill_when;
use crate::run::{TINY, binary, curated, refusal, text, tiny};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

const RUN: [&str; 5] = ["pretrain", "--device", "cpu", "--run", "r"];

fn digest(facts: &[Value]) -> Value {
    facts[0]["digest"].clone()
}

fn trained(out: &Path) -> Value {
    curated(out, "120");
    tiny(out, &["plan", "--set", "plan.epochs=4"]);
    digest(&tiny(out, &RUN))
}

fn steps(folder: &Path) -> Vec<u64> {
    let text = std::fs::read_to_string(folder.join("metrics.jsonl")).expect("metrics");
    let step = |line: &str| serde_json::from_str::<Value>(line).expect("JSON")["step"].as_u64().expect("a step");
    text.lines().map(step).collect()
}

#[test]
fn a_run_that_is_extended_and_killed_ends_in_the_same_bits() {
    let folder = tempfile::tempdir().expect("a folder");
    let (whole, cut_off) = (folder.path().join("whole"), folder.path().join("cut-off"));
    let extend = [&RUN[..], &["--extend-steps", "9"]].concat();
    let before = trained(&whole);
    let expected = tiny(&whole, &extend);
    assert_eq!(expected[0]["facts"]["steps"], 21);
    assert_eq!(trained(&cut_off), before);
    let would = tiny(&cut_off, &[&extend[..], &["--dry-run"]].concat());
    assert_eq!(would[0]["outcome"], "would_run");
    let frozen = would[0]["groups"].as_array().expect("groups").iter().filter(|row| row["last_layer"] == true).count();
    assert!(frozen > 0, "{would:#?}");

    let runs = cut_off.join("pile/runs");
    let reached = || runs.join(".r.partial/checkpoints/step-00000016.json").is_file();
    assert!(kill_when(&cut_off, &[&extend[..], TINY].concat(), &reached), "it is killed on its way");
    let still = tiny(&cut_off, &RUN);
    assert_eq!((&still[0]["outcome"], digest(&still)), (&Value::from("up_to_date"), before.clone()));
    assert_eq!(steps(&runs.join("r")), (0..12).collect::<Vec<_>>(), "nothing is added to the finished run");

    let resumed = Command::new(binary())
        .args([&extend[..], TINY, &["--out", text(&cut_off), "--json"]].concat())
        .env("RAYON_NUM_THREADS", "1")
        .output()
        .expect("it starts");
    assert!(resumed.status.success(), "{}", String::from_utf8_lossy(&resumed.stderr));
    let resumed: Value = serde_json::from_slice(&resumed.stdout).expect("JSON");
    assert_eq!(resumed["digest"], digest(&expected));
    assert_eq!(steps(&runs.join("r")), (0..21).collect::<Vec<_>>());
    // The run of 12 steps is kept, and found again by the command that made it.
    assert_eq!(digest(&tiny(&cut_off, &RUN)), before);
}

#[test]
fn an_extension_that_cannot_be_says_why() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    trained(&out);
    let refused = |more: &str, set: &[&str]| {
        let mut arguments = [&RUN[..], TINY, &["--out", text(&out), "--extend-steps", more]].concat();
        set.iter().for_each(|key| arguments.extend(["--set", key]));
        let (code, error) = refusal(&arguments);
        assert_eq!(code, 2, "{error}");
        error
    };
    assert!(refused("0", &[]).contains("--extend-steps = 0"));
    assert!(refused("100000", &[]).contains("plan.epochs"));
    let told = refused("4", &["pretrain.base_learning_rate=0.5"]);
    assert!(told.contains("pretrain.base_learning_rate differs"), "{told}");
}
