//! A store's output tree, held alike in a local folder: the manifests of all stages, and of their files those that were asked
//! for. A folder whose manifest is there and whose files are not is as whole as the store's.
//!
//! What was made here and is not published yet is never touched.

use crate::address::Address;
use crate::manifest::{MANIFEST, Manifest, Mark, base_of, object_name};
use crate::retry::Retry;
use crate::transfer::{AT_ONCE, bring, write_whole};
use crate::{Result, StoreError};
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::{ObjectMeta, ObjectStoreExt};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Where a cache keeps what it knows of the store.
const MARKS: &str = ".store";
/// What the last commands made; the only object that is overwritten without a condition, as it says nothing of content.
pub(crate) const CURRENT: &str = "current.json";

/// An output tree in a store and the folder that holds it here.
#[derive(Debug)]
pub(crate) struct Mirror {
    pub(crate) address: Address,
    pub(crate) cache: PathBuf,
    pub(crate) retry: Retry,
}

/// What a look at the store found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Synced {
    /// Stages' folders in the store.
    pub(crate) folders: u64,
    /// Those of them that were new here, or had changed.
    pub(crate) taken: u64,
    /// Folders that are no longer in the store and went here as well.
    pub(crate) gone: u64,
    /// Objects in the store, and their bytes.
    pub(crate) objects: u64,
    pub(crate) bytes: u64,
}

impl Mirror {
    /// A mirror of `url` in the folder `cache`, which is made.
    ///
    /// # Errors
    /// When the URL is none that can be written to, or the folder mirrors another one.
    pub(crate) fn open(url: &str, cache: &Path, retry: Retry) -> Result<Self> {
        let address = Address::open(url, retry)?;
        if address.is_web {
            let text = format!("a web server can be read, not written: `{}`", address.shown);
            return Err(StoreError::Usage(text));
        }
        Self::of(address, cache, retry)
    }

    pub(crate) fn of(address: Address, cache: &Path, retry: Retry) -> Result<Self> {
        let owner = cache.join(MARKS).join("url");
        match fs::read_to_string(&owner) {
            Ok(other) if other != address.shown => {
                let text = format!("`{}` mirrors `{other}`\nhint: name another folder with --cache", cache.display());
                return Err(StoreError::Usage(format!("{text}: `{}`", address.shown)));
            }
            Ok(_) => {}
            Err(_) => write_whole(&owner, address.shown.as_bytes())?,
        }
        Ok(Self { address, cache: cache.to_owned(), retry })
    }

    /// Takes in the manifests that the store has and this folder has not.
    ///
    /// # Errors
    /// When the store refuses or goes away, or a manifest is none.
    pub(crate) async fn sync(&self) -> Result<Synced> {
        let objects = self.list("").await?;
        let _lock = self.lock()?;
        let mut synced = Synced {
            objects: objects.len() as u64,
            bytes: objects.iter().map(|(_, meta)| meta.size).sum(),
            ..Synced::default()
        };
        let in_store: BTreeMap<&str, &ObjectMeta> =
            objects.iter().filter_map(|(name, meta)| Some((folder_of_manifest(name)?, meta))).collect();
        synced.folders = in_store.len() as u64;
        let changed: Vec<&str> =
            in_store.iter().filter(|(folder, meta)| !self.is_as(folder, meta)).map(|(folder, _)| *folder).collect();
        let found: Vec<_> = stream::iter(changed)
            .map(|folder| async move { Ok::<_, StoreError>((folder, self.manifest_in_store(folder).await?)) })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        for (folder, theirs) in found {
            let Some((manifest, text, mark)) = theirs else { continue };
            match self.own(folder)? {
                Some((_, seal)) if seal == mark.seal => self.set_mark(folder, &mark)?,
                // Made here, not published yet, and another result: publishing will say so.
                Some((ours, seal))
                    if self.mark(folder).is_none_or(|m| m.seal != seal) && !ours.is_same_result(&manifest) => {}
                _ => {
                    self.take(folder, &manifest, &text, &mark)?;
                    synced.taken += 1;
                }
            }
        }
        for folder in self.marked_folders()? {
            if !in_store.contains_key(folder.as_str()) {
                synced.gone += u64::from(self.forget(&folder)?);
            }
        }
        if objects.iter().any(|(name, _)| name == CURRENT) {
            bring(&self.address, self.retry, &self.address.at(CURRENT)?, &self.cache.join(CURRENT), None).await?;
        }
        Ok(synced)
    }

