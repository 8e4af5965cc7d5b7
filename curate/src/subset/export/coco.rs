//! COCO's JSON of a split: `instances_SPLIT.json`, and where there are some `captions_SPLIT.json`,
//! `panoptic_SPLIT.json` and `others_SPLIT.json` (annotations of no category).
//!
//! What the source wrote is given back as it was, ids included; an id is changed only where two images or annotations
//! of one file would share it, and a field only where it must say something else now (a file's name). Annotations are
//! written as they come, so that memory is the images' records.

use super::{Classes, ExportedImage, make_parent};
use crate::Result;
use arrow::array::{Array, AsArray, Float32Array, ListArray, RecordBatch};
use arrow::datatypes::{Float32Type, Int64Type};
use lapidary_pipeline::PipelineError;
use lapidary_pipeline::sources::json_text::{field, id_in, with_field};
use lapidary_pipeline::stage::column;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// The JSON files of a split in the making.
pub(super) struct CocoFolder {
    split: String,
    folder: PathBuf,
    categories: Vec<String>,
    licenses: Vec<String>,
    license_ids: HashMap<String, String>,
    /// Records of images, as text, without those that wait.
    images: Vec<String>,
    image_ids: HashSet<String>,
    /// Images whose id is another's or that have none, with their annotations.
    waiting: Vec<(String, Vec<Note>)>,
    files: HashMap<&'static str, AnnotationFile>,
}

/// An annotation's text, and which file it belongs to.
struct Note {
    kind: &'static str,
    text: String,
}

/// A file whose annotations are being written.
struct AnnotationFile {
    path: PathBuf,
    writer: BufWriter<File>,
    written: u64,
    ids: HashSet<String>,
    /// Annotations whose id is another's, or that have none.
    waiting: Vec<String>,
}

impl CocoFolder {
    pub(super) fn create(folder: &Path, split: &str, classes: &Classes) -> Result<Self> {
        let mut coco = Self {
            split: split.to_owned(),
            folder: folder.to_owned(),
            categories: Vec::new(),
            licenses: Vec::new(),
            license_ids: HashMap::new(),
            images: Vec::new(),
            image_ids: HashSet::new(),
            waiting: Vec::new(),
            files: HashMap::new(),
        };
        for (index, (id, name)) in classes.category_ids.iter().zip(&classes.names).enumerate() {
            let record = classes.categories.get(index).filter(|record| record["id"] == *id && record["name"] == **name);
            coco.categories.push(record.cloned().unwrap_or_else(|| json!({"id": id, "name": name})).to_string());
        }
        for license in &classes.licenses {
            let (id, name) = (&license["id"], license["name"].as_str().or(license["url"].as_str()));
            if let Some(name) = name.filter(|_| id.is_number() || id.is_string()) {
                let id = id.to_string();
                let taken = coco.license_ids.values().any(|known| *known == id);
                if !taken && !coco.license_ids.contains_key(name) {
                    coco.license_ids.insert(name.to_owned(), id);
                    coco.licenses.push(license.to_string());
                }
            }
        }
        coco.file("instances")?;
        Ok(coco)
    }

    fn file(&mut self, kind: &'static str) -> Result<&mut AnnotationFile> {
        if !self.files.contains_key(kind) {
            let path = self.folder.join(format!("{kind}_{}.json", self.split));
            make_parent(&path)?;
            let file = File::create(&path).map_err(PipelineError::io("create", &path))?;
            let mut writer = BufWriter::with_capacity(1 << 20, file);
            writer.write_all(b"{\"annotations\": [").map_err(PipelineError::io("write", &path))?;
            let file = AnnotationFile { path, writer, written: 0, ids: HashSet::new(), waiting: Vec::new() };
            self.files.insert(kind, file);
        }
        Ok(self.files.get_mut(kind).expect("it was inserted above"))
    }

