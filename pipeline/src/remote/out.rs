//! OUT in a store: what the stage runtime asks when a folder is looked for, read, finished or removed. Where OUT is on a disk,
//! each of these is nothing.

use super::helper::{Helper, helper};
use super::without_credentials;
use crate::{PipelineError, Result};
use lapidary_schemas::Manifest;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

/// The output tree of this process, if it lies in a store.
#[derive(Debug)]
struct Out {
    url: String,
    /// The folder that stands for it.
    cache: PathBuf,
    helper: Arc<Helper>,
    /// What the first look found.
    found: Value,
}

static OUT: OnceLock<Out> = OnceLock::new();

/// Lets a folder stand for the tree at `url` in this process, and makes its manifests those of the store. Returns the folder.
///
/// # Errors
/// When this build knows no stores, the URL is none, or the store refuses or does not answer.
pub fn attach(url: &str, cache: Option<&Path>) -> Result<PathBuf> {
    let cache = cache.map_or_else(|| super::cache_folder(url), |named| Ok(named.to_owned()))?;
    std::fs::create_dir_all(&cache).map_err(PipelineError::io("create folder", &cache))?;
    let cache = cache.canonicalize().map_err(PipelineError::io("open", &cache))?;
    let helper = helper(url)?;
    let found = helper.ask("mirror", json!({"url": url, "cache": cache}))?;
    let out = Out { url: without_credentials(url), cache: cache.clone(), helper, found };
    tracing::debug!("`{}` is mirrored in `{}`: {}", out.url, cache.display(), out.found);
    OUT.set(out).map_err(|_| PipelineError::Internal("two output trees in one process".to_owned()))?;
    Ok(cache)
}

/// Whether OUT lies in a store.
pub(crate) fn is_attached() -> bool {
    OUT.get().is_some()
}

/// A path as people know it: below the URL, when it is below the folder that stands for it.
pub fn in_words(path: &Path) -> String {
    let url = OUT.get().and_then(|out| {
        let below = path.strip_prefix(&out.cache).ok()?.to_string_lossy().into_owned();
        Some(if below.is_empty() { out.url.clone() } else { format!("{}/{below}", out.url) })
    });
    url.unwrap_or_else(|| path.display().to_string())
}

/// An error's text with the URL in the place of the folder that stands for it, which is named once at the end.
pub fn explained(text: &str) -> String {
    let Some(out) = OUT.get() else { return text.to_owned() };
    let folder = out.cache.display().to_string();
    // What the user is to remove is the folder here.
    if !text.contains(&folder) || text.contains(&format!("remove `{folder}")) {
        return text.to_owned();
    }
    format!("{}\nnote: `{}` is mirrored in `{folder}`", text.replace(&folder, &out.url), out.url)
}

/// What there is to say of the store that OUT lies in; null when it lies on a disk.
pub fn facts() -> Value {
    OUT.get().map_or(Value::Null, |out| json!({"url": out.url, "cache": out.cache, "found": out.found}))
}

/// The name of a folder or file below OUT, when that lies in a store.
fn below(path: &Path) -> Option<(&'static Out, String)> {
    let out = OUT.get()?;
    let name = path.strip_prefix(&out.cache).ok()?.to_str()?;
    (!name.is_empty()).then(|| (out, name.to_owned()))
}

/// Whether the store has exactly this content of a folder: then files that are not here can be brought.
pub(crate) fn is_published(folder: &Path, manifest: &Manifest) -> bool {
    let Some((out, name)) = below(folder) else { return false };
    let known = out.cache.join(".store").join("folders").join(name).join("known.json");
    let known: Value =
        std::fs::read(known).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
    !manifest.seal.is_empty() && known["seal"].as_str() == Some(&manifest.seal)
}