    /// Brings files of a stage's folder, all of them when none is named; what is here at its length is not brought again.
    /// Returns how many were brought, and their bytes.
    ///
    /// # Errors
    /// When the folder is not in the store, or an object is not what the manifest says.
    pub(crate) async fn fetch(&self, folder: &str, files: Option<&BTreeSet<String>>) -> Result<(u64, u64)> {
        let Some((manifest, _)) = self.own(folder)? else {
            return Err(StoreError::NotFound { url: self.address.url(folder) });
        };
        let base = base_of(folder);
        let is_wanted = |name: &str| files.is_none_or(|files| files.contains(name));
        let is_here =
            |name: &str, bytes: u64| fs::metadata(self.cache.join(folder).join(name)).is_ok_and(|m| m.len() == bytes);
        let missing = manifest.outputs.iter().filter(|(name, file)| is_wanted(name) && !is_here(name, file.bytes));
        let brought: Vec<u64> = stream::iter(missing)
            .map(|(name, file)| async move {
                let object = self.address.at(&format!("{base}/{}", object_name(name, &file.digest)))?;
                let path = self.cache.join(folder).join(name);
                bring(&self.address, self.retry, &object, &path, Some(file)).await
            })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        Ok((brought.len() as u64, brought.iter().sum()))
    }

    /// Puts a file that belongs to no stage: what was there before is overwritten.
    ///
    /// # Errors
    /// When it cannot be read, or the store refuses or goes away.
    pub(crate) async fn put_file(&self, name: &str) -> Result<()> {
        let path = self.cache.join(name);
        let bytes = bytes::Bytes::from(fs::read(&path).map_err(StoreError::io("read", &path))?);
        let object = self.address.at(name)?;
        let put = || self.address.store.put(&object, bytes.clone().into());
        self.retry.run(&self.address.url(name), put).await.map(|_| ())
    }

    /// All objects below a folder of the tree, by their names in the tree.
    pub(crate) async fn list(&self, below: &str) -> Result<Vec<(String, ObjectMeta)>> {
        let prefix = if below.is_empty() { self.address.prefix.clone() } else { self.address.at(below)? };
        let prefix = Some(&prefix).filter(|prefix| !prefix.is_root());
        let all = || self.address.store.list(prefix).try_collect::<Vec<ObjectMeta>>();
        let all = match self.retry.run(&self.address.url(below), all).await {
            // Some stores say so of a folder in which nothing is.
            Err(StoreError::NotFound { .. }) => Vec::new(),
            other => other?,
        };
        let named = |meta: ObjectMeta| Some((self.address.name_of(&meta.location)?.to_owned(), meta));
        Ok(all.into_iter().filter_map(named).collect())
    }

    /// The manifest that the store has of a folder, its text and its version.
    pub(crate) async fn manifest_in_store(&self, folder: &str) -> Result<Option<(Manifest, Vec<u8>, Mark)>> {
        let name = format!("{folder}/{MANIFEST}");
        let (object, url) = (self.address.at(&name)?, self.address.url(&name));
        let get = || async {
            let got = self.address.store.get(&object).await?;
            let meta = got.meta.clone();
            Ok((meta, got.bytes().await?))
        };
        let (meta, text) = match self.retry.run(&url, get).await {
            Err(StoreError::NotFound { .. }) => return Ok(None),
            other => other?,
        };
        let manifest = Manifest::from_json(&text).map_err(|detail| StoreError::Damaged { url, detail })?;
        let mark = Mark { seal: manifest.seal(&text), e_tag: meta.e_tag, version: meta.version };
        Ok(Some((manifest, text.to_vec(), mark)))
    }

    /// The manifest of a folder here, and its seal.
    pub(crate) fn own(&self, folder: &str) -> Result<Option<(Manifest, String)>> {
        let path = self.cache.join(folder).join(MANIFEST);
        let Ok(text) = fs::read(&path) else { return Ok(None) };
        let manifest = Manifest::from_json(&text)
            .map_err(|detail| StoreError::Damaged { url: path.display().to_string(), detail })?;
        let seal = manifest.seal(&text);
        Ok(Some((manifest, seal)))
    }