    /// Adds an image and its annotations.
    pub(super) fn add(&mut self, name: &str, image: &ExportedImage, rows: &RecordBatch, row: usize) -> Result<()> {
        let text = self.image_text(name, image);
        let notes = notes_of(rows, row)?;
        match id_in(&text, "id").filter(|id| self.image_ids.insert(id.clone())) {
            Some(_) => {
                let id = field(&text, "id").unwrap_or("null").to_owned();
                self.images.push(text);
                self.annotations(&id, notes)
            }
            None => {
                self.waiting.push((text, notes));
                Ok(())
            }
        }
    }

    /// An image's record: the source's, with the name that the file has here.
    fn image_text(&mut self, name: &str, image: &ExportedImage) -> String {
        let license = image.license.as_ref().map(|license| self.license_id(license));
        let Some(record) = &image.record else {
            let license: Option<Value> = license.and_then(|id| serde_json::from_str(&id).ok());
            let (width, height, url) = (image.width, image.height, &image.url);
            let made =
                json!({"file_name": name, "width": width, "height": height, "coco_url": url, "license": license});
            return made.to_string();
        };
        let mut text = record.clone();
        let mut set = |key: &str, value: String| {
            if field(&text, key) != Some(&value) {
                text = with_field(&text, key, &value);
            }
        };
        set("file_name", Value::from(name).to_string());
        if let (Some(license), Some(said)) = (license, image.license.as_ref()) {
            // A license that is written out needs no id.
            if field(record, "license") != Some(&Value::from(said.as_str()).to_string()) {
                set("license", license);
            }
        }
        for (key, value) in [("width", image.width), ("height", image.height)] {
            if field(record, key).is_none_or(|text| text == "null") {
                set(key, value.to_string());
            }
        }
        text
    }

    /// The id of a license, given when it has none.
    fn license_id(&mut self, name: &str) -> String {
        if let Some(id) = self.license_ids.get(name) {
            return id.clone();
        }
        let taken: HashSet<&String> = self.license_ids.values().collect();
        let id = (1u64..).map(|id| id.to_string()).find(|id| !taken.contains(id)).unwrap_or_default();
        self.licenses.push(format!("{{\"id\": {id}, \"name\": {}, \"url\": \"\"}}", Value::from(name)));
        self.license_ids.insert(name.to_owned(), id.clone());
        id
    }

    fn annotations(&mut self, image_id: &str, notes: Vec<Note>) -> Result<()> {
        let same = |text: &str| {
            let id = |value: &str| serde_json::from_str::<Value>(value).ok();
            field(text, "image_id").is_some_and(|said| said == image_id || id(said) == id(image_id))
        };
        for Note { kind, mut text } in notes {
            if !same(&text) {
                text = with_field(&text, "image_id", image_id);
            }
            let file = self.file(kind)?;
            match id_in(&text, "id").filter(|id| file.ids.insert(id.clone())) {
                Some(_) => file.write(&text)?,
                None => file.waiting.push(text),
            }
        }
        Ok(())
    }

    /// Gives those that wait ids that are free, and ends the files.
    pub(super) fn finish(mut self) -> Result<()> {
        let mut next = 0u64;
        for (text, notes) in std::mem::take(&mut self.waiting) {
            let id = free_id(&mut self.image_ids, &mut next);
            self.images.push(with_field(&text, "id", &id));
            self.annotations(&id, notes)?;
        }
        for (kind, file) in self.files {
            let mut lists = vec![("images", &self.images[..]), ("licenses", &self.licenses)];
            // Readers take a list of categories as a promise that each annotation has one.
            if kind != "captions" && kind != "others" {
                lists.push(("categories", &self.categories));
            }
            file.finish(&lists)?;
        }
        Ok(())
    }
}

fn free_id(taken: &mut HashSet<String>, next: &mut u64) -> String {
    loop {
        *next += 1;
        let id = next.to_string();
        if taken.insert(id.clone()) {
            return id;
        }
    }
}

impl AnnotationFile {
    fn write(&mut self, text: &str) -> Result<()> {
        let comma = if self.written > 0 { ",\n" } else { "\n" };
        self.written += 1;
        Ok(write!(self.writer, "{comma}{text}").map_err(PipelineError::io("write", &self.path))?)
    }

