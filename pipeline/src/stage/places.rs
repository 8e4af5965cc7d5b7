//! Where a stage's folder lies in each of its states, all of them beside the final one.
//!
//! | state | name |
//! |---|---|
//! | whole | `NAME` |
//! | being written, or interrupted | `.NAME.partial` |
//! | being made in shares | `.NAME.shares/KEY`, with 16 digits of its key |
//! | on its way out, replaced | `.NAME.old` |
//! | on its way out, to be kept | `.NAME.aside` |
//! | kept, made with other settings | `NAME~KEY`, with the first digits of its key |
//! | interrupted and kept | `.NAME~KEY.partial` |

use crate::{PipelineError, Result};
use lapidary_schemas::Digest;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Digits of a key in a folder's name.
const KEY_DIGITS: usize = 8;
/// Digits of a key in the name of its folder of shares: nothing else tells two keys' shards apart.
const SHARES_DIGITS: usize = 16;

/// How often, and after how long each time, a lock is tried again: who only looks holds it for an instant.
const LOOKS: usize = 10;
const LOOK: Duration = Duration::from_millis(20);

/// The names of one stage's folder.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    /// The final folder.
    pub(crate) folder: PathBuf,
    name: String,
}

impl Places {
    pub(crate) fn of(folder: &Path) -> Self {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self { folder: folder.to_owned(), name }
    }

    fn beside(&self, name: String) -> PathBuf {
        self.folder.with_file_name(name)
    }

    pub(crate) fn partial(&self) -> PathBuf {
        self.beside(format!(".{}.partial", self.name))
    }

    /// Where the shares of all keys lie, a folder each.
    pub(crate) fn shares(&self) -> PathBuf {
        self.beside(format!(".{}.shares", self.name))
    }

    pub(crate) fn shares_of(&self, key: &Digest) -> PathBuf {
        self.shares().join(&key.0[..key.0.len().min(SHARES_DIGITS)])
    }

    pub(crate) fn replaced(&self) -> PathBuf {
        self.beside(format!(".{}.old", self.name))
    }

    pub(crate) fn leaving(&self) -> PathBuf {
        self.beside(format!(".{}.aside", self.name))
    }

    /// The names under which a folder of another key is kept.
    pub(crate) fn aside(&self, key: &Digest) -> Self {
        Self::of(&self.beside(format!("{}~{}", self.name, short_key(key))))
    }

    /// Makes the parent folder and takes the lock; none when another process holds it.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn try_lock(&self) -> Result<Option<File>> {
        let parent = self.folder.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(parent).map_err(PipelineError::io("create folder", parent))?;
        let path = self.beside(format!(".{}.lock", self.name));
        let lock = File::create(&path).map_err(PipelineError::io("create", &path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(lock)),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(PipelineError::io("lock", &path)(error)),
        }
    }

    /// As [`Places::try_lock`], but another process at work is an error. Those that only look are waited for.
    pub(crate) fn lock(&self) -> Result<File> {
        for _ in 0..LOOKS {
            if let Some(lock) = self.try_lock()? {
                return Ok(lock);
            }
            std::thread::sleep(LOOK);
        }
        Err(PipelineError::Usage(format!(
            "another process is writing `{}`; wait for it, or end it",
            self.folder.display()
        )))
    }

    /// Whether a process is at work on the folder.
    pub(crate) fn is_locked(&self) -> bool {
        let path = self.beside(format!(".{}.lock", self.name));
        File::open(path).is_ok_and(|file| matches!(file.try_lock(), Err(fs::TryLockError::WouldBlock)))
    }
}

/// The digits of a key that folders and runs are named by.
pub fn short_key(key: &Digest) -> &str {
    &key.0[..key.0.len().min(KEY_DIGITS)]
}

/// The key's digits in the name of a folder that is kept aside.
pub(crate) fn key_in_name(name: &str) -> Option<&str> {
    let (_, key) = name.rsplit_once('~')?;
    (key.len() == KEY_DIGITS && key.bytes().all(|b| b.is_ascii_hexdigit())).then_some(key)
}
