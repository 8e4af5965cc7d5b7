//! The card of a subset that was exported.

use super::ATTRIBUTION_FILE;
use super::front_matter::{Yaml, front_matter};
use super::licence_ids::{address, hub_id, hub_ids};
use super::subset::{Exported, Format};
use crate::report::lineage::commands_to;
use crate::report::made::MadeFolder;
use crate::report::text::{grouped, words};
use lapidary_pipeline::stage::{Layout, read_curated};
use lapidary_schemas::{DecisionReason, RejectReason};
use serde_json::Value;
use std::fmt::Write;

/// Classes that the card lists.
const CLASSES_LISTED: usize = 100;

/// README.md of an export that holds `images` images.
pub(super) fn card(layout: &Layout, export: &Exported, images: u64) -> String {
    let records = &export.ingested.facts["licenses"];
    let mut text = head(export, images, records);
    let _ = write!(text, "# {}\n\n{}\n\n", export.name(), export.description());
    contents(&mut text, export, images);
    made(&mut text, layout, export);
    licences(&mut text, export, records);
    let _ = write!(
        text,
        "## Limits\n\nImages were chosen by copies, quality and clusters of embeddings, not by content or consent: what the source \
         holds that it should not, this set may hold as well. Labels are the source's and were not checked. Copies that no evidence \
         found are still there.\n"
    );
    text
}

fn head(export: &Exported, images: u64, records: &Value) -> String {
    let size = match images {
        0..1_000 => "n<1K",
        1_000..10_000 => "1K<n<10K",
        10_000..100_000 => "10K<n<100K",
        100_000..1_000_000 => "100K<n<1M",
        1_000_000..10_000_000 => "1M<n<10M",
        _ => "10M<n<100M",
    };
    let ids = hub_ids(&export.licences, records);
    let mut fields = vec![
        ("pretty_name", Yaml::text(export.name())),
        ("license", Yaml::texts(ids.iter().map(String::as_str))),
        ("task_categories", Yaml::texts(["image-feature-extraction"])),
        ("size_categories", Yaml::texts([size])),
        ("tags", Yaml::texts(["images", "curated", "lapidary"])),
    ];
    let files = |pattern: &str| {
        Yaml::List(vec![Yaml::Map(vec![("split", Yaml::text("train")), ("path", Yaml::text(pattern))])])
    };
    if export.format == Format::Parquet {
        let config = Yaml::Map(vec![("config_name", Yaml::text("default")), ("data_files", files("part-*.parquet"))]);
        fields.push(("configs", Yaml::List(vec![config])));
    }
    front_matter(&fields) + "\n"
}

fn contents(text: &mut String, export: &Exported, images: u64) {
    let bytes: u64 = export.export.outputs.values().map(|output| output.bytes).sum();
    let files = match export.format {
        Format::Parquet => {
            "Parquet shards, a row an image with its file's bytes, open with `datasets.load_dataset(\"parquet\", data_files=\"part-*.parquet\")`"
        }
        Format::Coco => "a folder of files for each split and COCO's JSON in `annotations/`",
        Format::Folder => "files by split and class",
    };
    let _ = write!(
        text,
        "## Contents\n\n{} images, {:.1} MiB, as {files}; `croissant.json` describes them. The image files are those of the source, byte \
         for byte.\n\n",
        grouped(images),
        bytes as f64 / f64::from(1 << 20)
    );
    if !export.classes.is_empty() {
        let listed =
            export.classes.iter().take(CLASSES_LISTED).map(|class| format!("`{class}`")).collect::<Vec<_>>().join(", ");
        let more = if export.classes.len() > CLASSES_LISTED { ", ..." } else { "" };
        let _ = write!(text, "{} classes: {listed}{more}.\n\n", export.classes.len());
    }
}

/// How it came to be: counts of every reason, and the commands.
fn made(text: &mut String, layout: &Layout, export: &Exported) {
    let rows = export.ingested.rows;
    text.push_str("## How it was made\n\n| step | what | images |\n|---|---|---:|\n");
    let _ = writeln!(text, "| ingest | inputs | {} |", grouped(rows.input));
    for (code, count) in export.ingested.facts["rejected_by_reason"].as_object().into_iter().flatten() {
        let meaning = RejectReason::from_code(code).map_or("", RejectReason::text);
        let _ = writeln!(
            text,
            "| ingest | rejected, {}: {meaning} | {} |",
            words(code),
            grouped(count.as_u64().unwrap_or(0))
        );
    }
    let curated = read_curated(layout, &export.source).ok();
    let reasons =
        curated.iter().flat_map(|curated| curated.facts["images_by_reason"].as_object().into_iter().flatten());
    for (code, count) in reasons {
        let meaning = DecisionReason::from_code(code).map_or("", DecisionReason::text);
        let _ = writeln!(text, "| curate | {}: {meaning} | {} |", words(code), grouped(count.as_u64().unwrap_or(0)));
    }
    let _ = writeln!(text, "| cut | in this subset | {} |", grouped(export.cut.rows.output));
    let folder = layout.subset(&export.source, &export.subset);
    let mut commands = commands_to(layout, &export.source, MadeFolder { folder, manifest: export.cut.clone() });
    // The same command again, which then writes the images as well.
    if let Some(last) = commands.last_mut() {
        let _ = write!(last, " --export {}", export.format.name());
    }
    let _ = write!(
        text,
        "\nThe same commands on the same files give the digest `{}`:\n\n```sh\n{}\n```\n\n",
        export.export.digest.short(),
        commands.join("\n")
    );
}

fn licences(text: &mut String, export: &Exported, records: &Value) {
    text.push_str("## Licences\n\n| licence, as the source states it | the hub's id | images | with the address that an attribution needs |\n|---|---|---:|---:|\n");
    for licence in &export.licences {
        let address = address(&licence.name, records);
        let name =
            address.map_or_else(|| licence.said().to_owned(), |address| format!("[{}]({address})", licence.said()));
        let id = hub_id(&licence.name, address);
        let _ = writeln!(text, "| {name} | {id} | {} | {} |", grouped(licence.images), grouped(licence.with_url));
    }
    let _ = write!(
        text,
        "\n`{ATTRIBUTION_FILE}` names for each image where it comes from and its licence. The set as a whole stands under the terms of \
         every image in it.\n\n"
    );
}
