//! Looking after a tree: runs and what sets them apart, removal by name, garbage, damage, and what the machine gives.

use crate::run::{DRAWN, TINY, curated, facts, lapidary, refusal, say, text, tiny};
use serde_json::Value;
use std::path::Path;

fn runs(out: &Path) -> Vec<Value> {
    facts(out, &["runs"]).remove(0).as_array().expect("a list").clone()
}

#[test]
fn runs_of_other_settings_live_beside_each_other_and_are_told_apart() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    curated(&out, "120");
    tiny(&out, &["plan"]);
    assert!(runs(&out).is_empty());
    let first = tiny(&out, &["pretrain", "--device", "cpu"]).remove(0);
    let other = [&["pretrain", "--device", "cpu"], TINY, &["--set", "pretrain.base_learning_rate=0.002"]].concat();
    let second = facts(&out, &other).remove(0);
    assert_ne!(first["folder"], second["folder"]);
    let all = runs(&out);
    assert_eq!(all.len(), 2, "{all:#?}");
    assert!(all.iter().all(|run| run["state"] == "finished" && run["step"] == 12 && run["loss"].is_f64()));
    let keys: Vec<&String> = all[0]["settings"].as_object().expect("settings").keys().collect();
    assert_eq!(keys, ["pretrain.base_learning_rate"], "only what differs: {all:#?}");
    // An image more is another plan's run, not the end of these.
    assert_eq!(tiny(&out, &["pretrain", "--device", "cpu"])[0]["outcome"], "up_to_date");

    // Under one name, the earlier is kept under its key and found again.
    let named = |rate: &str| {
        let set = format!("pretrain.base_learning_rate={rate}");
        facts(&out, &[&["pretrain", "--device", "cpu", "--run", "mine"], TINY, &["--set", &set]].concat()).remove(0)
    };
    let slow = named("0.003");
    let fast = named("0.004");
    assert_eq!((&slow["outcome"], &fast["outcome"]), (&"ran".into(), &"ran".into()));
    assert_eq!(runs(&out).len(), 4);
    assert_eq!(named("0.003")["outcome"], "up_to_date");
    assert_eq!(named("0.004")["outcome"], "up_to_date");

    tiny(&out, &["eval", "--device", "cpu", "--run", "mine"]);
    let best = runs(&out).into_iter().find(|run| run["run"] == "mine").expect("listed");
    assert!(best["best_probe"][1].as_f64().is_some_and(|top1| (0.0..=1.0).contains(&top1)), "{best:#}");
    let (code, error) = refusal(&["rm", "mine", "--out", text(&out)]);
    assert!(code == 2 && error.contains("evals/mine/pile") && error.contains("--force"), "{error}");
    let aside = runs(&out).into_iter().filter_map(|run| run["run"].as_str().map(str::to_owned));
    let aside = aside.into_iter().find(|name| name.starts_with("mine~")).expect("one is kept aside");
    let would = facts(&out, &["rm", &aside, "--dry-run"]).remove(0);
    assert!(would[0]["bytes"].as_u64() > Some(1000) && runs(&out).len() == 4);
    facts(&out, &["rm", &aside]);
    assert_eq!(runs(&out).len(), 3);
    let (code, error) = refusal(&["rm", "../out", "--out", text(&out)]);
    assert!(code == 2 && error.contains("nothing under"), "{error}");
}

#[test]
fn garbage_is_what_nothing_refers_to() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    curated(&out, "120");
    tiny(&out, &["plan", "--name", "p"]);
    tiny(&out, &["pretrain", "--device", "cpu", "--run", "r"]);
    let other = ["--set", "seed=7"];
    // The plan's subset is kept aside, as is the curation it was cut from; another is made and made again.
    for set in [&other[..], &["--set", "seed=8"]] {
        facts(&out, &[&["curate"], set].concat());
        facts(&out, &["cut", "--size", "120"]);
    }
    let garbage = |verb: &[&str]| facts(&out, verb).remove(0).as_array().expect("a list").clone();
    let would = garbage(&["gc", "--dry-run"]);
    let paths: Vec<String> = would.iter().map(|g| g["path"].as_str().expect("a path").to_owned()).collect();
    let before: Vec<Value> = facts(&out, &["status", "--all"]).remove(0).as_array().expect("a list").clone();
    assert!(before.len() > facts(&out, &["status"])[0].as_array().expect("a list").len());
    assert!(paths.iter().all(|path| path.contains('~')), "{paths:?}");
    assert_eq!(garbage(&["gc"]).len(), would.len());
    assert!(garbage(&["gc"]).is_empty());
    // A removal that was cut off: what has lost its manifest does not come back.
    let half = out.join("pile/runs/.gone.old");
    std::fs::create_dir(&half).expect("creates");
    std::fs::write(half.join("config.toml"), "x").expect("writes");
    assert_eq!(garbage(&["gc"]).len(), 1);
    assert!(!half.exists());
    let after: Vec<Value> = facts(&out, &["status", "--all"]).remove(0).as_array().expect("a list").clone();
    assert_eq!(after.len(), before.len() - would.len());
    // What the run was made of is still there, whatever its name is by now.
    let cut_of_the_run = after.iter().filter(|stage| stage["stage"] == "ranking" || stage["stage"] == "cut").count();
    assert!(cut_of_the_run >= 2, "{after:#?}");
    assert_eq!(tiny(&out, &["pretrain", "--device", "cpu", "--plan", "p", "--run", "r"])[0]["outcome"], "up_to_date");
}

