//! The stage `clusters`: what seeds retrieve of the images that stay, and a tree of clusters over it.
//!
//! Where a tree is there already, new and touched images go to its nearest leaf; how well it still fits is told by its
//! [`Drift`].

use super::inputs::{Inputs, StageDone, StagePlan};
use crate::Result;
use crate::clusters::{Drift, Level, PreviousTree, Spread, cluster, write_clusters};
use crate::input::{Image, Vectors, Whitening, index_of, read_embeddings, read_images, read_kept, write_kept};
use crate::ranking::write_retrieved;
use lapidary_pipeline::PipelineError;
use lapidary_pipeline::stage::StageRun;
use lapidary_schemas::config::SeedMode;
use lapidary_schemas::tables::WHITENING_FILE;
use lapidary_schemas::{Config, Manifest, Rows};
use serde_json::{Value, json};

const VERSION: u32 = 1;

/// The part of the configuration that clusters depend on.
pub(super) fn config_of(config: &Config) -> Value {
    let curate = &config.curate;
    let is_seeded = !curate.seeds.is_empty();
    json!({
        "seed": config.seed,
        "encoder": config.embed.encoder,
        "whiten_dim": curate.whiten_dim,
        "clusters": curate.clusters,
        "kmeans_iterations": curate.kmeans_iterations,
        "kmeans_max_points": curate.kmeans_max_points,
        "resample_rounds": curate.resample_rounds,
        "resample_points": curate.resample_points,
        "drift_max": curate.drift_max,
        "added_max": curate.added_max,
        "seeds": curate.seeds,
        "seed_mode": is_seeded.then_some(curate.seed_mode),
        "seed_neighbours": is_seeded.then_some(curate.seed_neighbours),
        "seed_cluster_min": is_seeded.then_some(curate.seed_cluster_min),
        // Seeds are looked up in an index of the same sizes as pairs are.
        "index": is_seeded.then_some([curate.flat_max_images, curate.inverted_max_images]),
    })
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
        run_clusters(inputs, previous.as_ref(), run)
    })
}

/// The embeddings of all images of a source, as they are compared.
///
/// # Errors
/// When they are of other images, or the whitening is not there.
pub(super) fn compared_embeddings(inputs: &Inputs<'_>, images: &[Image]) -> Result<Vectors> {
    let vectors = read_embeddings(&inputs.pool.embeddings, images)?;
    if inputs.config.curate.whiten_dim == 0 {
        return Ok(vectors);
    }
    Whitening::read(&inputs.layout.pairs(inputs.source).join(WHITENING_FILE))?.apply(&vectors)
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
    let (levels, drift, added) = tree_levels(&of_kept, &vectors, previous, config)?;
    write_clusters(&mut run, &images, &kept, &levels)?;
    write_kept(&mut run, of_kept.iter().copied())?;
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
    let off_topic = count - kept.len() as u64;
    Ok(run.finish(Rows { input: count, output: count - off_topic, rejected: off_topic }, facts, &[])?)
}

/// The levels of the tree of kept images, how well it fits them, and how many were added to it now.
fn tree_levels(
    kept: &[&Image],
    vectors: &Vectors,
    previous: Option<&PreviousTree>,
    config: &Config,
) -> Result<(Vec<Level>, Drift, usize)> {
    let Some(previous) = previous else {
        let levels = cluster(vectors, &config.curate, config.seed)?;
        let built_from = levels.first().map(Spread::left_out).unwrap_or_default();
        return Ok((levels, Drift { built_from, ..Drift::default() }, kept.len()));
    };
    let (levels, is_added) = previous.tree(kept, vectors)?;
    let mut drift = previous.drift();
    let distances = levels.first().into_iter().flat_map(|finest| finest.distances.iter().copied());
    let added = Spread::of(distances.zip(&is_added).filter(|(_, is_added)| **is_added).map(|(distance, _)| distance));
    drift.added = drift.added.and(added);
    match drift.passes(&config.curate) {
        Some(why) => tracing::warn!("{why}: `lapidary curate --rebuild` builds the tree anew"),
        None => tracing::info!(
            "{} images merged into the tree of {}; --rebuild builds it anew",
            added.images,
            drift.built_from.images
        ),
    }
    Ok((levels, drift, is_added.iter().filter(|is_added| **is_added).count()))
}