    /// Makes a folder here what the store has: its files stay as far as they are the same.
    pub(crate) fn take(&self, folder: &str, theirs: &Manifest, text: &[u8], mark: &Mark) -> Result<()> {
        let at = self.cache.join(folder);
        let ours = self.own(folder)?.map(|(manifest, _)| manifest.outputs).unwrap_or_default();
        for (name, _) in ours.iter().filter(|(name, file)| theirs.outputs.get(*name) != Some(file)) {
            remove_file(&at.join(name))?;
        }
        write_whole(&at.join(MANIFEST), text)?;
        self.set_mark(folder, mark)
    }

    /// What this cache last knew of a folder in the store.
    pub(crate) fn mark(&self, folder: &str) -> Option<Mark> {
        serde_json::from_slice(&fs::read(self.mark_path(folder)).ok()?).ok()
    }

    pub(crate) fn set_mark(&self, folder: &str, mark: &Mark) -> Result<()> {
        let text = serde_json::to_vec(mark).expect("a mark is three texts");
        write_whole(&self.mark_path(folder), &text)
    }

    pub(crate) fn remove_mark(&self, folder: &str) -> Result<()> {
        remove_file(&self.mark_path(folder))
    }

    /// Beside the folders, so that renaming a folder moves no mark: it is of the name.
    fn mark_path(&self, folder: &str) -> PathBuf {
        self.cache.join(MARKS).join("folders").join(folder).join("mark.json")
    }

    /// The folders that the store had when this cache last looked.
    fn marked_folders(&self) -> Result<Vec<String>> {
        let root = self.cache.join(MARKS).join("folders");
        let (mut found, mut to_visit) = (Vec::new(), vec![root.clone()]);
        while let Some(folder) = to_visit.pop() {
            for entry in fs::read_dir(&folder).into_iter().flatten().filter_map(|entry| entry.ok()) {
                let path = entry.path();
                if path.is_dir() {
                    to_visit.push(path);
                } else if entry.file_name() == "mark.json"
                    && let Ok(relative) = folder.strip_prefix(&root)
                {
                    found.push(relative.to_string_lossy().into_owned());
                }
            }
        }
        found.sort();
        Ok(found)
    }

    /// Whether a folder here is as a manifest's object in the store.
    fn is_as(&self, folder: &str, meta: &ObjectMeta) -> bool {
        let mark = self.mark(folder).filter(|mark| mark.e_tag.is_some() && mark.e_tag == meta.e_tag);
        mark.is_some_and(|mark| self.own(folder).is_ok_and(|own| own.is_some_and(|(_, seal)| seal == mark.seal)))
    }

    /// Removes a folder here that the store no longer has, unless something newer was made here.
    fn forget(&self, folder: &str) -> Result<bool> {
        let mark = self.mark(folder);
        self.remove_mark(folder)?;
        let is_theirs = self.own(folder)?.is_some_and(|(_, seal)| mark.is_some_and(|mark| mark.seal == seal));
        if is_theirs {
            let at = self.cache.join(folder);
            // What has no manifest is not there: that goes first.
            remove_file(&at.join(MANIFEST))?;
            fs::remove_dir_all(&at).map_err(StoreError::io("remove", &at))?;
        }
        Ok(is_theirs)
    }

    /// Held while folders here are changed: other commands may share the cache.
    pub(crate) fn lock(&self) -> Result<File> {
        let path = self.cache.join(MARKS).join("lock");
        let lock = File::create(&path).map_err(StoreError::io("create", &path))?;
        lock.lock().map_err(StoreError::io("lock", &path))?;
        Ok(lock)
    }
}

/// The stage's folder that an object is the manifest of.
fn folder_of_manifest(name: &str) -> Option<&str> {
    let folder = name.strip_suffix(MANIFEST)?.strip_suffix('/')?;
    let is_hidden = folder.split('/').any(|part| part.starts_with('.') || part.is_empty());
    (!is_hidden).then_some(folder)
}

fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(StoreError::io("remove", path)(error)),
        _ => Ok(()),
    }
}
