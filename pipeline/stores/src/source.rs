//! A source in a store, laid out as a folder that those who read folders can walk: every object is a file of its length and
//! time, with holes in the place of its bytes. Of tables the end is filled in, of files that may be pictures the beginning, of
//! annotations all; the bytes of an image come when it is read, a bounded number ahead, into files that the reader deletes. All of
//! them are of the version that was listed, or none is.

use crate::address::Address;
use crate::contents::{contents, is_readable};
use crate::files::remove_file;
use crate::receive::{fetch_listed, fetch_range};
use crate::retry::Retry;
use crate::send::AT_ONCE;
use crate::{Result, StoreError};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use object_store::ObjectMeta;
use serde::Serialize;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, FileTimes, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
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
/// A table's footer is no longer than this.
const FOOTER_BYTES_MAX: u64 = 256 << 20;

/// An object that no file can stand for, or that cannot be read while others can.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Unusable {
    pub(crate) path: String,
    pub(crate) detail: String,
}

impl Unusable {
    pub(crate) fn new(path: &str, detail: impl ToString) -> Self {
        Self { path: path.to_owned(), detail: detail.to_string() }
    }
}

/// The objects of a source by their paths in it, and what can be none.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub(crate) objects: BTreeMap<String, ObjectMeta>,
    pub(crate) unusable: Vec<Unusable>,
}

/// What was laid out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Layout {
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
    prefetched: RefCell<HashMap<String, JoinHandle<Result<PathBuf>>>>,
    at_once: Semaphore,
    next: Cell<u64>,
}

impl Source {
    /// Lists a source and lays it out as the folder `files`, which is made anew.
    ///
    /// # Errors
    /// When the URL is none, nothing is there, or the store refuses or goes away.
    pub(crate) async fn lay_out(url: &str, files: &Path, scratch: &Path, retry: Retry) -> Result<(Self, Layout)> {
        let address = Address::open(url, retry).await?;
        Self::lay_out_of(address, files, scratch, retry).await
    }

