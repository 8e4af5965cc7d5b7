//! What a mirror needs to know of a stage's manifest, and how its files are called in the store.
//!
//! A file of digest `0123456789abcdef...` called `part-00000.parquet` is the object `part-00000.0123456789abcdef.parquet` in
//! the folder of its stage, whatever settings it was made with. So no object is ever overwritten by other bytes, a file that
//! two contents of a folder share is there once, and one that was sent is known by its name and length.

use object_store::ObjectMeta;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Component, Path};

/// The name of a manifest.
pub(crate) const MANIFEST: &str = "manifest.json";
/// Digits of a digest.
const DIGEST_DIGITS: usize = 64;
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
pub(crate) struct KnownVersion {
    pub(crate) seal: String,
    pub(crate) e_tag: Option<String>,
    pub(crate) version: Option<String>,
}

impl KnownVersion {
    /// Whether a listed object is of this version. Azure's listings leave out the quotes that its headers have.
    pub(crate) fn is_of(&self, meta: &ObjectMeta) -> bool {
        let bare = |e_tag: &Option<String>| e_tag.as_ref().map(|e_tag| e_tag.trim_matches('"').to_owned());
        self.e_tag.is_some() && bare(&self.e_tag) == bare(&meta.e_tag)
    }
}

impl File {
    /// Refuses what would be another file than one below its folder, or an object of another name.
    fn check(&self, name: &str) -> Result<(), String> {
        let is_digest = self.digest.len() == DIGEST_DIGITS && self.digest.bytes().all(|b| b.is_ascii_hexdigit());
        let is_relative = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
        if !is_digest {
            return Err(format!("its file `{name}` has no digest of {DIGEST_DIGITS} hexadecimal digits"));
        }
        if name.is_empty() || name == MANIFEST || !is_relative || name.contains('\0') {
            return Err(format!("its file `{name}` would not lie below its folder"));
        }
        Ok(())
    }
}

impl Marker {
    /// # Errors
    /// When it is none, or names a file that cannot be one of a stage.
    pub(crate) fn from_json(text: &[u8]) -> Result<Self, String> {
        let marker: Self = serde_json::from_slice(text).map_err(|e| format!("this is no marker ({e})"))?;
        marker.file.check(&marker.name)?;
        Ok(marker)
    }
}

impl Manifest {
    /// # Errors
    /// When it is none, or names a file that cannot be one of a stage: it may come from anywhere.
    pub(crate) fn from_json(text: &[u8]) -> Result<Self, String> {
        let manifest: Self = serde_json::from_slice(text).map_err(|e| format!("this is no manifest ({e})"))?;
        manifest.outputs.iter().try_for_each(|(name, file)| file.check(name))?;
        Ok(manifest)
    }

    /// The objects of its files, for a stage in `folder`.
    pub(crate) fn objects(&self, folder: &str) -> impl Iterator<Item = String> {
        self.outputs.iter().map(move |(name, file)| format!("{}/{}", base_of(folder), object_name(name, &file.digest)))
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

/// Whether an object is called after its content, as [`object_name`] does.
pub(crate) fn is_named_by_content(object: &str) -> bool {
    let name = object.rsplit('/').next().unwrap_or_default();
    let is_digits =
        |part: &str| part.len() == DIGITS && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    // Before the extension, or last where there is none.
    name.rsplit('.').take(2).any(is_digits)
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
        for file in ["part-00000.parquet", "a.b/LICENSE", ".hidden"] {
            assert!(is_named_by_content(&format!("pile/images/{}", object_name(file, digest))));
        }
        assert!(
            !is_named_by_content("pile/images/part-00000.parquet") && !is_named_by_content("a/0123456789ABCDEF.png")
        );
    }

    #[test]
    fn manifests_and_markers_name_files_of_their_folder_alone() {
        let digest = "0123456789abcdef".repeat(4);
        let manifest = |name: &str, digest: &str| {
            let outputs = serde_json::json!({name: {"digest": digest, "bytes": 1}});
            Manifest::from_json(
                serde_json::json!({"key": "k", "digest": "d", "outputs": outputs}).to_string().as_bytes(),
            )
        };
        let marker = |name: &str, digest: &str| {
            Marker::from_json(serde_json::json!({"name": name, "digest": digest, "bytes": 1}).to_string().as_bytes())
        };
        assert!(
            manifest("checkpoints/final.safetensors", &digest).is_ok() && marker("part-0.parquet", &digest).is_ok()
        );
        for name in ["../x", "/etc/passwd", "a/../../x", "", ".", "./x", "manifest.json", "a\0b"] {
            assert!(manifest(name, &digest).is_err(), "{name}");
            assert!(marker(name, &digest).is_err(), "{name}");
        }
        for digest in ["", "0123", "é123456789abcdef", &"g".repeat(64)] {
            assert!(manifest("x", digest).is_err(), "{digest}");
            assert!(marker("x", digest).is_err(), "{digest}");
        }
    }

    #[test]
    fn a_version_is_the_same_with_quotes_and_without() {
        let known = KnownVersion { seal: String::new(), e_tag: Some("\"0x8D\"".to_owned()), version: None };
        let meta = |e_tag: Option<&str>| ObjectMeta {
            location: "x".into(),
            last_modified: Default::default(),
            size: 0,
            e_tag: e_tag.map(str::to_owned),
            version: None,
        };
        assert!(known.is_of(&meta(Some("0x8D"))) && known.is_of(&meta(Some("\"0x8D\""))));
        assert!(!known.is_of(&meta(Some("0x8E"))) && !known.is_of(&meta(None)));
        assert!(!KnownVersion { e_tag: None, ..known }.is_of(&meta(None)));
    }
}
