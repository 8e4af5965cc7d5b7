//! Files of weights as encoders: which file a path names, and what embeddings by it are called. What is in such a file is
//! lapidary-train's business.

use crate::stage::digest_of_file;
use crate::{PipelineError, Result};
use std::path::{Path, PathBuf};

/// Files of weights that a folder may hold; the first there is is taken.
pub const WEIGHTS_FILES: &[&str] =
    &["model.safetensors", "pytorch_model.safetensors", "pytorch_model.bin", "model.pth", "model.pt"];
/// Names that say nothing of what is in the file: the folder's is taken.
const NAMELESS: &[&str] = &["model", "pytorch_model", "weights", "checkpoint", "final"];
/// Digits of the digest in a name.
const DIGITS: usize = 8;

/// The file of weights that a path names: itself, or the one in a folder.
pub fn weights_file(path: &Path) -> Option<PathBuf> {
    if path.is_dir() {
        return WEIGHTS_FILES.iter().map(|name| path.join(name)).find(|file| file.is_file());
    }
    path.is_file().then(|| path.to_owned())
}

/// What embeddings by an encoder are called: its own name, or, where it is a file of weights, the file's name and digest.
///
/// # Errors
/// When the file cannot be read.
pub fn encoder_name(encoder: &str) -> Result<String> {
    let Some(file) = weights_file(Path::new(encoder)) else { return Ok(encoder.to_owned()) };
    let file = file.canonicalize().map_err(PipelineError::io("open", &file))?;
    let text = |name: Option<&std::ffi::OsStr>| name.unwrap_or_default().to_string_lossy().into_owned();
    let mut stem = text(file.file_stem());
    if NAMELESS.contains(&stem.as_str()) {
        stem = text(file.parent().and_then(Path::file_name));
    }
    let plain: String =
        stem.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' }).collect();
    let plain = plain.trim_matches(['.', '-']);
    let plain = if plain.is_empty() { "weights" } else { &plain[..plain.len().min(100)] };
    Ok(format!("{plain}-{}", &digest_of_file(&file)?.0.0[..DIGITS]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_folders_are_named_by_what_they_hold_and_runs_by_themselves() {
        let root = tempfile::tempdir().expect("a folder");
        let folder = root.path().join("vit small, dino");
        std::fs::create_dir(&folder).expect("creates");
        assert_eq!(encoder_name("descriptor").expect("no file"), "descriptor");
        assert_eq!(encoder_name("no/such/file.pth").expect("no file"), "no/such/file.pth");
        let file = folder.join("model.safetensors");
        std::fs::write(&file, b"a").expect("writes");
        let name = |path: &Path| encoder_name(&path.to_string_lossy()).expect("reads");
        let first = name(&file);
        assert!(first.starts_with("vit-small--dino-") && first.len() == 24, "{first}");
        assert_eq!(name(&folder), first);
        std::fs::write(&file, b"b").expect("writes");
        assert_ne!(name(&file), first);
        std::fs::write(root.path().join("dinov2_vits14.pth"), b"a").expect("writes");
        assert_eq!(name(&root.path().join("dinov2_vits14.pth")), format!("dinov2_vits14-{}", &first[16..]));
    }
}
