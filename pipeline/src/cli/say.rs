//! What a command says on success: lines for people, or the same facts as JSON with `--json`. stdout is data.

use super::CommonArgs;
use crate::remote::in_words;
use crate::stage::{Layout, Outcome, SharedStage};
use lapidary_schemas::Manifest;
use serde_json::{Value, json};
use std::path::Path;

/// Prints facts as JSON, or `lines` for people.
pub fn say(common: &CommonArgs, facts: &Value, lines: impl FnOnce() -> Vec<String>) {
    if common.json {
        println!("{facts}");
    } else {
        for line in lines() {
            println!("{line}");
        }
    }
}

/// Says what became of a stage: up to date, run, or only asked about.
pub fn announce(common: &CommonArgs, stage: &str, folder: &Path, outcome: Outcome, manifest: Option<&Manifest>) {
    announce_with(common, stage, folder, outcome, manifest, None);
}

/// The same of a stage that several processes can make; with where its shares lie.
pub fn announce_shared(common: &CommonArgs, stage: &str, made: &SharedStage) {
    announce_with(common, stage, &made.folder, made.outcome, made.manifest.as_ref(), Some(made.shares.folder()));
}

fn announce_with(
    common: &CommonArgs,
    stage: &str,
    folder: &Path,
    outcome: Outcome,
    manifest: Option<&Manifest>,
    shares: Option<&Path>,
) {
    let name = Layout::new(&common.out).name_of(folder);
    let facts = json!({
        "stage": stage,
        "folder": name,
        "shares": shares.map(|shares| Layout::new(&common.out).name_of(shares)),
        "outcome": outcome,
        "digest": manifest.map(|m| &m.digest),
        "rows": manifest.map(|m| m.rows),
        "facts": manifest.map(|m| &m.facts),
        "wall_secs": manifest.map(|m| m.wall_secs),
        "rows_per_sec": manifest.map(|m| m.rows_per_sec),
        "peak_memory_mib": manifest.map(|m| m.peak_memory_mib),
    });
    say(common, &facts, || {
        let Some(manifest) = manifest else {
            return vec![match outcome {
                Outcome::Shared => format!(
                    "{stage:>8}  this share's shards are made; `lapidary finish {stage}` when all are: {}",
                    in_words(folder)
                ),
                _ => format!("{stage:>8}  would run, into {}", in_words(folder)),
            }];
        };
        let rows = manifest.rows;
        vec![match outcome {
            Outcome::UpToDate => format!("{stage:>8}  up to date: {} ({} rows)", in_words(folder), rows.output),
            _ => format!(
                "{stage:>8}  {} in = {} out + {} rejected{}, {:.1} s, {:.0}/s, peak {:.0} MiB: {}",
                rows.input,
                rows.output,
                rows.rejected,
                if manifest.extends.is_empty() {
                    String::new()
                } else {
                    format!(", {} of them new", manifest.facts["added"])
                },
                manifest.wall_secs,
                manifest.rows_per_sec,
                manifest.peak_memory_mib,
                in_words(folder)
            ),
        }]
    });
}
