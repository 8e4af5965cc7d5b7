//! The chain as it lies on disk: which stages are there, and which are stale.

use super::{FolderState, Layout, StageFolder, digest_of_file, is_outside};
use crate::ingest::sources::listing_digest_of_address;
use crate::remote::is_url;
use lapidary_schemas::{Digest, Manifest};
use serde::Serialize;

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
    /// It was made with other settings than the folder of its name, and is kept.
    pub is_aside: bool,
}

/// Every stage under `OUT`, by folder.
pub fn status(layout: &Layout) -> Vec<StageStatus> {
    layout.stages().iter().map(|stage| status_of(layout, stage)).collect()
}

fn status_of(layout: &Layout, stage: &StageFolder) -> StageStatus {
    let folder = layout.name_of(stage.files());
    let is_aside = stage.is_aside;
    let (stage, rows, digest, inputs) = match &stage.state {
        FolderState::Whole(manifest) => {
            (manifest.stage.clone(), manifest.rows.output, Some(manifest.digest.clone()), &manifest.inputs)
        }
        FolderState::Unfinished { is_running, .. } => {
            let because = if *is_running { "it is being made" } else { "it was interrupted" }.to_owned();
            let (stage, state, rows, digest) = (String::new(), StageState::Unfinished, 0, None);
            return StageStatus { stage, folder, state, rows, digest, because, is_aside };
        }
    };
    let moved: Vec<&str> = inputs
        .iter()
        .filter(|(name, d)| has_changed(layout, name, d, is_aside))
        .map(|(name, _)| name.as_str())
        .collect();
    let (state, because) = if moved.is_empty() {
        (StageState::UpToDate, String::new())
    } else {
        (StageState::Stale, format!("changed: {}", moved.join(", ")))
    };
    StageStatus { stage, folder, state, rows, digest, because, is_aside }
}

/// Whether what has an input's name is no longer what it was. What is kept aside may be of inputs that are kept aside too.
pub(super) fn has_changed(layout: &Layout, name: &str, digest: &Digest, is_aside: bool) -> bool {
    // What lies in a store is not asked for: looking costs no network.
    if is_url(name) {
        return false;
    }
    if is_outside(name) {
        return digest_outside(layout, name).as_ref() != Some(digest);
    }
    let folder = layout.out.join(name);
    layout.input(name, digest).is_none_or(|(found, _)| !is_aside && found != folder)
}

/// The manifest of the stage `stage` that `manifest` was made from, directly or through others; none when there is none, or
/// when what lies there now is not what was used.
pub fn ancestor(layout: &Layout, manifest: &Manifest, stage: &str) -> Option<Manifest> {
    if manifest.stage == stage {
        return Some(manifest.clone());
    }
    manifest.inputs.iter().find_map(|(name, digest)| {
        let (_, input) = layout.input(name, digest)?;
        ancestor(layout, &input, stage)
    })
}

/// The digest of an input outside `OUT`, which is named by its address: a source's listing, or a file's bytes.
fn digest_outside(layout: &Layout, address: &str) -> Option<Digest> {
    let path = std::path::Path::new(address);
    if path.is_file() {
        return digest_of_file(path).ok().map(|(digest, _)| digest);
    }
    listing_digest_of_address(address, &layout.out)
}
