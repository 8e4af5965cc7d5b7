//! `eval` on a probe with masks: drawn scenes in COCO's layout whose masks are exact, and COCO itself where it lies beside the
//! repository.

use crate::run::{DRAWN, curated, facts, say, text, tiny};
use crate::shared_data::shared;
use lapidary_pipeline::draw::{CLASSES, SIDE_PX, Scene, Sequence};
use lapidary_pipeline::random::{Purpose, keyed};
use serde_json::{Value, json};
use std::path::Path;

/// Run lengths of a label, column by column, as COCO writes them in numbers.
fn run_lengths(labels: &[u8], label: u8) -> Value {
    let side = SIDE_PX as usize;
    let (mut counts, mut inside, mut length) = (Vec::new(), false, 0);
    for (x, y) in (0..side).flat_map(|x| (0..side).map(move |y| (x, y))) {
        if (labels[y * side + x] == label) != inside {
            counts.push(length);
            (inside, length) = (!inside, 0);
        }
        length += 1;
    }
    counts.push(length);
    json!({"size": [side, side], "counts": counts})
}

/// Writes scenes into `folder`, in COCO's layout: each object with its mask; one of each split has a segmentation of another size.
fn draw_scenes(folder: &Path) {
    for (split, stream, count) in [("train2017", 20u64, 48u64), ("val2017", 21, 32)] {
        let (mut images, mut annotations) = (Vec::new(), Vec::new());
        std::fs::create_dir_all(folder.join(split)).expect("creates");
        for index in 0..count {
            let mut rng = keyed(5, Purpose::Scene, stream, index);
            let scene = match index % 3 {
                0 => Sequence::random(5, stream * 1000 + index).at(0.3),
                _ => Scene::single(&mut rng, index as usize % CLASSES.len()),
            };
            let name = format!("{index:05}.png");
            scene.paint().save(folder.join(split).join(&name)).expect("writes");
            images.push(json!({"id": index, "file_name": name, "width": SIDE_PX, "height": SIDE_PX}));
            let labels = scene.labels();
            for (number, object) in (1u8..).zip(&scene.objects) {
                let mut segmentation = run_lengths(&labels, number);
                if index == 1 {
                    segmentation["size"] = json!([1, 1]);
                }
                annotations.push(json!({
                    "id": annotations.len() + 1, "image_id": index, "category_id": object.class * 10 + 3, "iscrowd": 0,
                    "bbox": object.bbox_px(), "area": object.area_px(), "segmentation": segmentation,
                }));
            }
        }
        let categories: Vec<Value> =
            CLASSES.iter().enumerate().map(|(i, name)| json!({"id": i * 10 + 3, "name": name})).collect();
        let all = json!({"images": images, "annotations": annotations, "categories": categories});
        let path = folder.join("annotations").join(format!("instances_{split}.json"));
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("creates");
        std::fs::write(path, all.to_string()).expect("writes");
    }
}

/// A measure of a network.
fn measure<'a>(scores: &'a Value, network: &str, name: &str) -> &'a Value {
    let all = scores[network]["measures"].as_array().expect("a list");
    all.iter().find(|measure| measure["name"] == name).unwrap_or_else(|| panic!("{name} in {all:#?}"))
}

fn rows(path: &Path) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("`{}`: {e}", path.display()));
    text.lines().map(|line| line.split(',').map(str::to_owned).collect()).collect()
}

