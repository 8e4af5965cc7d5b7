//! Publishing what a stage has made: its files first, its manifest last, and that only in the place of the manifest that this
//! cache knew. Wherever it stops, the same call goes on: what is in the store at its length is not sent again, unless it is so old
//! that a sweep may take it, and no manifest of the store keeps it from that.

use crate::manifest::{KnownVersion, MANIFEST, Manifest, base_of, object_name};
use crate::mirror::Mirror;
use crate::send::{AT_ONCE, Sender};
use crate::sweep::is_fresh;
use crate::{Result, StoreError};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use object_store::{Error, ObjectMeta, ObjectStore, PutMode, PutOptions, UpdateVersion};
use serde::Serialize;
use std::collections::{HashMap, HashSet};
use std::fs;

/// How often a manifest is put again after a refusal that nobody's manifest explains: another put of it was under way.
const PUTS: usize = 3;

/// What publishing a folder came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Published {
    /// Files that were sent, and their bytes.
    pub(crate) sent: u64,
    pub(crate) sent_bytes: u64,
    /// Of those, files that were there, but old.
    pub(crate) renewed: u64,
    /// Files that were there, and those of them that were old.
    pub(crate) found: u64,
    pub(crate) old: u64,
    /// Another writer had published the same result.
    pub(crate) was_there: bool,
}

impl Published {
    /// Counts what was sent after the first time.
    fn add(&mut self, more: Self) {
        self.sent += more.sent;
        self.sent_bytes += more.sent_bytes;
        self.renewed += more.renewed;
    }
}

/// What a look at the store's manifest found.
enum Look {
    /// The result is there.
    Done(Published),
    /// It may be put so; these objects are named by the manifest that it replaces, and so kept until then.
    Free(PutMode, HashSet<String>),
}

/// A manifest here that is to be published.
struct Ours<'a> {
    folder: &'a str,
    name: String,
    manifest: Manifest,
    seal: String,
    text: Bytes,
    /// The version that it may replace.
    known: Option<KnownVersion>,
}

impl Mirror {
    /// Publishes a folder, and what is kept beside it of other settings. What is published already costs nothing.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when another writer's manifest is there; when a file is not what its manifest says; when the
    /// server ignores conditions; when the store refuses or goes away.
    pub(crate) async fn publish(&self, folder: &str) -> Result<Published> {
        // What makes room goes first: no result is ever in the store under no name.
        for aside in self.kept_beside(folder) {
            self.publish_alone(&aside).await?;
        }
        self.publish_alone(folder).await
    }

    async fn publish_alone(&self, folder: &str) -> Result<Published> {
        let name = format!("{folder}/{MANIFEST}");
        let path = self.cache.join(&name);
        let text = Bytes::from(fs::read(&path).map_err(StoreError::io("read", &path))?);
        let manifest = Manifest::from_json(&text)
            .map_err(|detail| StoreError::Damaged { url: path.display().to_string(), detail })?;
        let seal = manifest.seal(&text);
        let known = self.known_version(folder);
        if known.as_ref().is_some_and(|known| known.seal == seal) {
            return Ok(Published::default());
        }
        let ours = Ours { folder, name, manifest, seal, text, known };
        let mut kept = match self.look(&ours).await? {
            Look::Done(published) => return Ok(published),
            Look::Free(_, kept) => kept,
        };
        if base_of(folder) != folder
            && let Some((makes_room, ..)) = self.manifest_in_store(base_of(folder)).await?
        {
            kept.extend(makes_room.objects(folder));
        }
        let mut published = self.send_files(folder, &ours.manifest, Some(&kept)).await?;
        if published.renewed > 0 {
            // A sweep that had looked at these before they were sent again may have taken them after.
            published.add(self.send_files(folder, &ours.manifest, Some(&kept)).await?);
        }
        for _ in 0..PUTS {
            // Files take their time: somebody may have come first.
            let mode = match self.look(&ours).await? {
                Look::Done(settled) => {
                    published.was_there = settled.was_there;
                    return Ok(published);
                }
                Look::Free(mode, _) => mode,
            };
            if self.put_manifest(&ours, mode).await? {
                if published.old > 0 {
                    // Another machine may have replaced the manifest that kept these, and swept, before this one named them.
                    published.add(self.send_files(folder, &ours.manifest, None).await?);
                }
                return Ok(published);
            }
        }
        let detail = "the manifest was refused, and none is there; the same command tries again".to_owned();
        Err(StoreError::Other { url: self.address.url(&ours.name), detail })
    }

    /// Puts a manifest; whether it was, or was refused for another that is there, or was.
    async fn put_manifest(&self, ours: &Ours<'_>, mode: PutMode) -> Result<bool> {
        let (object, url) = (self.address.at(&ours.name)?, self.address.url(&ours.name));
        let mut put = || {
            let options = PutOptions { mode: mode.clone(), ..PutOptions::default() };
            self.address.client.store.put_opts(&object, ours.text.clone().into(), options)
        };
        match self.retry.run_raw(&url, ours.text.len() as u64, &mut put).await {
            Ok(put) => {
                self.ensure_conditional(&ours.name, &ours.text).await?;
                let version = KnownVersion { seal: ours.seal.clone(), e_tag: put.e_tag, version: put.version };
                self.set_known_version(ours.folder, &version)?;
                Ok(true)
            }
            // Somebody was first; or we were, and the answer was lost on its way.
            Err((Error::AlreadyExists { .. } | Error::Precondition { .. } | Error::NotFound { .. }, _)) => Ok(false),
            Err((error, secs)) => Err(StoreError::of(&error, &url, secs)),
        }
    }

