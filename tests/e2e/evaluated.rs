//! `eval` on several probes, on images with several classes, on a probe that was damaged, and with weights that do not fit.

use crate::run::{DRAWN, TINY, curated, facts, lapidary, refusal, text, tiny};
use crate::shared_data::shared;
use crate::training::walk;
use lapidary_pipeline::stage::digest_of_file;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// A trained run `r` of the pile, and the drawn probe ingested.
fn trained(out: &Path) {
    curated(out, "120");
    facts(out, &["ingest", "--data", text(&DRAWN.probe()), "--as-probe"]);
    tiny(out, &["plan"]);
    tiny(out, &["pretrain", "--device", "cpu", "--run", "r"]);
}

fn names(network: &Value, list: &str) -> Vec<String> {
    let list = network[list].as_array().expect("a list").iter();
    list.map(|one| one["name"].as_str().expect("a name").to_owned()).collect()
}

fn assert_shares(network: &Value) {
    for probe in network["probes"].as_array().expect("a list") {
        let (first, five) = (probe["top1"].as_f64().expect("a share"), probe["top5"].as_f64().expect("a share"));
        assert!((0.0..=1.0).contains(&first) && first <= five && five <= 1.0, "{probe}");
    }
    for measure in network["measures"].as_array().expect("a list") {
        // Of no image there is no figure.
        let is_share = measure["value"].as_f64().is_some_and(|value| (0.0..=1.0).contains(&value));
        assert!(is_share || measure["images"] == 0 && measure["value"].is_null(), "{measure}");
        let protocol = measure["protocol"].as_str().map(str::to_lowercase);
        assert!(protocol.is_some_and(|protocol| protocol.contains("compar")), "{measure}");
    }
}

#[test]
fn several_probes_are_measured_by_one_call_and_damage_is_counted() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    trained(&out);
    let eval = ["eval", "--device", "cpu", "--run", "r", "--probe"];
    let both = tiny(&out, &[&eval[..], &["probe,pile"]].concat());
    assert_eq!(
        both.iter().map(|one| one["facts"]["probe"].as_str()).collect::<Vec<_>>(),
        [Some("probe"), Some("pile")]
    );
    for measured in &both {
        for network in ["trained", "untrained"].map(|name| &measured["facts"][name]) {
            assert_shares(network);
            let probes = names(network, "probes");
            for name in ["knn 20", "logistic 100 %", "quick 10 %", "mlp 100 %", "linear dino", "linear dinov2"] {
                assert!(probes.iter().any(|probe| probe == name), "{name} in {probes:?}");
            }
            let measures = names(network, "measures");
            for name in ["retrieval mAP, test", "retrieval mAP, train", "copy uAP", "copy uAP, descriptor"] {
                assert!(measures.iter().any(|measure| measure == name), "{name} in {measures:?}");
            }
        }
        let descriptor = |network: &str| {
            let measures = measured["facts"][network]["measures"].as_array().expect("a list");
            measures.iter().find(|measure| measure["name"] == "copy uAP, descriptor").cloned()
        };
        assert_eq!(descriptor("trained"), descriptor("untrained"), "the descriptor learns nothing");
    }
    for probe in ["probe", "pile"] {
        assert!(out.join("pile/evals/r").join(probe).join("scores.json").is_file(), "{probe}");
    }
    // Told for people: a table each and one over both; by name or folder, each probe once.
    let probe_folder = DRAWN.probe();
    let by_folder = ["--probe", text(&probe_folder)];
    let again = lapidary(&[&eval[..], &["pile,probe"], &by_folder, &["--out", text(&out)], TINY].concat());
    let said = String::from_utf8(again.stdout).expect("UTF-8");
    assert!(said.lines().filter(|line| line.contains("up to date")).count() == 2, "{said}");
    let lines: Vec<&str> = said.lines().skip_while(|line| !line.contains("probe set")).collect();
    assert!(lines.len() == 3 && lines[1].contains("pile") && lines[2].contains("probe"), "{said}");
    let (code, error) = refusal(&[&eval[..], &["probe,nothing", "--out", text(&out)], TINY].concat());
    assert!(code != 0 && error.contains("`nothing` was not ingested"), "{error}");

    // An image that was damaged after it was ingested.
    let path = shard(&out.join("probe/images"));
    let mut bytes = std::fs::read(&path).expect("reads");
    let start = bytes.windows(3).position(|three| three == [0xff, 0xd8, 0xff]).expect("a JPEG lies in it as it is");
    bytes[start..start + 200].fill(0);
    std::fs::write(&path, bytes).expect("writes");
    let mut arguments = [&eval[..], &["probe", "--out", text(&out), "--json"], TINY].concat();
    // All of its images.
    arguments.extend(["--set", "eval.max_train=0", "--set", "eval.max_test=0"]);
    let measured = lapidary(&arguments);
    let told = String::from_utf8_lossy(&measured.stderr);
    assert!(told.contains("1 images of probe `probe` no longer decode") && told.contains("hint: ingest"), "{told}");
    let measured: Value = serde_json::from_slice(&measured.stdout).expect("JSON");
    assert_eq!(measured["rows"]["rejected"], 1, "{measured:#}");
    assert_eq!(measured["rows"]["output"].as_u64().map(|output| output + 1), measured["rows"]["input"].as_u64());
    assert!(out.join("pile/evals/r/probe/rejects.parquet").is_file());
    assert_shares(&measured["facts"]["trained"]);
}