/// Publishes a stage's folder, unless it is; whether there was anything to do.
///
/// # Errors
/// When another writer's manifest is there, or the store refuses or goes away.
pub(crate) fn publish(folder: &Path) -> Result<bool> {
    let Some((out, name)) = below(folder) else { return Ok(false) };
    let published = out.helper.ask("publish", json!({"folder": name}))?;
    let count = |key: &str| published[key].as_u64().unwrap_or(0);
    let (sent, found) = (count("sent"), count("found"));
    if published["was_there"] == true {
        tracing::info!("`{}/{name}` was published by another writer, with the same digest", out.url);
    } else if sent + found > 0 {
        let mib = count("sent_bytes") as f64 / f64::from(1 << 20);
        tracing::info!("`{}/{name}` is published: {sent} files sent ({mib:.1} MiB), {found} were there", out.url);
    }
    Ok(sent + found > 0)
}

/// Brings all files of a folder.
///
/// # Errors
/// When one is not there or not as it was written, or the store goes away.
pub(crate) fn fetch_all(folder: &Path, manifest: &Manifest) -> Result<()> {
    fetch(folder, manifest, |_| true)
}

/// Brings the files of a folder that are no shards: those come one by one, or by `Layout::shards`.
///
/// # Errors
/// As [`fetch_all`].
pub(crate) fn fetch_side_files(folder: &Path, manifest: &Manifest) -> Result<()> {
    fetch(folder, manifest, |name| !is_shard(name))
}

/// Brings the shards of a folder.
///
/// # Errors
/// As [`fetch_all`].
pub(crate) fn fetch_shards(folder: &Path, manifest: &Manifest) -> Result<()> {
    fetch(folder, manifest, is_shard)
}

/// Brings a file of a folder, unless it is here.
///
/// # Errors
/// As [`fetch_all`].
pub(crate) fn bring(path: &Path) -> Result<()> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Ok(());
    };
    if !is_attached() || path.exists() {
        return Ok(());
    }
    match crate::stage::manifest_in_place(folder) {
        Ok(manifest) => fetch(folder, &manifest, |file| file == name),
        Err(_) => Ok(()),
    }
}

fn is_shard(name: &str) -> bool {
    name.starts_with("part-") && name.ends_with(".parquet")
}

fn fetch(folder: &Path, manifest: &Manifest, is_wanted: impl Fn(&str) -> bool) -> Result<()> {
    let Some((out, name)) = below(folder) else { return Ok(()) };
    if !is_published(folder, manifest) {
        return Ok(());
    }
    let is_missing = |file: &str, bytes: u64| !std::fs::metadata(folder.join(file)).is_ok_and(|f| f.len() == bytes);
    let missing: Vec<&String> = manifest
        .outputs
        .iter()
        .filter(|(file, output)| is_wanted(file) && is_missing(file, output.bytes))
        .map(|(file, _)| file)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let brought = out.helper.ask("fetch", json!({"folder": name, "files": missing}))?;
    let mib = brought["bytes"].as_u64().unwrap_or(0) as f64 / f64::from(1 << 20);
    tracing::debug!("`{}/{name}`: {} files brought ({mib:.1} MiB)", out.url, brought["files"]);
    Ok(())
}

/// Puts a file of OUT that belongs to no stage into the store.
///
/// # Errors
/// When the store refuses or goes away.
pub fn put_file(path: &Path) -> Result<()> {
    let Some((out, name)) = below(path) else { return Ok(()) };
    out.helper.ask("put_file", json!({"name": name}))?;
    Ok(())
}

/// Brings the markers of these shards, or of all; the names of the shards that the store has.
///
/// # Errors
/// When the store refuses or goes away.
pub(crate) fn fetch_markers(folder: &Path, shards: Option<&[String]>) -> Result<Vec<String>> {
    let Some((out, name)) = below(folder) else { return Ok(Vec::new()) };
    let names = out.helper.ask("fetch_markers", json!({"folder": name, "shards": shards}))?;
    Ok(serde_json::from_value(names).unwrap_or_default())
}

/// Sends a shard of a share and its marker.
///
/// # Errors
/// When the store refuses or goes away.
pub(crate) fn publish_shard(folder: &Path, shard: &str) -> Result<()> {
    on_shares("publish_shard", folder, Some(shard)).map(|_| ())
}

