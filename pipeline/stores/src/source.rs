//! A source in a store, laid out as a folder that those who read folders can walk: every object is a file of its length and
//! time, with holes in the place of its bytes. Of tables the end is filled in, of files that may be pictures the beginning, of
//! annotations all; the bytes of an image come when it is read, a bounded number ahead, into files that the reader deletes.

use crate::address::Address;
use crate::retry::Retry;
use crate::transfer::{AT_ONCE, bring};
use crate::{Result, StoreError};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::path::Path as Location;
use object_store::{Error, GetOptions, GetRange, ObjectMeta, ObjectStoreExt};
use serde::Serialize;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, FileTimes, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::SystemTime;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Objects that are read at once.
const READ_AT_ONCE: usize = 32;
/// Bytes of a file's beginning that tell whether it is a picture.
const HEAD_BYTES: u64 = 64;
/// Bytes of a table's end that are asked for first; its footer is at most a few of these.
const TAIL_BYTES: u64 = 64 << 10;
/// A Parquet file ends with its footer's length, in 4 bytes, and 4 more.
const PARQUET_END_BYTES: u64 = 8;
/// A list of files on a web server is no longer than this.
const LIST_BYTES_MAX: u64 = 256 << 20;

/// An object that no file can stand for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Unusable {
    pub(crate) path: String,
    pub(crate) detail: String,
}

/// What was laid out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct LaidOut {
    pub(crate) objects: u64,
    pub(crate) bytes: u64,
    pub(crate) unusable: Vec<Unusable>,
}

/// A source in a store.
#[derive(Debug)]
pub(crate) struct Source {
    address: Address,
    retry: Retry,
    /// The folder that it is laid out as.
    files: PathBuf,
    /// Where the bytes of objects are put for their reader.
    scratch: PathBuf,
    objects: BTreeMap<String, ObjectMeta>,
    /// Objects that are on their way.
    coming: RefCell<HashMap<String, JoinHandle<Result<PathBuf>>>>,
    at_once: Semaphore,
    next: Cell<u64>,
}

impl Source {
    /// Lists a source and lays it out as the folder `files`, which is made anew.
    ///
    /// # Errors
    /// When the URL is none, nothing is there, or the store refuses or goes away.
    pub(crate) async fn lay_out(url: &str, files: &Path, scratch: &Path, retry: Retry) -> Result<(Self, LaidOut)> {
        let address = Address::open(url, retry)?;
        Self::lay_out_of(address, files, scratch, retry).await
    }