fn shard(folder: &Path) -> PathBuf {
    let entries = std::fs::read_dir(folder).expect("lists").map(|entry| entry.expect("an entry").path());
    let mut shards: Vec<PathBuf> = entries
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("part-")))
        .collect();
    shards.sort();
    shards.remove(0)
}

#[test]
fn weights_of_another_architecture_and_images_without_labels_are_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    trained(&out);
    // The last setting of a key counts.
    facts(&out, &[&["pretrain", "--device", "cpu", "--run", "wide"], TINY, &["--set", "model.dim=36"]].concat());
    let checkpoints = |run: &str| out.join("pile/runs").join(run).join("checkpoints");
    for entry in std::fs::read_dir(checkpoints("wide")).expect("lists") {
        let path = entry.expect("an entry").path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("final")) {
            std::fs::copy(&path, checkpoints("r").join(path.file_name().expect("a name"))).expect("copies");
        }
    }
    let (code, error) = refusal(&[&["eval", "--device", "cpu", "--run", "r", "--out", text(&out)], TINY].concat());
    assert!(code == 1 && !error.contains("panicked"), "{code}: {error}");
    assert!(error.contains("24") && error.contains("36"), "both shapes are named: {error}");

    // Images without labels are no probe.
    let photos = folder.path().join("photos");
    std::fs::create_dir(&photos).expect("creates");
    for (index, file) in walk(&DRAWN.probe().join("train")).into_iter().take(4).enumerate() {
        let extension = file.extension().expect("images have one").to_string_lossy().into_owned();
        std::fs::copy(&file, photos.join(format!("{index}.{extension}"))).expect("copies");
    }
    facts(&out, &["ingest", "--data", text(&photos), "--as-probe"]);
    let (code, error) = refusal(&[&["eval", "--device", "cpu", "--run", "wide", "--out", text(&out)], TINY].concat());
    assert!(code == 1 && error.contains("probe `photos`") && error.contains("fewer than two classes"), "{error}");

    // Weights that are numbers and give features that are none.
    let weights = checkpoints("wide").join("final.safetensors");
    fill(&weights, "backbone.norm.weight", f32::MAX);
    // The digest beside them is of what they are now.
    let beside = weights.with_extension("json");
    let mut told: Value = serde_json::from_slice(&std::fs::read(&beside).expect("reads")).expect("JSON");
    told["digest"] = json!(digest_of_file(&weights).expect("reads").0);
    std::fs::write(&beside, told.to_string()).expect("writes");
    let eval = ["eval", "--device", "cpu", "--run", "wide", "--probe", "probe", "--out", text(&out)];
    let (code, error) = refusal(&[&eval, TINY].concat());
    assert!(code == 1 && error.contains("are not finite for") && error.contains("the first is"), "{code}: {error}");
    assert!(error.contains("hint: ") && !out.join("pile/evals/wide/probe").exists(), "{error}");
}

