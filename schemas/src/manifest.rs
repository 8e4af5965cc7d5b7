//! The manifest: what a stage leaves in its folder to say that it is whole, and from what it was made.

use crate::Digest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `manifest.json` of a stage's folder. What has one is complete; what has none is not there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The stage that wrote the folder: `ingest`, `embed`, ...
    pub stage: String,
    /// The version of the stage's code; a higher one makes the folder stale.
    pub version: u32,
    /// The name of the Lapidary release that wrote it.
    pub lapidary: String,
    /// The part of the resolved configuration that the stage depends on.
    pub config: serde_json::Value,
    /// Each input's name (a folder relative to `OUT`, or a source's address) and its digest.
    pub inputs: BTreeMap<String, Digest>,
    /// BLAKE3 over stage, version, configuration and inputs: what decides whether the folder is up to date.
    pub key: Digest,
    /// BLAKE3 over the digests of all outputs that repeat to the bit: what later stages depend on.
    pub digest: Digest,
    /// Digests of the folders whose content this one took over, the latest first; empty when it was made from nothing. Along
    /// such a chain a shard of a name only ever loses rows; what is new or was touched is in shards of new names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extends: Vec<Digest>,
    /// Rows in, out and rejected; the first is the sum of the others.
    pub rows: Rows,
    /// Every file that the stage wrote, by its path in the folder.
    pub outputs: BTreeMap<String, Output>,
    /// What later stages and readers want to know at a glance (class names, counts of reasons, scores).
    pub facts: serde_json::Value,
    /// Wall time in seconds.
    pub wall_secs: f64,
    /// Rows in over wall time.
    pub rows_per_sec: f64,
    /// The process's peak resident memory in MiB when the stage ended.
    pub peak_memory_mib: f64,
    /// BLAKE3 over the text of this file with nothing between this field's quotes; empty in files from before there was one.
    #[serde(default)]
    pub seal: String,
}

/// How many rows went in, came out and were set aside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rows {
    /// Rows read.
    pub input: u64,
    /// Rows written.
    pub output: u64,
    /// Rows set aside, each with a reason.
    pub rejected: u64,
}

/// A file that a stage wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// BLAKE3 of the file's bytes.
    pub digest: Digest,
    /// Its length in bytes.
    pub bytes: u64,
    /// Its rows, if it is a table.
    pub rows: u64,
    /// False for files that hold times and therefore differ from run to run (metrics, environment).
    pub repeatable: bool,
}
