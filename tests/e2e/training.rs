//! Training that cannot be or goes wrong: plans that do not fit, numbers that are not finite, files that a kill has left.

use crate::kill::kill_when;
use crate::run::{DRAWN, TINY, curated, facts, lapidary, lines, refusal, say, text, tiny};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A curated pile with plans of these recipes or views.
fn planned(out: &Path, plans: &[(&str, &str)]) {
    curated(out, "120");
    for (name, views) in plans {
        facts(out, &["plan", "--name", name, "--set", "plan.epochs=2", "--set", views]);
    }
}

fn refused(out: &Path, plan: &str, set: &[&str]) -> String {
    let mut arguments = vec!["pretrain", "--device", "cpu", "--plan", plan, "--out", text(out)];
    arguments.extend(TINY);
    set.iter().for_each(|key| arguments.extend(["--set", key]));
    let (code, error) = refusal(&arguments);
    assert!(code == 2 && !error.contains("panicked"), "{code}: {error}");
    assert!(!out.join("pile/runs").exists(), "nothing is written");
    error
}

#[test]
fn a_plan_that_does_not_fit_the_objective_is_refused_before_the_first_tensor() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    let one_global = "plan.view=[{kind=\"global\", size_px=48}]";
    let fits = "plan.view=[{kind=\"global\", size_px=48, count=2}, {kind=\"local\", size_px=24, count=2}]";
    let plans = [("barlow", "plan.recipe=barlow-twins"), ("one", one_global), ("fits", fits)];
    planned(&out, &plans);
    let told = refused(&out, "barlow", &["model.image_px=48"]);
    assert!(told.contains("objective.kind = hybrid needs global views") && told.contains("plan.recipe"), "{told}");
    let told = refused(&out, "one", &["objective.kind=dino"]);
    assert!(told.contains("at least two") && told.contains("plan.view"), "{told}");
    for (key, why) in [
        ("pretrain.batch=121", "fewer than pretrain.batch = 121"),
        ("pretrain.batch=1", "needs at least 2"),
        ("pretrain.batch=0", "pretrain.batch = 0"),
        ("objective.prototypes=1", "objective.prototypes = 1"),
        ("objective.dino_weight=-1.0", "objective.dino_weight = -1"),
        ("objective.student_temperature=0.0", "objective.student_temperature = 0"),
        ("pretrain.momentum=1.5", "pretrain.momentum = 1.5"),
        ("pretrain.steps=1000", "plan.epochs"),
        ("model.patch_px=7", "no multiple of model.patch_px"),
        ("pretrain.precision=bf16", "bf16 needs a GPU"),
    ] {
        let told = refused(&out, "fits", &[key]);
        assert!(told.contains(why), "{key}: {told}");
    }
    let (code, error) = refusal(&["plan", "--out", text(&out), "--set", "plan.view=[{size_px=48, flip_p=2.0}]"]);
    assert!(code == 2 && error.contains("flip_p = 2 must be 0 to 1"), "{error}");
}

/// The folder of a run that has not ended.
fn unfinished(out: &Path) -> PathBuf {
    let runs = std::fs::read_dir(out.join("pile/runs")).expect("runs");
    let folders = runs.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_dir());
    folders.into_iter().find(|path| path.join("metrics.jsonl").is_file()).expect("a run")
}

