//! Shares of a stage in the store: a shard is sent to where the whole stage will have it, and then its marker. The process that
//! finishes the stage, here or elsewhere, finds the markers and fetches what they name. Shares of a key that nobody has written to
//! for a day may be removed; who goes on with them writes to them first.

use crate::manifest::{Marker, object_name, stage_of_shares};
use crate::mirror::Mirror;
use crate::receive::fetch_object;
use crate::send::{AT_ONCE, Sender};
use crate::sweep::{is_fresh, is_older};
use crate::{Result, StoreError};
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::{ObjectMeta, ObjectStoreExt};
use serde::Serialize;
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::time::{Duration, SystemTime};

const MARKER: &str = ".json";

/// The markers that the store has of one key of a stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct StoredShares {
    /// Their folder, below the tree.
    pub(crate) folder: String,
    /// How long ago the last of them was written; 0 when its clock is ahead of ours.
    pub(crate) idle_secs: u64,
    /// What they take up, without the shards that they name.
    pub(crate) bytes: u64,
}

impl Mirror {
    /// Fetches the markers of these shards of a folder, or of all; the names of all shards that the store has there. One of old
    /// markers is put again, since who fetches them is about to go on with them: then they are not idle.
    ///
    /// # Errors
    /// When the store refuses or goes away.
    pub(crate) async fn fetch_markers(&self, folder: &str, shards: Option<&[String]>) -> Result<Vec<String>> {
        let shard = |name: &str| Some(name.strip_prefix(folder)?.strip_prefix('/')?.strip_suffix(MARKER)?.to_owned());
        let objects = self.list(folder).await?;
        let there: Vec<(&String, String)> = objects.iter().filter_map(|(name, _)| Some((name, shard(name)?))).collect();
        let asked = shards.map(|shards| shards.iter().collect::<HashSet<&String>>());
        let is_missing = |(name, shard): &&(&String, String)| {
            asked.as_ref().is_none_or(|asked| asked.contains(shard)) && !self.cache.join(name).is_file()
        };
        stream::iter(there.iter().filter(is_missing))
            .map(|(name, _)| async move {
                fetch_object(&self.address, self.retry, &self.address.at(name)?, &self.cache.join(name), None).await
            })
            .buffer_unordered(AT_ONCE)
            .try_collect::<Vec<u64>>()
            .await?;
        if let Some((name, _)) = there.first()
            && !objects.iter().any(|(_, meta)| is_fresh(meta))
        {
            let path = self.cache.join(name);
            if !path.is_file() {
                fetch_object(&self.address, self.retry, &self.address.at(name)?, &path, None).await?;
            }
            self.put_file(name).await?;
        }
        Ok(there.into_iter().map(|(_, shard)| shard).collect())
    }

    /// Sends a shard that has a marker here, and then the marker.
    ///
    /// # Errors
    /// When the shard is not what its marker says; when the store refuses or goes away.
    pub(crate) async fn publish_shard(&self, folder: &str, shard: &str) -> Result<()> {
        let (marker, text) = self.marker(folder, shard)?;
        let object = self.shard_object(folder, &marker)?;
        let url = self.address.url(&object);
        let location = self.address.at(&object)?;
        let path = self.cache.join(folder).join(shard);
        // An object that a sweep may be about to take is sent again, where the file is here.
        let is_there = match self.retry.run(&url, || self.address.client.store.head(&location)).await {
            Ok(meta) => meta.size == marker.file.bytes && (is_fresh(&meta) || !path.is_file()),
            Err(StoreError::NotFound { .. }) => false,
            Err(error) => return Err(error),
        };
        if !is_there {
            Sender::new(&self.address, self.retry).send(&path, &location, &marker.file).await?;
        }
        let name = format!("{folder}/{shard}{MARKER}");
        let object = self.address.at(&name)?;
        let text = bytes::Bytes::from(text);
        // A shard that is made again has the same bytes, and so the same marker.
        self.retry
            .run(&self.address.url(&name), || self.address.client.store.put(&object, text.clone().into()))
            .await
            .map(|_| ())
    }

