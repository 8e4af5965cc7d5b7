//! Adapting a run by some rungs, and comparing runs, on the tiny chain.

use crate::run::{DRAWN, TINY, curated, facts, refusal, say, text, tiny};
use serde_json::Value;
use std::path::Path;

const FEW: &[&str] = &["--set", "adapt.epochs=2", "--set", "adapt.batch=32", "--set", "adapt.lora_rank=2"];

fn adapted(out: &Path, rungs: &str, more: &[&str]) -> Vec<Value> {
    facts(out, &[&["adapt", "r1", "--device", "cpu", "--with", rungs], TINY, FEW, more].concat())
}

#[test]
fn rungs_are_adapted_by_and_runs_are_compared() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    curated(&out, "120");
    facts(&out, &["ingest", "--data", text(&DRAWN.probe()), "--as-probe"]);
    tiny(&out, &["plan", "--name", "p"]);
    for (run, seed) in [("r1", "seed=1"), ("r2", "seed=2"), ("r3", "seed=1")] {
        let kind = if run == "r3" { "objective.kind=dino" } else { "objective.kind=hybrid" };
        let set = ["--set", seed, "--set", kind];
        tiny(&out, &[&["pretrain", "--device", "cpu", "--plan", "p", "--run", run], &set[..]].concat());
    }
    tiny(&out, &["eval", "--device", "cpu", "--run", "r1"]);
    tiny(&out, &["eval", "--device", "cpu", "--run", "r2"]);

    // Adapt: two rungs, the cheaper first, then up to date, then only what its settings concern.
    let first = adapted(&out, "lora,linear", &[]);
    let kinds: Vec<&str> = first.iter().map(|stage| stage["facts"]["kind"].as_str().expect("a kind")).collect();
    assert_eq!(kinds, ["linear", "lora"]);
    for stage in &first {
        assert_eq!(stage["outcome"], "ran");
        let scores = &stage["facts"];
        for name in ["test_top1", "test_top5", "held_out_top1"] {
            assert!(scores[name].as_f64().is_some_and(|share| (0.0..=1.0).contains(&share)), "{name}: {scores:#}");
        }
        assert!(scores["steps"].as_u64() > Some(0) && scores["epochs"].as_u64() <= Some(2), "{scores:#}");
        assert_eq!(scores["labels"].as_u64().zip(scores["held_out"].as_u64()).map(|(a, b)| a + b), Some(160));
        let folder = out.join(stage["folder"].as_str().expect("a folder"));
        for file in ["adapted.safetensors", "config.json", "scores.json", "manifest.json"] {
            assert!(folder.join(file).is_file(), "{file}");
        }
    }
    // 24 wide, 2 blocks, rank 2, 8 classes: A and B of q and v, and the head.
    let head = 8 * 24 + 8;
    assert_eq!(first[0]["facts"]["trainable_parameters"], head);
    assert_eq!(first[1]["facts"]["trainable_parameters"], 2 * 2 * (2 * 24 + 2 * 24) + head);
    let weights = lapidary_train::weights::read(&out.join("pile/adapted/r1/probe/lora/adapted.safetensors"));
    let weights = weights.expect("a backbone of timm's names");
    assert!(weights.model.depth == 2 && weights.ignored.iter().any(|name| name == "head.weight"), "{weights:?}");
    assert!(adapted(&out, "linear,lora", &[]).iter().all(|stage| stage["outcome"] == "up_to_date"));
    let again = adapted(&out, "linear,lora", &["--set", "adapt.lora_rank=4"]);
    assert_eq!([&again[0]["outcome"], &again[1]["outcome"]], ["up_to_date", "ran"]);
    let table =
        say(&[&["adapt", "r1", "--device", "cpu", "--with", "linear", "--out", text(&out)], TINY, FEW].concat());
    assert!(
        table.contains("trained") && table.contains("over linear") && table.contains("linear             200"),
        "{table}"
    );
    let status = facts(&out, &["status"]);
    let states = status[0].as_array().expect("a list");
    assert_eq!(states.iter().filter(|stage| stage["stage"] == "adapt" && stage["state"] == "up_to_date").count(), 2);

    // Compare: seeds are one group, a run without evaluation is there and said.
    let compare = |more: &[&str]| say(&[&["compare", "--probe", "probe", "--out", text(&out)], more].concat());
    let told = compare(&[]);
    assert!(told.contains("hybrid") && told.contains("untrained") && told.contains(" ± "), "{told}");
    assert!(told.contains("run `r3` has no evaluation on `probe`: lapidary eval --source pile --run r3"), "{told}");
    assert!(told.contains("of one run no spread is known: dino"), "{told}");
    let json: Value = serde_json::from_str(&compare(&["r1", "r2", "--format", "json"])).expect("JSON");
    assert_eq!((&json["groups"][0]["runs"][1], &json["groups"][1]["name"]), (&"r2".into(), &"untrained".into()));
    let lines = compare(&["r1", "pile/r2", "--format", "jsonl", "--called", "both"]);
    assert_eq!(lines.lines().count(), 2);
    let file = folder.path().join("facts.jsonl");
    std::fs::write(&file, &lines).expect("writes");
    let latex = compare(&["--from", text(&file), "--format", "latex"]);
    assert!(latex.contains("\\begin{tabular}") && latex.contains("both & 2 &") && latex.contains("$\\pm$"), "{latex}");

    // What cannot be is said.
    let (code, error) = refusal(&["compare", "r9", "--out", text(&out)]);
    assert!(code == 2 && error.contains("`r9` is not a run") && error.contains("r1, r2, r3"), "{error}");
    let (code, error) = refusal(&["adapt", "r1", "--with", "magic", "--out", text(&out)]);
    assert!(code == 2 && error.contains("none of linear, mlp, lora"), "{error}");
    let (code, error) = refusal(&["adapt", "r1", "--set", "adapt.lora_rank=0", "--out", text(&out)]);
    assert!(code == 2 && error.contains("adapt.lora_rank"), "{error}");
    let (code, error) = refusal(&["adapt", "nobody", "--out", text(&out)]);
    assert!(code != 0 && error.contains("pretrain"), "{error}");
}
