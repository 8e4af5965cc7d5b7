//! A budget of memory, and its shares.

use crate::Result;
use lapidary_pipeline::PipelineError;
use lapidary_pipeline::stage::machine_memory_mib;
use lapidary_schemas::config::CurateConfig;
use std::fs::File;
use std::path::{Path, PathBuf};

/// Bytes that a process works in, whatever it holds: images that are decoded, blocks of pairs, tables being written.
const BASE_BYTES: u64 = 160 << 20;
/// Bytes an image besides its embedding: id, digest, path, sizes, places in files, hashes of one transform.
const IMAGE_BYTES: u64 = 448;

/// What a part of a stage may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Share {
    /// Fingerprints: a quarter.
    Fingerprints,
    /// An index over embeddings: a quarter.
    Index,
    /// Signatures of keypoints in the tables that are looked up at once: three eighths, as the index is gone by then.
    Signatures,
    /// Records before a sorted run is written: a thirty-second.
    Run,
}

/// How many bytes may be held, and the folder that scratch files lie in.
#[derive(Debug, Clone)]
pub(crate) struct Memory {
    bytes: u64,
    /// Of those, what images and their embeddings take.
    reserved: u64,
    is_configured: bool,
    folder: PathBuf,
}

impl Memory {
    /// As configured: `curate.memory_mib`, or a quarter of the machine's memory where that is 0.
    pub(crate) fn of(config: &CurateConfig, folder: &Path) -> Self {
        let mib =
            if config.memory_mib > 0 { config.memory_mib } else { machine_memory_mib().map_or(4096, |mib| mib / 4) };
        Self { bytes: mib << 20, reserved: 0, is_configured: config.memory_mib > 0, folder: folder.to_owned() }
    }

    /// The bytes of a share of what is not reserved.
    pub(crate) fn share(&self, share: Share) -> usize {
        let bytes = self.bytes.saturating_sub(BASE_BYTES + self.reserved);
        let part = match share {
            Share::Fingerprints | Share::Index => bytes / 4,
            Share::Signatures => bytes / 8 * 3,
            Share::Run => bytes / 32,
        };
        usize::try_from(part).unwrap_or(usize::MAX)
    }

    /// Reserves what so many images with embeddings of `dim` values take; shares are of the rest. What is over a budget that
    /// was not configured is only said.
    ///
    /// # Errors
    /// [`PipelineError::Usage`] with what is needed, when the configured budget is too small.
    pub(crate) fn reserve(&mut self, images: usize, dim: usize) -> Result<()> {
        self.reserved += images as u64 * (IMAGE_BYTES + 4 * dim as u64);
        // A quarter is left for what has a share.
        let needed = (BASE_BYTES + self.reserved).div_ceil(1 << 20) * 4 / 3;
        let there = self.bytes >> 20;
        if there >= needed {
            return Ok(());
        }
        let text = format!("{images} images with embeddings of {dim} values need at least {needed} MiB");
        if self.is_configured {
            let text = format!("curate.memory_mib is {there}, but {text}\nhint: set curate.memory_mib={needed}");
            return Err(PipelineError::Usage(text).into());
        }
        tracing::warn!("{text}, more than a quarter of this machine's memory");
        // What has a share works with as little as a quarter of that.
        self.bytes = needed << 20;
        Ok(())
    }

    /// A scratch file that goes with its last handle.
    ///
    /// # Errors
    /// When the folder cannot be written to.
    pub(crate) fn scratch_file(&self) -> Result<File> {
        Ok(tempfile::tempfile_in(&self.folder).map_err(PipelineError::io("make a scratch file in", &self.folder))?)
    }
}

#[cfg(test)]
impl Memory {
    /// So many bytes, with scratch files in the system's folder for temporary files.
    pub(crate) fn bytes(bytes: u64) -> Self {
        Self { bytes: bytes.saturating_add(BASE_BYTES), reserved: 0, is_configured: true, folder: std::env::temp_dir() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_that_cannot_do_is_refused_with_what_is_needed() {
        let config = |memory_mib| CurateConfig { memory_mib, ..CurateConfig::default() };
        let budget = |memory_mib| Memory::of(&config(memory_mib), Path::new("/tmp"));
        let mut small = budget(256);
        let whole = small.share(Share::Run);
        small.reserve(10_000, 512).expect("256 MiB do for 10,000 images");
        assert!(small.share(Share::Run) < whole, "images take their part");
        let error = budget(256).reserve(100_000, 512).expect_err("too many").to_string();
        let needed = error.split("memory_mib=").nth(1).and_then(|mib| mib.trim().parse().ok()).expect("a number");
        assert!(error.contains("is 256") && needed > 256, "{error}");
        let mut enough = budget(needed);
        enough.reserve(100_000, 512).expect("what was said does");
        assert!(enough.share(Share::Index) > 0);
        budget(0).reserve(1 << 40, 512).expect("a default only warns");
    }
}
