//! `croissant.json`: an export as Croissant 1.1 describes a data set, with where it was derived from.
//!
//! The specification is MLCommons' (docs/croissant-spec-1.1.md); what is written here is what `mlcroissant validate` and
//! `mlcroissant load` accept (`tests/golden/cards.sh`). A file per layout says which files and records an export has; here is what all
//! have.

mod coco;
mod folder;
mod parquet;
mod parts;

use super::attribution::Attributed;
use super::licence_ids::address;
use super::subset::{Exported, Format};
use crate::Result;
use crate::report::commands::command;
use lapidary_pipeline::stage::Layout;
use serde_json::{Map, Value, json};

/// What a data set conforms to.
const VERSION: &str = "http://mlcommons.org/croissant/1.1";

/// The files and the records of an export.
struct Described {
    distribution: Vec<Value>,
    record_sets: Vec<Value>,
}

/// The metadata of an export, whose `attribution.csv` is there already.
///
/// # Errors
/// When a file of the export cannot be read.
pub(super) fn croissant(layout: &Layout, export: &Exported, attributed: &Attributed) -> Result<Value> {
    let Described { distribution, record_sets } = match export.format {
        Format::Parquet => parquet::described(export)?,
        Format::Folder => folder::described(export, attributed)?,
        Format::Coco => coco::described(export, attributed)?,
    };
    let records = &export.ingested.facts["licenses"];
    let licences: Vec<Value> = export
        .licences
        .iter()
        .map(|licence| json!(address(&licence.name, records).unwrap_or_else(|| licence.said())))
        .collect();
    Ok(json!({
        "@context": context(),
        "@type": "sc:Dataset",
        "name": export.name(),
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