/// Sets every value of the tensors of a safetensors file whose names end so.
fn fill(path: &Path, name: &str, value: f32) {
    let mut bytes = std::fs::read(path).expect("reads");
    let head = 8 + u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..head]).expect("JSON");
    let mut filled = 0;
    for (_, tensor) in header.as_object().expect("tensors").iter().filter(|(key, _)| key.ends_with(name)) {
        let [from, to] = [0, 1].map(|end| head + tensor["data_offsets"][end].as_u64().expect("an offset") as usize);
        bytes[from..to].chunks_exact_mut(4).for_each(|four| four.copy_from_slice(&value.to_le_bytes()));
        filled += 1;
    }
    assert!(filled > 0, "no tensor {name}");
    std::fs::write(path, bytes).expect("writes");
}

#[test]
fn images_without_a_label_are_set_aside_and_counted_and_a_k_above_the_images_is_clipped() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    trained(&out);
    // COCO of twelve images in two classes, of which two have no annotation.
    let data = folder.path().join("partly");
    std::fs::create_dir_all(data.join("train2017")).expect("creates");
    std::fs::create_dir_all(data.join("annotations")).expect("creates");
    let (mut images, mut annotations) = (Vec::new(), Vec::new());
    for (index, file) in walk(&DRAWN.probe().join("train")).into_iter().take(12).enumerate() {
        let name = format!("{index}.{}", file.extension().expect("images have one").to_string_lossy());
        std::fs::copy(&file, data.join("train2017").join(&name)).expect("copies");
        let (width, height) = image::image_dimensions(&file).expect("an image");
        images.push(json!({"id": index, "file_name": name, "width": width, "height": height}));
        if index < 10 {
            annotations.push(json!({"id": index + 1, "image_id": index, "category_id": 1 + index % 2, "iscrowd": 0,
                "bbox": [1, 1, 9, 9], "area": 81}));
        }
    }
    let categories = json!([{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]);
    let coco = json!({"images": images, "annotations": annotations, "categories": categories});
    std::fs::write(data.join("annotations/instances_train2017.json"), coco.to_string()).expect("writes");
    facts(&out, &["ingest", "--data", text(&data), "--as-probe"]);
    let measured =
        lapidary(&[&["eval", "--device", "cpu", "--run", "r", "--out", text(&out), "--json"], TINY].concat());
    let told = String::from_utf8_lossy(&measured.stderr);
    assert!(measured.status.success() && told.contains("2 of 12 images of probe `partly` have no label"), "{told}");
    let measured: Value = serde_json::from_slice(&measured.stdout).expect("JSON");
    let rows = ["input", "output", "rejected"].map(|kind| measured["rows"][kind].as_u64().expect("a count"));
    assert_eq!(rows, [12, 10, 2]);
    let knn = &measured["facts"]["trained"]["probes"][0];
    assert_eq!(knn["notes"][0], "k = 20 is clipped to the 8 train images", "{knn:#}");
    assert_shares(&measured["facts"]["trained"]);
}

#[test]
fn cocos_images_have_several_classes_and_their_mean_average_precision_is_measured() {
    let Some(data) = shared("coco") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    trained(&out);
    facts(&out, &["ingest", "--data", text(&data), "--as-probe"]);
    let few = ["--set", "eval.max_train=0", "--set", "eval.max_test=0", "--set", "eval.label_shares=[1.0]"];
    let fewer = ["--set", "eval.labels_per_class=[]", "--set", "eval.logistic_c=[0.01, 1.0]"];
    let measured = tiny(&out, &[&["eval", "--device", "cpu", "--run", "r"], &few[..], &fewer[..]].concat());
    assert_shares(&measured[0]["facts"]["trained"]);
    let measures = measured[0]["facts"]["trained"]["measures"].as_array().expect("a list");
    let found =
        measures.iter().find(|measure| measure["name"] == "multi-label mAP").expect("images have several classes");
    let classes = found["settings"]["classes"].as_f64().expect("a count");
    assert!(classes > 40.0 && classes <= 80.0, "{found}");
    println!("{found:#}");
}
