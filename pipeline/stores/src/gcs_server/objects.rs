//! Objects as files: a bucket is a folder, and whatever files lie in it are its objects. An object's generation is the time that
//! it was written at in microseconds, as Google's are, and stands in the file's own time, so that a server that is killed and
//! started again has it. Writes wait for each other, so that a condition still holds when what it allows is done.

use super::reply::{Refusal, Result};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A bucket whose name begins so exists, and the account has no right to it.
const LOCKED: &str = "locked";
/// Where what is being written lies until it is whole, and the parts of uploads.
const WRITING: &str = ".writing";

/// All buckets.
pub(super) struct Buckets {
    folder: PathBuf,
    /// Held by who changes anything, and by who reads what is there as one.
    changes: Mutex<()>,
    /// Tags of files as they were at a generation and length.
    tags: Mutex<HashMap<PathBuf, (u64, u64, String)>>,
    next: AtomicU64,
}

/// An object that is there.
pub(super) struct Object {
    pub(super) key: String,
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
    pub(super) generation: u64,
    /// In quotes, as headers have it: a digest of the content.
    pub(super) e_tag: String,
}

impl Object {
    pub(super) fn modified(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_micros(self.generation)
    }
}

impl Buckets {
    pub(super) fn in_folder(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder.join(WRITING))?;
        Ok(Self {
            folder: folder.to_owned(),
            changes: Mutex::default(),
            tags: Mutex::default(),
            next: AtomicU64::new(0),
        })
    }

    /// A path for something that is being written.
    pub(super) fn scratch(&self, name: &str) -> PathBuf {
        self.folder.join(WRITING).join(name)
    }

    /// A number that no other call of this server has, nor of one that was killed before.
    pub(super) fn number(&self) -> u64 {
        now_micros() + self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Held while something is changed, or must not be.
    pub(super) fn lock(&self) -> MutexGuard<'_, ()> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The folder of a bucket that the account may use.
    ///
    /// # Errors
    /// When there is none, or it may not.
    pub(super) fn bucket(&self, name: &str) -> Result<PathBuf> {
        if name.starts_with(LOCKED) {
            let details = format!("the account does not have storage.objects access to the bucket {name}.");
            return Err(Refusal::new(403, "AccessDenied", details));
        }
        let is_name = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b));
        let folder = self.folder.join(name);
        if !is_name || name.is_empty() || name.starts_with('.') || !folder.is_dir() {
            return Err(Refusal::new(404, "NoSuchBucket", ""));
        }
        Ok(folder)
    }

    /// An object.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn find(&self, bucket: &str, key: &str) -> Result<Object> {
        let path = self.bucket(bucket)?.join(path_of(key)?);
        match fs::metadata(&path) {
            Ok(meta) if meta.is_file() => Ok(self.object(key.to_owned(), path, &meta)?),
            Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Err(error.into()),
            _ => Err(Refusal::new(404, "NoSuchKey", format!("No such object: {bucket}/{key}"))),
        }
    }

    fn object(&self, key: String, path: PathBuf, meta: &fs::Metadata) -> io::Result<Object> {
        let (bytes, generation) = (meta.len(), micros_of(meta.modified()?));
        let mut tags = self.tags.lock().unwrap_or_else(PoisonError::into_inner);
        let known = tags.get(&path).filter(|(at, len, _)| (*at, *len) == (generation, bytes));
        let e_tag = match known {
            Some((.., e_tag)) => e_tag.clone(),
            None => {
                let e_tag = tag_of(File::open(&path)?)?;
                tags.insert(path.clone(), (generation, bytes, e_tag.clone()));
                e_tag
            }
        };
        Ok(Object { key, path, bytes, generation, e_tag })
    }

    /// Puts a file that was written whole into an object's place, if the object is of the `required` generation.
    ///
    /// # Errors
    /// When it is not, or an object of another key is in the way.
    pub(super) fn install(&self, bucket: &str, key: &str, written: &Path, required: Option<u64>) -> Result<Object> {
        let path = self.bucket(bucket)?.join(path_of(key)?);
        let _changing = self.lock();
        let present = self.generation(bucket, key)?;
        if required.is_some_and(|required| required != present.unwrap_or(0)) {
            return Err(Refusal::precondition());
        }
        let generation = now_micros().max(present.map_or(0, |present| present + 1));
        let above = path.parent().unwrap_or(&path);
        if path.is_dir() || fs::create_dir_all(above).is_err() {
            let details = "a key that is a folder of another key is no file: this server cannot hold both";
            return Err(Refusal::new(501, "NotImplemented", details));
        }
        File::options().write(true).open(written)?.set_modified(UNIX_EPOCH + Duration::from_micros(generation))?;
        fs::rename(written, &path)?;
        self.find(bucket, key)
    }

    /// Writes bytes to a path that nobody else uses, for [`Buckets::install`].
    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<PathBuf> {
        let path = self.scratch(&self.number().to_string());
        File::create_new(&path)?.write_all(bytes)?;
        Ok(path)
    }

    /// Removes an object, if it is of the `required` generation.
    ///
    /// # Errors
    /// When there is none, or it is not.
    pub(super) fn remove(&self, bucket: &str, key: &str, required: Option<u64>) -> Result<()> {
        let _changing = self.lock();
        let object = self.find(bucket, key)?;
        if required.is_some_and(|required| required != object.generation) {
            return Err(Refusal::precondition());
        }
        fs::remove_file(&object.path)?;
        // A store has no folders: one in which nothing is left goes.
        let bucket = self.bucket(bucket)?;
        object
            .path
            .ancestors()
            .skip(1)
            .take_while(|above| **above != bucket)
            .all(|above| fs::remove_dir(above).is_ok());
        Ok(())
    }

    fn generation(&self, bucket: &str, key: &str) -> Result<Option<u64>> {
        match self.find(bucket, key) {
            Ok(object) => Ok(Some(object.generation)),
            Err(refusal) if refusal.code == "NoSuchKey" => Ok(None),
            Err(refusal) => Err(refusal),
        }
    }

    /// The keys after `after` that begin with `prefix`, in the order of their bytes.
    ///
    /// # Errors
    /// When there is no such bucket.
    pub(super) fn keys(&self, bucket: &str, prefix: &str, after: &str) -> Result<Vec<String>> {
        let root = self.bucket(bucket)?;
        let (mut keys, mut to_visit) = (Vec::new(), vec![(root, String::new())]);
        while let Some((folder, above)) = to_visit.pop() {
            for entry in fs::read_dir(&folder)? {
                let entry = entry?;
                let name = entry.file_name().into_string().map_err(|_| io::Error::other("a name is no UTF-8"))?;
                let key = format!("{above}{}", part_of_key(&name));
                if entry.file_type()?.is_dir() {
                    to_visit.push((entry.path(), format!("{key}/")));
                } else if key.starts_with(prefix) && key.as_str() > after {
                    keys.push(key);
                }
            }
        }
        keys.sort();
        Ok(keys)
    }
}

/// Where an object's file lies, below its bucket. A part of a key that can be no file's name has a `%` before it.
fn path_of(key: &str) -> Result<PathBuf> {
    let mut path = PathBuf::new();
    for part in key.split('/') {
        match part {
            "" | "." | ".." => path.push(format!("%{part}")),
            "%" | "%." | "%.." => return Err(Refusal::new(501, "NotImplemented", "this server keeps no such key")),
            _ if part.contains('\0') => return Err(Refusal::invalid("a key holds a NUL")),
            _ => path.push(part),
        }
    }
    Ok(path)
}

fn part_of_key(name: &str) -> &str {
    name.strip_prefix('%').filter(|part| ["", ".", ".."].contains(part)).unwrap_or(name)
}

/// The tag of a content, in quotes: equal contents have equal tags, as with Google's MD5.
pub(super) fn tag_of(mut content: impl Read) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    io::copy(&mut content, &mut hasher)?;
    Ok(format!("\"{}\"", &hasher.finalize().to_hex()[..32]))
}

fn now_micros() -> u64 {
    micros_of(SystemTime::now())
}

fn micros_of(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}