    /// Fetches a shard by its marker, unless it is here.
    ///
    /// # Errors
    /// When there is no marker here, or the object is not what it says.
    pub(crate) async fn fetch_shard(&self, folder: &str, shard: &str) -> Result<u64> {
        let (marker, _) = self.marker(folder, shard)?;
        let path = self.cache.join(folder).join(shard);
        if fs::metadata(&path).is_ok_and(|meta| meta.len() == marker.file.bytes) {
            return Ok(0);
        }
        let object = self.address.at(&self.shard_object(folder, &marker)?)?;
        fetch_object(&self.address, self.retry, &object, &path, Some(&marker.file)).await
    }

    /// Removes the markers of a stage that is whole.
    ///
    /// # Errors
    /// When the store refuses or goes away.
    pub(crate) async fn clear_shares(&self, folder: &str) -> Result<()> {
        for (name, meta) in self.list(folder).await? {
            self.delete(&name, &meta.location).await?;
        }
        Ok(())
    }

    /// The shares that the store has, of every stage and key.
    ///
    /// # Errors
    /// When the store refuses or goes away.
    pub(crate) async fn list_shares(&self) -> Result<Vec<StoredShares>> {
        let objects = self.list("").await?;
        let mut by_folder: BTreeMap<&str, Vec<&ObjectMeta>> = BTreeMap::new();
        for (name, meta) in &objects {
            if let Some((folder, _)) = name.rsplit_once('/').filter(|(folder, _)| stage_of_shares(folder).is_some()) {
                by_folder.entry(folder).or_default().push(meta);
            }
        }
        let shares = by_folder.into_iter().map(|(folder, metas)| {
            let written = metas.iter().map(|meta| SystemTime::from(meta.last_modified)).max();
            let idle = written.and_then(|written| SystemTime::now().duration_since(written).ok());
            let idle_secs = idle.map_or(0, |idle| idle.as_secs());
            StoredShares { folder: folder.to_owned(), idle_secs, bytes: metas.iter().map(|meta| meta.size).sum() }
        });
        Ok(shares.collect())
    }

    /// Removes the markers in these folders, unless somebody has written to them less than `age` ago; the folders whose markers
    /// went. What the markers named goes with a sweep.
    ///
    /// # Errors
    /// When a folder is none of shares; when the store refuses or goes away.
    pub(crate) async fn remove_shares(&self, folders: &[String], age: Duration) -> Result<Vec<String>> {
        let mut removed = Vec::new();
        for folder in folders {
            if stage_of_shares(folder).is_none() {
                return Err(StoreError::Usage(format!("`{folder}` is no folder of shares")));
            }
            let markers = self.list(folder).await?;
            if markers.iter().all(|(_, meta)| is_older(meta, age)) {
                for (name, meta) in &markers {
                    self.delete_old(name, &meta.location, age).await?;
                }
                removed.push(folder.clone());
            }
        }
        Ok(removed)
    }

    fn marker(&self, folder: &str, shard: &str) -> Result<(Marker, Vec<u8>)> {
        let path = self.cache.join(folder).join(format!("{shard}{MARKER}"));
        let text = fs::read(&path).map_err(StoreError::io("read", &path))?;
        let marker = Marker::from_json(&text)
            .map_err(|detail| StoreError::Damaged { url: path.display().to_string(), detail })?;
        Ok((marker, text))
    }

    fn shard_object(&self, folder: &str, marker: &Marker) -> Result<String> {
        let stage = stage_of_shares(folder);
        let stage = stage.ok_or_else(|| StoreError::Usage(format!("`{folder}` is no folder of shares")))?;
        Ok(format!("{stage}/{}", object_name(&marker.name, &marker.file.digest)))
    }
}
