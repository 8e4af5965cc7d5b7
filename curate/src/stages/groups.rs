//! The stage `groups`: which images are copies of each other, and which of them stay. Another threshold needs this
//! stage and those below it, not another search.

use super::inputs::{Inputs, StageDone, StagePlan};
use crate::Result;
use crate::groups::{Member, members_of, write_duplicates};
use crate::input::write_kept;
use crate::pairs::Compared;
use crate::truth::score;
use lapidary_pipeline::PipelineError;
use lapidary_pipeline::stage::{StageRun, read_manifest};
use lapidary_schemas::{Config, Manifest, Rows};
use serde_json::{Value, json};
use std::path::Path;

const VERSION: u32 = 1;

/// The part of the configuration that groups depend on.
pub(super) fn config_of(config: &Config) -> Value {
    let curate = &config.curate;
    json!({
        "score_min": curate.score_min,
        "against_score_min": curate.against_score_min,
        "removal": curate.removal,
    })
}

/// Groups the pairs of a source into `OUT/SOURCE/curation/groups`.
///
/// # Errors
/// When no image is kept, or a table cannot be read.
pub(super) fn groups(inputs: &Inputs<'_>) -> Result<StageDone> {
    let pairs = inputs.layout.pairs(inputs.source);
    let plan = StagePlan {
        stage: "groups",
        version: VERSION,
        folder: inputs.layout.groups(inputs.source),
        config: config_of(inputs.config),
        inputs: std::iter::once(inputs.input(&pairs)?).chain(inputs.truth_input()?).collect(),
    };
    inputs.run(plan, |run, previous| run_groups(inputs, &pairs, previous.as_ref(), run))
}

fn run_groups(inputs: &Inputs<'_>, folder: &Path, previous: Option<&Manifest>, mut run: StageRun) -> Result<Manifest> {
    let config = &inputs.config.curate;
    let found = read_manifest(folder)?;
    let compared = Compared::read(folder)?;
    // Scoring against planted copies ranks all pairs; groups need edges alone.
    let least = if inputs.truth.is_some() { 0.0 } else { config.score_min.min(config.against_score_min) };
    let pairs = compared.read_pairs(folder, least)?;
    let members = members_of(&compared, &pairs, config);
    let mut stays = vec![true; compared.references_from];
    members.iter().for_each(|member| stays[member.image] = member.stays());
    let kept: Vec<usize> = (0..stays.len()).filter(|image| stays[*image]).collect();
    if kept.is_empty() {
        return Err(PipelineError::Empty(format!("of {} images none is kept", found.rows.input)).into());
    }
    tracing::info!("{} images of {} are nobody's copy", kept.len(), stays.len());
    write_duplicates(&mut run, &compared.images, &members, &pairs)?;
    write_kept(&mut run, kept.iter().map(|image| &compared.images[*image]))?;
    let mut facts = json!({
        "duplicate_groups": members.last().map_or(0, |member| member.group + 1),
        "largest_group": largest(&members),
        "nobodys_copy": kept.len(),
        "score_min": config.score_min,
        "added": found.facts["added"],
    });
    if let Some(truth) = &inputs.truth {
        facts["truth"] = score(truth, &compared.images, &pairs, &members)?;
    }
    if let Some(previous) = previous {
        run.extend(previous);
    }
    let count = stays.len() as u64;
    Ok(run.finish(Rows { input: count, output: count, rejected: 0 }, facts, &[])?)
}

/// The images of the largest group.
fn largest(members: &[Member]) -> usize {
    members.chunk_by(|a, b| a.group == b.group).map(<[Member]>::len).max().unwrap_or(0)
}
