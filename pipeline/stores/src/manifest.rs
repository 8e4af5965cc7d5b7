//! What a mirror needs to know of a stage's manifest, and how its files are called in the store.
//!
//! A file of digest `0123456789abcdef...` called `part-00000.parquet` is the object `part-00000.0123456789abcdef.parquet` in
//! the folder of its stage, whatever settings it was made with. So no object is ever overwritten by other bytes, a file that
//! two contents of a folder share is there once, and one that was sent is known by its name and length.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The name of a manifest.
pub(crate) const MANIFEST: &str = "manifest.json";
/// Digits of a digest in an object's name.
const DIGITS: usize = 16;
/// Digits of a key behind the name of a folder that is kept aside.
const KEY_DIGITS: usize = 8;

/// What is read of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) key: String,
    pub(crate) digest: String,
    pub(crate) outputs: BTreeMap<String, File>,
    #[serde(default)]
    seal: String,
}

/// A file that a manifest, or a share's marker, names.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct File {
    pub(crate) digest: String,
    pub(crate) bytes: u64,
}

/// A share's marker: a shard that is whole.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Marker {
    pub(crate) name: String,
    #[serde(flatten)]
    pub(crate) file: File,
}

/// Which manifest the store had when this cache last looked, by its version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    pub(crate) seal: String,
    pub(crate) e_tag: Option<String>,
    pub(crate) version: Option<String>,
}

impl Manifest {
    pub(crate) fn from_json(text: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(text).map_err(|e| format!("this is no manifest ({e})"))
    }

    /// What tells two manifests apart, their times included.
    pub(crate) fn seal(&self, text: &[u8]) -> String {
        if self.seal.is_empty() { blake3::hash(text).to_hex().to_string() } else { self.seal.clone() }
    }

    /// Whether another manifest stands for the same result.
    pub(crate) fn is_same_result(&self, other: &Self) -> bool {
        self.key == other.key && self.digest == other.digest
    }
}

/// The name of a file's object, below its stage's folder.
pub(crate) fn object_name(file: &str, digest: &str) -> String {
    let digits = &digest[..digest.len().min(DIGITS)];
    let (folder, name) = file.rsplit_once('/').map_or(("", file), |(folder, name)| (folder, name));
    let name = match name.rsplit_once('.').filter(|(stem, _)| !stem.is_empty()) {
        Some((stem, extension)) => format!("{stem}.{digits}.{extension}"),
        None => format!("{name}.{digits}"),
    };
    if folder.is_empty() { name } else { format!("{folder}/{name}") }
}

/// The folder that objects of a stage's folder lie in: that of its name without the key of one that is kept aside.
pub(crate) fn base_of(folder: &str) -> &str {
    let key = |key: &str| key.len() == KEY_DIGITS && key.bytes().all(|b| b.is_ascii_hexdigit());
    folder.rsplit_once('~').filter(|(_, after)| key(after)).map_or(folder, |(base, _)| base)
}

/// The stage's folder that a key's folder of shares belongs to: `x/fingerprints` of `x/.fingerprints.shares/KEY`.
pub(crate) fn stage_of_shares(folder: &str) -> Option<String> {
    let (folder, _key) = folder.rsplit_once('/')?;
    let (above, name) = folder.rsplit_once('/').map_or(("", folder), |(above, name)| (above, name));
    let name = name.strip_prefix('.')?.strip_suffix(".shares")?;
    Some(if above.is_empty() { name.to_owned() } else { format!("{above}/{name}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_named_by_content_and_keep_their_extension() {
        let digest = "0123456789abcdef0123";
        assert_eq!(object_name("part-00000.parquet", digest), "part-00000.0123456789abcdef.parquet");
        assert_eq!(
            object_name("checkpoints/final.safetensors", digest),
            "checkpoints/final.0123456789abcdef.safetensors"
        );
        assert_eq!(object_name("a.b/LICENSE", digest), "a.b/LICENSE.0123456789abcdef");
        assert_eq!(object_name(".hidden", digest), ".hidden.0123456789abcdef");
        assert_eq!(base_of("pile/curation/ranking~0a1b2c3d"), "pile/curation/ranking");
        assert_eq!(base_of("pile/x~y"), "pile/x~y");
        assert_eq!(stage_of_shares("pile/.fingerprints.shares/0123").as_deref(), Some("pile/fingerprints"));
        assert_eq!(stage_of_shares("pile/fingerprints/0123"), None);
    }
}
