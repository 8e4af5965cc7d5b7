//! The whole chain on the built-in data, twice.

use crate::run::{DRAWN, curated, facts, lapidary, text, tiny};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

fn chain(out: &Path) -> Vec<Value> {
    let mut all = curated(out, "120");
    all.extend(facts(out, &["ingest", "--data", text(&DRAWN.probe()), "--as-probe"]));
    all.extend(tiny(out, &["plan"]));
    all.extend(tiny(out, &["pretrain", "--device", "cpu"]));
    all.extend(tiny(out, &["eval", "--device", "cpu"]));
    all.extend(facts(out, &["report"]));
    all
}

#[test]
fn the_chain_runs_is_then_up_to_date_and_follows_its_source() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    let first = chain(&out);
    assert!(first.iter().all(|stage| stage["outcome"] == "ran"), "{first:#?}");
    for stage in &first {
        if let Some(rows) = stage["rows"].as_object() {
            let count = |name: &str| rows[name].as_u64().expect("a count");
            assert_eq!(count("input"), count("output") + count("rejected"), "{stage:#}");
        }
    }
    let of = |stage: &str| first.iter().find(|s| s["stage"] == stage).expect("it ran");
    assert_eq!(of("ingest")["rows"]["rejected"], 6, "the broken files");
    let truth = &of("curate")["facts"]["truth"];
    for kind in ["exact", "reencoded", "resized"] {
        assert_eq!(truth["by_kind"][kind]["recall"], 1.0, "{kind}");
    }
    assert!(truth["precision"].as_f64().expect("a share") > 0.97, "{truth:#}");
    let reasons = of("curate")["facts"]["images_by_reason"].as_object().expect("counts").values();
    assert_eq!(reasons.map(|n| n.as_u64().expect("a count")).sum::<u64>(), 576);
    let last = &of("pretrain")["facts"]["last"];
    for name in ["loss", "loss_dino", "loss_barlow", "teacher_entropy", "learning_rate", "gradient_norm"] {
        assert!(last[name].as_f64().is_some_and(f64::is_finite), "{name} in {last:#}");
    }

    let report = std::fs::read_to_string(out.join("pile/report.html")).expect("a report");
    for heading in ["What was found", "Lineage", "In and out", "Duplicate groups", "Gallery", "Training", "Every probe"]
    {
        assert!(report.contains(heading), "{heading}");
    }
    assert!(!report.contains("http://") && !report.contains("https://"), "the report needs nothing from outside");

    let second = chain(&out);
    assert!(second.iter().all(|stage| stage["outcome"] == "up_to_date"), "{second:#?}");
    let stages = facts(&out, &["status"]);
    let stages = stages[0].as_array().expect("a list");
    assert_eq!(stages.len(), 12);
    assert!(stages.iter().all(|stage| stage["state"] == "up_to_date"), "{stages:#?}");

    // Another size redoes the cut alone, and the larger subset holds the smaller.
    let cut = facts(&out, &["cut", "--size", "240"]);
    assert_eq!(cut[0]["outcome"], "ran");
    let explained = facts(&out, &["explain", &first_id(&out)]);
    assert_eq!(explained[0]["subsets"], serde_json::json!(["120", "240"]));
    assert_eq!(explained[0]["decision"]["rank"], 0);

    // A new run with the checkpoint as the encoder.
    let run =
        std::fs::read_dir(out.join("pile/runs")).expect("runs").filter_map(|e| e.ok()?.file_name().into_string().ok());
    let run = run.into_iter().find(|name| !name.starts_with('.')).expect("a run");
    let embedded = facts(&out, &["embed", "--encoder", &run, "--device", "cpu"]);
    assert_eq!((&embedded[0]["rows"]["output"], &embedded[0]["facts"]["dim"]), (&576.into(), &24.into()));
}

/// The id of the image ranked first.
fn first_id(out: &Path) -> String {
    use lapidary_pipeline::plan::subset_ids;
    subset_ids(&out.join("pile/subsets/120")).expect("a subset")[0].to_string()
}

