//! Files here: written whole or not at all, under names that nobody else uses until then.

use crate::{Result, StoreError};
use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// What a file is called until it is whole ends so.
const WRITING: &str = ".writing";
/// The sources that are laid out below a cache come and go by themselves.
const SOURCES: &str = ".sources";

/// A name beside `path` that nobody else uses, on this machine or another that sees the folder; the stage runtime removes what
/// is left under such a name.
pub(crate) fn temporary_name(path: &Path) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let random = RandomState::new().hash_one(SystemTime::now());
    let (process, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    path.with_file_name(format!("{name}.{process}-{number}-{random:016x}{WRITING}"))
}

/// Writes a small file whole or not at all.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    create_above(path)?;
    let temporary = temporary_name(path);
    let written = fs::write(&temporary, bytes).and_then(|()| File::open(&temporary)?.sync_all());
    let renamed = written.and_then(|()| fs::rename(&temporary, path)).map_err(StoreError::io("write", path));
    if renamed.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    renamed
}

/// Makes the folder that a file is to lie in.
pub(crate) fn create_above(path: &Path) -> Result<()> {
    path.parent().map_or(Ok(()), |above| fs::create_dir_all(above).map_err(StoreError::io("create folder", above)))
}

/// Removes a file that may have gone.
pub(crate) fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(StoreError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Removes what processes left below a folder that ended while they wrote: nothing has been written to it for `age`. Returns how
/// many files.
pub(crate) fn remove_unfinished(folder: &Path, age: Duration) -> u64 {
    let (mut removed, mut to_visit) = (0, vec![folder.to_owned()]);
    while let Some(folder) = to_visit.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().filter_map(|entry| entry.ok()) {
            let (name, kind) = (entry.file_name(), entry.file_type());
            if kind.as_ref().is_ok_and(|kind| kind.is_dir()) {
                if name != SOURCES {
                    to_visit.push(entry.path());
                }
            } else if name.to_string_lossy().ends_with(WRITING) {
                let written = entry.metadata().and_then(|meta| meta.modified());
                let is_old =
                    written.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|since| since >= age));
                removed += u64::from(is_old && fs::remove_file(entry.path()).is_ok());
            }
        }
    }
    removed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_process_left_goes_when_it_is_old() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        for name in ["a/b.parquet", "a/b.parquet.1-2-3.writing", ".sources/x.writing", "new.writing"] {
            write_whole(&at(name), b"x").expect("writes");
        }
        let old = SystemTime::now() - Duration::from_secs(7200);
        for name in ["a/b.parquet", "a/b.parquet.1-2-3.writing", ".sources/x.writing"] {
            File::options().write(true).open(at(name)).expect("opens").set_modified(old).expect("sets");
        }
        assert_eq!(remove_unfinished(folder.path(), Duration::from_secs(3600)), 1);
        assert!(!at("a/b.parquet.1-2-3.writing").exists());
        assert!(["a/b.parquet", ".sources/x.writing", "new.writing"].iter().all(|name| at(name).exists()));
        assert_ne!(temporary_name(&at("x")), temporary_name(&at("x")));
    }
}
