//! Sources as people have them: OUT inside DATA, layouts that are mixed, exports that are read again, names of all kinds.

use crate::run::{DRAWN, binary, facts, lapidary, text};
use arrow::array::{Array, AsArray, Int64Array, ListArray, StringArray, StructArray};
use lapidary_pipeline::ShardRows;
use lapidary_pipeline::stage::{Layout, column};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A drawn picture, another for each number.
fn picture(number: usize) -> Vec<u8> {
    let mut all: Vec<PathBuf> = walk(&DRAWN.probe());
    all.retain(|path| path.extension().is_some_and(|e| e == "png" || e == "jpg"));
    all.sort();
    std::fs::read(&all[number % all.len()]).expect("reads")
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("lists").map(|entry| entry.expect("reads").path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

fn write(path: &Path, bytes: &[u8]) {
    std::fs::create_dir_all(path.parent().expect("has one")).expect("creates");
    std::fs::write(path, bytes).expect("writes");
}

/// A folder of two splits in COCO's layout, some images in subfolders of one name.
fn coco(folder: &Path) {
    for (split, first) in [("train2017", 0), ("val2017", 8)] {
        let (mut images, mut objects) = (Vec::new(), Vec::new());
        for k in 0..8 {
            let name = format!("{}{}.png", ["", "x/"][k % 2], k / 2);
            write(&folder.join(split).join(&name), &picture(first + k));
            let id = 1000 + 7 * (first + k);
            images.push(json!({"id": id, "file_name": name, "license": 4}));
            for j in 0..k % 3 {
                let (category, area) = ([90, 3][j % 2], 150.33 - j as f64);
                let object = json!({"id": 100 * id + j, "image_id": id, "category_id": category,
                    "bbox": [1.5, 2.25, 10.1, 20.7], "area": area, "iscrowd": 0, "segmentation": [[1, 2, 3.3, 4, 5, 6]]});
                objects.push(object);
            }
        }
        let json = json!({"images": images, "annotations": objects, "licenses": [{"id": 4, "name": "CC", "url": "u"}],
            "categories": [{"id": 90, "name": "cat"}, {"id": 3, "name": "dog"}, {"id": 17, "name": "eel"}]});
        write(&folder.join(format!("annotations/instances_{split}.json")), json.to_string().as_bytes());
    }
}

fn inside(folder: &Path, arguments: &[&str]) -> Value {
    let run = Command::new(binary()).args(arguments).arg("--json").current_dir(folder).output().expect("starts");
    assert!(run.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&run.stderr));
    let said = String::from_utf8(run.stdout).expect("UTF-8");
    serde_json::from_str(said.lines().next().unwrap_or("null")).expect("JSON")
}

#[test]
fn out_inside_data_is_never_input() {
    let temporary = tempfile::tempdir().expect("a folder");
    let (plain, with_json) = (temporary.path().join("photos"), temporary.path().join("coco"));
    for number in 0..10 {
        write(&plain.join(format!("{number}.png")), &picture(number));
    }
    coco(&with_json);
    for folder in [plain, with_json] {
        let first = inside(&folder, &["ingest", "--data", "."]);
        let chain: [&[&str]; 6] = [
            &["fingerprint"],
            &["embed"],
            &["curate"],
            &["cut", "--size", "all", "--export", "folder"],
            &["cut", "--size", "all", "--export", "coco"],
            &["cut", "--size", "all", "--export", "parquet"],
        ];
        for verb in chain {
            inside(&folder, verb);
        }
        // Another tree, which this command does not know of.
        inside(&folder, &["ingest", "--data", ".", "--out", "./other-out/"]);
        for out in ["out", "./out/", "other-out/../out"] {
            let again = inside(&folder, &["ingest", "--data", ".", "--out", out]);
            assert_eq!(again["outcome"], "up_to_date", "{}: {out}", folder.display());
            assert_eq!(again["rows"], first["rows"]);
        }
        let status = inside(&folder, &["status"]);
        let stages = status.as_array().expect("a list");
        let stale: Vec<&Value> = stages.iter().filter(|stage| stage["state"] != "up_to_date").collect();
        assert!(stages.len() > 5 && stale.is_empty(), "{stale:?}");
    }
}

#[test]
fn the_layout_is_what_is_there_or_what_is_asked_for() {
    let temporary = tempfile::tempdir().expect("a folder");
    let data = temporary.path().join("data");
    coco(&data);
    let out = temporary.path().join("out");
    let ingest = |layout: &str, name: &str| {
        let arguments =
            ["ingest", "--data", text(&data), "--layout", layout, "--name", name, "--set", "ingest.max_reject=1"];
        facts(&out, &arguments).remove(0)
    };
    assert_eq!(ingest("auto", "a")["facts"]["layout"], "COCO");
    let folder = ingest("folder", "b");
    assert_eq!((&folder["facts"]["layout"], &folder["rows"]["output"]), (&json!("image folder"), &json!(16)));
    let shard = out.join("a/images/part-00000.parquet");
    std::fs::copy(&shard, data.join("stray.parquet")).expect("copies");
    let run = lapidary(&["ingest", "--data", text(&data), "--name", "c", "--out", text(&out)]);
    let log = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(log.contains("layout COCO") && log.contains("instances_train2017.json"), "{log}");
    assert_eq!(run.status.code(), Some(3), "the table's pictures are not passed over: {log}");
    assert!(log.contains("1 other_layout"), "{log}");
    let tables = ingest("parquet", "d");
    assert_eq!((&tables["facts"]["layout"], &tables["rows"]["output"]), (&json!("Parquet"), &json!(16)));
    assert_eq!(tables["facts"]["rejected_by_reason"], json!({"other_layout": 16}));
    let refused = lapidary(&["ingest", "--data", text(&DRAWN.probe()), "--layout", "parquet", "--out", text(&out)]);
    assert!(!refused.status.success());
}

/// Of each image, by its digest: class, split, classes and boxes.
fn rows_of(out: &Path, source: &str) -> BTreeMap<String, Value> {
    let images = out.join(source).join("images");
    let manifest: Value =
        serde_json::from_slice(&std::fs::read(images.join("manifest.json")).expect("reads")).expect("JSON");
    let class = |label: i64| manifest["facts"]["classes"][label as usize].clone();
    let mut found = BTreeMap::new();
    for shard in Layout::shards(&images).expect("shards") {
        for batch in ShardRows::open(&shard, 64).expect("opens") {
            let batch = batch.expect("reads");
            let text =
                |name: &str, row: usize| column::<StringArray>(&batch, name).expect("is there").value(row).to_owned();
            let label: &Int64Array = column(&batch, "label").expect("is there");
            let (labels, lists): (&ListArray, &ListArray) =
                (column(&batch, "labels").expect("is there"), column(&batch, "annotations").expect("is there"));
            for row in 0..batch.num_rows() {
                let classes: Vec<Value> = if labels.is_valid(row) {
                    labels
                        .value(row)
                        .as_primitive::<arrow::datatypes::Int64Type>()
                        .values()
                        .iter()
                        .map(|l| class(*l))
                        .collect()
                } else {
                    Vec::new()
                };
                let mut boxes: Vec<String> = Vec::new();
                if lists.is_valid(row) {
                    let objects = lists.value(row);
                    let objects: &StructArray = objects.as_struct();
                    let debug = |name: &str, at: usize| {
                        format!("{:?}", objects.column_by_name(name).expect("is there").slice(at, 1))
                    };
                    for at in 0..objects.len() {
                        boxes.push(["category_id", "bbox", "area", "iscrowd"].map(|name| debug(name, at)).concat());
                    }
                }
                let own = if label.is_valid(row) { class(label.value(row)) } else { Value::Null };
                found.insert(text("digest", row), json!([own, text("split", row), classes, boxes]));
            }
        }
    }
    found
}

#[test]
fn what_is_exported_is_read_back_whole() {
    let temporary = tempfile::tempdir().expect("a folder");
    let (out, back) = (temporary.path().join("out"), temporary.path().join("back"));
    let mut number = 0;
    for path in ["cat/1", "dog/1", "traffic light/1", "été/1", "a%2Fb/1", "_y/1"] {
        write(&temporary.path().join("classes").join(format!("{path}.png")), &picture(number));
        write(&temporary.path().join("splits/train").join(format!("{path}.png")), &picture(number + 1));
        write(&temporary.path().join("splits/test").join(format!("{path}.png")), &picture(number + 2));
        number += 3;
    }
    coco(&temporary.path().join("coco"));
    for (name, formats) in [
        ("classes", &["folder", "parquet"][..]),
        ("splits", &["folder", "parquet"]),
        ("coco", &["coco", "parquet", "folder"]),
    ] {
        facts(&out, &["ingest", "--data", text(&temporary.path().join(name))]);
        for verb in [&["fingerprint"][..], &["embed"], &["curate", "--set", "curate.evidence=[]"]] {
            facts(&out, verb);
        }
        let before = rows_of(&out, name);
        for format in formats {
            facts(&out, &["cut", "--source", name, "--size", "all", "--export", format]);
            let export = out.join(name).join(format!("subsets/all.{format}"));
            let source = format!("{name}-{format}");
            facts(&back, &["ingest", "--data", text(&export), "--name", &source]);
            let mut after = rows_of(&back, &source);
            if *format == "folder" {
                // A folder has one class an image and no boxes.
                for (digest, row) in &mut after {
                    (row[2], row[3]) = (before[digest][2].clone(), before[digest][3].clone());
                }
            }
            assert_eq!(after, before, "{name} as {format}");
        }
    }
}

#[test]
fn every_name_of_a_file_is_an_image_of_its_own() {
    let temporary = tempfile::tempdir().expect("a folder");
    let data = temporary.path().join("data");
    let long = format!("{}.png", "x".repeat(251));
    let names: Vec<&[u8]> = vec![
        b"plain.png",
        b"-leading-dash.png",
        b"two\nlines.png",
        b"latin-\xe9.png",
        b"latin-\xe8.png",
        b"latin-\xff.png",
        b"latin-%E9.png",
        b"back\\slash.png",
        b"back/slash.png",
        b"a#0.png",
        b"what?.png",
        b"[brackets].png",
        b"star*.png",
        b"100%25.png",
        long.as_bytes(),
        "nfc-\u{e9}.png".as_bytes(),
        "nfc-e\u{301}.png".as_bytes(),
        b"no-extension",
        b"UPPER.PNG",
        b"upper.png",
        b"photo.jpg_large",
    ];
    for (number, name) in names.iter().enumerate() {
        write(&data.join(OsStr::from_bytes(name)), &picture(number));
    }
    write(&data.join("._plain.png"), b"\0\x05\x16\x07");
    std::os::unix::fs::symlink("gone.png", data.join("dangling.png")).expect("links");
    let out = temporary.path().join("out");
    let said = facts(&out, &["ingest", "--data", text(&data)]).remove(0);
    assert_eq!(
        (said["rows"]["output"].as_u64(), said["rows"]["rejected"].as_u64()),
        (Some(names.len() as u64), Some(1))
    );
    assert_eq!(said["facts"]["rejected_by_reason"], json!({"missing_file": 1}));
    for verb in [
        &["fingerprint"][..],
        &["embed"],
        &["curate", "--set", "curate.evidence=[]"],
        &["cut", "--size", "all", "--export", "coco"],
    ] {
        facts(&out, verb);
    }
    let exported = walk(&out.join("data/subsets/all.coco/all"));
    assert_eq!(exported.len(), names.len());
    assert_eq!(facts(&out, &["ingest", "--data", text(&data)]).remove(0)["outcome"], "up_to_date");
    assert_eq!(facts(&out, &["explain", "latin-%E9.png"]).remove(0)["path"], "latin-%E9.png");
}
