use super::*;
use crate::images::Notes;
use crate::ingest::sources::{Fetcher, LayoutChoice, Options, open_source};
use serde_json::json;
use std::collections::BTreeMap;

/// A folder with these files, of which JSON is given and images hold a byte.
struct Planted(tempfile::TempDir);

impl Planted {
    fn new(images: &[&str], jsons: &[(&str, String)]) -> Self {
        let temporary = tempfile::tempdir().expect("a folder");
        let all = images.iter().map(|path| (*path, "x")).chain(jsons.iter().map(|(path, text)| (*path, text.as_str())));
        for (path, text) in all {
            let path = temporary.path().join(path);
            std::fs::create_dir_all(path.parent().expect("has one")).expect("creates");
            std::fs::write(path, text).expect("writes");
        }
        Self(temporary)
    }

    fn list(&self) -> Result<Listed> {
        let options = Options { layout: LayoutChoice::Coco, leave_out: Vec::new() };
        let spool = self.0.path().join(".spool");
        let listing = open_source(self.0.path(), &options)?.list(&spool)?;
        let fetcher = Fetcher::new(&spool)?;
        let notes = |entry: &Entry| (entry.path.clone(), fetcher.notes(entry).expect("reads"));
        let notes = listing.entries.iter().map(notes).collect();
        Ok(Listed { listing, notes })
    }
}

struct Listed {
    listing: Listing,
    notes: BTreeMap<String, Notes>,
}

impl Listed {
    fn paths(&self) -> Vec<&str> {
        self.notes.keys().map(String::as_str).collect()
    }

    fn rejects(&self) -> Vec<(&str, &str)> {
        let mut reasons: Vec<_> = self.listing.rejects.iter().map(|r| (r.reason.code(), r.path.as_str())).collect();
        reasons.sort_unstable();
        reasons
    }

    /// Classes of an image's objects, by name.
    fn classes(&self, path: &str) -> Vec<&str> {
        let class = |id: i64| self.listing.category_ids.iter().position(|known| *known == id).expect("is known");
        let objects = self.notes[path].annotations.iter().flatten();
        objects.map(|object| self.listing.classes[class(object.category_id)].as_str()).collect()
    }
}

fn one_image(change: impl FnOnce(&mut Value)) -> Planted {
    let mut json = json!({
        "images": [{"id": 1, "file_name": "a.jpg", "width": 64, "height": 48, "license": 1}],
        "categories": [{"id": 7, "name": "cat"}],
        "licenses": [{"id": 1, "name": "CC"}],
        "annotations": [{"id": 5, "image_id": 1, "category_id": 7, "bbox": [0, 0, 2, 2], "area": 4, "iscrowd": 0}],
    });
    change(&mut json);
    Planted::new(&["val/a.jpg"], &[("annotations/instances_val.json", json.to_string())])
}

#[test]
fn every_input_of_a_crooked_folder_has_its_reason() {
    let json = r#"{"images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "gone.jpg"},
        {"id": 3, "file_name": "../../secret.jpg"}, {"id": 4, "file_name": "./a.jpg"}, 7, {oops}, {"id": 9}],
        "categories": [{"id": 7, "name": "cat"}, {"id": 9, "name": "dog"}],
        "annotations": [{"image_id": 1, "category_id": 7, "bbox": [0, 0, 2, 2], "area": 4},
            {"image_id": 4, "category_id": 9, "bbox": [0, 0, 3, 3], "area": 9, "iscrowd": 1},
            {"image_id": 99, "category_id": 7, "bbox": [0, 0, 1, 1]}]}"#;
    let images = ["val/a.jpg", "val/stray.jpg", "val/notes.txt", "extra/b.jpg", "c.jpg"];
    let listed = Planted::new(&images, &[("annotations/instances_val.json", json.to_owned())]).list().expect("lists");
    assert_eq!(listed.paths(), ["c.jpg", "extra/b.jpg", "val/a.jpg"]);
    assert_eq!(listed.listing.entries[0].label, Some(0), "a crowd does not label an image");
    assert_eq!(listed.classes("val/a.jpg"), ["cat", "dog"], "an image that is named twice has the objects of both");
    let expected = [
        ("bad_record", "annotations/instances_val.json#images/4"),
        ("bad_record", "annotations/instances_val.json#images/5"),
        ("bad_record", "annotations/instances_val.json#images/6"),
        ("duplicate_entry", "val/a.jpg"),
        ("missing_file", "val/gone.jpg"),
        ("not_listed", "val/stray.jpg"),
        ("path_escapes", "../../secret.jpg"),
    ];
    assert_eq!(listed.rejects(), expected);
    let oops = listed.listing.rejects.iter().find(|r| r.path.ends_with("images/5")).expect("is there");
    assert_eq!(oops.offset_bytes, json.find("{oops}").map(|at| at as i64), "a reject has its place");
    assert_eq!(listed.listing.bad_annotations, BTreeMap::from([("unknown_image", 1)]));
}

