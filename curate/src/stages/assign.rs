//! The stage `assign`: the nearest leaf of a tree that was fitted on a sample, for every image, a shard for each shard of
//! embeddings. Several processes can make shares of it.

use super::inputs::Inputs;
use super::tree::{self, whitening_of};
use crate::clusters::{Leaves, squared_distance_of};
use crate::{CurateError, Result};
use lapidary_pipeline::PipelineError;
use lapidary_pipeline::stage::{Layout, Previous, Progress, Share, SharedStage, StageRun, StageSpec, require_shards};
use lapidary_schemas::{Config, Digest, Manifest, Rows};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;

const VERSION: u32 = 1;

/// Assigns a source's images, or a share of their shards, into `OUT/SOURCE/curation/assignment`.
///
/// # Errors
/// When the tree is not there or is of other images, all images are fitted, or FAISS refuses.
pub fn assign(layout: &Layout, source: &str, config: &Config, (share, dry_run): (Share, bool)) -> Result<SharedStage> {
    let inputs = Inputs::of(layout, source, config, dry_run, false)?;
    let tree = inputs.spec(tree::plan(&inputs)?);
    if tree.up_to_date().is_none() {
        let hint = "run `lapidary curate --until tree` first".to_owned();
        return Err(PipelineError::Missing { what: "the tree of clusters", path: tree.folder, hint }.into());
    }
    assigned(&inputs, share)
}

/// The same within a curation, whose tree was made just now.
///
/// # Errors
/// As [`assign`].
pub(super) fn assigned(inputs: &Inputs<'_>, share: Share) -> Result<SharedStage> {
    let (layout, source) = (inputs.layout, inputs.source);
    let embeddings = &inputs.pool.embeddings;
    let manifest = require_shards(embeddings, "embeddings", "run `lapidary embed` first")?;
    let mut digests: BTreeMap<String, Digest> =
        [inputs.pool.embeddings_input(), inputs.input(&layout.tree(source))?].into();
    let whiten_dim = inputs.config.curate.whiten_dim;
    if whiten_dim > 0 {
        digests.extend([inputs.input(&layout.pairs(source))?]);
    }
    let folder = layout.assignment(source);
    let spec = StageSpec {
        stage: "assign",
        version: VERSION,
        out: layout.out.clone(),
        folder: folder.clone(),
        config: json!({"encoder": inputs.config.embed.encoder, "whiten_dim": whiten_dim}),
        inputs: digests,
        resumable: true,
        previous: Previous::Replaced,
    };
    spec.run_share(share, (inputs.dry_run, false), |run| run_assign(inputs, &manifest, run))
}

fn run_assign(inputs: &Inputs<'_>, embeddings: &Manifest, mut run: StageRun) -> Result<Option<Manifest>> {
    let shards = Layout::shards_by_name(&inputs.pool.embeddings)?;
    let mut leaves = Leaves::read(&inputs.layout.tree(inputs.source), whitening_of(inputs)?)?;
    let make = |shard: &Path, to: &Path, progress: &Progress| {
        let (table, squared_distance) = leaves.assign_shard(shard, to, progress)?;
        Ok::<_, CurateError>((table, json!({"squared_distance": squared_distance})))
    };
    let facts_of = |batches: &[_]| Ok(json!({"squared_distance": squared_distance_of(batches)?}));
    let made = run.make_shards(inputs.layout, (embeddings, &shards), facts_of, make)?;
    if run.is_share() {
        return Ok(None);
    }
    let sum: f64 = run.shards().values().filter_map(|shard| shard.facts["squared_distance"].as_f64()).sum();
    let facts = json!({
        "mean_squared_distance": sum / (made.rows as f64).max(1.0),
        "added": made.added,
        "shards": run.facts_of_shards(),
    });
    let rows = Rows { input: made.rows, output: made.rows, rejected: 0 };
    Ok(Some(run.finish(rows, facts, &[])?))
}
