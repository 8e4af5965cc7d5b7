//! Sources against pycocotools and `datasets`: see tests/golden/sources.py.

use crate::run::{facts, text};
use arrow::array::{Array, AsArray, Int64Array, ListArray, RecordBatch, StringArray, StructArray};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use lapidary_pipeline::ShardRows;
use lapidary_pipeline::stage::{Layout, column};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

static GOLDEN: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../golden/sources.json")).expect("JSON"));

fn decoded(text: &Value) -> Vec<u8> {
    BASE64_STANDARD.decode(text.as_str().expect("a text")).expect("base64")
}

fn pictures() -> Vec<Vec<u8>> {
    GOLDEN["pictures"].as_array().expect("a list").iter().map(decoded).collect()
}

/// Writes a fixture's files into a folder.
fn plant(folder: &Path, fixture: &Value) {
    for (path, content) in fixture["files"].as_object().expect("files") {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().expect("has one")).expect("creates");
        let bytes = match (&content["picture"], &content["text"]) {
            (Value::Number(number), _) => pictures()[number.as_u64().expect("a number") as usize].clone(),
            (_, Value::String(text)) => text.clone().into_bytes(),
            _ => decoded(&content["base64"]),
        };
        std::fs::write(path, bytes).expect("writes");
    }
}

fn fixtures(kind: &str) -> impl Iterator<Item = (&'static String, &'static Value)> {
    GOLDEN[kind].as_object().expect("fixtures").iter()
}

fn number_of(bytes: &[u8]) -> usize {
    pictures().iter().position(|picture| picture == bytes).expect("is a fixture's picture")
}

fn rows(out: &Path, source: &str) -> Vec<RecordBatch> {
    let shards = Layout::shards(&out.join(source).join("images")).expect("shards");
    shards
        .iter()
        .flat_map(|shard| ShardRows::open(shard, 64).expect("opens").map(|batch| batch.expect("reads")))
        .collect()
}

fn picture_at(batch: &RecordBatch, row: usize) -> usize {
    let image: &StructArray = column(batch, "image").expect("is there");
    number_of(image.column_by_name("bytes").expect("is there").as_binary::<i32>().value(row))
}

#[test]
fn parquet_is_read_as_datasets_reads_it() {
    for (name, fixture) in fixtures("parquet") {
        let folder = tempfile::tempdir().expect("a folder");
        plant(&folder.path().join(name), fixture);
        let out = folder.path().join("out");
        let said = facts(&out, &["ingest", "--data", text(&folder.path().join(name))]).remove(0);
        let classes = said["facts"]["classes"].as_array().expect("a list").clone();
        let mut found: BTreeMap<String, BTreeMap<usize, Value>> = BTreeMap::new();
        for batch in rows(&out, name) {
            let (splits, labels): (&StringArray, &Int64Array) =
                (column(&batch, "split").expect("is there"), column(&batch, "label").expect("is there"));
            for row in 0..batch.num_rows() {
                // `datasets` takes names for 64-bit labels only, and gives others as numbers.
                let narrow = ["large", "uint8"].contains(&name.as_str());
                let class =
                    |label: i64| if narrow { label.to_string().into() } else { classes[label as usize].clone() };
                let label = if labels.is_valid(row) { class(labels.value(row)) } else { Value::Null };
                found.entry(splits.value(row).to_owned()).or_default().insert(picture_at(&batch, row), label);
            }
        }
        let found: BTreeMap<&String, Vec<Value>> = found
            .iter()
            .map(|(split, rows)| (split, rows.iter().map(|(n, label)| json!([n, label])).collect()))
            .collect();
        assert_eq!(json!(found), fixture["reference"], "{name}");
        if ["large", "uint8"].contains(&name.as_str()) {
            assert_eq!(classes, ["cat", "dog", "eel"], "{name}");
        }
    }
}

/// What an export's JSON files say, in the form of the reference.
fn exported(folder: &Path) -> Value {
    let (mut images, mut categories, mut annotations) = (Map::new(), Map::new(), BTreeMap::new());
    let mut jsons: Vec<PathBuf> =
        std::fs::read_dir(folder.join("annotations")).expect("lists").map(|e| e.expect("reads").path()).collect();
    jsons.sort();
    for json in jsons {
        let split =
            json.file_stem().expect("has one").to_string_lossy().rsplit_once('_').expect("a split").1.to_owned();
        let read: Value = serde_json::from_slice(&std::fs::read(&json).expect("reads")).expect("JSON");
        let list = |name: &str| read[name].as_array().cloned().unwrap_or_default();
        let mut numbers: BTreeMap<String, usize> = BTreeMap::new();
        for mut image in list("images") {
            let path = folder.join(&split).join(image["file_name"].as_str().expect("a name"));
            let number = number_of(&std::fs::read(path).expect("is there"));
            assert!(numbers.insert(image["id"].to_string(), number).is_none(), "an id comes twice");
            let fields = image.as_object_mut().expect("an object");
            fields.retain(|key, _| key != "file_name" && key != "license");
            images.insert(number.to_string(), image);
        }
        let names: BTreeMap<String, Value> =
            list("categories").into_iter().map(|c| (c["id"].to_string(), c["name"].clone())).collect();
        categories.extend(list("categories").into_iter().map(|c| (c["name"].as_str().expect("a name").to_owned(), c)));
        let mut ids = BTreeSet::new();
        for mut one in list("annotations") {
            assert!(ids.insert(one["id"].to_string()), "an id comes twice");
            let image = numbers[&one["image_id"].to_string()];
            let category = names.get(&one["category_id"].to_string()).cloned().unwrap_or_default();
            let kind = if one["caption"].is_null() { "object" } else { "caption" };
            one.as_object_mut().expect("an object").retain(|key, _| key != "image_id" && key != "category_id");
            let key = (image, kind, one["id"].as_u64());
            annotations.insert(key, json!({"image": image, "category": category, "record": one}));
        }
    }
    let annotations: Vec<Value> = annotations.into_values().collect();
    json!({"images": images, "categories": categories, "annotations": annotations})
}