#[test]
fn odd_objects_are_read_where_they_are_plain_and_counted_where_not() {
    for (odd, kind) in [
        (json!({"bbox": []}), "no_box"),
        (json!({"bbox": null}), "no_box"),
        (json!({"bbox": [null, 1, 2, 3]}), "box_not_of_four_numbers"),
        (json!({"bbox": [1, 1, 0, 5]}), "box_of_no_size"),
        (json!({"bbox": [600, 600, 5, 5]}), "box_outside_image"),
        (json!({"image_id": null}), "no_image_id"),
        (json!({"image_id": 77}), "unknown_image"),
        (json!({"category_id": null}), "no_category"),
        (json!({"category_id": 77}), "unknown_category"),
        (json!({"iscrowd": false}), ""),
        (json!({"iscrowd": null}), ""),
        (json!({"area": null}), ""),
        (json!({"area": "25"}), ""),
        (json!({"bbox": ["2", "2", "5", "5"]}), ""),
        (json!({"category_id": "7"}), ""),
        (json!({"image_id": 1.0}), ""),
        (json!({"image_id": "1"}), ""),
    ] {
        let planted = one_image(|json| {
            let mut object = json!({"id": 6, "image_id": 1, "category_id": 7, "bbox": [2, 2, 5, 5], "area": 25});
            object.as_object_mut().expect("is one").extend(odd.as_object().expect("is one").clone());
            json["annotations"].as_array_mut().expect("a list").push(object);
        });
        let listed = planted.list().expect("lists");
        let bad: Vec<&str> = listed.listing.bad_annotations.keys().copied().collect();
        assert_eq!(bad, if kind.is_empty() { vec![] } else { vec![kind] }, "{odd}");
        let notes = &listed.notes["val/a.jpg"];
        let objects = notes.annotations.as_ref().expect("has some").len();
        assert_eq!(objects, if kind.is_empty() { 2 } else { 1 }, "{odd}");
        let lost = ["no_image_id", "unknown_image"].contains(&kind);
        assert_eq!(notes.records.len(), usize::from(!kind.is_empty() && !lost), "{odd}: its record is kept");
    }
}

#[test]
fn lists_may_be_missing_null_or_odd() {
    for (name, odd) in [
        ("licenses", json!(null)),
        ("licenses", json!([{"id": 1}, {}, 7])),
        ("info", json!(null)),
        ("categories", json!([{"id": 7, "name": 7}])),
        ("categories", json!([{"id": 7}])),
        ("images", json!([{"id": "1.0", "file_name": "a.jpg", "license": "CC-BY 4.0"}])),
    ] {
        let listed = one_image(|json| json[name] = odd.clone()).list().expect("lists");
        assert_eq!((listed.paths(), listed.rejects().len()), (vec!["val/a.jpg"], 0), "{name}: {odd}");
        assert_eq!(listed.classes("val/a.jpg").len(), 1, "{name}: {odd}");
    }
    for name in ["annotations", "categories", "licenses"] {
        let listed = one_image(|json| _ = json.as_object_mut().expect("is one").remove(name)).list().expect("lists");
        assert_eq!((listed.paths(), listed.rejects().len()), (vec!["val/a.jpg"], 0), "{name}");
    }
    let listed = one_image(|json| json["images"][0]["license"] = json!("CC-BY 4.0")).list().expect("lists");
    assert_eq!(listed.listing.licenses, ["CC-BY 4.0"]);
}