/// Brings a shard of a share, unless it is here.
///
/// # Errors
/// When it is not in the store, or not as its marker says.
pub(crate) fn fetch_shard(folder: &Path, shard: &str) -> Result<()> {
    on_shares("fetch_shard", folder, Some(shard)).map(|_| ())
}

/// Removes the markers of shares.
///
/// # Errors
/// When the store refuses or goes away.
pub(crate) fn clear_shares(folder: &Path) -> Result<()> {
    on_shares("clear_shares", folder, None).map(|_| ())
}

fn on_shares(operation: &str, folder: &Path, shard: Option<&str>) -> Result<Value> {
    let Some((out, name)) = below(folder) else { return Ok(Value::Null) };
    let mut request = json!({"folder": name});
    if let Some(shard) = shard {
        request["shard"] = json!(shard);
    }
    Ok(out.helper.ask(operation, request)?)
}

/// Refuses to remove a folder that another machine has published since this one looked.
///
/// # Errors
/// When it was; when the store refuses or goes away.
pub(crate) fn check_removal(folder: &Path) -> Result<()> {
    let Some((out, name)) = below(folder) else { return Ok(()) };
    out.helper.ask("check_removal", json!({"folder": name}))?;
    Ok(())
}

/// Takes a folder that was removed here out of the store.
///
/// # Errors
/// When another machine has published it since; when the store refuses or goes away.
pub(crate) fn removed(folder: &Path) -> Result<()> {
    let Some((out, name)) = below(folder) else { return Ok(()) };
    out.helper.ask("remove", json!({"folder": name}))?;
    Ok(())
}

/// The markers that a store has of one key of a stage.
#[derive(Debug, Clone)]
pub(crate) struct StoredShares {
    /// The folder that stands for theirs.
    pub(crate) folder: PathBuf,
    /// When the last of them was written.
    pub(crate) written: SystemTime,
    /// What they take up, without the shards that they name.
    pub(crate) bytes: u64,
}

/// The shares that the store has, of every stage and key.
///
/// # Errors
/// When the store refuses or goes away.
pub(crate) fn list_shares() -> Result<Vec<StoredShares>> {
    let Some(out) = OUT.get() else { return Ok(Vec::new()) };
    let listed = out.helper.ask("list_shares", json!({}))?;
    let entry = |entry: &Value| {
        let idle = Duration::from_secs(entry["idle_secs"].as_u64()?);
        let written = SystemTime::now().checked_sub(idle)?;
        Some(StoredShares {
            folder: out.cache.join(entry["folder"].as_str()?),
            written,
            bytes: entry["bytes"].as_u64()?,
        })
    };
    Ok(listed.as_array().into_iter().flatten().filter_map(entry).collect())
}

/// Removes the markers in these folders from the store, unless somebody has written to them meanwhile; the folders whose markers
/// went.
///
/// # Errors
/// When the store refuses or goes away.
pub(crate) fn remove_shares(folders: &[&Path]) -> Result<Vec<PathBuf>> {
    let Some(out) = OUT.get() else { return Ok(Vec::new()) };
    let removed = out.helper.ask("remove_shares", json!({"folders": names_below(folders)}))?;
    Ok(removed.as_array().into_iter().flatten().filter_map(|name| Some(out.cache.join(name.as_str()?))).collect())
}

fn names_below(folders: &[&Path]) -> Vec<String> {
    folders.iter().filter_map(|folder| Some(below(folder)?.1)).collect()
}

/// The URLs of objects in the store that nothing names any more, and their bytes; they are removed unless it is a dry run, which
/// takes the markers in the folders `abandoned` for gone.
///
/// # Errors
/// When the store refuses or goes away.
pub(crate) fn sweep(abandoned: &[&Path], dry_run: bool) -> Result<Vec<(String, u64)>> {
    let Some(out) = OUT.get() else { return Ok(Vec::new()) };
    let swept = out.helper.ask("sweep", json!({"abandoned": names_below(abandoned), "dry_run": dry_run}))?;
    let entry = |entry: &Value| Some((entry["url"].as_str()?.to_owned(), entry["bytes"].as_u64()?));
    Ok(swept.as_array().into_iter().flatten().filter_map(entry).collect())
}
