//! k-NN while training (`pretrain.watch`), on views of two sizes a kind: it stands in the metrics and beside the checkpoints,
//! is what `eval` finds, and changes nothing of what is trained.

use crate::run::{DRAWN, TINY, curated, facts, refusal, text, tiny};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

const TWO_SIZES: &str = "plan.view=[{kind=\"global\", size_px=48}, {kind=\"global\", size_px=32}, \
                         {kind=\"local\", size_px=24}, {kind=\"local\", size_px=16}]";

fn trained(out: &Path, run: &str, set: &[&str]) {
    let mut arguments = vec!["pretrain", "--device", "cpu", "--run", run];
    set.iter().for_each(|key| arguments.extend(["--set", key]));
    tiny(out, &arguments);
}

/// `knn_top1` by step.
fn measured(run: &Path) -> BTreeMap<u64, f64> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).expect("metrics");
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    lines.filter_map(|line| Some((line["step"].as_u64()?, line["knn_top1"].as_f64()?))).collect()
}

#[test]
fn a_watched_run_is_measured_as_eval_measures_and_trained_as_one_that_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    curated(&out, "120");
    facts(&out, &["ingest", "--data", text(&DRAWN.probe()), "--as-probe"]);
    // 120 images in batches of 16: epochs of 7 steps. Measured after 7 steps and after the last, the 12th.
    facts(&out, &["plan", "--set", "plan.epochs=2", "--set", TWO_SIZES]);
    trained(&out, "plain", &[]);
    trained(&out, "watched", &["pretrain.watch=probe"]);
    let runs = out.join("pile/runs");
    assert!(measured(&runs.join("plain")).is_empty());
    let found = measured(&runs.join("watched"));
    assert_eq!(found.keys().copied().collect::<Vec<_>>(), [6, 11]);
    let scores = tiny(&out, &["eval", "--device", "cpu", "--run", "watched"]);
    assert_eq!(scores[0]["facts"]["trained"]["knn_top1"], found[&11]);

    let final_checkpoint =
        |run: &str| std::fs::read(runs.join(run).join("checkpoints/final.safetensors")).expect("reads");
    assert!(final_checkpoint("plain") == final_checkpoint("watched"), "the weights are the same to the bit");
    let sidecar = |name: &str| -> Option<Value> {
        let text = std::fs::read(runs.join("watched/checkpoints").join(name)).ok()?;
        Some(serde_json::from_slice(&text).expect("JSON"))
    };
    assert_eq!(sidecar("final.json").expect("it is there")["score"], found[&11]);
    // The best is kept: that of step 7 where it is better than the last.
    let better = found[&6] > found[&11];
    assert_eq!(sidecar("step-00000007.json").map(|s| s["score"].clone()), better.then(|| Value::from(found[&6])));

    let mut arguments = vec!["pretrain", "--device", "cpu", "--out", text(&out)];
    arguments.extend(TINY);
    let refused = |keys: &[&str]| {
        let set = keys.iter().flat_map(|key| ["--set", key]);
        refusal(&arguments.iter().copied().chain(set).collect::<Vec<_>>())
    };
    let (code, told) = refused(&["pretrain.watch=nothing"]);
    assert!(code != 0 && told.contains("--as-probe"), "{code}: {told}");
    let (code, told) = refused(&["pretrain.watch=probe", "eval.knn_neighbours=0"]);
    assert!(code == 2 && told.contains("eval.knn_neighbours"), "{code}: {told}");
}
