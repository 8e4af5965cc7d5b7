//! Lineage: every folder that what is reported was made from, with its digest and the command that makes it again.

use super::commands::command;
use super::made::{Made, MadeFolder, MadeRun};
use super::text::grouped;
use lapidary_pipeline::stage::Layout;
use lapidary_schemas::Digest;
use maud::{Markup, html};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The stages in the order in which images pass through them, with the word for what each makes.
const ORDER: [(&str, &str); 11] = [
    ("ingest", "data"),
    ("fingerprint", "fingerprints"),
    ("embed", "embeddings"),
    ("pairs", "pairs"),
    ("groups", "groups"),
    ("clusters", "clusters"),
    ("ranking", "ranking"),
    ("cut", "subset"),
    ("plan", "plan"),
    ("pretrain", "run"),
    ("eval", "evaluation"),
];
/// What is said of each step's work.
const MEASURED: [&str; 3] = ["rows", "wall time", "peak memory"];
/// The weights that a run ends with.
const CHECKPOINT: &str = "checkpoints/final.safetensors";

fn place(stage: &str) -> usize {
    ORDER.iter().position(|(name, _)| *name == stage).unwrap_or(ORDER.len())
}

/// All folders that led to what is reported, those that were made first in front. One that was made anew since is not there.
fn ancestry(layout: &Layout, made: &Made) -> Vec<MadeFolder> {
    let mut ends: Vec<MadeFolder> = vec![made.images.clone()];
    if made.curated.is_some() {
        ends.extend(MadeFolder::read(layout.ranking(&made.source)));
    }
    ends.extend(made.subset.clone());
    ends.extend(made.runs.iter().flat_map(MadeRun::folders).cloned());
    ancestors(layout, &made.source, ends)
}

/// Folders and all that they were made from, those that were made first in front, and of a stage the source's own first.
pub(crate) fn ancestors(layout: &Layout, source: &str, ends: Vec<MadeFolder>) -> Vec<MadeFolder> {
    let mut found: BTreeMap<PathBuf, MadeFolder> = BTreeMap::new();
    let mut next = ends;
    while let Some(one) = next.pop() {
        if found.contains_key(&one.folder) {
            continue;
        }
        let inputs = one.manifest.inputs.iter().filter_map(|(name, digest)| layout.input(name, digest));
        next.extend(inputs.map(|(folder, manifest)| MadeFolder { folder, manifest }));
        found.insert(one.folder.clone(), one);
    }
    let mut all: Vec<MadeFolder> = found.into_values().collect();
    let own = format!("{source}/");
    all.sort_by_key(|one| {
        let name = layout.name_of(&one.folder);
        (place(&one.manifest.stage), !name.starts_with(&own), name)
    });
    all
}

/// The commands that make a folder from the files that its sources were, in their order, each once.
pub(crate) fn commands_to(layout: &Layout, source: &str, end: MadeFolder) -> Vec<String> {
    let all = ancestors(layout, source, vec![end]);
    let mut commands: Vec<String> = Vec::new();
    for one in all.iter().map(|one| command(layout, &one.folder, &one.manifest)).filter(|one| !one.is_empty()) {
        if !commands.contains(&one) {
            commands.push(one);
        }
    }
    commands
}

/// The table of lineage.
pub(super) fn lineage(layout: &Layout, made: &Made) -> Markup {
    let steps = ancestry(layout, made);
    let row = |what: &str, name: &str, digest: &Digest, rest: [String; 3], command: &str| {
        html! { tr {
            td { (what) }
            td {
                code { (name) }
                @if !command.is_empty() { code.command { (command) } }
            }
            td { code title=(digest) { (digest.short()) } }
            @for (cell, label) in rest.iter().zip(MEASURED) { td.n data-label=(label) { (cell) } }
        } }
    };
    let of_step = |step: &MadeFolder| {
        let manifest = &step.manifest;
        let name = layout.name_of(&step.folder);
        let is_own = name.starts_with(&format!("{}/", made.source));
        let what = ORDER.get(place(&manifest.stage)).map_or(manifest.stage.as_str(), |(_, what)| what);
        let what = if manifest.stage == "ingest" && !is_own { "probe" } else { what };
        let numbers = [
            grouped(manifest.rows.output),
            format!("{:.1} s", manifest.wall_secs),
            format!("{:.0} MiB", manifest.peak_memory_mib),
        ];
        let checkpoint = manifest.outputs.get(CHECKPOINT).filter(|_| manifest.stage == "pretrain");
        html! {
            (row(what, &name, &manifest.digest, numbers, &command(layout, &step.folder, manifest)))
            @if let Some(file) = checkpoint {
                (row("checkpoint", &format!("{name}/{CHECKPOINT}"), &file.digest, [String::new(), String::new(), String::new()],
                     &format!("lapidary verify {name}")))
            }
        }
    };
    html! {
        p.dim {
            "What is reported, step by step, from the files to the scores. A digest is that of all that the step wrote; the same
             command on the same inputs gives the same digest. " code { "lapidary explain IMAGE" } " follows one image, "
            code { "lapidary verify" } " reads every file against its digest."
        }
        div.scroll { table.lineage {
            thead { tr {
                @for heading in ["what", "folder, and the command that makes it", "digest"] { th scope="col" { (heading) } }
                @for heading in MEASURED { th.n scope="col" { (heading) } }
            } }
            tbody { @for step in &steps { (of_step(step)) } }
        } }
    }
}
