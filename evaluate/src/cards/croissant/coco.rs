//! An export as COCO: its image files as those of a folder, and for each split the records of images and the annotations.
//!
//! Annotations keep the words of their source, so that only what all annotations of a file have is a field. mlcroissant reads one
//! list of a JSON file only, so that a file with images and annotations stands twice, under two names; and it joins no list with
//! files, so that a record names its file and has no picture.

use super::Described;
use super::folder::files_of_images;
use super::parts::{IMAGE_FILES, attribution_object, enumeration, field, file_object, image_files, record_set, splits};
use crate::Result;
use crate::cards::attribution::Attributed;
use crate::cards::subset::Exported;
use lapidary_pipeline::PipelineError;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

const MIME: &str = "application/json";
const ANNOTATIONS: &str = "annotations";

/// The files and their records.
///
/// # Errors
/// When a file cannot be read, or is no COCO.
pub(super) fn described(export: &Exported, attributed: &Attributed) -> Result<Described> {
    let splits = splits(export, ANNOTATIONS);
    let folders = splits.iter().map(String::as_str).collect();
    let mut distribution = vec![attribution_object(&export.folder)?, image_files(IMAGE_FILES, &folders, attributed)];
    let mut record_sets = vec![files_of_images()];
    for split in &splits {
        let (records, notes) = (format!("{split}-records"), format!("{split}-annotations"));
        let path = format!("{ANNOTATIONS}/instances_{split}.json");
        let instances = Instances::read(&export.folder.join(&path))?;
        let object = |id: &str, description: &str| file_object(&export.folder, &path, id, MIME, description);
        let json_of_records = format!("{records}.json");
        distribution.push(object(&json_of_records, "The records of images.")?);
        record_sets.push(image_records(&records, &json_of_records, &instances));
        if !instances.annotations.is_empty() {
            let json_of_notes = format!("{notes}.json");
            distribution.push(object(&json_of_notes, "The annotations: the same file once more.")?);
            record_sets.push(annotations(&notes, (&json_of_notes, &records), &instances));
        }
    }
    let ids: Vec<i64> = serde_json::from_value(export.ingested.facts["category_ids"].clone()).unwrap_or_default();
    let numbered: Vec<(i64, &str)> = ids.into_iter().zip(export.classes.iter().map(String::as_str)).collect();
    record_sets.extend(enumeration("categories", "The classes of `category_id`.", &numbered));
    Ok(Described { distribution, record_sets })
}

/// As much of a file as tells which fields it has.
#[derive(Debug, Deserialize)]
struct Instances {
    images: Vec<Identified>,
    annotations: Vec<Annotation>,
}

#[derive(Debug, Deserialize)]
struct Identified {
    id: Id,
}

#[derive(Debug, Deserialize)]
struct Annotation {
    id: Id,
    category_id: Option<IgnoredAny>,
    bbox: Option<IgnoredAny>,
    area: Option<IgnoredAny>,
    iscrowd: Option<IgnoredAny>,
}

/// A part that an annotation may lack.
type Part = fn(&Annotation) -> &Option<IgnoredAny>;

/// An id: a whole number, or what else the source takes for one.
#[derive(Debug, Deserialize)]
#[serde(from = "Value")]
struct Id {
    is_number: bool,
}

impl From<Value> for Id {
    fn from(id: Value) -> Self {
        Self { is_number: id.is_i64() }
    }
}

/// The type that all of some ids have.
fn kind_of<'a>(mut ids: impl Iterator<Item = &'a Id>) -> Value {
    json!(if ids.all(|id| id.is_number) { "sc:Integer" } else { "sc:Text" })
}

impl Instances {
    fn read(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(PipelineError::io("open", path))?;
        Ok(serde_json::from_reader(BufReader::new(file)).map_err(|e| PipelineError::format(path, e))?)
    }

    fn image_kind(&self) -> Value {
        kind_of(self.images.iter().map(|image| &image.id))
    }

    /// Whether all annotations have something.
    fn all_have(&self, part: Part) -> bool {
        self.annotations.iter().all(|annotation| part(annotation).is_some())
    }
}

/// What lies at a path in a JSON file.
fn at(object: &str, path: String) -> Value {
    json!({"fileObject": {"@id": object}, "extract": {"jsonPath": path}})
}

/// The records of a split's images.
fn image_records(id: &str, object: &str, instances: &Instances) -> Value {
    let of_image = |name: &str, kind: Value, description: &str| {
        field(id, name, kind, description, at(object, format!("$.images[*].{name}")))
    };
    let fields = vec![
        of_image("id", instances.image_kind(), "The image's id in the annotations."),
        of_image("file_name", json!("sc:Text"), "The file's name in the split's folder."),
        of_image("width", json!("sc:Integer"), "Pixels across."),
        of_image("height", json!("sc:Integer"), "Pixels down."),
    ];
    record_set(id, "One record an image of the split.", "id", fields)
}

/// The annotations of a split, with what all of them have, and which of the records each is of.
fn annotations(id: &str, (object, records): (&str, &str), instances: &Instances) -> Value {
    let of = |name: &str, kind: Value, description: &str| {
        field(id, name, kind, description, at(object, format!("$.annotations[*].{name}")))
    };
    let own = kind_of(instances.annotations.iter().map(|annotation| &annotation.id));
    let mut image = of("image_id", instances.image_kind(), "The image that it is of.");
    image["references"] = json!({"field": {"@id": format!("{records}/id")}});
    let mut fields = vec![of("id", own, "The annotation's id."), image];
    let parts: [(&str, Value, &str, Part); 4] = [
        ("category_id", json!("sc:Integer"), "The class, by its number in `categories`.", |of| &of.category_id),
        ("bbox", json!("cr:BoundingBox"), "The object's left and upper edge, width and height in pixels.", |of| {
            &of.bbox
        }),
        ("area", json!("sc:Float"), "The area of the object in square pixels.", |of| &of.area),
        ("iscrowd", json!("sc:Integer"), "1 where it stands for a crowd of objects.", |of| &of.iscrowd),
    ];
    let found = parts.into_iter().filter(|(.., part)| instances.all_have(*part));
    fields.extend(found.map(|(name, kind, description, _)| of(name, kind, description)));
    record_set(id, "One record an annotated object of the split.", "id", fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_all_annotations_have_is_a_field_and_ids_have_their_type() {
        let text = r#"{"annotations": [
            {"id": 1, "image_id": "a", "category_id": 3, "bbox": [1, 2, 3, 4], "segmentation": [[1, 2]]},
            {"id": 2, "image_id": "b", "category_id": 3, "bbox": [1, 2, 3, 4], "area": 4.5}],
            "images": [{"id": "a", "file_name": "a.jpg"}, {"id": 7}], "licenses": [], "info": {}}"#;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("instances.json");
        std::fs::write(&path, text).expect("writes");
        let instances = Instances::read(&path).expect("reads");
        let found = annotations("train-annotations", ("o", "train-records"), &instances);
        let names: Vec<&str> =
            found["field"].as_array().expect("fields").iter().filter_map(|field| field["name"].as_str()).collect();
        let expected = ["id", "image_id", "category_id", "bbox"].map(|name| format!("train-annotations/{name}"));
        assert_eq!(names, expected);
        assert_eq!(
            (&found["field"][0]["dataType"], &found["field"][1]["dataType"]),
            (&json!("sc:Integer"), &json!("sc:Text"))
        );
        std::fs::write(&path, "{\"images\": 3}").expect("writes");
        let error = Instances::read(&path).expect_err("no COCO").to_string();
        assert!(error.contains("instances.json"), "{error}");
    }
}
