//! Publishing what a stage has made: its files first, its manifest last, and that only in the place of the manifest that this
//! cache knew. Wherever it stops, the same call goes on: what is in the store at its length is not sent again.

use crate::manifest::{MANIFEST, Manifest, Mark, base_of, object_name};
use crate::mirror::Mirror;
use crate::transfer::{AT_ONCE, send};
use crate::{Result, StoreError};
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::{Error, PutMode, PutOptions, UpdateVersion};
use serde::Serialize;
use std::collections::HashMap;
use std::fs;

/// What publishing a folder came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Published {
    /// Files that were sent, and their bytes.
    pub(crate) sent: u64,
    pub(crate) sent_bytes: u64,
    /// Files that were there.
    pub(crate) found: u64,
    /// Another writer had published the same result.
    pub(crate) was_there: bool,
}

impl Mirror {
    /// Publishes a folder, and what is kept beside it of other settings. What is published already costs nothing.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when another writer's manifest is there; when a file is not what its manifest says; when the
    /// store refuses or goes away.
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
        let Some((ours, seal)) = self.own(folder)? else {
            return Err(StoreError::io("read", &path)(std::io::ErrorKind::NotFound.into()));
        };
        let mark = self.mark(folder);
        if mark.as_ref().is_some_and(|mark| mark.seal == seal) {
            return Ok(Published::default());
        }
        let mode = match self.manifest_in_store(folder).await? {
            None => PutMode::Create,
            Some((theirs, text, now)) => match self.settled(folder, (&ours, &seal), (&theirs, &text, &now))? {
                Some(published) => return Ok(published),
                // Only what this cache knew is replaced.
                None if mark.as_ref().is_some_and(|mark| mark.seal == now.seal) => {
                    PutMode::Update(UpdateVersion { e_tag: now.e_tag, version: now.version })
                }
                None => return Err(self.conflict(folder, &theirs, &ours)),
            },
        };
        let mut published = self.send_files(folder, &ours).await?;
        let text = bytes::Bytes::from(fs::read(&path).map_err(StoreError::io("read", &path))?);
        let (object, url) = (self.address.at(&name)?, self.address.url(&name));
        let put = || {
            let options = PutOptions { mode: mode.clone(), ..PutOptions::default() };
            self.address.store.put_opts(&object, text.clone().into(), options)
        };
        match self.retry.run_raw(&mut { put }).await {
            Ok(put) => self.set_mark(folder, &Mark { seal, e_tag: put.e_tag, version: put.version })?,
            // Somebody was first; or we were, and the answer was lost on its way.
            Err((Error::AlreadyExists { .. } | Error::Precondition { .. } | Error::NotFound { .. }, _)) => {
                let Some((theirs, text, now)) = self.manifest_in_store(folder).await? else {
                    let detail =
                        "the manifest that was to be replaced has gone; the same command puts it anew".to_owned();
                    return Err(StoreError::Other { url, detail });
                };
                match self.settled(folder, (&ours, &seal), (&theirs, &text, &now))? {
                    Some(settled) => published.was_there = settled.was_there,
                    None => return Err(self.conflict(folder, &theirs, &ours)),
                }
            }
            Err((error, secs)) => return Err(StoreError::of(&error, &url, secs)),
        }
        Ok(published)
    }

    /// Whether the store's manifest is ours, or of the same result; then it is noted, or taken.
    fn settled(
        &self,
        folder: &str,
        (ours, seal): (&Manifest, &str),
        (theirs, text, now): (&Manifest, &[u8], &Mark),
    ) -> Result<Option<Published>> {
        let is_ours = now.seal == seal;
        if is_ours {
            self.set_mark(folder, now)?;
        } else if theirs.is_same_result(ours) {
            let _lock = self.lock()?;
            self.take(folder, theirs, text, now)?;
        } else {
            return Ok(None);
        }
        Ok(Some(Published { was_there: !is_ours, ..Published::default() }))
    }

    /// Sends the files of a manifest that the store has not.
    async fn send_files(&self, folder: &str, manifest: &Manifest) -> Result<Published> {
        let base = base_of(folder);
        let there: HashMap<String, u64> =
            self.list(base).await?.into_iter().map(|(name, meta)| (name, meta.size)).collect();
        let there = &there;
        let sent: Vec<u64> = stream::iter(&manifest.outputs)
            .map(|(name, file)| async move {
                let object = format!("{base}/{}", object_name(name, &file.digest));
                if there.get(&object) == Some(&file.bytes) {
                    return Ok(None);
                }
                let path = self.cache.join(folder).join(name);
                send(&self.address, self.retry, &path, &self.address.at(&object)?, file).await?;
                Ok::<_, StoreError>(Some(file.bytes))
            })
            .buffer_unordered(AT_ONCE)
            .try_filter_map(|sent| async move { Ok(sent) })
            .try_collect()
            .await?;
        let count = sent.len() as u64;
        let found = manifest.outputs.len() as u64 - count;
        Ok(Published { sent: count, sent_bytes: sent.iter().sum(), found, was_there: false })
    }

    fn conflict(&self, folder: &str, theirs: &Manifest, ours: &Manifest) -> StoreError {
        StoreError::Conflict {
            url: self.address.url(&format!("{folder}/{MANIFEST}")),
            theirs: short(&theirs.digest),
            ours: short(&ours.digest),
            local: self.cache.join(folder),
        }
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

fn short(digest: &str) -> String {
    digest.chars().take(12).collect()
}
