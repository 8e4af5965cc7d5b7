//! An export as a folder of files: one record a file, joined by its path with `attribution.csv`.

use super::Described;
use super::parts::{IMAGE_FILES, attribution_object, classes, field, image_files, record_set, splits};
use crate::Result;
use crate::cards::ATTRIBUTION_FILE;
use crate::cards::attribution::Attributed;
use crate::cards::subset::Exported;
use serde_json::{Value, json};

const IMAGES: &str = "images";

/// What `attribution.csv` says of a file: column, type, description.
const COLUMNS: [(&str, &str, &str); 7] = [
    (
        "image_id",
        "sc:Text",
        "The image's id in hexadecimal digits: 64 bits of BLAKE3 over its source and its path in it.",
    ),
    ("path", "sc:Text", "Its path in the source."),
    ("split", "sc:Text", "The split that the source put the image into."),
    ("source", "sc:Text", "The source's name."),
    ("url", "sc:Text", "Where the source says the image comes from."),
    ("license", "sc:Text", "The licence that the source states."),
    ("class", "sc:Text", "The class that fills most of the image, by name."),
];

/// The files and their records.
///
/// # Errors
/// When `attribution.csv` cannot be read.
pub(super) fn described(export: &Exported, attributed: &Attributed) -> Result<Described> {
    let splits = splits(export, "");
    let folders = splits.iter().map(String::as_str).collect();
    let distribution = vec![attribution_object(&export.folder)?, image_files(IMAGE_FILES, &folders, attributed)];
    let mut record_sets = vec![files_of_images()];
    record_sets.extend(classes(&export.classes, "The classes, by name in `class`."));
    Ok(Described { distribution, record_sets })
}

/// A record for each image file: the picture, the file's path, and what `attribution.csv` says of it.
pub(super) fn files_of_images() -> Value {
    record_set(IMAGES, "One record an image file.", "file", fields())
}

fn fields() -> Vec<Value> {
    let property = |name: &str| json!({"fileSet": {"@id": IMAGE_FILES}, "extract": {"fileProperty": name}});
    let image = field(IMAGES, "image", json!("sc:ImageObject"), "The picture.", property("content"));
    let mut file = field(IMAGES, "file", json!("sc:Text"), "The file's path in this data set.", property("fullpath"));
    // A path is text only after a transform.
    file["source"]["transform"] = json!({"regex": "(.+)"});
    file["references"] = json!({"fileObject": {"@id": ATTRIBUTION_FILE}, "extract": {"column": "file"}});
    let told = COLUMNS.iter().map(|(name, kind, description)| {
        let kind = if *name == "class" { json!([kind, "cr:Label"]) } else { json!(kind) };
        let source = json!({"fileObject": {"@id": ATTRIBUTION_FILE}, "extract": {"column": name}});
        field(IMAGES, name, kind, description, source)
    });
    [image, file].into_iter().chain(told).collect()
}