#[test]
fn weights_that_blow_up_stop_the_run_with_a_dump_that_replays() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    curated(&out, "120");
    tiny(&out, &["plan"]);
    // The first step with a rate above 0 throws the weights beyond what squares to a number.
    let blown_up = [
        &["pretrain", "--device", "cpu", "--out", text(&out)],
        TINY,
        &["--set", "pretrain.base_learning_rate=1e24", "--set", "pretrain.checkpoint_steps=1"],
    ]
    .concat();
    let (code, error) = refusal(&blown_up);
    assert!(code == 1 && error.contains("3 steps in a row") && error.contains("--replay"), "{code}: {error}");
    let run = unfinished(&out);
    let found = lines(&run);
    let skipped: Vec<bool> = found.iter().map(|line| line["skipped"] == true).collect();
    let (taken, last) = skipped.split_at(skipped.len() - 3);
    assert!(last == [true; 3] && taken.iter().all(|skipped| !skipped), "{found:#?}");
    // No checkpoint was written after a skipped step, and every one is of finite values, whatever the weights came to.
    let newest =
        walk(&run.join("checkpoints")).into_iter().filter_map(|path| path.file_stem().map(|n| n.to_owned())).max();
    assert_eq!(newest.expect("a checkpoint").to_string_lossy(), format!("step-{:08}", found.len() - 3));
    for entry in std::fs::read_dir(run.join("checkpoints")).expect("checkpoints") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            let bytes = std::fs::read(&path).expect("reads");
            let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("a checkpoint");
            for (name, tensor) in tensors.tensors() {
                let values = tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
                assert!(values.into_iter().all(f32::is_finite), "{name} in {}", path.display());
            }
        }
    }

    let step = found.len() - 1;
    let dump = run.join(format!("dump-step-{step}"));
    for file in ["state.safetensors", "views.parquet", "pixels.safetensors", "config.toml", "step.json"] {
        assert!(dump.join(file).is_file(), "{file}");
    }
    let replay = || -> Value {
        let said = say(&["pretrain", "--replay", text(&dump), "--device", "cpu", "--json"]);
        serde_json::from_str(&said).expect("JSON")
    };
    let replayed = replay();
    assert_eq!((&replayed["step"], &replayed["is_finite"]), (&step.into(), &false.into()), "{replayed:#}");
    assert!(replayed["gradient_norm_by_part"]["backbone.blocks.0"].is_string(), "{replayed:#}");
    assert_eq!(replayed["images_not_finite"], serde_json::json!([]), "the weights are to blame, not the pixels");
    // Without the pixels the batch is rendered again from the plan's rows: the same.
    std::fs::remove_file(dump.join("pixels.safetensors")).expect("removes");
    assert_eq!(replay(), replayed);
    let words = say(&["pretrain", "--replay", text(&dump), "--device", "cpu"]);
    assert!(words.contains(&format!("step {step} again")) && words.contains("gradient norm by part"), "{words}");

    // The same command goes on from the last checkpoint and stops at the same step.
    let (code, again) = refusal(&blown_up);
    assert!(code == 1 && again.contains(&format!("step {step},")), "{again}");
    assert_eq!(
        lines(&run).iter().map(|line| line["loss"].clone()).collect::<Vec<_>>(),
        found.iter().map(|l| l["loss"].clone()).collect::<Vec<_>>()
    );
}

#[test]
fn what_a_kill_leaves_in_a_run_is_cleaned_and_not_hashed() {
    let folder = tempfile::tempdir().expect("a folder");
    let (whole, cut_off) = (folder.path().join("whole"), folder.path().join("cut-off"));
    for out in [&whole, &cut_off] {
        curated(out, "120");
        tiny(out, &["plan"]);
    }
    let digest = |facts: &[Value]| facts[0]["digest"].clone();
    let pretrain = ["pretrain", "--device", "cpu", "--run", "r"];
    let expected = digest(&tiny(&whole, &pretrain));
    let runs = cut_off.join("pile/runs");
    let checkpoint = || walk(&runs).iter().any(|path| path.ends_with("step-00000004.json"));
    while !kill_when(&cut_off, &[&pretrain[..], TINY].concat(), &checkpoint) {
        std::fs::remove_dir_all(&runs).expect("removes");
    }
    // The kill may have come after the run was whole; else its folder is littered as another kill would litter it.
    if !runs.join("r").exists() {
        let run = unfinished(&cut_off);
        for half in ["final.safetensors", "step-00000099.json", "step-00000098.safetensors", "step-00000097.writing"] {
            std::fs::write(run.join("checkpoints").join(half), "half").expect("writes");
        }
        std::fs::write(run.join("config.writing"), "half").expect("writes");
    }
    assert_eq!(digest(&tiny(&cut_off, &pretrain)), expected);
    let left: Vec<PathBuf> = walk(&runs.join("r"));
    assert!(left.iter().all(|path| !path.to_string_lossy().contains("writing")), "{left:?}");
    assert!(left.iter().all(|path| !path.to_string_lossy().contains("step-0")), "{left:?}");
}

pub fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in std::fs::read_dir(folder).into_iter().flatten().filter_map(|entry| entry.ok()).map(|entry| entry.path())
    {
        if path.is_dir() {
            found.extend(walk(&path));
        } else {
            found.push(path);
        }
    }
    found
}

#[test]
fn a_probe_that_cannot_be_says_why() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    curated(&out, "120");
    tiny(&out, &["plan"]);
    tiny(&out, &["pretrain", "--device", "cpu"]);
    // Two classes are named, but all the images to learn from are of one.
    let probe = folder.path().join("lopsided");
    let drawn: Vec<PathBuf> = walk(&DRAWN.probe().join("train")).into_iter().take(4).collect();
    for (place, file) in ["train/a/1", "train/a/2", "test/a/3", "test/b/4"].into_iter().zip(&drawn) {
        let extension = file.extension().map_or(String::new(), |extension| format!(".{}", extension.to_string_lossy()));
        let target = probe.join(place.to_owned() + &extension);
        std::fs::create_dir_all(target.parent().expect("a folder")).expect("creates");
        std::fs::copy(file, target).expect("copies");
    }
    facts(&out, &["ingest", "--data", text(&probe), "--as-probe"]);
    let eval = |set: &str| refusal(&[&["eval", "--device", "cpu", "--out", text(&out), "--set", set], TINY].concat());
    let (code, error) = eval("eval.knn_neighbours=5");
    assert!(code == 1 && error.contains("probe `lopsided`") && error.contains("of one class"), "{error}");
    let (code, error) = eval("eval.knn_temperature=0.0");
    assert!(code == 2 && error.contains("eval.knn_temperature"), "{error}");
}

