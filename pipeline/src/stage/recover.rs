//! Putting a finished folder into its place, and doing so later where a process was cut off in between.
//!
//! The order is: the manifest is written into the partial folder; the folder that is there makes room; the partial folder
//! is renamed; what made room is removed or kept under its key; the mark of work in progress goes last. Wherever that stops,
//! [`recover`] ends it or, when the partial folder is not whole, undoes it.

use super::fault::fault_point;
use super::files::{remove_tree, rename_folder};
use super::manifest::{is_whole, manifest_from_json};
use super::places::Places;
use super::run::{KEY_FILE, KeyRecord, TABLES_FILE};
use super::spec::Previous;
use crate::{PipelineError, Result, remote};
use lapidary_schemas::Manifest;
use lapidary_schemas::tables::MANIFEST_FILE;
use std::fs;
use std::path::Path;

/// Renames a whole partial folder to its final name. What was there is kept under its key when it was made with other
/// settings and is not in the new one, and otherwise replaced.
pub(crate) fn install(places: &Places, manifest: &Manifest, previous: Previous) -> Result<()> {
    settle(places)?;
    let folder = &places.folder;
    if folder.exists() {
        let is_kept = previous == Previous::Kept
            && manifest_in(folder).is_some_and(|before| {
                before.key != manifest.key
                    && before.digest != manifest.digest
                    && !manifest.extends.contains(&before.digest)
            });
        let out_of_the_way = if is_kept { places.leaving() } else { places.replaced() };
        rename_folder(folder, &out_of_the_way)?;
    }
    fault_point("finish:room-made");
    rename_folder(&places.partial(), folder)?;
    fault_point("finish:renamed");
    clear(places)
}

/// What made room is kept under its key, or removed.
fn settle(places: &Places) -> Result<()> {
    let leaving = places.leaving();
    if let Some(before) = manifest_in(&leaving) {
        let aside = places.aside(&before.key).folder;
        remove_tree(&aside)?;
        rename_folder(&leaving, &aside)?;
    }
    fault_point("finish:kept-aside");
    remove_tree(&places.replaced())
}

/// What is left to do once the final folder is whole.
fn clear(places: &Places) -> Result<()> {
    settle(places)?;
    for name in [TABLES_FILE, KEY_FILE] {
        let path = places.folder.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(PipelineError::io("remove", &path)(error));
            }
            _ => {}
        }
    }
    fault_point("finish:cleared");
    Ok(())
}

/// Ends or undoes what a process was cut off from; the caller holds the lock.
pub(crate) fn recover(places: &Places) -> Result<()> {
    let partial = places.partial();
    if let Some(manifest) = manifest_in(&partial).filter(|manifest| is_whole(&partial, manifest)) {
        let previous = KeyRecord::read(&partial).map_or(Previous::Replaced, |record| record.previous);
        restore(places)?;
        tracing::info!("`{}` was finished but not yet in its place; it is now", places.folder.display());
        return install(places, &manifest, previous);
    }
    restore(places)?;
    if manifest_in(&places.folder).is_some() { clear(places) } else { Ok(()) }
}

/// Whether a folder is in its place, but the process that put it there did not come to its end.
pub(crate) fn is_unsettled(places: &Places) -> bool {
    places.folder.join(KEY_FILE).exists() || places.leaving().exists() || places.replaced().exists()
}

/// Brings back a folder that made room for one that never came.
fn restore(places: &Places) -> Result<()> {
    for out_of_the_way in [places.leaving(), places.replaced()] {
        if !places.folder.exists() && manifest_in(&out_of_the_way).is_some() {
            rename_folder(&out_of_the_way, &places.folder)?;
        }
    }
    Ok(())
}

/// Recovers a folder that is about to be read, unless another process is at work on it.
pub(crate) fn recover_unlocked(folder: &Path) {
    let places = Places::of(folder);
    if ![places.partial(), places.replaced(), places.leaving()].iter().any(|place| place.join(MANIFEST_FILE).is_file())
    {
        return;
    }
    if let Ok(Some(_lock)) = places.try_lock()
        && let Err(error) = recover(&places)
    {
        tracing::warn!("`{}` was left half-way: {error}", folder.display());
    }
}

/// Removes a whole folder: out of its place first, so that it is there or not.
pub(crate) fn remove_stage(folder: &Path) -> Result<()> {
    let places = Places::of(folder);
    let _lock = places.lock()?;
    recover(&places)?;
    rename_folder(folder, &places.replaced())?;
    // What has no manifest is not brought back.
    let manifest = places.replaced().join(MANIFEST_FILE);
    fs::remove_file(&manifest).map_err(PipelineError::io("remove", &manifest))?;
    remove_tree(&places.replaced())?;
    remote::removed(folder)
}

fn manifest_in(folder: &Path) -> Option<Manifest> {
    let path = folder.join(MANIFEST_FILE);
    manifest_from_json(&path, &fs::read(&path).ok()?).ok()
}