    pub(crate) async fn lay_out_of(
        address: Address,
        files: &Path,
        scratch: &Path,
        retry: Retry,
    ) -> Result<(Self, Layout)> {
        for folder in [files, scratch] {
            match fs::remove_dir_all(folder) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(StoreError::io("remove", folder)(error));
                }
                _ => {}
            }
            fs::create_dir_all(folder).map_err(StoreError::io("create folder", folder))?;
        }
        let contents = contents(&address, retry).await;
        let Contents { mut objects, unusable } = contents.map_err(|e| address.client.explained(&address.shown, e))?;
        let mut layout = Layout { unusable, ..Layout::default() };
        objects.retain(|name, meta| match placeholder(&files.join(name), meta) {
            Ok(()) => {
                layout.objects += 1;
                layout.bytes += meta.size;
                true
            }
            Err(error) => {
                layout.unusable.push(Unusable::new(name, error));
                false
            }
        });
        let source = Self {
            address,
            retry,
            files: files.to_owned(),
            scratch: scratch.to_owned(),
            objects,
            prefetched: RefCell::default(),
            at_once: Semaphore::new(READ_AT_ONCE),
            next: Cell::new(0),
        };
        Ok((source, layout))
    }

    /// Fills files in: some whole, of some the end as Parquet's readers want it, of some the beginning. Returns those that cannot be
    /// read while others can; no file stands for them any more.
    ///
    /// # Errors
    /// When the store refuses or goes away, or the disk does.
    pub(crate) async fn fill(&self, whole: &[String], tails: &[String], heads: &[String]) -> Result<Vec<Unusable>> {
        let mut unusable = Vec::new();
        let filled =
            stream::iter(whole).map(async |name| (name, self.fill_whole(name).await)).buffer_unordered(AT_ONCE);
        self.set_aside(filled, &mut unusable).await?;
        let filled = stream::iter(tails).map(async |name| (name, self.fill_tail(name).await)).buffer_unordered(AT_ONCE);
        self.set_aside(filled, &mut unusable).await?;
        let filled = stream::iter(heads).map(async |name| (name, self.fill_head(name).await));
        self.set_aside(filled.buffer_unordered(READ_AT_ONCE), &mut unusable).await?;
        unusable.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(unusable)
    }

    /// Takes the files of objects that cannot be read out of the layout.
    async fn set_aside<'a>(
        &self,
        filled: impl stream::Stream<Item = (&'a String, Result<()>)>,
        unusable: &mut Vec<Unusable>,
    ) -> Result<()> {
        let mut filled = pin!(filled);
        while let Some((name, filled)) = filled.next().await {
            match filled {
                Ok(()) => {}
                Err(error) => {
                    let error = self.of_one_object(name, error).await;
                    if !error.is_of_one_object() {
                        return Err(error);
                    }
                    remove_file(&self.files.join(name))?;
                    unusable.push(Unusable::new(name, error));
                }
            }
        }
        Ok(())
    }

    /// An error of an object; a refusal is of this object alone when the source can still be listed.
    async fn of_one_object(&self, name: &str, error: StoreError) -> StoreError {
        let StoreError::Denied { detail, .. } = &error else { return error };
        if !is_readable(&self.address, self.retry).await {
            return error;
        }
        StoreError::ObjectDenied { url: self.url(name), detail: detail.clone() }
    }

    async fn fill_whole(&self, name: &str) -> Result<()> {
        let meta = self.object(name)?;
        let path = self.files.join(name);
        fetch_listed(&self.address, self.retry, meta, &path).await?;
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
        if first < from && footer < FOOTER_BYTES_MAX {
            self.fill_range(name, first, from).await?;
        }
        Ok(())
    }

    /// Fills bytes in; the file's time stays the object's. None when the store gives no parts of objects.
    async fn fill_range(&self, name: &str, from: u64, to: u64) -> Result<Option<Bytes>> {
        let meta = self.object(name)?;
        let Some(bytes) = fetch_range(&self.address, self.retry, meta, from..to).await? else { return Ok(None) };
        let path = self.files.join(name);
        let times = FileTimes::new().set_modified(SystemTime::from(meta.last_modified));
        let file = OpenOptions::new().write(true).open(&path);
        file.and_then(|file| file.write_all_at(&bytes, from).and_then(|()| file.set_times(times)))
            .map_err(StoreError::io("write", &path))?;
        Ok(Some(bytes))
    }

    /// Begins to fetch objects that are read next.
    pub(crate) fn prefetch(self: &Rc<Self>, names: Vec<String>) {
        for name in names {
            let of_task = (Rc::clone(self), name.clone());
            self.prefetched
                .borrow_mut()
                .entry(name)
                .or_insert_with(|| tokio::task::spawn_local(async move { of_task.0.fetch_now(&of_task.1).await }));
        }
    }

    /// The file that an object's bytes are in; the reader deletes it.
    ///
    /// # Errors
    /// When the object has gone, is not as it was listed, may not be read, or the store goes away.
    pub(crate) async fn fetch(&self, name: &str) -> Result<PathBuf> {
        let prefetched = self.prefetched.borrow_mut().remove(name);
        match prefetched {
            Some(task) => task.await.map_err(|e| StoreError::Other { url: self.url(name), detail: e.to_string() })?,
            None => self.fetch_now(name).await,
        }
    }

    async fn fetch_now(&self, name: &str) -> Result<PathBuf> {
        let meta = self.object(name)?;
        let _permit = self.at_once.acquire().await.expect("the semaphore is never closed");
        let number = self.next.replace(self.next.get() + 1);
        let path = self.scratch.join(number.to_string());
        match fetch_listed(&self.address, self.retry, meta, &path).await {
            Ok(_) => Ok(path),
            Err(error) => Err(self.of_one_object(name, error).await),
        }
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