#[test]
fn a_file_that_ends_early_is_named() {
    let planted = Planted::new(
        &["val/a.jpg"],
        &[("annotations/instances_val.json", r#"{"images": [{"id": 1, "file"#.to_owned())],
    );
    let error = planted.list().err().expect("fails").to_string();
    assert!(error.contains("instances_val.json") && error.contains("byte 27"), "{error}");
}

#[test]
fn not_a_number_and_a_byte_order_mark_are_taken() {
    let json = "\u{feff}{\"images\": [{\"id\": 1, \"file_name\": \"a.jpg\"}], \"categories\": [{\"id\": 7, \"name\": \"cat\"}], \"annotations\": [
        {\"id\": 1, \"image_id\": 1, \"category_id\": 7, \"bbox\": [NaN, 1, 2, 3], \"area\": 4},
        {\"id\": 2, \"image_id\": 1, \"category_id\": 7, \"bbox\": [1, 1, 2, 3], \"area\": NaN, \"score\": -Infinity}]}";
    let listed =
        Planted::new(&["val/a.jpg"], &[("annotations/instances_val.json", json.to_owned())]).list().expect("lists");
    assert_eq!(listed.listing.bad_annotations, BTreeMap::from([("box_not_of_four_numbers", 1)]));
    let objects = listed.notes["val/a.jpg"].annotations.as_ref().expect("has some");
    assert_eq!((objects.len(), objects[0].area_px), (1, 6.0));
}

#[test]
fn an_id_of_two_images_gives_its_annotations_to_neither() {
    let json = json!({
        "images": [{"id": 1, "file_name": "a.jpg"}, {"id": 1, "file_name": "b.jpg"}, {"id": 2, "file_name": "c.jpg"}],
        "categories": [{"id": 7, "name": "cat"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 7, "bbox": [0, 0, 2, 2]},
            {"id": 2, "image_id": 2, "category_id": 7, "bbox": [0, 0, 2, 2]},
        ],
    });
    let planted =
        Planted::new(&["val/a.jpg", "val/b.jpg", "val/c.jpg"], &[("annotations/instances_val.json", json.to_string())]);
    let listed = planted.list().expect("lists");
    assert_eq!(listed.listing.bad_annotations, BTreeMap::from([("image_id_of_several_images", 1)]));
    assert_eq!(listed.paths().into_iter().map(|path| listed.classes(path).len()).collect::<Vec<_>>(), [0, 0, 1]);
}

#[test]
fn a_class_is_the_name_that_its_own_json_gives() {
    let json = |names: &[(i64, &str)]| {
        let (mut images, mut objects, mut categories) = (Vec::new(), Vec::new(), Vec::new());
        for (at, (id, name)) in names.iter().enumerate() {
            images.push(json!({"id": at, "file_name": format!("{at}.jpg")}));
            objects.push(json!({"id": at, "image_id": at, "category_id": id, "bbox": [0, 0, 2, 2], "area": 4}));
            categories.push(json!({"id": id, "name": name}));
        }
        json!({"images": images, "annotations": objects, "categories": categories}).to_string()
    };
    let images = ["train/0.jpg", "train/1.jpg", "val/0.jpg", "val/1.jpg"];
    for (train, val) in [
        ([(1, "cat"), (2, "dog")], [(1, "dog"), (2, "cat")]),
        ([(1, "cat"), (2, "dog")], [(7, "cat"), (8, "dog")]),
        ([(1, "cat"), (2, "dog")], [(1, "car"), (2, "cat")]),
        ([(1, "cat"), (5, "cat")], [(5, "cat"), (1, "dog")]),
    ] {
        let jsons =
            [("annotations/instances_train.json", json(&train)), ("annotations/instances_val.json", json(&val))];
        let listed = Planted::new(&images, &jsons).list().expect("lists");
        for (split, names) in [("train", train), ("val", val)] {
            for (at, (_, name)) in names.iter().enumerate() {
                let path = format!("{split}/{at}.jpg");
                assert_eq!(listed.classes(&path), [*name], "{path} of {train:?}, {val:?}");
                let record =
                    listed.notes[&path].annotations.as_ref().expect("has some")[0].record.clone().expect("is kept");
                let record: Value = serde_json::from_str(&record).expect("JSON");
                let class = listed.listing.classes.iter().position(|class| class == name).expect("is known");
                assert_eq!(record["category_id"], listed.listing.category_ids[class], "the record says the same");
            }
        }
        let distinct: HashSet<&String> = listed.listing.classes.iter().collect();
        assert_eq!(distinct.len(), listed.listing.classes.len(), "{:?}", listed.listing.classes);
    }
}

#[test]
fn what_files_say_of_one_object_is_put_together_and_captions_are_kept() {
    let object = r#"{"id": 5, "image_id": 1, "category_id": 7, "bbox": [0, 0, 2.50, 2], "area": 4.10, "segmentation": [[0.10, 0, 2, 0, 2, 2]]}"#;
    let person =
        r#"{"id": 5, "image_id": 1, "category_id": 7, "bbox": [0, 0, 2.5, 2], "area": 4.1, "keypoints": [1, 1, 2]}"#;
    let file = |annotation: &str, categories: &str| {
        format!(
            r#"{{"images": [{{"id": 1, "file_name": "a.jpg", "date": "2013"}}], "categories": {categories}, "annotations": [{annotation}]}}"#
        )
    };
    let caption = r#"{"id": 5, "image_id": 1, "caption": "a  cat\u00e9"}"#;
    let jsons = [
        ("annotations/captions_val.json", file(caption, "[]")),
        ("annotations/instances_val.json", file(object, r#"[{"id": 7, "name": "cat", "supercategory": "animal"}]"#)),
        ("annotations/person_keypoints_val.json", file(person, r#"[{"id": 7, "name": "cat", "keypoints": ["nose"]}]"#)),
    ];
    let only_instances = Planted::new(&["val/a.jpg"], &jsons[1..2]).list().expect("lists");
    let notes = &only_instances.notes["val/a.jpg"];
    assert_eq!(notes.annotations.as_ref().expect("has some")[0].record.as_deref(), Some(object), "to the letter");
    assert_eq!(notes.record.as_deref(), Some(r#"{"id": 1, "file_name": "a.jpg", "date": "2013"}"#));
    let listed = Planted::new(&["val/a.jpg"], &jsons).list().expect("lists");
    let notes = &listed.notes["val/a.jpg"];
    assert_eq!(notes.records, [caption]);
    assert!(listed.listing.bad_annotations.is_empty());
    let objects = notes.annotations.as_ref().expect("has some");
    let record: Value = serde_json::from_str(objects[0].record.as_ref().expect("is kept")).expect("JSON");
    assert_eq!(
        (objects.len(), &record["keypoints"], &record["segmentation"][0][0]),
        (1, &json!([1, 1, 2]), &json!(0.1))
    );
    let category = json!({"id": 7, "name": "cat", "supercategory": "animal", "keypoints": ["nose"]});
    assert_eq!(listed.listing.categories, [category]);
    assert_eq!(listed.listing.labels_of(&listed.listing.entries[0]), Some(vec![0]));
}

#[test]
fn an_image_of_two_splits_is_of_the_one_whose_folder_it_lies_in() {
    let json = r#"{"images": [{"id": 1, "file_name": "a.jpg"}]}"#.to_owned();
    let jsons =
        [("annotations/instances_minival2014.json", json.clone()), ("annotations/instances_val2014.json", json)];
    let listed = Planted::new(&["val2014/a.jpg"], &jsons).list().expect("lists");
    assert_eq!(listed.listing.splits[listed.listing.entries[0].split as usize], "val2014");
    assert!(listed.rejects().is_empty());
}

#[test]
fn names_that_are_not_utf8_are_found_as_python_writes_them() {
    use std::os::unix::ffi::OsStrExt;
    for name in ["\"latin-\\udce9.jpg\"".as_bytes(), b"\"latin-\xe9.jpg\""] {
        let mut json = b"{\"images\": [{\"id\": 1, \"file_name\": ".to_vec();
        json.extend_from_slice(name);
        json.extend_from_slice(b"}]}");
        let planted = Planted::new(&["val/b.jpg"], &[]);
        let root = planted.0.path();
        std::fs::write(root.join("val").join(std::ffi::OsStr::from_bytes(b"latin-\xe9.jpg")), b"x").expect("writes");
        std::fs::create_dir(root.join("annotations")).expect("creates");
        std::fs::write(root.join("annotations/instances_val.json"), json).expect("writes");
        let listed = planted.list().expect("lists");
        assert_eq!(listed.paths(), ["val/latin-%E9.jpg"]);
        assert_eq!(listed.rejects(), [("not_listed", "val/b.jpg")]);
    }
}