#[test]
fn a_flipped_byte_is_named_by_its_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    curated(&out, "120");
    let verified = facts(&out, &["verify"]).remove(0);
    assert_eq!(verified.as_array().map(Vec::len), Some(8));
    assert!(verified.as_array().expect("a list").iter().all(|stage| stage["faults"] == Value::Array(Vec::new())));
    let flip = |path: &Path, at: usize| {
        let mut bytes = std::fs::read(path).expect("reads");
        let at = at.min(bytes.len() - 20);
        bytes[at] ^= 1;
        std::fs::write(path, bytes).expect("writes");
    };
    let shard = out.join("pile/images/part-00000.parquet");
    flip(&shard, 70_000);
    let (code, _) = refusal(&["verify", "--out", text(&out)]);
    assert_eq!(code, 1);
    let output = lapidary(&["verify", "pile/images", "--json", "--out", text(&out)]);
    let said: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(said.as_array().map(Vec::len), Some(1));
    assert_eq!(said[0]["faults"][0]["path"], text(&shard), "{said:#}");
    assert!(say(&["verify", "cut", "--out", text(&out)]).contains("intact"));
    // A manifest as well: its own text is sealed.
    let manifest = out.join("pile/subsets/120/manifest.json");
    let written = std::fs::read_to_string(&manifest).expect("reads");
    std::fs::write(&manifest, written.replacen("\"size\": 120", "\"size\": 121", 1)).expect("writes");
    let output = lapidary(&["verify", "subsets/120", "--json", "--out", text(&out)]);
    let said: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(output.status.code() == Some(1) && said[0]["faults"][0]["path"] == text(&manifest), "{said:#}");
    std::fs::remove_file(out.join("pile/embeddings/descriptor/part-00000.parquet")).expect("removes");
    let output = lapidary(&["verify", "embed", "--json", "--out", text(&out)]);
    assert_eq!(output.status.code(), Some(1), "a missing file is a fault");
}

#[test]
fn the_doctor_says_what_the_machine_gives() {
    let folder = tempfile::tempdir().expect("a folder");
    let found = facts(folder.path(), &["doctor"]).remove(0);
    for number in ["cores", "memory_mib", "disk_free_mib", "disk_write_mib_per_sec"] {
        assert!(found[number].as_f64().is_some_and(|value| value > 0.0), "{number}: {found:#}");
    }
    assert!(found["faiss_built_for"].is_string() && found["auto_takes"].is_string(), "{found:#}");
    assert!(found["gpu"]["driver"].is_string() && found["gpu"]["nvrtc"].is_string(), "{found:#}");
    let said = say(&["doctor", "--out", text(folder.path())]);
    assert!(said.contains("--device auto takes"), "{said}");
}

#[test]
fn a_name_is_one_folders_and_a_folder_among_the_compared_has_its_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    let pictures: Vec<_> = std::fs::read_dir(DRAWN.pile().join("pile"))
        .expect("drawn")
        .map(|entry| entry.expect("reads").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "jpg"))
        .take(60)
        .collect();
    let [a, b] = ["a/images", "b/images"].map(|name| folder.path().join(name));
    for (data, pictures) in [(&a, &pictures[..40]), (&b, &pictures[40..])] {
        std::fs::create_dir_all(data).expect("creates");
        for picture in pictures {
            std::fs::copy(picture, data.join(picture.file_name().expect("a name"))).expect("copies");
        }
    }
    let lax = ["--set", "ingest.max_reject=0.5"];
    let ingest = |more: &[&str]| facts(&out, &[&["ingest"], &lax[..], more].concat());
    ingest(&["--data", text(&a)]);
    let (code, error) = refusal(&["ingest", "--data", text(&b), "--out", text(&out)]);
    assert!(code == 2 && error.contains("--name") && error.contains("a/images"), "{error}");
    ingest(&["--data", text(&b), "--name", "others"]);
    ingest(&["--data", text(&a)]);
    // Compared with, it gets a name without being asked, and is found by its folder.
    let other = folder.path().join("c/images");
    std::fs::create_dir_all(&other).expect("creates");
    std::fs::copy(a.join(pictures[3].file_name().expect("a name")), other.join("x.jpg")).expect("copies");
    ingest(&["--data", text(&other), "--aside"]);
    for source in [text(&a), text(&other)] {
        facts(&out, &["fingerprint", "--source", source]);
        facts(&out, &["embed", "--source", source]);
    }
    let curated = facts(&out, &["curate", "--source", text(&a), "--against", text(&other)]).remove(0);
    assert_eq!(curated["folder"], "images/curation");
    assert!(curated["facts"]["images_by_reason"]["contaminates"].as_u64() >= Some(1), "{curated:#}");
}