    fn finish(mut self, lists: &[(&str, &[String])]) -> Result<()> {
        let mut next = 0u64;
        for text in std::mem::take(&mut self.waiting) {
            let id = free_id(&mut self.ids, &mut next);
            self.write(&with_field(&text, "id", &id))?;
        }
        let mut end = || -> std::io::Result<()> {
            write!(self.writer, "]")?;
            for (name, list) in lists {
                write!(self.writer, ",\n\"{name}\": [{}]", list.join(",\n"))?;
            }
            writeln!(self.writer, "}}")?;
            self.writer.flush()?;
            self.writer.get_ref().sync_all()
        };
        Ok(end().map_err(PipelineError::io("write", &self.path))?)
    }
}

/// The annotations of a row, each in the words of its source where those are kept.
fn notes_of(rows: &RecordBatch, row: usize) -> Result<Vec<Note>> {
    let mut notes = Vec::new();
    let lists: &ListArray = column(rows, "annotations")?;
    if lists.is_valid(row) {
        let objects = lists.value(row);
        let objects = objects.as_struct();
        let no_column = || PipelineError::Internal("an annotation lacks a column".to_owned());
        let field = |name: &str| objects.column_by_name(name).ok_or_else(no_column);
        let (categories, boxes) = (field("category_id")?.as_primitive::<Int64Type>(), field("bbox")?.as_list::<i32>());
        let (areas, crowds) = (field("area")?.as_primitive::<Float32Type>(), field("iscrowd")?.as_boolean());
        let records = field("record")?.as_string::<i32>();
        for object in 0..objects.len() {
            if records.is_valid(object) {
                notes.push(Note { kind: "instances", text: records.value(object).to_owned() });
                continue;
            }
            let bbox = boxes.value(object);
            let bbox = bbox.as_any().downcast_ref::<Float32Array>().ok_or_else(no_column)?;
            // Written as 32-bit numbers, so that 10.1 stays 10.1.
            let bbox: Vec<String> = bbox.values().iter().map(f32::to_string).collect();
            let text = format!(
                "{{\"category_id\": {}, \"bbox\": [{}], \"area\": {}, \"iscrowd\": {}}}",
                categories.value(object),
                bbox.join(", "),
                areas.value(object),
                u8::from(crowds.value(object)),
            );
            notes.push(Note { kind: "instances", text });
        }
    }
    let texts: &ListArray = column(rows, "records")?;
    if texts.is_valid(row) {
        for text in texts.value(row).as_string::<i32>().iter().flatten() {
            notes.push(Note { kind: kind_of(text), text: text.to_owned() });
        }
    }
    Ok(notes)
}

/// Captions and panoptic segments number their annotations for themselves, and pycocotools refuses a file of categories
/// in which an annotation has none: so they have files of their own.
fn kind_of(text: &str) -> &'static str {
    let has = |name: &str| field(text, name).is_some();
    match (has("category_id"), has("caption"), has("segments_info")) {
        (false, true, _) => "captions",
        (false, _, true) => "panoptic",
        (false, ..) => "others",
        _ => "instances",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_go_to_the_file_that_readers_take_them_from() {
        for (text, kind) in [
            (r#"{"id": 1, "category_id": 3, "segmentation": []}"#, "instances"),
            (r#"{"id": 1, "category_id": null, "bbox": []}"#, "instances"),
            (r#"{"id": 1, "caption": "a cat"}"#, "captions"),
            (r#"{"segments_info": [{"category_id": 3}]}"#, "panoptic"),
            (r#"{"id": 1, "bbox": [1, 2, 3, 4]}"#, "others"),
        ] {
            assert_eq!(kind_of(text), kind, "{text}");
        }
    }

    #[test]
    fn ids_of_others_are_not_taken() {
        let mut taken: HashSet<String> = ["1", "3"].map(str::to_owned).into();
        let mut next = 0;
        let given: Vec<String> = (0..3).map(|_| free_id(&mut taken, &mut next)).collect();
        assert_eq!(given, ["2", "4", "5"]);
    }
}
