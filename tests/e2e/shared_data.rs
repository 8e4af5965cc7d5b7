//! Real images, where there are some: `LAPIDARY_DATA`, or `../shared/data` beside the checkout.

use crate::run::{facts, text};
use std::path::PathBuf;

pub fn shared(name: &str) -> Option<PathBuf> {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let folder = std::env::var_os("LAPIDARY_DATA").map_or(beside, PathBuf::from).join(name);
    if !folder.is_dir() {
        eprintln!("skipped: `{}` is not there (set LAPIDARY_DATA)", folder.display());
        return None;
    }
    Some(folder)
}

#[test]
fn coco_is_ingested_whole_and_curated() {
    let Some(data) = shared("coco") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let ingested = facts(folder.path(), &["ingest", "--data", text(&data)]);
    assert_eq!(ingested[0]["rows"]["output"], 648);
    assert_eq!(ingested[0]["facts"]["classes"].as_array().map(Vec::len), Some(80));
    assert_eq!(ingested[0]["facts"]["images_by_split"]["val2017"], 158);
    facts(folder.path(), &["fingerprint"]);
    facts(folder.path(), &["embed"]);
    assert_eq!(facts(folder.path(), &["curate"])[0]["rows"]["input"], 648);
    assert_eq!(facts(folder.path(), &["cut", "--size", "300"])[0]["rows"]["output"], 300);
}

#[test]
fn parquet_in_the_hugging_face_convention_is_ingested_with_its_classes() {
    let Some(data) = shared("cifar10") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let ingested = facts(folder.path(), &["ingest", "--data", text(&data)]);
    assert_eq!(ingested[0]["rows"]["output"], 60_000);
    assert_eq!(ingested[0]["facts"]["classes"][0], "airplane");
    assert_eq!(ingested[0]["facts"]["images_by_split"]["test"], 10_000);
}
