//! What a cache knows of its store, beside the folders that it holds: so renaming a folder moves nothing of this, it is of the
//! name.

use crate::clients::Kind;
use crate::files::{remove_file, write_whole};
use crate::manifest::KnownVersion;
use crate::mirror::Mirror;
use crate::{Result, StoreError};
use object_store::{Error, ObjectStore, PutMode, PutOptions, UpdateVersion};
use std::fs;
use std::path::PathBuf;

/// Where it lies in the cache.
pub(crate) const FOLDER: &str = ".store";
/// The stage runtime reads this name as well (`remote::is_published`).
const VERSION: &str = "known.json";
/// That the server was seen to honour conditions.
const CONDITIONAL: &str = "conditional";

impl Mirror {
    /// The manifest that the store last had of a folder, as this cache knows.
    pub(crate) fn known_version(&self, folder: &str) -> Option<KnownVersion> {
        serde_json::from_slice(&fs::read(self.version_path(folder)).ok()?).ok()
    }

    pub(crate) fn set_known_version(&self, folder: &str, version: &KnownVersion) -> Result<()> {
        let text = serde_json::to_vec(version).expect("a version is three texts");
        write_whole(&self.version_path(folder), &text)
    }

    pub(crate) fn remove_known_version(&self, folder: &str) -> Result<()> {
        remove_file(&self.version_path(folder))
    }

    fn version_path(&self, folder: &str) -> PathBuf {
        self.cache.join(FOLDER).join("folders").join(folder).join(VERSION)
    }

    /// The folders that the store had when this cache last looked.
    pub(crate) fn known_folders(&self) -> Vec<String> {
        let root = self.cache.join(FOLDER).join("folders");
        let (mut found, mut to_visit) = (Vec::new(), vec![root.clone()]);
        while let Some(folder) = to_visit.pop() {
            for entry in fs::read_dir(&folder).into_iter().flatten().filter_map(|entry| entry.ok()) {
                let path = entry.path();
                if path.is_dir() {
                    to_visit.push(path);
                } else if entry.file_name() == VERSION
                    && let Ok(relative) = folder.strip_prefix(&root)
                {
                    found.push(relative.to_string_lossy().into_owned());
                }
            }
        }
        found.sort();
        found
    }

    /// Makes sure, once for a cache, that the server refuses what a condition forbids: to put this manifest where one is, and in the
    /// place of another version. It is the manifest that the store has, so that a server that ignores conditions changes nothing.
    ///
    /// # Errors
    /// [`StoreError::Unconditional`] when it does not; when the store refuses or goes away.
    pub(crate) async fn ensure_conditional(&self, name: &str, text: &[u8]) -> Result<()> {
        let noted = self.cache.join(FOLDER).join(CONDITIONAL);
        if noted.exists() {
            return Ok(());
        }
        let no_version = UpdateVersion { e_tag: Some("\"0\"".to_owned()), version: Some("1".to_owned()) };
        let [if_none, if_same] = match self.address.client.kind {
            Kind::Google => ["x-goog-if-generation-match"; 2],
            _ => ["If-None-Match", "If-Match"],
        };
        let conditions = [(if_none, PutMode::Create), (if_same, PutMode::Update(no_version))];
        let (object, url) = (self.address.at(name)?, self.address.url(name));
        for (condition, mode) in conditions {
            let payload = bytes::Bytes::copy_from_slice(text);
            let mut put = || {
                let options = PutOptions { mode: mode.clone(), ..PutOptions::default() };
                self.address.client.store.put_opts(&object, payload.clone().into(), options)
            };
            match self.retry.run_raw(&url, text.len() as u64, &mut put).await {
                Err((Error::AlreadyExists { .. } | Error::Precondition { .. } | Error::NotFound { .. }, _)) => {}
                Ok(_) | Err((Error::NotImplemented { .. } | Error::NotSupported { .. }, _)) => {
                    return Err(StoreError::Unconditional { url, condition });
                }
                Err((error, secs)) => return Err(StoreError::of(&error, &url, secs)),
            }
        }
        write_whole(&noted, b"")
    }
}
