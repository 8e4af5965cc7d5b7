//! A curation as those below it read it: the manifests of its four stages.

use super::{Layout, read_manifest};
use crate::Result;
use lapidary_schemas::Manifest;
use serde_json::{Map, Value};

/// The manifests of a curation's stages.
#[derive(Debug, Clone)]
pub struct CuratedManifests {
    /// Pairs, groups, clusters and ranking.
    pub stages: [Manifest; 4],
    /// The facts of all four.
    pub facts: Value,
}

/// Reads the manifests of a source's curation.
///
/// # Errors
/// When a stage has not run.
pub fn read_curated(layout: &Layout, source: &str) -> Result<CuratedManifests> {
    let read = |folder: std::path::PathBuf| read_manifest(&folder);
    let stages = [
        read(layout.pairs(source))?,
        read(layout.groups(source))?,
        read(layout.clusters(source))?,
        read(layout.ranking(source))?,
    ];
    let facts: Map<String, Value> =
        stages.iter().rev().flat_map(|stage| stage.facts.as_object().cloned().unwrap_or_default()).collect();
    Ok(CuratedManifests { stages, facts: Value::Object(facts) })
}
