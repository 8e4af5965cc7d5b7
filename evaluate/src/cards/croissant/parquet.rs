//! An export as Parquet shards: one record a row, the picture the bytes of its struct.

use super::Described;
use super::parts::{classes, field, file_object, record_set};
use crate::Result;
use crate::cards::subset::Exported;
use lapidary_pipeline::stage::Layout;
use serde_json::{Value, json};

const MIME: &str = "application/x-parquet";
/// The set of shards.
const SHARDS: &str = "shards";
const IMAGES: &str = "images";

/// The columns that records have: name, type, description.
const FIELDS: [(&str, &str, &str); 9] = [
    ("image_id", "sc:Integer", "The image's id: 64 bits of BLAKE3 over its source and its path in it."),
    ("digest", "sc:Text", "BLAKE3 of the image file's bytes."),
    ("width", "sc:Integer", "Pixels across."),
    ("height", "sc:Integer", "Pixels down."),
    ("split", "sc:Text", "The split that the source put the image into."),
    ("source", "sc:Text", "The source's name."),
    ("url", "sc:Text", "Where the source says the image comes from."),
    ("license", "sc:Text", "The licence that the source states."),
    ("label", "sc:Integer", "The class that fills most of the image, by its place in the list of classes."),
];

/// The shards and their records.
///
/// # Errors
/// When a shard cannot be read.
pub(super) fn described(export: &Exported) -> Result<Described> {
    let mut distribution = Vec::new();
    for shard in Layout::shards(&export.folder)? {
        let name = shard.file_name().unwrap_or_default().to_string_lossy();
        distribution.push(file_object(&export.folder, &name, &name, MIME, "A shard.")?);
    }
    distribution.push(json!({
        "@type": "cr:FileSet",
        "@id": SHARDS,
        "name": SHARDS,
        "description": "The Parquet shards, beside this file.",
        "encodingFormat": MIME,
        "includes": "part-*.parquet",
    }));
    let mut record_sets = vec![record_set(IMAGES, "One record an image.", "image_id", fields())];
    record_sets.extend(classes(&export.classes, "The classes of `label`."));
    Ok(Described { distribution, record_sets })
}

fn fields() -> Vec<Value> {
    let of_column = |name: &str, kind: Value, description: &str| {
        let source = json!({"fileSet": {"@id": SHARDS}, "extract": {"column": name}});
        field(IMAGES, name, kind, description, source)
    };
    let mut image = of_column("image", json!("sc:ImageObject"), "The image file's bytes, as they came.");
    image["source"]["transform"] = json!({"jsonPath": "bytes"});
    let others = FIELDS.iter().map(|(name, kind, description)| {
        let kind = if *name == "label" { json!([kind, "cr:Label"]) } else { json!(kind) };
        of_column(name, kind, description)
    });
    std::iter::once(image).chain(others).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_columns_of_the_table() {
        let columns = lapidary_schemas::tables::images(&[]);
        for field in fields() {
            let name = field["source"]["extract"]["column"].as_str().expect("a column").to_owned();
            assert!(columns.field_with_name(&name).is_ok(), "{name}");
        }
    }
}
