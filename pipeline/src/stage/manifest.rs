//! Reading manifests. A folder that a stage was cut off from renaming into its place is put there first.

use super::files::digest_of_bytes;
use super::recover::recover_unlocked;
use crate::{PipelineError, Result, remote};
use lapidary_schemas::Manifest;
use lapidary_schemas::tables::MANIFEST_FILE;
use std::fs;
use std::path::Path;

/// Reads the manifest of a stage's folder whose files are read next: where OUT lies in a store, all but the shards are brought.
///
/// # Errors
/// When there is none, or it is not one.
pub fn read_manifest(folder: &Path) -> Result<Manifest> {
    let manifest = manifest_in_place(folder)?;
    remote::fetch_side_files(folder, &manifest)?;
    Ok(manifest)
}

/// Reads the manifest of a stage's folder and nothing else of it.
///
/// # Errors
/// When there is none, or it is not one.
pub(crate) fn manifest_in_place(folder: &Path) -> Result<Manifest> {
    let path = folder.join(MANIFEST_FILE);
    if !path.is_file() {
        recover_unlocked(folder);
    }
    let text = fs::read(&path).map_err(PipelineError::io("read", &path))?;
    manifest_from_json(&path, &text)
}

/// Reads a manifest from the text of its file.
///
/// # Errors
/// When it is not one.
pub fn manifest_from_json(path: &Path, text: &[u8]) -> Result<Manifest> {
    serde_json::from_slice(text).map_err(|e| PipelineError::format(path, e))
}

/// The manifest of an input folder, or what to type to make it.
///
/// # Errors
/// [`PipelineError::Missing`] when there is none.
pub fn require_manifest(folder: &Path, what: &'static str, hint: &str) -> Result<Manifest> {
    required(read_manifest(folder), folder, what, hint)
}

/// The same for a stage that reads shards alone.
///
/// # Errors
/// As [`require_manifest`].
pub fn require_shards(folder: &Path, what: &'static str, hint: &str) -> Result<Manifest> {
    required(manifest_in_place(folder), folder, what, hint)
}

fn required(read: Result<Manifest>, folder: &Path, what: &'static str, hint: &str) -> Result<Manifest> {
    match read {
        Err(PipelineError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            Err(PipelineError::Missing { what, path: folder.to_owned(), hint: hint.to_owned() })
        }
        other => other,
    }
}

/// Whether all files that a manifest names are in the folder, at their length, or in the store that it is a mirror of.
pub(crate) fn is_whole(folder: &Path, manifest: &Manifest) -> bool {
    let in_store = remote::is_published(folder, manifest);
    let is_there = |name: &str, bytes: u64| match fs::metadata(folder.join(name)) {
        Ok(file) => file.len() == bytes,
        Err(_) => in_store,
    };
    manifest.outputs.iter().all(|(name, output)| is_there(name, output.bytes))
}

/// A manifest as its file has it.
pub(crate) fn json_text(manifest: &Manifest) -> Result<String> {
    serde_json::to_string_pretty(manifest).map_err(|e| PipelineError::Internal(e.to_string()))
}

/// The seal of a manifest's text that has none yet.
pub(crate) fn seal_of(text: &str) -> String {
    digest_of_bytes(text.as_bytes()).0
}

/// Whether a manifest's text is the one that was sealed; texts without a seal are from before there was one.
pub(crate) fn is_sealed(text: &str, seal: &str) -> bool {
    seal.is_empty() || seal_of(&text.replace(&format!("\"seal\": \"{seal}\""), "\"seal\": \"\"")) == seal
}
