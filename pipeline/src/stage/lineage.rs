//! The chain as it lies on disk: which stages are there, and which are stale.

use super::{Layout, digest_of_file, read_manifest};
use crate::sources::source_of_address;
use lapidary_schemas::{Digest, Manifest};
use serde::Serialize;
use std::collections::BTreeMap;

/// Whether a stage's folder can be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StageState {
    /// Whole, and its inputs are as they were.
    UpToDate,
    /// Whole, but an input has changed or gone since.
    Stale,
    /// Unfinished: the same command goes on or starts afresh.
    Unfinished,
}

/// One stage of `lapidary status`.
#[derive(Debug, Clone, Serialize)]
pub struct StageStatus {
    /// The stage's name; empty when unfinished.
    pub stage: String,
    /// Its folder, relative to `OUT`.
    pub folder: String,
    /// Whether it can be relied on.
    pub state: StageState,
    /// Rows that came out.
    pub rows: u64,
    /// Its manifest's digest.
    pub digest: Option<Digest>,
    /// Why it is stale.
    pub because: String,
}

/// Every stage under `OUT`, by folder.
pub fn status(layout: &Layout) -> Vec<StageStatus> {
    let mut manifests: BTreeMap<String, Option<Manifest>> = BTreeMap::new();
    for folder in layout.stage_folders() {
        manifests.insert(layout.name_of(&folder), read_manifest(&folder).ok());
    }
    let changed = |input: &str, digest: &Digest| match manifests.get(input) {
        Some(Some(now)) => now.digest != *digest,
        Some(None) => true,
        None => digest_outside(input).as_ref() != Some(digest),
    };
    let describe = |(folder, manifest): (&String, &Option<Manifest>)| match manifest {
        None => StageStatus {
            stage: String::new(),
            folder: folder.clone(),
            state: StageState::Unfinished,
            rows: 0,
            digest: None,
            because: "it was interrupted".to_owned(),
        },
        Some(manifest) => {
            let moved: Vec<&str> =
                manifest.inputs.iter().filter(|(name, d)| changed(name, d)).map(|(name, _)| name.as_str()).collect();
            StageStatus {
                stage: manifest.stage.clone(),
                folder: folder.clone(),
                state: if moved.is_empty() { StageState::UpToDate } else { StageState::Stale },
                rows: manifest.rows.output,
                digest: Some(manifest.digest.clone()),
                because: if moved.is_empty() { String::new() } else { format!("changed: {}", moved.join(", ")) },
            }
        }
    };
    manifests.iter().map(describe).collect()
}

/// The manifest of the stage `stage` that `manifest` was made from, directly or through others; none when there is none, or
/// when what lies there now is not what was used.
pub fn ancestor(layout: &Layout, manifest: &Manifest, stage: &str) -> Option<Manifest> {
    if manifest.stage == stage {
        return Some(manifest.clone());
    }
    manifest.inputs.iter().find_map(|(name, digest)| {
        let input = read_manifest(&layout.out.join(name)).ok().filter(|input| input.digest == *digest)?;
        ancestor(layout, &input, stage)
    })
}

/// The digest of an input outside `OUT`, which is named by its address: a source's listing, or a file's bytes.
fn digest_outside(address: &str) -> Option<Digest> {
    let path = std::path::Path::new(address);
    if path.is_file() {
        return digest_of_file(path).ok().map(|(digest, _)| digest);
    }
    source_of_address(address)?.listing_digest().ok()
}
