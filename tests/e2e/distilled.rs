//! Distillation from a frozen teacher: a finished run or a file. A killed run resumes to the same bits; a teacher whose weights
//! have changed makes the run out of date, and nothing goes on beside it.

use crate::kill::kill_when;
use crate::run::{TINY, curated, facts, refusal, say, text, tiny};
use serde_json::Value;
use std::path::Path;

fn distil(from: &str) -> Vec<String> {
    let keys = [
        "objective.kind=distillation".to_owned(),
        format!("objective.distill_from={from}"),
        "model.dim=12".to_owned(),
        "model.patch_px=12".to_owned(),
        "objective.gram_weight=1.0".to_owned(),
        "objective.gram_from_step=3".to_owned(),
        "objective.gram_refresh_steps=4".to_owned(),
    ];
    let mut arguments = ["pretrain", "--device", "cpu", "--run", "student"].map(str::to_owned).to_vec();
    arguments.extend(TINY.iter().map(|argument| (*argument).to_owned()));
    keys.into_iter().for_each(|key| arguments.extend(["--set".to_owned(), key]));
    arguments
}

fn run(out: &Path, arguments: &[String]) -> Value {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    facts(out, &arguments).remove(0)
}

fn with_teacher(out: &Path) {
    curated(out, "120");
    tiny(out, &["plan", "--set", "plan.epochs=4"]);
    tiny(out, &["pretrain", "--device", "cpu", "--run", "teacher"]);
}

fn first_steps(run: &Path) -> Vec<u64> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).expect("metrics");
    let step = |line: &str| serde_json::from_str::<Value>(line).expect("JSON")["step"].as_u64().expect("a step");
    text.lines().map(step).collect()
}

#[test]
fn a_killed_distillation_from_a_run_ends_in_the_same_bits() {
    let folder = tempfile::tempdir().expect("a folder");
    let (whole, cut_off) = (folder.path().join("whole"), folder.path().join("cut-off"));
    for out in [&whole, &cut_off] {
        with_teacher(out);
    }
    let arguments = distil("teacher");
    let expected = run(&whole, &arguments);
    assert_eq!(expected["facts"]["distill_from"], "teacher");
    let manifest = std::fs::read(whole.join("pile/runs/student/manifest.json")).expect("a manifest");
    let manifest: Value = serde_json::from_slice(&manifest).expect("JSON");
    let of_teacher = std::fs::read(whole.join("pile/runs/teacher/manifest.json")).expect("a manifest");
    let of_teacher: Value = serde_json::from_slice(&of_teacher).expect("JSON");
    assert_eq!(manifest["inputs"]["pile/runs/teacher"], of_teacher["digest"], "{:#}", manifest["inputs"]);
    let objective = &manifest["config"]["objective"];
    assert_eq!((&objective["distill_dim"], &objective["distill_queue"]), (&24.into(), &60.into()), "{objective:#}");

    let partial = cut_off.join("pile/runs/.student.partial/checkpoints/step-00000004.json");
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    assert!(kill_when(&cut_off, &words, &|| partial.is_file()), "it is killed on its way");
    assert_eq!(run(&cut_off, &arguments)["digest"], expected["digest"]);
    let again = run(&cut_off, &arguments);
    assert_eq!(again["outcome"], "up_to_date");
    let extended = run(&cut_off, &[&arguments[..], &["--extend-steps".to_owned(), "3".to_owned()]].concat());
    assert_eq!(extended["facts"]["steps"], 15);
    let table = say(&[&words[..], &["--dry-run", "--out", text(&cut_off)]].concat());
    assert!(table.contains("distill_class.weight") && table.contains("24 x 12"), "{table}");
}

#[test]
fn a_teacher_whose_weights_change_makes_the_run_out_of_date_and_is_not_resumed_beside() {
    let folder = tempfile::tempdir().expect("a folder");
    let (out, weights) = (folder.path().join("out"), folder.path().join("weights"));
    with_teacher(&out);
    say(&["export", "teacher", "--to", "safetensors", "--out-dir", text(&weights), "--out", text(&out)]);
    let file = weights.join("model.safetensors");
    let change = || {
        let mut bytes = std::fs::read(&file).expect("reads");
        let last = bytes.len() - 4;
        bytes[last] ^= 1;
        std::fs::write(&file, bytes).expect("writes");
    };
    let arguments = distil(text(&weights));
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runs = out.join("pile/runs");
    let partial = runs.join(".student.partial");
    assert!(kill_when(&out, &words, &|| partial.join("checkpoints/step-00000004.json").is_file()), "it is killed");
    change();
    // The unfinished run is kept aside; another begins at its first step.
    let second = run(&out, &arguments);
    assert_eq!(first_steps(&runs.join("student")), (0..12).collect::<Vec<_>>());
    assert_eq!(run(&out, &arguments)["outcome"], "up_to_date");
    change();
    // The first weights are back: the unfinished run is found again and goes on.
    let first = run(&out, &arguments);
    assert!(first["outcome"] == "ran" && first["digest"] != second["digest"], "{first:#}");
    change();
    // An extension that names a plan takes what lies there now, but not another teacher.
    let plan = facts(&out, &["plan", "--name", "more", "--set", "plan.epochs=4", "--preset", "demo"]);
    assert_eq!(plan[0]["outcome"], "ran");
    let extend = [&words[..], &["--extend-steps", "3", "--plan", "more", "--out", text(&out)]].concat();
    let (code, error) = refusal(&extend);
    assert!(code == 1 && error.contains("objective.distill_from") && error.contains("hint:"), "{code}: {error}");
    std::fs::remove_dir_all(&weights).expect("removes");
    let (code, error) = refusal(&[&words[..], &["--out", text(&out)]].concat());
    assert!(code == 2 && error.contains("objective.distill_from = `") && error.contains("no such file"), "{error}");
}
