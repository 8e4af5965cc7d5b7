//! `croissant.json`: the export's Parquet shards as Croissant 1.1 describes a data set, with where it was derived from.
//!
//! The specification is MLCommons' (docs/croissant-spec-1.1.md); what is written here is what `mlcroissant validate` and
//! `mlcroissant load` accept (`tests/golden/cards.sh`).

use super::licence_ids::address;
use super::subset::Exported;
use crate::Result;
use crate::report::commands::command;
use lapidary_pipeline::PipelineError;
use lapidary_pipeline::stage::Layout;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// What a data set conforms to.
const VERSION: &str = "http://mlcommons.org/croissant/1.1";
/// The set of shards.
const SHARDS: &str = "shards";
/// Bytes that are hashed at a time.
const BLOCK_BYTES: usize = 1 << 20;

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

/// The metadata of an export as Parquet.
///
/// # Errors
/// When a shard cannot be read.
pub(super) fn croissant(layout: &Layout, export: &Exported) -> Result<Value> {
    let name = export.name();
    let mut distribution = Vec::new();
    for shard in Layout::shards(&export.folder)? {
        distribution.push(file_object(&shard)?);
    }
    distribution.push(json!({
        "@type": "cr:FileSet",
        "@id": SHARDS,
        "name": SHARDS,
        "description": "The Parquet shards, beside this file.",
        "encodingFormat": "application/x-parquet",
        "includes": "part-*.parquet",
    }));
    let records = &export.ingested.facts["licenses"];
    let licences: Vec<Value> = export
        .licences
        .iter()
        .map(|licence| json!(address(&licence.name, records).unwrap_or_else(|| licence.said())))
        .collect();
    let mut fields = vec![image_field()];
    fields.extend(FIELDS.iter().map(|(name, kind, description)| field(name, kind, description)));
    let mut record_sets = vec![json!({
        "@type": "cr:RecordSet", "@id": "images", "name": "images", "description": "One record an image.",
        "key": {"@id": "images/image_id"}, "field": fields,
    })];
    record_sets.extend(classes(&export.classes));
    Ok(json!({
        "@context": context(),
        "@type": "sc:Dataset",
        "name": name,
        "description": export.description(),
        "conformsTo": VERSION,
        "license": licences,
        "url": format!("urn:lapidary:{}", export.export.digest),
        "version": "1.0.0",
        "keywords": ["images", "curated", "self-supervised learning"],
        "isBasedOn": export.address().unwrap_or_default(),
        "prov:wasDerivedFrom": {
            "@id": format!("urn:lapidary:{}", export.ingested.digest),
            "@type": "prov:Entity",
            "prov:label": format!("the source `{}`, {} images", export.source, export.ingested.rows.output),
        },
        "prov:wasGeneratedBy": activity(layout, export),
        "distribution": distribution,
        "recordSet": record_sets,
    }))
}

/// The cut, by the command that repeats it.
fn activity(layout: &Layout, export: &Exported) -> Value {
    let folder = layout.subset(&export.source, &export.subset);
    json!({
        "@type": "prov:Activity",
        "@id": format!("urn:lapidary:{}", export.cut.digest),
        "prov:label": command(layout, &folder, &export.cut),
        "prov:wasAssociatedWith": {"@type": "prov:SoftwareAgent", "@id": format!("urn:lapidary:release:{}", export.export.lapidary), "prov:label": format!("Lapidary {}", export.export.lapidary)},
    })
}

fn file_object(path: &Path) -> Result<Value> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let (digest, bytes) = sha256(path)?;
    Ok(json!({
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "description": "A shard.",
        "contentUrl": name,
        "contentSize": format!("{bytes} B"),
        "encodingFormat": "application/x-parquet",
        "sha256": digest,
    }))
}

fn sha256(path: &Path) -> Result<(String, u64)> {
    let failed = || PipelineError::io("read", path);
    let mut file = File::open(path).map_err(PipelineError::io("open", path))?;
    let (mut hasher, mut block, mut bytes) = (Sha256::new(), vec![0; BLOCK_BYTES], 0);
    loop {
        let read = file.read(&mut block).map_err(failed())?;
        if read == 0 {
            break;
        }
        hasher.update(&block[..read]);
        bytes += read as u64;
    }
    Ok((hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect(), bytes))
}

