//! Taking things out of the store: the manifest of a folder that was removed by name, and objects that no manifest and no marker
//! names. Only the second deletes data, and only what is a day old at that moment; who publishes counts on no object that is older
//! than half a day. So half a day is left between finding an object there and naming it.

use crate::manifest::{MANIFEST, Marker, base_of, is_named_by_content, object_name, stage_of_shares};
use crate::mirror::{Mirror, folder_of_manifest};
use crate::{Result, StoreError};
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::{ObjectMeta, ObjectStoreExt};
use serde::Serialize;
use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

/// Objects that nobody names are left alone for so long: somebody may be on the way to their manifest.
pub(crate) const SWEPT_AFTER: Duration = Duration::from_secs(24 * 3600);
/// An object that was sent longer ago is sent again before a manifest names it.
const FRESH_FOR: Duration = Duration::from_secs(12 * 3600);
/// Manifests and markers that are read at once.
const READ_AT_ONCE: usize = 16;
/// Below a source, the folders that stages write to.
const OF_STAGES: &[&str] =
    &["adapted", "curation", "duplicates", "embeddings", "evals", "fingerprints", "images", "plans", "runs", "subsets"];

/// What nobody names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Swept {
    /// Its URL.
    pub(crate) url: String,
    pub(crate) bytes: u64,
}

impl Mirror {
    /// Whether the store's manifest of a folder may be removed: there is one, and it is the one that is here. What was made here and
    /// not published is nothing of the store.
    ///
    /// # Errors
    /// [`StoreError::Superseded`] when another machine has published since; when the store refuses or goes away.
    pub(crate) async fn check_removal(&self, folder: &str) -> Result<bool> {
        let Some((_, _, now)) = self.manifest_in_store(folder).await? else { return Ok(false) };
        let Some(known) = self.known_version(folder) else { return Ok(false) };
        if known.seal == now.seal {
            return Ok(true);
        }
        let is_ours_alone = self.local_manifest(folder)?.is_some_and(|(_, seal)| seal != known.seal);
        if is_ours_alone {
            return Ok(false);
        }
        Err(StoreError::Superseded { url: self.address.url(&format!("{folder}/{MANIFEST}")) })
    }

    /// Removes a folder's manifest from the store, if it is the one that this cache knew; the objects that it named go with a sweep.
    ///
    /// # Errors
    /// As [`Mirror::check_removal`].
    pub(crate) async fn remove(&self, folder: &str) -> Result<()> {
        if self.check_removal(folder).await? {
            let name = format!("{folder}/{MANIFEST}");
            self.delete(&name, &self.address.at(&name)?).await?;
        }
        self.remove_known_version(folder)
    }

    /// Finds objects that no manifest and no marker names and that are older than `age`: what a replaced or removed result left, and
    /// what was sent by somebody who never came to the manifest. Removes them unless it is a dry run; that takes the markers in
    /// the folders `abandoned` for gone.
    ///
    /// # Errors
    /// When the store refuses or goes away.
    pub(crate) async fn sweep(&self, age: Duration, abandoned: &[String], dry_run: bool) -> Result<Vec<Swept>> {
        let abandoned = if dry_run { abandoned } else { &[] };
        let objects = self.list("").await?;
        // Manifests are read after the objects were listed: what is named since then is young.
        let named = self.named_in_store(abandoned).await?;
        let bases: BTreeSet<&str> =
            objects.iter().filter_map(|(name, _)| folder_of_manifest(name).map(base_of)).collect();
        let is_below =
            |name: &str| bases.iter().any(|base| name.strip_prefix(base).is_some_and(|rest| rest.starts_with('/')));
        let is_data = |name: &str| !name.ends_with(MANIFEST) && (is_below(name) || is_of_a_stage(name));
        let candidates: Vec<&(String, ObjectMeta)> = objects
            .iter()
            .filter(|(name, meta)| is_data(name) && !named.contains(name) && is_older(meta, age))
            .collect();
        if candidates.is_empty() {
            return Ok(Vec::new());
        }
        // A folder that was renamed while manifests were read may have hidden its name from the first look.
        let named = self.named_in_store(abandoned).await?;
        let mut swept = Vec::new();
        for (name, meta) in candidates.into_iter().filter(|(name, _)| !named.contains(name)) {
            if !dry_run && !self.delete_old(name, &meta.location, age).await? {
                continue;
            }
            swept.push(Swept { url: self.address.url(name), bytes: meta.size });
        }
        Ok(swept)
    }

