//! Shares of a stage in the store: a shard is sent to where the whole stage will have it, and then its marker. The process that
//! finishes the stage, here or elsewhere, finds the markers and fetches what they name.

use crate::manifest::{Marker, object_name, stage_of_shares};
use crate::mirror::Mirror;
use crate::receive::fetch_object;
use crate::send::{AT_ONCE, Sender};
use crate::sweep::is_fresh;
use crate::{Result, StoreError};
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::ObjectStoreExt;
use std::collections::HashSet;
use std::fs;

const MARKER: &str = ".json";

impl Mirror {
    /// Fetches the markers of these shards of a folder, or of all; the names of all shards that the store has there.
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
