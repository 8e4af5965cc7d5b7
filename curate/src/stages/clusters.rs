//! The stage `clusters`: what seeds retrieve of the images that stay, and a tree of clusters over it.
//!
//! Where the tree is fitted on a sample, the stages `tree` and `assign` have made it and found each image's leaf, and this one
//! puts them together. Where a tree is there already, new and touched images go to its nearest leaf; how well it still fits is told by its
//! [`Drift`].

use super::inputs::{Inputs, StageDone, StagePlan};
use super::tree::{is_sampled, whitening_of};
use crate::Result;
use crate::clusters::{
    Drift, Fitted, Level, PreviousTree, Spread, cluster, read_assigned, read_ids, read_levels, write_clusters,
};
use crate::input::{Image, Vectors, index_of, read_embeddings, read_images, read_kept, write_kept};
use crate::ranking::write_retrieved;
use lapidary_pipeline::PipelineError;
use lapidary_pipeline::stage::{StageRun, read_manifest};
use lapidary_schemas::config::SeedMode;
use lapidary_schemas::{Config, Manifest, Rows};
use serde_json::{Value, json};
use std::collections::HashSet;

const VERSION: u32 = 1;

/// The part of the configuration that clusters depend on.
pub(super) fn config_of(config: &Config) -> Value {
    let curate = &config.curate;
    let is_seeded = !curate.seeds.is_empty();
    let mut all = super::tree::config_of(config);
    let own = json!({
        "drift_max": curate.drift_max,
        "added_max": curate.added_max,
        "seeds": curate.seeds,
        "seed_mode": is_seeded.then_some(curate.seed_mode),
        "seed_neighbours": is_seeded.then_some(curate.seed_neighbours),
        "seed_cluster_min": is_seeded.then_some(curate.seed_cluster_min),
        // Seeds are looked up in an index of the same sizes as pairs are.
        "index": is_seeded.then_some([curate.flat_max_images, curate.inverted_max_images]),
    });
    for (key, value) in own.as_object().into_iter().flatten() {
        all[key] = value.clone();
    }
    all
}

/// Clusters the images of a source that stay into `OUT/SOURCE/curation/clusters`.
///
/// # Errors
/// When no image is retrieved, more clusters are configured than there are images, or FAISS refuses.
pub(super) fn clusters(inputs: &Inputs<'_>) -> Result<StageDone> {
    let (layout, source) = (inputs.layout, inputs.source);
    let mut digests = vec![inputs.pool.images_input(), inputs.pool.embeddings_input()];
    digests.push(inputs.input(&layout.groups(source))?);
    if inputs.config.curate.whiten_dim > 0 {
        digests.push(inputs.input(&layout.pairs(source))?);
    }
    let is_sampled = is_sampled(inputs.config, inputs.kept()?);
    if is_sampled {
        digests.extend([inputs.input(&layout.tree(source))?, inputs.input(&layout.assignment(source))?]);
    }
    digests.extend(inputs.seeds.iter().flat_map(|(_, digests)| digests.clone()));
    let plan = StagePlan {
        stage: "clusters",
        version: VERSION,
        folder: layout.clusters(source),
        config: config_of(inputs.config),
        inputs: digests.into_iter().collect(),
    };
    let folder = plan.folder.clone();
    inputs.run(plan, |run, previous| {
        // Clusters that seeds retrieve are made of the pool as it is: there is nothing to resume from.
        let is_fixed = inputs.seeds.is_some() && inputs.config.curate.seed_mode == SeedMode::Clusters;
        let previous = previous.filter(|_| !is_fixed).map(|manifest| PreviousTree::new(manifest, folder));
        match is_sampled {
            true => run_assigned(inputs, previous.as_ref(), run),
            false => run_clusters(inputs, previous.as_ref(), run),
        }
    })
}

/// The embeddings of all images of a source, as they are compared.
///
/// # Errors
/// When they are of other images, or the whitening is not there.
pub(super) fn compared_embeddings(inputs: &Inputs<'_>, images: &[Image]) -> Result<Vectors> {
    let vectors = read_embeddings(&inputs.pool.embeddings, images)?;
    match whitening_of(inputs)? {
        Some(whitening) => whitening.apply(&vectors),
        None => Ok(vectors),
    }
}

fn run_clusters(inputs: &Inputs<'_>, previous: Option<&PreviousTree>, mut run: StageRun) -> Result<Manifest> {
    let config = inputs.config;
    let images = read_images(&inputs.pool.images)?;
    let ids = read_kept(&inputs.layout.groups(inputs.source))?;
    let count = ids.len() as u64;
    let mut kept: Vec<usize> = ids.iter().map(|(id, _)| index_of(&images, *id)).collect::<Result<_>>()?;
    // Only the kept images' embeddings are needed; they are moved together, not copied.
    let mut vectors = compared_embeddings(inputs, &images)?;
    vectors.retain(&kept);
    if let Some((seeds, _)) = &inputs.seeds {
        let candidates: Vec<Image> = kept.iter().map(|image| images[*image].clone()).collect();
        let similarities = seeds.retrieve(&candidates, &vectors, config)?;
        let of_candidates = candidates.iter().zip(&similarities);
        write_retrieved(&mut run, of_candidates.filter_map(|(image, similarity)| Some((image, (*similarity)?))))?;
        let retrieved: Vec<usize> = (0..kept.len()).filter(|place| similarities[*place].is_some()).collect();
        vectors.retain(&retrieved);
        kept = retrieved.into_iter().map(|place| kept[place]).collect();
        tracing::info!("seeds retrieve {} images", kept.len());
    }
    if kept.is_empty() {
        return Err(PipelineError::Empty(format!("of {count} images seeds retrieve none")).into());
    }
    let of_kept: Vec<&Image> = kept.iter().map(|image| &images[*image]).collect();
    let tree = tree_of(&of_kept, &vectors, previous, config)?;
    write_tree(run, &images, &kept, tree, (count, previous), config)
}