    /// Deletes an object if it is still old: a publisher may have sent it again. Whether it was.
    pub(crate) async fn delete_old(
        &self,
        name: &str,
        location: &object_store::path::Path,
        age: Duration,
    ) -> Result<bool> {
        match self.retry.run(&self.address.url(name), || self.address.client.store.head(location)).await {
            Ok(meta) if is_older(&meta, age) => self.delete(name, location).await.map(|()| true),
            Ok(_) | Err(StoreError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Deletes an object; one that has gone is no error.
    pub(crate) async fn delete(&self, name: &str, location: &object_store::path::Path) -> Result<()> {
        match self.retry.run(&self.address.url(name), || self.address.client.store.delete(location)).await {
            Err(StoreError::NotFound { .. }) => Ok(()),
            other => other,
        }
    }

    /// The objects that the store's manifests and markers name, those of `abandoned` folders of shares left out.
    async fn named_in_store(&self, abandoned: &[String]) -> Result<BTreeSet<String>> {
        let objects = self.list("").await?;
        let counts = |name: &str| {
            name.rsplit_once('/').is_none_or(|(folder, _)| !abandoned.iter().any(|abandoned| abandoned == folder))
        };
        let named: Vec<Vec<String>> = stream::iter(objects.iter().filter(|(name, _)| counts(name)))
            .map(|(name, meta)| self.named_by(name, meta))
            .buffer_unordered(READ_AT_ONCE)
            .try_collect()
            .await?;
        Ok(named.into_iter().flatten().collect())
    }

    /// The objects that one names, if it is a manifest or a marker.
    async fn named_by(&self, name: &str, meta: &ObjectMeta) -> Result<Vec<String>> {
        if let Some(folder) = name.strip_suffix(MANIFEST).and_then(|above| above.strip_suffix('/')) {
            let theirs = self.manifest_in_store(folder).await?;
            return Ok(theirs.map(|(manifest, _, _)| manifest.objects(folder).collect()).unwrap_or_default());
        }
        let stage = name.rsplit_once('/').and_then(|(folder, _)| stage_of_shares(folder));
        let Some(stage) = stage.filter(|_| name.ends_with(".json")) else { return Ok(Vec::new()) };
        let url = self.address.url(name);
        let get = || async { self.address.client.store.get(&meta.location).await?.bytes().await };
        let text = match self.retry.run(&url, get).await {
            // A stage that was finished meanwhile clears its markers after its manifest, which the second look sees.
            Err(StoreError::NotFound { .. }) => return Ok(Vec::new()),
            other => other?,
        };
        let marker = Marker::from_json(&text).map_err(|detail| StoreError::Damaged { url, detail })?;
        Ok(vec![format!("{stage}/{}", object_name(&marker.name, &marker.file.digest))])
    }
}

/// How long ago an object was sent; none when its clock is ahead of ours.
fn age_of(meta: &ObjectMeta) -> Option<Duration> {
    SystemTime::now().duration_since(meta.last_modified.into()).ok()
}

/// Whether an object was sent so long ago, or longer.
pub(crate) fn is_older(meta: &ObjectMeta, age: Duration) -> bool {
    age_of(meta).is_some_and(|since| since >= age)
}

/// Whether an object is so young that no sweep takes it before a manifest can name it.
pub(crate) fn is_fresh(meta: &ObjectMeta) -> bool {
    age_of(meta).is_none_or(|age| age < FRESH_FOR)
}

/// Whether an object is a stage's file by where it lies and how it is called, whether or not the stage has a manifest.
fn is_of_a_stage(name: &str) -> bool {
    name.split('/').nth(1).is_some_and(|folder| OF_STAGES.contains(&folder)) && is_named_by_content(name)
}