    pub(crate) async fn lay_out_of(
        address: Address,
        files: &Path,
        scratch: &Path,
        retry: Retry,
    ) -> Result<(Self, LaidOut)> {
        for folder in [files, scratch] {
            match fs::remove_dir_all(folder) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(StoreError::io("remove", folder)(error));
                }
                _ => {}
            }
            fs::create_dir_all(folder).map_err(StoreError::io("create folder", folder))?;
        }
        let mut objects = listed(&address, retry).await?;
        let mut laid = LaidOut::default();
        objects.retain(|name, meta| match placeholder(&files.join(name), meta) {
            Ok(()) => {
                laid.objects += 1;
                laid.bytes += meta.size;
                true
            }
            Err(error) => {
                laid.unusable.push(Unusable { path: name.clone(), detail: error.to_string() });
                false
            }
        });
        let source = Self {
            address,
            retry,
            files: files.to_owned(),
            scratch: scratch.to_owned(),
            objects,
            coming: RefCell::default(),
            at_once: Semaphore::new(READ_AT_ONCE),
            next: Cell::new(0),
        };
        Ok((source, laid))
    }

    /// Fills files in: some whole, of some the end as Parquet's readers want it, of some the beginning.
    ///
    /// # Errors
    /// When the store refuses or goes away.
    pub(crate) async fn fill(&self, whole: &[String], tails: &[String], heads: &[String]) -> Result<()> {
        stream::iter(whole).map(|name| self.fill_whole(name)).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        stream::iter(tails).map(|name| self.fill_tail(name)).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        stream::iter(heads).map(|name| self.fill_head(name)).buffer_unordered(READ_AT_ONCE).try_collect::<()>().await
    }

    async fn fill_whole(&self, name: &str) -> Result<()> {
        let meta = self.object(name)?;
        let path = self.files.join(name);
        bring(&self.address, self.retry, &meta.location, &path, None).await?;
        let times = FileTimes::new().set_modified(SystemTime::from(meta.last_modified));
        File::options()
            .write(true)
            .open(&path)
            .and_then(|file| file.set_times(times))
            .map_err(StoreError::io("write", &path))
    }

    async fn fill_head(&self, name: &str) -> Result<()> {
        let end = self.object(name)?.size.min(HEAD_BYTES);
        if end > 0 && self.fill_range(name, 0, end).await?.is_none() {
            self.fill_whole(name).await?;
        }
        Ok(())
    }

    async fn fill_tail(&self, name: &str) -> Result<()> {
        let len = self.object(name)?.size;
        if len < PARQUET_END_BYTES {
            return self.fill_head(name).await;
        }
        let from = len.saturating_sub(TAIL_BYTES);
        let Some(tail) = self.fill_range(name, from, len).await? else { return self.fill_whole(name).await };
        let at = tail.len() - PARQUET_END_BYTES as usize;
        let footer = u64::from(u32::from_le_bytes([tail[at], tail[at + 1], tail[at + 2], tail[at + 3]]));
        let first = len.saturating_sub(footer + PARQUET_END_BYTES);
        // A file that only is called so may name a footer of any length.
        if first < from && footer < LIST_BYTES_MAX {
            self.fill_range(name, first, from).await?;
        }
        Ok(())
    }

    /// Fills bytes in; the file's time stays the object's. None when the store gives no parts of objects.
    async fn fill_range(&self, name: &str, from: u64, to: u64) -> Result<Option<Bytes>> {
        let meta = self.object(name)?;
        let options = || GetOptions { range: Some(GetRange::Bounded(from..to)), ..GetOptions::default() };
        let mut get = || async { self.address.store.get_opts(&meta.location, options()).await?.bytes().await };
        let bytes = match self.retry.run_raw(&mut get).await {
            Ok(bytes) => bytes,
            Err((Error::NotSupported { .. }, _)) => return Ok(None),
            Err((error, secs)) => return Err(StoreError::of(&error, &self.url(name), secs)),
        };
        if bytes.len() as u64 != to - from {
            let detail = format!("{} bytes came, not {}", bytes.len(), to - from);
            return Err(StoreError::Damaged { url: self.url(name), detail });
        }
        let path = self.files.join(name);
        let times = FileTimes::new().set_modified(SystemTime::from(meta.last_modified));
        let file = OpenOptions::new().write(true).open(&path);
        file.and_then(|file| file.write_all_at(&bytes, from).and_then(|()| file.set_times(times)))
            .map_err(StoreError::io("write", &path))?;
        Ok(Some(bytes))
    }

    /// Begins to bring objects that are read next.
    pub(crate) fn want(self: &Rc<Self>, names: Vec<String>) {
        for name in names {
            let of_task = (Rc::clone(self), name.clone());
            self.coming
                .borrow_mut()
                .entry(name)
                .or_insert_with(|| tokio::task::spawn_local(async move { of_task.0.bring_now(&of_task.1).await }));
        }
    }

    /// The file that an object's bytes are in; the reader deletes it.
    ///
    /// # Errors
    /// When the object has gone, is not as it was listed, or the store goes away.
    pub(crate) async fn bring(&self, name: &str) -> Result<PathBuf> {
        let coming = self.coming.borrow_mut().remove(name);
        match coming {
            Some(task) => task.await.map_err(|e| StoreError::Other { url: self.url(name), detail: e.to_string() })?,
            None => self.bring_now(name).await,
        }
    }

    async fn bring_now(&self, name: &str) -> Result<PathBuf> {
        let meta = self.object(name)?;
        let _permit = self.at_once.acquire().await.expect("the semaphore is never closed");
        let number = self.next.replace(self.next.get() + 1);
        let path = self.scratch.join(number.to_string());
        let bytes = bring(&self.address, self.retry, &meta.location, &path, None).await?;
        if bytes != meta.size {
            let _ = fs::remove_file(&path);
            let detail = format!("it has {bytes} bytes, and had {} when it was listed", meta.size);
            return Err(StoreError::Damaged { url: self.url(name), detail });
        }
        Ok(path)
    }

    /// The URL of an object; one that is a source by itself has the source's.
    fn url(&self, name: &str) -> String {
        let is_source = self.objects.get(name).is_some_and(|meta| meta.location == self.address.prefix);
        if is_source { self.address.shown.clone() } else { self.address.url(name) }
    }

    fn object(&self, name: &str) -> Result<&ObjectMeta> {
        self.objects.get(name).ok_or_else(|| StoreError::NotFound { url: self.url(name) })
    }
}