/// The same with the tree that was fitted on a sample, and what `assign` found for each image; no embedding is read.
fn run_assigned(inputs: &Inputs<'_>, previous: Option<&PreviousTree>, run: StageRun) -> Result<Manifest> {
    let (layout, source, config) = (inputs.layout, inputs.source, inputs.config);
    let images = read_images(&inputs.pool.images)?;
    let ids = read_kept(&layout.groups(source))?;
    let kept: Vec<usize> = ids.iter().map(|(id, _)| index_of(&images, *id)).collect::<Result<_>>()?;
    let of_kept: Vec<&Image> = kept.iter().map(|image| &images[*image]).collect();
    let folder = layout.tree(source);
    let tree = read_manifest(&folder)?;
    let mut levels = read_levels(&folder)?;
    for (level, fitted) in levels.iter_mut().zip(fitted_of(&tree)) {
        level.fitted = fitted;
    }
    let leaves = read_assigned(&layout.assignment(source), &images)?;
    let distances: Vec<f32> = kept.iter().map(|image| leaves[*image].1).collect();
    let (mut drift, mut added) = (Drift::default(), kept.len());
    if let Some(previous) = previous {
        let is_added = previous.is_added(&of_kept)?;
        drift = merged(previous.drift(), distances.iter().copied().zip(is_added.iter().copied()), config);
        added = is_added.into_iter().filter(|is_added| *is_added).count();
    } else {
        // Those that drew the centroids to themselves are each left out of their own; the others did not.
        let sample: HashSet<u64> = read_ids(&folder)?.into_iter().collect();
        let others = distances.iter().zip(&ids).filter(|(_, (id, _))| !sample.contains(id));
        let built_from: Spread = serde_json::from_value(tree.facts["built_from"].clone()).unwrap_or_default();
        drift.built_from = built_from.and(Spread::of(others.map(|(distance, _)| *distance)));
    }
    if let Some(finest) = levels.first_mut() {
        finest.assignment = kept.iter().map(|image| leaves[*image].0).collect();
        finest.distances = distances;
    }
    let tree = Tree { levels, drift, added };
    write_tree(run, &images, &kept, tree, (kept.len() as u64, previous), config)
}

/// What each level of a tree was fitted on, as its manifest has it.
fn fitted_of(tree: &Manifest) -> Vec<Fitted> {
    serde_json::from_value(tree.facts["fitted"].clone()).unwrap_or_default()
}

/// A tree with the images below it.
struct Tree {
    levels: Vec<Level>,
    /// How well it fits them.
    drift: Drift,
    /// How many were added to it now.
    added: usize,
}

/// Writes the tables of a tree of the images `kept`, of `count` that stay, and ends the stage.
fn write_tree(
    mut run: StageRun,
    images: &[Image],
    kept: &[usize],
    Tree { levels, drift, added }: Tree,
    (count, previous): (u64, Option<&PreviousTree>),
    config: &Config,
) -> Result<Manifest> {
    write_clusters(&mut run, images, kept, &levels)?;
    write_kept(&mut run, kept.iter().map(|image| &images[*image]))?;
    let by_level: Vec<usize> = levels.iter().map(|level| level.centroids.len()).collect();
    // Of a tree that is resumed from, its own manifest has it.
    let fit = |level: &Level| json!({"fitted": level.fitted, "mean_squared_distance": level.mean_squared_distance()});
    let facts = json!({
        "clusters_by_level": by_level,
        "fit_by_level": previous.is_none().then(|| levels.iter().map(fit).collect::<Vec<_>>()),
        "tree": {"drift": drift, "added_share": drift.share(), "distance_ratio": drift.ratio()},
        "rebuild_because": drift.passes(&config.curate),
        "added": added,
    });
    if let Some(previous) = previous {
        run.extend(&previous.manifest);
    }
    let output = kept.len() as u64;
    Ok(run.finish(Rows { input: count, output, rejected: count - output }, facts, &[])?)
}

/// The tree of kept images: built of them, or the previous one with those that it did not hold.
fn tree_of(kept: &[&Image], vectors: &Vectors, previous: Option<&PreviousTree>, config: &Config) -> Result<Tree> {
    let Some(previous) = previous else {
        let levels = cluster(vectors, &config.curate, config.seed)?;
        let built_from = levels.first().map(Spread::left_out).unwrap_or_default();
        return Ok(Tree { levels, drift: Drift { built_from, ..Drift::default() }, added: kept.len() });
    };
    let (levels, is_added) = previous.tree(kept, vectors)?;
    let distances = levels.first().into_iter().flat_map(|finest| finest.distances.iter().copied());
    let drift = merged(previous.drift(), distances.zip(is_added.iter().copied()), config);
    let added = is_added.into_iter().filter(|is_added| *is_added).count();
    Ok(Tree { levels, drift, added })
}

/// How well a tree fits, images having been added to it at these distances; says when it should be built anew.
fn merged(mut drift: Drift, leaves: impl Iterator<Item = (f32, bool)>, config: &Config) -> Drift {
    let added = Spread::of(leaves.filter(|(_, is_added)| *is_added).map(|(distance, _)| distance));
    drift.added = drift.added.and(added);
    match drift.passes(&config.curate) {
        Some(why) => tracing::warn!("{why}: `lapidary curate --rebuild` builds the tree anew"),
        None => tracing::info!(
            "{} images merged into the tree of {}; --rebuild builds it anew",
            added.images,
            drift.built_from.images
        ),
    }
    drift
}
