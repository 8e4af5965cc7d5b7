//! Whether what lies on disk is what was written: every output against its manifest's digests, every manifest against
//! itself and against its inputs.

use crate::stage::{Layout, Progress, StageFolder, digest_of_bytes, digest_of_file, is_outside, is_sealed};
use crate::{Result, interrupt, remote};
use lapidary_schemas::tables::MANIFEST_FILE;
use lapidary_schemas::{Digest, Manifest};
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What was found of one stage's folder.
#[derive(Debug, Clone, Serialize)]
pub struct Verified {
    /// Its path relative to OUT.
    pub folder: String,
    /// Its stage.
    pub stage: String,
    /// Files that were read.
    pub files: usize,
    /// Bytes that were read.
    pub bytes: u64,
    /// What is wrong with it; empty when it is as it was written.
    pub faults: Vec<Fault>,
    /// Inputs that are others by now: it is intact, but stale.
    pub stale_inputs: Vec<String>,
}

/// Something that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub what: String,
}

/// Reads all files of the whole folders of a tree, or of those that `names` stand for: a path relative to OUT or to its
/// source, or a stage's name.
///
/// # Errors
/// On an interrupt.
pub fn verify(layout: &Layout, names: &[String]) -> Result<Vec<Verified>> {
    let is_named = |stage: &StageFolder| {
        let path = layout.name_of(&stage.folder);
        let in_source = path.split_once('/').map_or("", |(_, rest)| rest);
        let of_stage = stage.manifest().map_or("", |manifest| &manifest.stage);
        names.is_empty() || names.iter().any(|name| [&*path, in_source, of_stage].contains(&name.trim_end_matches('/')))
    };
    let stages: Vec<StageFolder> =
        layout.stages().into_iter().filter(|s| s.manifest().is_some() && is_named(s)).collect();
    let bytes: u64 =
        stages.iter().filter_map(|stage| stage.manifest()).flat_map(|m| m.outputs.values()).map(|o| o.bytes).sum();
    let progress = Progress::new("verify", bytes >> 20, "MiB");
    let mut verified = Vec::new();
    for stage in &stages {
        interrupt::check()?;
        let Some(manifest) = stage.manifest() else { continue };
        remote::fetch_all(&stage.folder, manifest)?;
        let mut found = Verified {
            folder: layout.name_of(&stage.folder),
            stage: manifest.stage.clone(),
            files: 0,
            bytes: 0,
            faults: faults_of_manifest(stage, manifest),
            stale_inputs: stale_inputs(layout, manifest),
        };
        for (name, output) in &manifest.outputs {
            interrupt::check()?;
            let path = stage.folder.join(name);
            let what = match digest_of_file(&path) {
                Ok((digest, _)) if digest == output.digest => None,
                Ok((_, bytes)) if bytes != output.bytes => {
                    Some(format!("{bytes} bytes, written were {}", output.bytes))
                }
                Ok(_) => Some("its bytes are not those that were written".to_owned()),
                Err(error) => Some(error.to_string()),
            };
            found.faults.extend(what.map(|what| Fault { path, what }));
            found.files += 1;
            found.bytes += output.bytes;
            progress.add(output.bytes >> 20);
        }
        verified.push(found);
    }
    Ok(verified)
}

/// Whether a manifest is the one that the runtime wrote.
fn faults_of_manifest(stage: &StageFolder, manifest: &Manifest) -> Vec<Fault> {
    let path = stage.folder.join(MANIFEST_FILE);
    let repeatable: BTreeMap<&str, &Digest> =
        manifest.outputs.iter().filter(|(_, o)| o.repeatable).map(|(name, o)| (name.as_str(), &o.digest)).collect();
    let digest = digest_of_bytes(json!([manifest.stage, repeatable]).to_string().as_bytes());
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let checks = [
        (!is_sealed(&text, &manifest.seal), "its text is not the one that was sealed"),
        (digest != manifest.digest, "its digest does not follow from those of its outputs"),
    ];
    let faults = checks.into_iter().filter(|(is_fault, _)| *is_fault);
    faults.map(|(_, what)| Fault { path: path.clone(), what: what.to_owned() }).collect()
}

fn stale_inputs(layout: &Layout, manifest: &Manifest) -> Vec<String> {
    let is_stale = |(name, digest): &(&String, &Digest)| !is_outside(name) && layout.input(name, digest).is_none();
    manifest.inputs.iter().filter(is_stale).map(|(name, _)| name.clone()).collect()
}