#[test]
fn a_run_that_collapses_stops_with_the_reason_where_that_is_asked_for_and_goes_on_where_it_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    curated(&out, "120");
    tiny(&out, &["plan", "--set", "plan.epochs=6"]);
    let run = |on_collapse: &'static str| {
        let mut arguments = vec!["pretrain", "--device", "cpu", "--run", "r", "--out", text(&out)];
        arguments.extend(["--on-collapse", on_collapse]);
        arguments.extend(TINY);
        for key in [
            "pretrain.steps=40",
            "pretrain.health_steps=2",
            "objective.kind=dino",
            "objective.targets=centre",
            // A teacher this soft is uniform whatever it sees.
            "objective.teacher_temperature=1.0",
            "objective.teacher_temperature_start=1.0",
        ] {
            arguments.extend(["--set", key]);
        }
        let output = lapidary(&arguments);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, told) = run("stop");
    assert!(code == Some(1) && told.contains("collapsed to uniform since step"), "{code:?}: {told}");
    assert!(told.contains("objective.teacher_temperature") && told.contains("--on-collapse warn"), "{told}");
    let stopped = lines(&unfinished(&out)).len();
    assert!(stopped < 40, "{stopped} steps");
    let (code, told) = run("warn");
    assert!(code == Some(0), "{code:?}: {told}");
    let steps: Vec<u64> =
        lines(&out.join("pile/runs/r")).iter().map(|line| line["step"].as_u64().expect("a step")).collect();
    assert_eq!(steps, (0..40).collect::<Vec<_>>(), "it resumes after step {stopped}");
}

#[test]
fn metrics_that_are_read_once_in_several_steps_are_those_of_reading_each() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    curated(&out, "120");
    tiny(&out, &["plan"]);
    let trained = |run: &'static str, key: &'static str| {
        tiny(&out, &["pretrain", "--device", "cpu", "--run", run, "--set", "pretrain.health_steps=5", "--set", key]);
        let run = out.join("pile/runs").join(run);
        let checkpoint = std::fs::read(run.join("checkpoints/final.safetensors")).expect("reads");
        let times = ["images_per_sec", "data_wait_secs", "step_secs", "peak_memory_mib"];
        let mut lines = lines(&run);
        for line in &mut lines {
            times.iter().for_each(|time| drop(line.as_object_mut().expect("an object").remove(*time)));
        }
        (lines, checkpoint)
    };
    let (each, several) = (trained("each", "pretrain.metrics_steps=1"), trained("several", "pretrain.metrics_steps=4"));
    assert!(each.0.len() > 8, "{} steps", each.0.len());
    assert_eq!(each.0, several.0);
    assert!(each.1 == several.1, "the checkpoints differ");
}

#[test]
fn a_batch_is_spread_over_several_devices_of_one_kind() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    curated(&out, "120");
    tiny(&out, &["plan"]);
    let losses = |run: &str, devices: &[&str]| -> Vec<f64> {
        let found = tiny(&out, &[&["pretrain", "--run", run], devices].concat()).remove(0);
        let named = found["facts"]["device"].as_str().expect("a device").to_owned();
        let collective = if named.contains(',') { "threads" } else { "alone" };
        assert_eq!((&*named, found["facts"]["collective"].as_str()), (devices[1], Some(collective)));
        let found = lines(&out.join("pile/runs").join(run));
        found.iter().map(|line| line["loss"].as_f64().expect("a loss")).collect()
    };
    let (one, two) = (losses("one", &["--device", "cpu"]), losses("two", &["--devices", "cpu,cpu"]));
    assert_eq!(two, losses("again", &["--devices", "cpu,cpu"]));
    for (one, two) in one.iter().zip(&two) {
        assert!((one - two).abs() < 1e-3 * one.abs(), "{one} {two}");
    }
    let (code, error) = refusal(&["pretrain", "--device", "cpu", "--devices", "cpu,cpu", "--out", text(&out)]);
    assert!(code == 2 && error.contains("cannot be used with"), "{error}");
    let many = vec!["cpu"; 1000].join(",");
    let (code, error) =
        refusal(&[&["pretrain", "--run", "many", "--devices", &many, "--out", text(&out)], TINY].concat());
    assert!(code == 2 && error.contains("1000 devices have no images each of pretrain.batch"), "{error}");
    assert!(!out.join("pile/runs/many").exists(), "nothing is written");
}