    /// Looks for the store's manifest. One of the same result is noted, or taken; another's is a conflict, unless it is the one that
    /// this cache knew.
    async fn look(&self, ours: &Ours<'_>) -> Result<Look> {
        let Some((theirs, text, now)) = self.manifest_in_store(ours.folder).await? else {
            return Ok(Look::Free(PutMode::Create, HashSet::new()));
        };
        if now.seal == ours.seal || theirs.is_same_result(&ours.manifest) {
            self.ensure_conditional(&ours.name, &text).await?;
            return self.accept(ours, &theirs, &text, &now).map(Look::Done);
        }
        if ours.known.as_ref().is_some_and(|known| known.seal == now.seal) {
            let mode = PutMode::Update(UpdateVersion { e_tag: now.e_tag, version: now.version });
            return Ok(Look::Free(mode, theirs.objects(ours.folder).collect()));
        }
        Err(StoreError::Conflict {
            url: self.address.url(&ours.name),
            theirs: short(&theirs.digest),
            ours: short(&ours.manifest.digest),
            local: self.cache.join(ours.folder),
        })
    }

    /// Accepts the store's manifest for ours: it is ours, or of the same result.
    fn accept(&self, ours: &Ours<'_>, theirs: &Manifest, text: &[u8], now: &KnownVersion) -> Result<Published> {
        let is_ours = now.seal == ours.seal;
        if is_ours {
            self.set_known_version(ours.folder, now)?;
        } else {
            let _lock = self.lock()?;
            self.adopt(ours.folder, theirs, text, now)?;
        }
        Ok(Published { was_there: !is_ours, ..Published::default() })
    }

    /// Sends the files of a manifest that the store has not, or has of so long ago that a sweep may be about to take them: those
    /// that are in `kept` it does not take. Without `kept` whatever is there will do.
    async fn send_files(&self, folder: &str, manifest: &Manifest, kept: Option<&HashSet<String>>) -> Result<Published> {
        let base = base_of(folder);
        let there = self.objects_in(base).await?;
        let sender = Sender::new(&self.address, self.retry);
        let (there, sender) = (&there, &sender);
        let sent: Vec<Result<Published>> = stream::iter(&manifest.outputs)
            .map(|(name, file)| async move {
                let object = format!("{base}/{}", object_name(name, &file.digest));
                let path = self.cache.join(folder).join(name);
                let there = there.get(&object).filter(|meta| meta.size == file.bytes);
                let is_old = there.is_some_and(|meta| !is_fresh(meta));
                // What is not here was never this cache's to send: a manifest or a marker of the store names it.
                let is_kept = || kept.is_none_or(|kept| kept.contains(&object)) || !path.is_file();
                if there.is_some() && (!is_old || is_kept()) {
                    return Ok(Published { found: 1, old: u64::from(is_old), ..Published::default() });
                }
                sender.send(&path, &self.address.at(&object)?, file).await?;
                Ok(Published { sent: 1, sent_bytes: file.bytes, renewed: u64::from(is_old), ..Published::default() })
            })
            .buffer_unordered(AT_ONCE)
            // To the end: what is under way when one fails stops by itself, and takes its parts back.
            .collect()
            .await;
        let mut published = Published::default();
        for file in first_failure(sent)? {
            published.found += file.found;
            published.old += file.old;
            published.add(file);
        }
        Ok(published)
    }

    /// The objects in a folder, by name.
    async fn objects_in(&self, folder: &str) -> Result<HashMap<String, ObjectMeta>> {
        Ok(self.list(folder).await?.into_iter().collect())
    }

    /// The folders of other settings beside a folder, by name.
    fn kept_beside(&self, folder: &str) -> Vec<String> {
        let at = self.cache.join(folder);
        let entries = at.parent().and_then(|above| fs::read_dir(above).ok()).into_iter().flatten();
        let above = folder.rsplit_once('/').map(|(above, _)| format!("{above}/")).unwrap_or_default();
        let names =
            entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).map(|name| above.clone() + &name);
        let is_kept =
            |name: &String| name != folder && base_of(name) == folder && self.cache.join(name).join(MANIFEST).is_file();
        let mut kept: Vec<String> = names.filter(is_kept).collect();
        kept.sort();
        kept
    }
}

/// All values, or the first failure that is not of a file which stopped for another's.
fn first_failure<T>(results: Vec<Result<T>>) -> Result<Vec<T>> {
    let (mut values, mut failure) = (Vec::new(), None);
    for result in results {
        match (result, &failure) {
            (Ok(value), _) => values.push(value),
            (Err(error), None | Some(StoreError::Stopped { .. })) => failure = Some(error),
            (Err(_), Some(_)) => {}
        }
    }
    failure.map_or(Ok(values), Err)
}

fn short(digest: &str) -> String {
    digest.chars().take(12).collect()
}
