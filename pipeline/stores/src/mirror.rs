//! A store's output tree, held alike in a local folder: the manifests of all stages, and of their files those that were
//! requested. A folder whose manifest is there and whose files are not is as whole as the store's.
//!
//! What was made here and is not published yet is never touched.

use crate::address::Address;
use crate::files::{remove_file, remove_unfinished, write_whole};
use crate::known::FOLDER;
use crate::listing;
use crate::manifest::{KnownVersion, MANIFEST, Manifest, base_of, object_name};
use crate::receive::fetch_object;
use crate::retry::Retry;
use crate::send::AT_ONCE;
use crate::{Result, StoreError};
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::{ObjectMeta, ObjectStoreExt};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the last commands made. It is a machine's choice: fetched into a cache that has none, and never after that; in the store the
/// last writer's stays, as it says nothing of content.
const CURRENT: &str = "current.json";
/// What was being written to a cache so long ago is of a process that has ended.
const UNFINISHED_AGE: Duration = Duration::from_secs(24 * 3600);

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
    pub(crate) adopted: u64,
    /// Folders that are no longer in the store and went here as well.
    pub(crate) dropped: u64,
    /// Objects in the store, and their bytes.
    pub(crate) objects: u64,
    pub(crate) bytes: u64,
}

impl Mirror {
    /// A mirror of `url` in the folder `cache`, which is made.
    ///
    /// # Errors
    /// When the URL is none that can be written to, there are no credentials, or the folder mirrors another store.
    pub(crate) async fn open(url: &str, cache: &Path, retry: Retry) -> Result<Self> {
        let address = Address::open(url, retry).await?;
        if address.is_web() {
            let text = format!("a web server can be read, not written: `{}`", address.shown);
            return Err(StoreError::Usage(text));
        }
        Self::of(address, cache, retry)
    }

    pub(crate) fn of(address: Address, cache: &Path, retry: Retry) -> Result<Self> {
        let owner = cache.join(FOLDER).join("url");
        let identity = address.identity();
        match fs::read_to_string(&owner) {
            Ok(other) if other != identity => {
                let [other, this] = [other, identity].map(|identity| identity.replacen('\n', "` at `", 1));
                let text = format!("`{}` mirrors `{other}`\nhint: name another folder with --cache", cache.display());
                return Err(StoreError::Usage(format!("{text}: `{this}`")));
            }
            Ok(_) => {}
            Err(_) => write_whole(&owner, identity.as_bytes())?,
        }
        remove_unfinished(cache, UNFINISHED_AGE);
        Ok(Self { address, cache: cache.to_owned(), retry })
    }

