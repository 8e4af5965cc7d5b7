//! The stage `tree`: where more images stay than `curate.tree_max_images`, a tree of clusters fitted on a sample of them, which
//! the stage `assign` then assigns all to.
//!
//! Images that come later do not move it: it is taken over as it is, until a curation is rebuilt.

use super::inputs::{Inputs, StageDone, StagePlan};
use crate::clusters::{Level, Spread, cluster_sample, write_clusters};
use crate::input::{Whitening, index_of, read_embeddings_of, read_images, read_kept};
use crate::{CurateError, Result};
use lapidary_pipeline::PipelineError;
use lapidary_pipeline::random::{Purpose, SliceRandom, keyed};
use lapidary_pipeline::stage::StageRun;
use lapidary_schemas::tables::WHITENING_FILE;
use lapidary_schemas::{Config, Digest, Manifest, Rows};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const VERSION: u32 = 1;

/// The part of the configuration that a tree depends on.
pub(super) fn config_of(config: &Config) -> Value {
    let curate = &config.curate;
    json!({
        "seed": config.seed,
        "encoder": config.embed.encoder,
        "whiten_dim": curate.whiten_dim,
        "clusters": curate.clusters,
        "kmeans_iterations": curate.kmeans_iterations,
        "kmeans_max_points": curate.kmeans_max_points,
        "resample_rounds": curate.resample_rounds,
        "resample_points": curate.resample_points,
        "tree_max_images": curate.tree_max_images,
    })
}

/// Whether a tree of so many images that stay is fitted on a sample. What seeds retrieve is not.
pub(super) fn is_sampled(config: &Config, kept: u64) -> bool {
    config.curate.seeds.is_empty() && kept > config.curate.tree_max_images as u64
}

/// Fits a tree on a sample of a source's images that stay, into `OUT/SOURCE/curation/tree`.
///
/// # Errors
/// When more clusters are configured than the sample has images, tables do not belong together, or FAISS refuses.
pub(super) fn tree(inputs: &Inputs<'_>) -> Result<StageDone> {
    let plan = plan(inputs)?;
    inputs.run(plan, |run, previous| match previous {
        Some(previous) => take_over(&previous, run),
        None => run_tree(inputs, run),
    })
}

/// The stage as it would be now.
///
/// # Errors
/// When groups are not there, or so few images stay that all are fitted.
pub(super) fn plan(inputs: &Inputs<'_>) -> Result<StagePlan> {
    let (layout, source, config) = (inputs.layout, inputs.source, inputs.config);
    let kept = inputs.kept()?;
    if !is_sampled(config, kept) {
        let why = match config.curate.seeds.is_empty() {
            true => format!(
                "{kept} images stay, and the tree is fitted on all of up to {} (curate.tree_max_images)",
                config.curate.tree_max_images
            ),
            false => "the tree is fitted on all images that seeds retrieve".to_owned(),
        };
        return Err(PipelineError::Usage(format!("{why}\nhint: `lapidary curate` does that, in one process")).into());
    }
    let mut digests: BTreeMap<String, Digest> = [inputs.pool.images_input(), inputs.pool.embeddings_input()].into();
    digests.extend([inputs.input(&layout.groups(source))?]);
    if config.curate.whiten_dim > 0 {
        digests.extend([inputs.input(&layout.pairs(source))?]);
    }
    Ok(StagePlan {
        stage: "tree",
        version: VERSION,
        folder: layout.tree(source),
        config: config_of(config),
        inputs: digests,
    })
}

/// The map that embeddings are whitened by, where they are.
///
/// # Errors
/// When it is not there.
pub(super) fn whitening_of(inputs: &Inputs<'_>) -> Result<Option<Whitening>> {
    let path = || inputs.layout.pairs(inputs.source).join(WHITENING_FILE);
    (inputs.config.curate.whiten_dim > 0).then(|| Whitening::read(&path())).transpose()
}

fn run_tree(inputs: &Inputs<'_>, mut run: StageRun) -> Result<Manifest> {
    let config = inputs.config;
    let images = read_images(&inputs.pool.images)?;
    let kept = read_kept(&inputs.layout.groups(inputs.source))?;
    let mut drawn: Vec<usize> = (0..kept.len()).collect();
    let mut rng = keyed(config.seed, Purpose::TreeSample, 0, 0);
    let (sample, _) = drawn.partial_shuffle(&mut rng, config.curate.tree_max_images);
    sample.sort_unstable();
    let ids: Vec<u64> = sample.iter().map(|place| kept[*place].0).collect();
    let mut vectors = read_embeddings_of(&inputs.pool.embeddings, &ids)?;
    if let Some(whitening) = whitening_of(inputs)? {
        vectors = whitening.apply(&vectors)?;
    }
    tracing::info!("the tree is fitted on {} of {} images", ids.len(), kept.len());
    let levels = cluster_sample(&vectors, kept.len(), &config.curate, config.seed)?;
    let of_sample: Vec<usize> = ids.iter().map(|id| index_of(&images, *id)).collect::<Result<_>>()?;
    write_clusters(&mut run, &images, &of_sample, &levels)?;
    let facts = json!({
        "of_images": kept.len(),
        "levels": levels.iter().map(|level| level.centroids.len()).collect::<Vec<_>>(),
        "fitted": levels.iter().map(|level| level.fitted).collect::<Vec<_>>(),
        "mean_squared_distance": levels.iter().map(Level::mean_squared_distance).collect::<Vec<_>>(),
        "built_from": levels.first().map(Spread::left_out).unwrap_or_default(),
    });
    let count = ids.len() as u64;
    Ok(run.finish(Rows { input: count, output: count, rejected: 0 }, facts, &[])?)
}

/// The tree as it was, with other images below it.
fn take_over(previous: &Manifest, mut run: StageRun) -> Result<Manifest> {
    for name in previous.outputs.keys() {
        run.take_over(previous, name)?;
    }
    run.extend(previous);
    run.finish(previous.rows, previous.facts.clone(), &[]).map_err(CurateError::from)
}
