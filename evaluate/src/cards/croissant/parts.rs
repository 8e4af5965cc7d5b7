//! What the metadata of every layout is made of: files with their digests, sets of files, fields, classes.

use super::super::ATTRIBUTION_FILE;
use super::super::attribution::Attributed;
use super::super::subset::Exported;
use crate::Result;
use lapidary_pipeline::PipelineError;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Bytes that are hashed at a time.
const BLOCK_BYTES: usize = 1 << 20;
/// The set of image files.
pub(super) const IMAGE_FILES: &str = "image-files";

/// A file of an export, by its path in it, under a name of its own.
///
/// # Errors
/// When it cannot be read.
pub(super) fn file_object(folder: &Path, path: &str, id: &str, mime: &str, description: &str) -> Result<Value> {
    let (digest, bytes) = sha256(&folder.join(path))?;
    Ok(json!({
        "@type": "cr:FileObject",
        "@id": id,
        "name": id,
        "description": description,
        "contentUrl": path,
        "contentSize": format!("{bytes} B"),
        "encodingFormat": mime,
        "sha256": digest,
    }))
}

/// `attribution.csv` beside image files.
///
/// # Errors
/// When it cannot be read.
pub(super) fn attribution_object(folder: &Path) -> Result<Value> {
    file_object(
        folder,
        ATTRIBUTION_FILE,
        ATTRIBUTION_FILE,
        "text/csv",
        "Where each image file comes from, and its licence.",
    )
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

/// The image files of a set of the export's own folders.
pub(super) fn image_files(id: &str, folders: &BTreeSet<&str>, attributed: &Attributed) -> Value {
    let patterns: Vec<String> = folders.iter().map(|folder| format!("{}/*", literal(folder))).collect();
    json!({
        "@type": "cr:FileSet",
        "@id": id,
        "name": id,
        "description": "The image files, byte for byte those of the source.",
        "encodingFormat": mimes(&attributed.formats),
        "includes": patterns,
    })
}

/// The folders at the top of an export that hold image files: its splits.
pub(super) fn splits(export: &Exported, besides: &str) -> BTreeSet<String> {
    let files = export.export.outputs.keys();
    let folders = files.filter_map(|file| file.split_once('/').map(|(folder, _)| folder.to_owned()));
    folders.filter(|folder| folder != besides).collect()
}

/// A name in a pattern, whatever letters it has.
fn literal(name: &str) -> String {
    name.chars().fold(String::new(), |text, c| match c {
        '[' | '*' | '?' => format!("{text}[{c}]"),
        c => format!("{text}{c}"),
    })
}

/// The media types of formats of images, those that every reader knows first.
fn mimes(formats: &BTreeSet<String>) -> Vec<String> {
    let mut mimes: Vec<String> = formats.iter().map(|format| format!("image/{format}")).collect();
    mimes.sort_by_key(|mime| (!matches!(mime.as_str(), "image/jpeg" | "image/png"), mime.clone()));
    mimes
}

/// A field of a record set, with where its value is taken from.
pub(super) fn field(record_set: &str, name: &str, kind: Value, description: &str, source: Value) -> Value {
    json!({
        "@type": "cr:Field",
        "@id": format!("{record_set}/{name}"),
        "name": format!("{record_set}/{name}"),
        "description": description,
        "dataType": kind,
        "source": source,
    })
}

/// A record set of fields, which one of them tells apart.
pub(super) fn record_set(id: &str, description: &str, key: &str, fields: Vec<Value>) -> Value {
    json!({
        "@type": "cr:RecordSet", "@id": id, "name": id, "description": description,
        "key": {"@id": format!("{id}/{key}")}, "field": fields,
    })
}

/// Names by their numbers, as an enumeration; none where there are no names.
pub(super) fn enumeration(id: &str, description: &str, numbered: &[(i64, &str)]) -> Option<Value> {
    let row = |(number, name): &(i64, &str)| json!({format!("{id}/number"): number, format!("{id}/name"): name});
    let field = |name: &str, kind: &str| json!({"@type": "cr:Field", "@id": format!("{id}/{name}"), "name": format!("{id}/{name}"), "description": format!("A class's {name}."), "dataType": kind});
    (!numbered.is_empty()).then(|| {
        json!({
            "@type": "cr:RecordSet", "@id": id, "name": id, "description": description,
            "dataType": "sc:Enumeration", "key": {"@id": format!("{id}/number")},
            "field": [field("number", "sc:Integer"), field("name", "sc:Text")],
            "data": numbered.iter().map(row).collect::<Vec<_>>(),
        })
    })
}

/// The classes by their places.
pub(super) fn classes(names: &[String], description: &str) -> Option<Value> {
    let numbered: Vec<(i64, &str)> = (0..).zip(names.iter().map(String::as_str)).collect();
    enumeration("classes", description, &numbered)
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
    fn names_stand_in_patterns_as_they_are_and_formats_have_media_types() {
        assert_eq!(literal("a[b]*?"), "a[[]b][*][?]");
        let formats = ["webp", "png", "bmp", "jpeg"].map(str::to_owned).into();
        assert_eq!(mimes(&formats), ["image/jpeg", "image/png", "image/bmp", "image/webp"]);
    }

    #[test]
    fn classes_are_numbered() {
        let found = classes(&["cat".to_owned(), "dog".to_owned()], "The classes.").expect("some");
        assert_eq!(found["data"][1], json!({"classes/number": 1, "classes/name": "dog"}));
        assert!(classes(&[], "None.").is_none());
    }
}