#[test]
fn coco_is_read_as_pycocotools_reads_it_and_given_back_unchanged() {
    for (name, fixture) in fixtures("coco") {
        let folder = tempfile::tempdir().expect("a folder");
        plant(&folder.path().join(name), fixture);
        let out = folder.path().join("out");
        let reference = &fixture["reference"];
        let said = facts(&out, &["ingest", "--data", text(&folder.path().join(name)), "--set", "ingest.max_reject=1"])
            .remove(0);
        assert_eq!(said["facts"]["layout"], "COCO", "{name}");
        assert_eq!(said["rows"]["output"], reference["images"].as_object().expect("images").len(), "{name}");
        assert_eq!(said["rows"]["rejected"], 0, "{name}");
        let ids = said["facts"]["category_ids"].as_array().expect("a list");
        let names = said["facts"]["classes"].as_array().expect("a list");
        assert_eq!(names.len(), reference["categories"].as_object().expect("categories").len(), "{name}");
        // Where files number their categories differently, one number holds for all: there only names are compared.
        let renumbered = name == "swapped";
        for (id, class) in ids.iter().zip(names) {
            let known = &reference["categories"][class.as_str().expect("a name")];
            assert!(known["name"] == *class && (renumbered || known["id"] == *id), "{name}: {class} is {id}");
        }
        objects_are_those_of(name, &out, reference, ids, names);
        for verb in [
            &["fingerprint"][..],
            &["embed"],
            &["curate", "--set", "curate.evidence=[]"],
            &["cut", "--size", "all", "--export", "coco"],
        ] {
            facts(&out, verb);
        }
        let mut found = exported(&out.join(name).join("subsets/all.coco"));
        if renumbered {
            found["categories"] = reference["categories"].clone();
        }
        for list in ["images", "categories", "annotations"] {
            assert_eq!(found[list], reference[list], "{name}: {list}");
        }
    }
}

/// Every object with a plain box is in the table with its image, class and box.
fn objects_are_those_of(name: &str, out: &Path, reference: &Value, ids: &[Value], names: &[Value]) {
    let mut found: BTreeMap<(u64, u64), (Value, Vec<f64>)> = BTreeMap::new();
    for batch in rows(out, name) {
        let lists: &ListArray = column(&batch, "annotations").expect("is there");
        for row in (0..batch.num_rows()).filter(|row| lists.is_valid(*row)) {
            let objects = lists.value(row);
            let objects = objects.as_struct();
            let field = |name: &str| objects.column_by_name(name).expect("is there");
            let categories = field("category_id").as_primitive::<arrow::datatypes::Int64Type>();
            for object in 0..objects.len() {
                let record = field("record").as_string::<i32>().value(object);
                let record: Value = serde_json::from_str(record).expect("JSON");
                let class = ids.iter().position(|id| *id == categories.value(object)).expect("is known");
                let bbox = field("bbox").as_list::<i32>().value(object);
                let bbox = bbox.as_primitive::<arrow::datatypes::Float32Type>().values().iter().map(|v| f64::from(*v));
                let key = (picture_at(&batch, row) as u64, record["id"].as_u64().expect("an id"));
                found.insert(key, (names[class].clone(), bbox.collect()));
            }
        }
    }
    let annotations = reference["annotations"].as_array().expect("a list");
    let (width, height) = (16.0, 12.0);
    let mut plain = 0;
    for one in annotations.iter().filter(|one| !one["category"].is_null()) {
        let number = |v: &Value| v.as_f64().or_else(|| v.as_str().and_then(|text| text.parse().ok()));
        let bbox: Option<Vec<f64>> = one["record"]["bbox"].as_array().and_then(|b| b.iter().map(number).collect());
        let Some(bbox) = bbox.filter(|b| b.len() == 4 && b[2] > 0.0 && b[3] > 0.0 && b[0] < width && b[1] < height)
        else {
            continue;
        };
        plain += 1;
        let key = (one["image"].as_u64().expect("a number"), one["record"]["id"].as_u64().expect("an id"));
        let (class, found) = found.get(&key).unwrap_or_else(|| panic!("{name}: object {key:?} is lost"));
        assert_eq!(*class, one["category"], "{name}: {key:?}");
        assert!(found.iter().zip(&bbox).all(|(a, b)| (a - b).abs() < 1e-5), "{name}: {found:?}, not {bbox:?}");
    }
    assert_eq!(plain, found.len(), "{name}");
}