#[test]
fn masks_robustness_video_and_maps_are_measured_and_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    draw_scenes(&folder.path().join("scenes"));
    curated(&out, "120");
    facts(&out, &["ingest", "--data", text(&folder.path().join("scenes")), "--as-probe"]);
    tiny(&out, &["plan"]);
    tiny(&out, &["pretrain", "--device", "cpu", "--run", "r"]);
    let eval = ["eval", "--device", "cpu", "--run", "r", "--set", "eval.dense_images=40"];
    let scores = tiny(&out, &eval)[0]["facts"].clone();
    let dense = [
        "linear segmentation mIoU",
        "patch k-NN mIoU",
        "attention, best head",
        "attention, mean of heads",
        "centred box",
    ];
    for network in ["trained", "untrained"] {
        for name in dense.iter().chain(&["video J", "video F"]) {
            let value = measure(&scores, network, name)["value"].as_f64().expect("a number");
            assert!(value > 0.0 && value < 1.0, "{network}, {name}: {value}");
        }
        let linear = measure(&scores, network, dense[0]);
        assert_eq!(linear["settings"]["classes in the test views"], 8.0, "{linear:#}");
        assert!(linear["settings"]["pixel accuracy"].as_f64() > Some(0.5), "{linear:#}");
        assert_eq!(linear["notes"].as_array().map(Vec::len), Some(1), "two masks of another size: {linear:#}");
        let robustness = &scores[network]["robustness"];
        assert_eq!(robustness["transformations"].as_array().map(Vec::len), Some(11));
    }
    // One image of each split has no mask but the bad one.
    assert_eq!(measure(&scores, "trained", dense[0])["images"], 31);
    assert_eq!(measure(&scores, "trained", dense[4])["value"], measure(&scores, "untrained", dense[4])["value"]);

    let folder = out.join("pile/evals/r/scenes");
    let shifted = rows(&folder.join("robustness.csv"));
    assert_eq!(shifted.len(), 1 + 2 * (1 + 11 * 5));
    assert_eq!(shifted[1][..4], ["trained", "none", "0", ""]);
    assert_eq!(rows(&folder.join("map.csv")).len(), 1 + 32);
    let neighbours = rows(&folder.join("neighbours.csv"));
    assert_eq!(neighbours[0][..4], ["query", "rank", "image_id", "similarity"]);
    assert!(neighbours.len() > 80 && (neighbours.len() - 1).is_multiple_of(10), "{}", neighbours.len());
    assert!(rows(&folder.join("matches.csv")).len() > 4);
    for picture in ["patch_colours.png", "matches/1.png", "matches/4.png"] {
        let image = image::open(folder.join(picture)).unwrap_or_else(|e| panic!("{picture}: {e}"));
        assert!(image.width() >= 128, "{picture}");
    }
    assert_eq!(std::fs::read_dir(folder.join("attention")).expect("a folder").count(), 2);

    // For people, in the same order.
    let mut said = vec!["eval", "--device", "cpu", "--run", "r", "--out", text(&out), "--set", "eval.dense_images=40"];
    said.extend(crate::run::TINY);
    let said = say(&said);
    for line in ["linear segmentation mIoU", "video F", "perspective", "note: linear segmentation mIoU:"] {
        assert!(said.contains(line), "{line} in {said}");
    }

    // At another size, and with what can be left out left out.
    let other = "eval.attention_px=100";
    let none = ["eval.dense_images=0", "eval.robustness_images=0", "eval.video_sequences=0", "eval.map_images=0"];
    let mut arguments = vec!["eval", "--device", "cpu", "--run", "r"];
    let tiny_first = crate::run::TINY;
    arguments.extend(tiny_first);
    for key in none.iter().chain(&[other, "eval.neighbour_queries=0"]) {
        arguments.extend(["--set", key]);
    }
    let scores = facts(&out, &arguments)[0]["facts"].clone();
    let names: Vec<&str> = scores["trained"]["measures"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|one| one["name"].as_str())
        .collect();
    assert!(names.iter().all(|name| ["mAP", "copy"].iter().any(|of| name.contains(of))), "{names:?}");
    assert_eq!(scores["trained"]["robustness"], Value::Null);
    assert!(!folder.join("robustness.csv").exists() && !folder.join("map.csv").exists());
    assert!(!folder.join("neighbours.csv").exists() && folder.join("matches.csv").exists());
}

#[test]
fn a_probe_without_masks_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    curated(&out, "60");
    facts(&out, &["ingest", "--data", text(&DRAWN.probe()), "--as-probe"]);
    tiny(&out, &["plan"]);
    tiny(&out, &["pretrain", "--device", "cpu", "--run", "r", "--set", "pretrain.steps=2"]);
    let scores = tiny(&out, &["eval", "--device", "cpu", "--run", "r"])[0]["facts"].clone();
    let absent = measure(&scores, "trained", "segmentation");
    assert_eq!((&absent["value"], &absent["images"]), (&Value::Null, &json!(0)));
    assert!(absent["notes"][0].as_str().is_some_and(|note| note.contains("has a mask")), "{absent:#}");
}

#[test]
fn cocos_masks_are_measured() {
    let Some(coco) = shared("coco") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    curated(&out, "60");
    facts(&out, &["ingest", "--data", text(&coco), "--as-probe"]);
    tiny(&out, &["plan"]);
    tiny(&out, &["pretrain", "--device", "cpu", "--run", "r", "--set", "pretrain.steps=2"]);
    let scores =
        tiny(&out, &["eval", "--device", "cpu", "--run", "r", "--set", "eval.dense_images=60"])[0]["facts"].clone();
    let linear = measure(&scores, "trained", "linear segmentation mIoU");
    assert!(linear["value"].as_f64().is_some_and(|value| value > 0.005), "{linear:#}");
    assert!(linear["images"].as_u64() > Some(40) && linear["notes"] == json!([]), "{linear:#}");
    assert!(measure(&scores, "trained", "attention, best head")["value"].as_f64() > Some(0.05));
}