fn field(name: &str, kind: &str, description: &str) -> Value {
    let mut field = json!({
        "@type": "cr:Field",
        "@id": format!("images/{name}"),
        "name": format!("images/{name}"),
        "description": description,
        "dataType": kind,
        "source": {"fileSet": {"@id": SHARDS}, "extract": {"column": name}},
    });
    if name == "label" {
        field["dataType"] = json!([kind, "cr:Label"]);
    }
    field
}

/// The picture: the bytes of its struct.
fn image_field() -> Value {
    let mut field = field("image", "sc:ImageObject", "The image file's bytes, as they came.");
    field["source"]["transform"] = json!({"jsonPath": "bytes"});
    field
}

/// The classes by their numbers, where there are any.
fn classes(names: &[String]) -> Option<Value> {
    let row = |(number, name): (usize, &String)| json!({"classes/number": number, "classes/name": name});
    let field = |name: &str, kind: &str| json!({"@type": "cr:Field", "@id": format!("classes/{name}"), "name": format!("classes/{name}"), "description": format!("A class's {name}."), "dataType": kind});
    (!names.is_empty()).then(|| {
        json!({
            "@type": "cr:RecordSet", "@id": "classes", "name": "classes", "description": "The classes of `label`.",
            "dataType": "sc:Enumeration", "key": {"@id": "classes/number"},
            "field": [field("number", "sc:Integer"), field("name", "sc:Text")],
            "data": names.iter().enumerate().map(row).collect::<Vec<_>>(),
        })
    })
}

/// Which vocabulary each word is of: Croissant's own words by `cr`, the rest schema.org's, provenance W3C's.
fn context() -> Value {
    let own = [
        "arrayShape",
        "citeAs",
        "column",
        "containedIn",
        "equivalentProperty",
        "extract",
        "field",
        "fileProperty",
        "fileObject",
        "fileSet",
        "format",
        "includes",
        "isArray",
        "isLiveDataset",
        "jsonPath",
        "key",
        "md5",
        "parentField",
        "path",
        "recordSet",
        "references",
        "regex",
        "repeated",
        "replace",
        "samplingRate",
        "separator",
        "source",
        "subField",
        "transform",
    ];
    let mut context: Map<String, Value> =
        own.iter().map(|word| ((*word).to_owned(), json!(format!("cr:{word}")))).collect();
    let rest = json!({
        "@language": "en",
        "@vocab": "https://schema.org/",
        "sc": "https://schema.org/",
        "cr": "http://mlcommons.org/croissant/",
        "rai": "http://mlcommons.org/croissant/RAI/",
        "dct": "http://purl.org/dc/terms/",
        "prov": "http://www.w3.org/ns/prov#",
        "conformsTo": "dct:conformsTo",
        "data": {"@id": "cr:data", "@type": "@json"},
        "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
        "examples": {"@id": "cr:examples", "@type": "@json"},
        "description": {"@container": "@language"},
        "name": {"@container": "@language"},
    });
    context.extend(rest.as_object().cloned().unwrap_or_default());
    Value::Object(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_sha256() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("abc");
        std::fs::write(&path, "abc").expect("writes");
        // FIPS 180-4's example.
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(&path).expect("reads"), (expected.to_owned(), 3));
    }

    #[test]
    fn fields_are_columns_of_the_table_and_classes_are_numbered() {
        let columns = lapidary_schemas::tables::images(&[]);
        for (name, ..) in FIELDS {
            assert!(columns.field_with_name(name).is_ok(), "{name}");
        }
        assert_eq!(image_field()["source"]["extract"]["column"], "image");
        assert_eq!(classes(&["cat".to_owned(), "dog".to_owned()]).expect("some")["data"][1]["classes/name"], "dog");
        assert!(classes(&[]).is_none());
    }
}