/// The objects of a source by their paths in it.
async fn listed(address: &Address, retry: Retry) -> Result<BTreeMap<String, ObjectMeta>> {
    if address.is_web {
        return on_the_web(address, retry).await;
    }
    let prefix = Some(&address.prefix).filter(|prefix| !prefix.is_root());
    let all = || address.store.list(prefix).try_collect::<Vec<ObjectMeta>>();
    let all = match retry.run(&address.shown, all).await {
        Err(StoreError::NotFound { .. }) => Vec::new(),
        other => other?,
    };
    let named = |meta: ObjectMeta| {
        let name = address.name_of(&meta.location).filter(|name| !name.is_empty())?.to_owned();
        Some((name, meta))
    };
    let mut objects: BTreeMap<String, ObjectMeta> = all.into_iter().filter_map(named).collect();
    // Some tools put an empty object where a folder would be.
    let is_above = |name: &String| {
        let below = format!("{name}/");
        objects.range(below.clone()..).next().is_some_and(|(next, _)| next.starts_with(&below))
    };
    let folders: Vec<String> =
        objects.iter().filter(|(name, meta)| meta.size == 0 && is_above(name)).map(|(name, _)| name.clone()).collect();
    objects.retain(|name, _| folders.binary_search(name).is_err());
    if objects.is_empty() && !address.prefix.is_root() {
        return Ok(BTreeMap::from([single(address, retry, &address.prefix).await?]));
    }
    Ok(objects)
}

/// One object, by the last part of its path.
async fn single(address: &Address, retry: Retry, location: &Location) -> Result<(String, ObjectMeta)> {
    let meta = retry.run(&address.shown, || address.store.head(location)).await?;
    let name = location.filename().unwrap_or("object").to_owned();
    Ok((name, ObjectMeta { location: location.clone(), ..meta }))
}

/// A web server lists nothing: a URL is a file, or with `.txt` a list of files, a path below the list's folder in each line.
async fn on_the_web(address: &Address, retry: Retry) -> Result<BTreeMap<String, ObjectMeta>> {
    if !address.prefix.as_ref().ends_with(".txt") {
        return Ok(BTreeMap::from([single(address, retry, &address.prefix).await?]));
    }
    let (_, list) = single(address, retry, &address.prefix).await?;
    if list.size > LIST_BYTES_MAX {
        let detail = format!("a list of {} bytes is too long", list.size);
        return Err(StoreError::Damaged { url: address.shown.clone(), detail });
    }
    let get = || async { address.store.get(&address.prefix).await?.bytes().await };
    let text = retry.run(&address.shown, get).await?;
    let text = String::from_utf8_lossy(&text);
    let above = address.prefix.as_ref().rsplit_once('/').map_or("", |(above, _)| above);
    let wrong = |line: &str, why: &dyn std::fmt::Display| StoreError::Damaged {
        url: address.shown.clone(),
        detail: format!("its line `{line}` names no file below the list's folder ({why})"),
    };
    let mut names = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let below = if above.is_empty() { line.to_owned() } else { format!("{above}/{line}") };
        if line.contains("://") || line.starts_with('/') {
            return Err(wrong(line, &"no relative path"));
        }
        names.push((line.to_owned(), Location::parse(&below).map_err(|e| wrong(line, &e))?));
    }
    stream::iter(names)
        .map(|(name, location)| async move {
            let (_, meta) = single(address, retry, &location).await?;
            Ok((name, meta))
        })
        .buffer_unordered(READ_AT_ONCE)
        .try_collect()
        .await
}

/// A file of an object's length and time, with nothing in it.
fn placeholder(path: &Path, meta: &ObjectMeta) -> Result<()> {
    let above = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(above).map_err(StoreError::io("create folder", above))?;
    if path.is_dir() {
        return Err(StoreError::io("create", path)(std::io::ErrorKind::IsADirectory.into()));
    }
    let times = FileTimes::new().set_modified(SystemTime::from(meta.last_modified));
    let file = File::create(path).and_then(|file| file.set_len(meta.size).and_then(|()| file.set_times(times)));
    file.map_err(StoreError::io("create", path))
}
