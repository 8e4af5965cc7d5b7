//! Files that are whole or not there: temporary name, sync, rename, sync of the folder.

use super::fault::fault_point;
use crate::{PipelineError, Result};
use lapidary_schemas::Digest;
use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// How the name of a file ends while it is being written.
pub(crate) const WRITING: &str = ".writing";

/// A name beside `path` that no other writer uses, in this process or another, on this machine or another that sees the folder.
pub(crate) fn temporary_name(path: &Path) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    static PROCESS: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(std::process::id()));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let (process, next) = (*PROCESS, NEXT.fetch_add(1, Ordering::Relaxed));
    path.with_file_name(format!("{name}.{process:016x}-{next}{WRITING}"))
}

/// The name of a file or folder, without those above it.
pub fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Writes JSON, synced to disk, under a temporary name that is then renamed.
///
/// # Errors
/// When the file cannot be written.
pub fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|e| PipelineError::format(path, e))?;
    write_synced(path, text.as_bytes())
}

/// Writes bytes, synced to disk, under a temporary name that is then renamed: until then, and when it fails, what was
/// there before stays.
///
/// # Errors
/// When the file cannot be written.
pub fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = temporary_name(path);
    let written = fs::write(&temporary, bytes)
        .and_then(|()| File::open(&temporary)?.sync_all())
        .map_err(PipelineError::io("write", path));
    fault_point("file:written");
    let renamed = written.and_then(|()| fs::rename(&temporary, path).map_err(PipelineError::io("rename", &temporary)));
    if renamed.is_err() {
        // A full disk is not made fuller.
        let _ = fs::remove_file(&temporary);
    }
    renamed
}

/// Removes what writers that were cut off left in a folder that nobody else writes.
///
/// # Errors
/// When a file cannot be removed.
pub(crate) fn remove_unfinished(folder: &Path) -> Result<()> {
    for entry in walkdir::WalkDir::new(folder).into_iter().filter_map(|entry| entry.ok()) {
        if entry.file_type().is_file() && entry.file_name().to_string_lossy().ends_with(WRITING) {
            fs::remove_file(entry.path()).map_err(PipelineError::io("remove", entry.path()))?;
        }
    }
    Ok(())
}

/// BLAKE3 of bytes.
pub fn digest_of_bytes(bytes: &[u8]) -> Digest {
    Digest(blake3::hash(bytes).to_hex().to_string())
}

/// Writes a file by `write`, which is given a temporary name; it is hashed, synced to disk and renamed. Until then, and when
/// any of it fails, what was there before stays.
///
/// # Errors
/// What `write` says; when the file cannot be read back or renamed.
pub fn write_hashed<E: From<PipelineError>>(
    path: &Path,
    write: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<Digest, E> {
    let temporary = temporary_name(path);
    let written = write(&temporary).and_then(|()| Ok(digest_of_file(&temporary)?));
    fault_point("file:written");
    let renamed = written.and_then(|(digest, _)| {
        fs::rename(&temporary, path).map_err(PipelineError::io("rename", &temporary))?;
        Ok(digest)
    });
    if renamed.is_err() {
        // A full disk is not made fuller.
        let _ = fs::remove_file(&temporary);
    }
    renamed
}

/// BLAKE3 and length of a file, which is synced to disk on the way.
///
/// # Errors
/// When the file cannot be read.
pub fn digest_of_file(path: &Path) -> Result<(Digest, u64)> {
    const BLOCK_BYTES: usize = 8 << 20;
    let mut file = File::open(path).map_err(PipelineError::io("open", path))?;
    let len = file.metadata().map_err(PipelineError::io("read", path))?.len();
    let handle = file.try_clone().map_err(PipelineError::io("open", path))?;
    // Written back to the disk while it is hashed on all cores.
    let synced = std::thread::spawn(move || handle.sync_all());
    let mut hasher = blake3::Hasher::new();
    let mut block = vec![0; BLOCK_BYTES.min(len as usize)];
    let mut left = len;
    while left > 0 {
        let part = &mut block[..BLOCK_BYTES.min(left as usize)];
        file.read_exact(part).map_err(PipelineError::io("read", path))?;
        hasher.update_rayon(part);
        left -= part.len() as u64;
    }
    match synced.join() {
        Ok(synced) => synced.map_err(PipelineError::io("sync", path))?,
        Err(_) => return Err(PipelineError::Internal("syncing a file panicked".to_owned())),
    }
    Ok((Digest(hasher.finalize().to_hex().to_string()), len))
}

/// Removes a folder with all that is in it, if it is there.
pub(crate) fn remove_tree(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(PipelineError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Renames a folder and makes that last through a power cut; file systems that cannot are left alone.
pub(crate) fn rename_folder(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(PipelineError::io("rename", from))?;
    sync_folder(to.parent().unwrap_or(Path::new(".")));
    Ok(())
}

/// Makes the names in a folder last through a power cut.
pub(crate) fn sync_folder(path: &Path) {
    if let Err(error) = File::open(path).and_then(|f| f.sync_all()) {
        tracing::debug!("`{}` was not synced: {error}", path.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_files_of_one_stem_are_written_at_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let names = [folder.path().join("step.json"), folder.path().join("step.safetensors")];
        std::thread::scope(|scope| {
            for name in &names {
                scope.spawn(move || {
                    (0..50).for_each(|_| write_synced(name, name.as_os_str().as_encoded_bytes()).expect("writes"))
                });
            }
        });
        for name in &names {
            assert_eq!(fs::read(name).expect("reads"), name.as_os_str().as_encoded_bytes());
        }
    }

    #[test]
    fn what_cannot_be_written_leaves_what_was_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.json");
        write_synced(&path, b"before").expect("writes");
        fs::create_dir(folder.path().join("b.json")).expect("creates");
        assert!(write_synced(&folder.path().join("b.json"), b"x").is_err(), "a folder is in the way");
        assert_eq!(fs::read(&path).expect("reads"), b"before");
        assert_eq!(fs::read_dir(folder.path()).expect("lists").count(), 2, "no temporary file is left");
    }
}