    /// Fetches the manifests that the store has and this folder has not, or has in another version.
    ///
    /// # Errors
    /// When the store refuses or goes away, has nothing where it had results, or a manifest is none.
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
        let known = self.known_folders();
        if in_store.is_empty() && !known.is_empty() {
            let (url, cache) = (self.address.shown.clone(), self.cache.clone());
            return Err(StoreError::Emptied { url, known: known.len(), cache });
        }
        let changed = in_store.iter().filter(|(folder, meta)| !self.matches_listing(folder, meta));
        let found: Vec<_> = stream::iter(changed.map(|(folder, _)| *folder).collect::<Vec<&str>>())
            .map(|folder| async move { Ok::<_, StoreError>((folder, self.manifest_in_store(folder).await?)) })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        for (folder, theirs) in found {
            let Some((manifest, text, version)) = theirs else { continue };
            match self.local_manifest(folder)? {
                Some((_, seal)) if seal == version.seal => self.set_known_version(folder, &version)?,
                // Made here, not published yet, and another result: publishing will say so.
                Some((ours, seal))
                    if self.known_version(folder).is_none_or(|known| known.seal != seal)
                        && !ours.is_same_result(&manifest) => {}
                _ => {
                    self.adopt(folder, &manifest, &text, &version)?;
                    synced.adopted += 1;
                }
            }
        }
        for folder in known {
            if !in_store.contains_key(folder.as_str()) {
                synced.dropped += u64::from(self.drop_removed(&folder)?);
            }
        }
        let current = self.cache.join(CURRENT);
        if !current.exists() && objects.iter().any(|(name, _)| name == CURRENT) {
            fetch_object(&self.address, self.retry, &self.address.at(CURRENT)?, &current, None).await?;
        }
        Ok(synced)
    }

    /// Fetches files of a stage's folder, all of them when none is named; what is here at its length is not fetched again.
    /// Returns how many were fetched, and their bytes.
    ///
    /// # Errors
    /// When the folder is not in the store, or an object is not what the manifest says.
    pub(crate) async fn fetch(&self, folder: &str, files: Option<&BTreeSet<String>>) -> Result<(u64, u64)> {
        let Some((manifest, _)) = self.local_manifest(folder)? else {
            return Err(StoreError::NotFound { url: self.address.url(folder) });
        };
        let base = base_of(folder);
        let is_named = |name: &str| files.is_none_or(|files| files.contains(name));
        let is_here =
            |name: &str, bytes: u64| fs::metadata(self.cache.join(folder).join(name)).is_ok_and(|m| m.len() == bytes);
        let missing = manifest.outputs.iter().filter(|(name, file)| is_named(name) && !is_here(name, file.bytes));
        let fetched: Vec<u64> = stream::iter(missing)
            .map(|(name, file)| async move {
                let object = self.address.at(&format!("{base}/{}", object_name(name, &file.digest)))?;
                let path = self.cache.join(folder).join(name);
                fetch_object(&self.address, self.retry, &object, &path, Some(file)).await
            })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        Ok((fetched.len() as u64, fetched.iter().sum()))
    }

    /// Puts a file that belongs to no stage: what was there before is overwritten.
    ///
    /// # Errors
    /// When it cannot be read, or the store refuses or goes away.
    pub(crate) async fn put_file(&self, name: &str) -> Result<()> {
        let path = self.cache.join(name);
        let bytes = bytes::Bytes::from(fs::read(&path).map_err(StoreError::io("read", &path))?);
        let (object, url) = (self.address.at(name)?, self.address.url(name));
        let mut put = || self.address.client.store.put(&object, bytes.clone().into());
        let put = self.retry.run_raw(&url, bytes.len() as u64, &mut put).await;
        put.map(|_| ()).map_err(|(error, secs)| StoreError::of(&error, &url, secs))
    }

    /// All objects below a folder of the tree, by their names in the tree. What is called as no file can be is not ours.
    pub(crate) async fn list(&self, below: &str) -> Result<Vec<(String, ObjectMeta)>> {
        let prefix = if below.is_empty() { self.address.prefix.clone() } else { self.address.at(below)? };
        let listing = listing::list(&self.address, self.retry, &prefix).await?;
        let named = |meta: ObjectMeta| Some((self.address.name_of(&meta.location)?.to_owned(), meta));
        Ok(listing.objects.into_values().filter_map(named).collect())
    }

    /// The manifest that the store has of a folder, its text and its version.
    pub(crate) async fn manifest_in_store(&self, folder: &str) -> Result<Option<(Manifest, Vec<u8>, KnownVersion)>> {
        let name = format!("{folder}/{MANIFEST}");
        let (object, url) = (self.address.at(&name)?, self.address.url(&name));
        let get = || async {
            let got = self.address.client.store.get(&object).await?;
            let meta = got.meta.clone();
            Ok((meta, got.bytes().await?))
        };
        let (meta, text) = match self.retry.run(&url, get).await {
            Err(StoreError::NotFound { .. }) => return Ok(None),
            other => other?,
        };
        let manifest = Manifest::from_json(&text).map_err(|detail| StoreError::Damaged { url, detail })?;
        let version = KnownVersion { seal: manifest.seal(&text), e_tag: meta.e_tag, version: meta.version };
        Ok(Some((manifest, text.to_vec(), version)))
    }

    /// The manifest of a folder here, and its seal.
    pub(crate) fn local_manifest(&self, folder: &str) -> Result<Option<(Manifest, String)>> {
        let path = self.cache.join(folder).join(MANIFEST);
        let Ok(text) = fs::read(&path) else { return Ok(None) };
        let manifest = Manifest::from_json(&text)
            .map_err(|detail| StoreError::Damaged { url: path.display().to_string(), detail })?;
        let seal = manifest.seal(&text);
        Ok(Some((manifest, seal)))
    }

    /// Makes a folder here what the store has: its files stay as far as they are the same.
    pub(crate) fn adopt(&self, folder: &str, theirs: &Manifest, text: &[u8], version: &KnownVersion) -> Result<()> {
        let at = self.cache.join(folder);
        let ours = self.local_manifest(folder)?.map(|(manifest, _)| manifest.outputs).unwrap_or_default();
        for (name, _) in ours.iter().filter(|(name, file)| theirs.outputs.get(*name) != Some(file)) {
            remove_file(&at.join(name))?;
        }
        write_whole(&at.join(MANIFEST), text)?;
        self.set_known_version(folder, version)
    }

    /// Whether a folder here is as a manifest's object in the store.
    fn matches_listing(&self, folder: &str, meta: &ObjectMeta) -> bool {
        let known = self.known_version(folder).filter(|known| known.is_of(meta));
        let local = || self.local_manifest(folder).ok().flatten();
        known.is_some_and(|known| local().is_some_and(|(_, seal)| seal == known.seal))
    }

    /// Removes a folder here that the store no longer has, unless something newer was made here.
    fn drop_removed(&self, folder: &str) -> Result<bool> {
        let known = self.known_version(folder);
        self.remove_known_version(folder)?;
        let is_theirs =
            self.local_manifest(folder)?.is_some_and(|(_, seal)| known.is_some_and(|known| known.seal == seal));
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
        let path = self.cache.join(FOLDER).join("lock");
        let lock = File::create(&path).map_err(StoreError::io("create", &path))?;
        lock.lock().map_err(StoreError::io("lock", &path))?;
        Ok(lock)
    }
}

/// The stage's folder that an object is the manifest of.
pub(crate) fn folder_of_manifest(name: &str) -> Option<&str> {
    let folder = name.strip_suffix(MANIFEST)?.strip_suffix('/')?;
    let is_hidden = folder.split('/').any(|part| part.starts_with('.') || part.is_empty());
    (!is_hidden).then_some(folder)
}
