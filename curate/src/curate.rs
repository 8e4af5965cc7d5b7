//! The stage `curate`: duplicates, clusters, ranking and a decision for every image.

use crate::clusters::cluster;
use crate::duplicates::{Member, find_edges, group};
use crate::input::{Image, Vectors, read_embeddings, read_images};
use crate::ranking::rank;
use crate::score::score;
use crate::summary::summary;
use crate::tree::tree_of;
use crate::{Result, tables};
use lapidary_pipeline::PipelineError;
use lapidary_pipeline::stage::{Layout, Opened, Outcome, StageRun, StageSpec, digest_of_file, require_manifest};
use lapidary_schemas::{Config, Manifest, Rows};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Curates a source by the embeddings of `config.embed.encoder` into `OUT/SOURCE/curation`.
///
/// # Errors
/// When images or embeddings are not there or do not match, or FAISS refuses.
pub fn curate(
    layout: &Layout,
    source: &str,
    config: &Config,
    dry_run: bool,
) -> Result<(Outcome, PathBuf, Option<Manifest>)> {
    let images = layout.images(source);
    let images_manifest = require_manifest(&images, "ingested images", "run `lapidary ingest --data DIR` first")?;
    let embeddings = layout.embeddings(source, &config.embed.encoder);
    let embeddings_manifest = require_manifest(&embeddings, "embeddings", "run `lapidary embed` first")?;
    let mut inputs = BTreeMap::from([
        (layout.name_of(&images), images_manifest.digest),
        (layout.name_of(&embeddings), embeddings_manifest.digest),
    ]);
    let truth = (!config.curate.truth.is_empty()).then(|| PathBuf::from(&config.curate.truth));
    if let Some(path) = &truth {
        let address = path.canonicalize().map_err(PipelineError::io("open", path))?;
        inputs.insert(address.to_string_lossy().into_owned(), digest_of_file(path)?.0);
    }
    let folder = layout.curation(source);
    let spec = StageSpec {
        stage: "curate",
        version: 1,
        folder: folder.clone(),
        config: json!({"seed": config.seed, "encoder": config.embed.encoder, "curate": config.curate}),
        inputs,
        resumable: false,
    };
    match spec.open(dry_run)? {
        Opened::UpToDate(manifest) => Ok((Outcome::UpToDate, folder, Some(*manifest))),
        Opened::DryRun => Ok((Outcome::WouldRun, folder, None)),
        Opened::Run(run) => {
            let images = read_images(&images)?;
            let vectors = read_embeddings(&embeddings, &images)?;
            let manifest = run_curate(&images, &vectors, config, truth.as_deref(), run)?;
            Ok((Outcome::Ran, folder, Some(manifest)))
        }
    }
}

fn run_curate(
    images: &[Image],
    vectors: &Vectors,
    config: &Config,
    truth: Option<&Path>,
    mut run: StageRun,
) -> Result<Manifest> {
    let edges = find_edges(images, vectors, &config.curate)?;
    let members = group(images, vectors, &edges);
    let kept = kept_images(images.len(), &members);
    tracing::info!("{} images, {} kept, {} pairs of near images", images.len(), kept.len(), edges.len());
    let of_kept = vectors.select(&kept);
    let levels = cluster(&of_kept, &config.curate, config.seed)?;
    let (tree, leaves) = tree_of(images, &kept, &levels, config);
    let ranked = rank(tree);

    tables::write_duplicates(&mut run, images, &members)?;
    tables::write_clusters(&mut run, images, &kept, &levels)?;
    tables::write_decisions(&mut run, images, &members, &ranked, &leaves)?;
    let mut facts = summary(run.folder(), &levels)?;
    if let Some(truth) = truth {
        facts["truth"] = score(truth, images, &members)?;
    }
    let count = images.len() as u64;
    Ok(run.finish(Rows { input: count, output: count, rejected: 0 }, facts, &[])?)
}

/// The images that are in no group, and those that represent theirs, by index.
fn kept_images(count: usize, members: &[Member]) -> Vec<usize> {
    let mut kept = vec![true; count];
    members.iter().filter(|m| m.image != m.representative).for_each(|m| kept[m.image] = false);
    (0..count).filter(|index| kept[*index]).collect()
}