#[test]
fn subsets_are_nested_and_exports_are_read_back() {
    use lapidary_pipeline::plan::subset_ids;
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    curated(&out, "60");
    facts(&out, &["cut", "--size", "200"]);
    let small = subset_ids(&out.join("pile/subsets/60")).expect("a subset");
    let large = subset_ids(&out.join("pile/subsets/200")).expect("a subset");
    assert_eq!((small.len(), &large[..60]), (60, &small[..]));
    for format in ["coco", "folder", "parquet"] {
        facts(&out, &["cut", "--size", "60", "--export", format]);
        let exported = out.join(format!("pile/subsets/60.{format}"));
        let again =
            facts(&out, &["ingest", "--data", text(&exported), "--name", &format!("again-{format}"), "--as-probe"]);
        assert_eq!(again[0]["rows"]["output"], 60, "{format}: {again:#?}");
        assert_eq!(again[0]["facts"]["classes"].as_array().map(Vec::len), Some(8), "{format}");
    }

    // Where every image has its label, a folder keeps the classes.
    facts(&out, &["ingest", "--data", text(&DRAWN.probe())]);
    facts(&out, &["fingerprint"]);
    facts(&out, &["embed"]);
    facts(&out, &["curate"]);
    facts(&out, &["cut", "--size", "80", "--export", "folder"]);
    let again = facts(&out, &["ingest", "--data", text(&out.join("probe/subsets/80.folder")), "--as-probe"]);
    assert_eq!(again[0]["facts"]["classes"].as_array().map(Vec::len), Some(8), "{again:#?}");
}

#[test]
fn one_thread_and_two_make_the_same_bytes() {
    let digests = |threads: &str| {
        let folder = tempfile::tempdir().expect("a folder");
        let out = folder.path().join("out");
        let pile = DRAWN.pile();
        let steps: [&[&str]; 5] =
            [&["ingest", "--data", text(&pile)], &["fingerprint"], &["embed"], &["curate"], &["cut", "--size", "60"]];
        let tiny_steps: [&[&str]; 2] = [&["plan"], &["pretrain", "--device", "cpu", "--set", "pretrain.steps=3"]];
        let mut found = Vec::new();
        for arguments in
            steps.map(<[&str]>::to_vec).into_iter().chain(tiny_steps.map(|s| [s, crate::run::TINY].concat()))
        {
            // What comes later wins, so the steps above must come after the tiny network's.
            let mut whole = arguments.clone();
            whole.extend(["--out", text(&out), "--json"]);
            let output = Command::new(crate::run::binary())
                .args(&whole)
                .env("RAYON_NUM_THREADS", threads)
                .output()
                .expect("starts");
            assert!(output.status.success(), "{whole:?}: {}", String::from_utf8_lossy(&output.stderr));
            let facts: Value = serde_json::from_slice(&output.stdout).expect("JSON");
            found.push((facts["stage"].clone(), facts["digest"].clone()));
            // A curation says the digests of its four stages.
            let of_stages = facts["stages"].as_array().into_iter().flatten();
            found.extend(of_stages.map(|stage| (stage["stage"].clone(), stage["digest"].clone())));
        }
        found
    };
    assert_eq!(digests("1"), digests("2"));
}

#[test]
fn a_changed_source_is_stale_and_dry_runs_do_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, out) = (folder.path().join("data"), folder.path().join("out"));
    std::fs::create_dir_all(data.join("cat")).expect("creates");
    let image = std::fs::read_dir(DRAWN.pile().join("pile")).expect("drawn").find_map(|e| {
        let path = e.ok()?.path();
        (path.metadata().ok()?.len() > 3000).then_some(path)
    });
    let image = image.expect("a picture");
    std::fs::copy(&image, data.join("cat/a.jpg")).expect("copies");
    let dry = facts(&out, &["ingest", "--data", text(&data), "--dry-run"]);
    assert_eq!(dry[0]["outcome"], "would_run");
    assert!(!out.exists());
    facts(&out, &["ingest", "--data", text(&data)]);
    let state = |out: &Path| facts(out, &["status"])[0][0]["state"].clone();
    assert_eq!(state(&out), "up_to_date");
    std::fs::copy(&image, data.join("cat/b.jpg")).expect("copies");
    assert_eq!(state(&out), "stale");
    let again = facts(&out, &["ingest", "--data", text(&data)]);
    assert_eq!((&again[0]["outcome"], &again[0]["rows"]["output"]), (&"ran".into(), &2.into()));
    assert!(lapidary(&["--version"]).status.success());
}
