//! Cards: the metadata has the structure that mlcroissant found valid (`tests/golden/cards.sh`), its numbers are the tables'.

use crate::browser::REPORTED;
use crate::run::{facts, refusal, text};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Every path of keys in a JSON value, with the kind of what lies there; the places in lists are not told apart.
fn structure(value: &Value, path: &str, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(key, value)| structure(value, &format!("{path}/{key}"), into))
        }
        Value::Array(items) => items.iter().for_each(|item| structure(item, &format!("{path}[]"), into)),
        Value::String(_) => into.extend([format!("{path}: text")]),
        Value::Number(_) => into.extend([format!("{path}: number")]),
        Value::Bool(_) | Value::Null => into.extend([format!("{path}: other")]),
    }
}

fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("a file")).expect("JSON")
}

fn structure_of(value: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    structure(value, "", &mut found);
    found
}

/// Holds the digests of an export's files against another program's; how many there are.
fn digests_hold(export: &Path, metadata: &Value) -> usize {
    let files = metadata["distribution"].as_array().expect("files").iter();
    let files: Vec<&Value> = files.filter(|file| file["@type"] == "cr:FileObject").collect();
    for file in &files {
        let path = export.join(file["contentUrl"].as_str().expect("a name"));
        let said = Command::new("sha256sum").arg(&path).output().expect("it starts").stdout;
        let sum = String::from_utf8(said).expect("UTF-8");
        assert_eq!(sum.split(' ').next(), file["sha256"].as_str());
    }
    files.len()
}

#[test]
fn exports_as_files_have_metadata_too_and_every_file_is_attributed() {
    let out = REPORTED.out();
    for format in ["folder", "coco"] {
        // A size of its own, so that tests do not wait for each other.
        facts(&out, &["cut", "--size", "90", "--export", format]);
    }
    let written = facts(&out, &["card", "--subset", "90"]);
    assert_eq!(written[0]["files"].as_array().map(Vec::len), Some(6), "{written:#?}");
    for (format, least) in [("folder", 1), ("coco", 3)] {
        let export = out.join(format!("pile/subsets/90.{format}"));
        let ours = json_of(&export.join("croissant.json"));
        let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("golden/croissant-{format}.json"));
        let golden = json_of(&golden);
        assert_eq!(structure_of(&ours), structure_of(&golden), "{format}");
        assert_eq!((&ours["@context"], &ours["recordSet"]), (&golden["@context"], &golden["recordSet"]), "{format}");
        assert!(digests_hold(&export, &ours) >= least, "{format}");
        let table = std::fs::read_to_string(export.join("attribution.csv")).expect("a table");
        let mut lines = table.lines();
        let headings: Vec<&str> = lines.next().expect("headings").split(',').collect();
        let file = headings.iter().position(|heading| *heading == "file").expect("a column");
        let files: BTreeSet<&str> = lines.map(|line| line.split(',').nth(file).expect("a file")).collect();
        assert_eq!(files.len(), 90, "{format}");
        assert!(files.iter().all(|file| export.join(file).is_file()), "{format}: {files:?}");
        facts(&out, &["verify", &format!("subsets/90.{format}")]);
    }
}

#[test]
fn an_exports_metadata_is_like_the_one_that_was_found_valid_and_true() {
    let out = REPORTED.out();
    let exported = facts(&out, &["cut", "--size", "120", "--export", "parquet"]);
    // Licences are counted before anything leaves.
    let licences = exported.iter().position(|said| said["stage"] == "licences").expect("they are said");
    assert_eq!(exported[licences]["licences"][0]["images"], 120, "{exported:#?}");
    assert_eq!(exported.last().expect("an export")["stage"], "export");
    let written = facts(&out, &["card", "--subset", "120"]);
    assert_eq!(written[0]["files"].as_array().map(Vec::len), Some(3), "{written:#?}");
    let export = out.join("pile/subsets/120.parquet");
    let ours = json_of(&export.join("croissant.json"));
    let golden = json_of(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden/croissant.json"));
    assert_eq!(structure_of(&ours), structure_of(&golden));
    assert_eq!((&ours["@context"], &ours["recordSet"]), (&golden["@context"], &golden["recordSet"]));
    assert!(digests_hold(&export, &ours) > 0);
    assert!(
        ours["prov:wasGeneratedBy"]["prov:label"]
            .as_str()
            .is_some_and(|label| label.starts_with("lapidary cut --source pile --size 120"))
    );
    let card = std::fs::read_to_string(export.join("README.md")).expect("a card");
    assert!(card.starts_with("---\n") && card.matches("\n---\n").count() == 1, "{card}");
    for part in [
        "pretty_name:",
        "license:\n- ",
        "size_categories:\n- \"n<1K\"",
        "| ingest | inputs | 582 |",
        "| cut | in this subset | 120 |",
        "lapidary curate",
        "## Licences",
    ] {
        assert!(card.contains(part), "{part}: {card}");
    }
    let attribution = std::fs::read_to_string(export.join("attribution.csv")).expect("a table");
    assert_eq!(attribution.lines().count(), 121);
    // What was added harms neither a second look nor the digests.
    assert_eq!(
        facts(&out, &["cut", "--size", "120", "--export", "parquet"]).pop().expect("an export")["outcome"],
        "up_to_date"
    );
    facts(&out, &["verify", "subsets/120.parquet"]);
}

#[test]
fn a_runs_card_has_its_measured_numbers_and_how_to_repeat_them() {
    let out = REPORTED.out();
    let written = facts(&out, &["card", "--run", "both"]);
    let path = written[0]["files"][0].as_str().expect("a file");
    let card = std::fs::read_to_string(path).expect("a card");
    let scores = json_of(&out.join("pile/evals/both/probe/scores.json"));
    for probe in scores["trained"]["probes"].as_array().expect("probes") {
        let top1 = probe["top1"].as_f64().expect("a share") * 100.0;
        let row = format!("| {} | {} | {top1:.1} % |", probe["name"].as_str().expect("a name"), probe["labels"]);
        assert!(card.contains(&row), "{row}: {card}");
    }
    for part in [
        "model-index:",
        "lapidary pretrain --source pile",
        "lapidary eval --source pile --run both --probe probe",
        "untrained top-1",
    ] {
        assert!(card.contains(part), "{part}: {card}");
    }
    let (code, said) = refusal(&["card", "--run", "nobody", "--out", text(&out)]);
    assert!(code == 1 && said.contains("finished run"), "{said}");
    let (code, said) = refusal(&["card", "--subset", "7", "--out", text(&out)]);
    assert!(code == 1 && said.contains("no subset"), "{said}");
}
