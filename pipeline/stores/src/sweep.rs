//! Taking things out of the store: a stage's folder that was removed by name, and objects that no manifest and no marker names.

use crate::manifest::{MANIFEST, Marker, base_of, object_name, stage_of_shares};
use crate::mirror::Mirror;
use crate::{Result, StoreError};
use object_store::ObjectMeta;
use object_store::ObjectStoreExt;
use serde::Serialize;
use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

/// What nobody names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Swept {
    /// Its URL.
    pub(crate) url: String,
    pub(crate) bytes: u64,
}

impl Mirror {
    /// Removes a folder from the store: its manifest first, then what no other manifest or marker names.
    ///
    /// # Errors
    /// When the store refuses or goes away.
    pub(crate) async fn remove(&self, folder: &str) -> Result<()> {
        let base = base_of(folder);
        let theirs = self.manifest_in_store(folder).await?;
        let name = format!("{folder}/{MANIFEST}");
        self.delete(&name, &self.address.at(&name)?).await?;
        self.remove_mark(folder)?;
        let Some((manifest, _, _)) = theirs else { return Ok(()) };
        let own: BTreeSet<String> = manifest
            .outputs
            .iter()
            .map(|(file, named)| format!("{base}/{}", object_name(file, &named.digest)))
            .collect();
        let above = base.rsplit_once('/').map_or("", |(above, _)| above);
        let objects = self.list(above).await?;
        let named = self.named_by(&objects).await?;
        for (name, meta) in objects.iter().filter(|(name, _)| own.contains(name) && !named.contains(name)) {
            self.delete(name, &meta.location).await?;
        }
        Ok(())
    }

    /// Finds objects that no manifest and no marker names and that are older than `age`: what a replaced result left, and what
    /// was sent by somebody who never came to the manifest. Removes them unless it is a dry run.
    ///
    /// # Errors
    /// When the store refuses or goes away.
    pub(crate) async fn sweep(&self, age: Duration, dry_run: bool) -> Result<Vec<Swept>> {
        let objects = self.list("").await?;
        let named = self.named_by(&objects).await?;
        let bases: BTreeSet<&str> = objects.iter().filter_map(|(name, _)| folder(name).map(base_of)).collect();
        let is_below =
            |name: &str| bases.iter().any(|base| name.strip_prefix(base).is_some_and(|rest| rest.starts_with('/')));
        let is_old = |meta: &ObjectMeta| {
            SystemTime::now().duration_since(meta.last_modified.into()).is_ok_and(|since| since >= age)
        };
        let mut swept = Vec::new();
        for (name, meta) in &objects {
            let is_data = !name.ends_with(MANIFEST) && is_below(name);
            if !is_data || named.contains(name) || !is_old(meta) {
                continue;
            }
            if !dry_run {
                self.delete(name, &meta.location).await?;
            }
            swept.push(Swept { url: self.address.url(name), bytes: meta.size });
        }
        Ok(swept)
    }

    /// The objects that manifests and markers among these name.
    async fn named_by(&self, objects: &[(String, ObjectMeta)]) -> Result<BTreeSet<String>> {
        let mut named = BTreeSet::new();
        for (name, meta) in objects {
            if let Some(folder) = folder(name) {
                let Some((manifest, _, _)) = self.manifest_in_store(folder).await? else { continue };
                let base = base_of(folder);
                let of_manifest =
                    manifest.outputs.iter().map(|(file, n)| format!("{base}/{}", object_name(file, &n.digest)));
                named.extend(of_manifest);
            } else if let Some(stage) = name.rsplit_once('/').and_then(|(folder, _)| stage_of_shares(folder))
                && name.ends_with(".json")
            {
                let get = || async { self.address.store.get(&meta.location).await?.bytes().await };
                let text = self.retry.run(&self.address.url(name), get).await?;
                let marker: Marker = serde_json::from_slice(&text)
                    .map_err(|e| StoreError::Damaged { url: self.address.url(name), detail: e.to_string() })?;
                named.insert(format!("{stage}/{}", object_name(&marker.name, &marker.file.digest)));
            }
        }
        Ok(named)
    }
}

/// The stage's folder whose manifest this is.
fn folder(name: &str) -> Option<&str> {
    name.strip_suffix(MANIFEST)?.strip_suffix('/')
}
