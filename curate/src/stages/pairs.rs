//! The stage `pairs`: all evidence that images are copies of each other. Nothing in it depends on where the line is
//! drawn.
//!
//! Where pairs are there already it resumes from those: images that have gone leave, new and touched ones are compared
//! with all, and what was found among the others stays as it was.

use super::inputs::{Inputs, StageDone, StagePlan};
use crate::Result;
use crate::fingerprints::{Pool, PoolFolders};
use crate::input::{Vectors, Whitening};
use crate::memory::{Memory, Share};
use crate::pairs::{
    Compared, FoundPairs, KnownPairs, NearPairs, Neighbours, PreviousPairs, find_pairs, write_indexed, write_pairs,
    write_rarity,
};
use lapidary_pipeline::stage::StageRun;
use lapidary_schemas::config::Evidence;
use lapidary_schemas::tables::INDEX_FILE;
use lapidary_schemas::{Config, Manifest, Rows};
use serde_json::{Value, json};

const VERSION: u32 = 3;

/// The part of the configuration that pairs depend on.
pub(super) fn config_of(config: &Config) -> Value {
    let curate = &config.curate;
    json!({
        "encoder": config.embed.encoder,
        "evidence": curate.evidence,
        "hash_max_bits": curate.hash_max_bits,
        "pdq_max_bits": curate.pdq_max_bits,
        "pdq_quality_min": curate.pdq_quality_min,
        "copy_similarity_min": curate.copy_similarity_min,
        "correlation_min": curate.correlation_min,
        "local_support_min": curate.local_support_min,
        "neighbours": curate.neighbours,
        "flat_max_images": curate.flat_max_images,
        "inverted_max_images": curate.inverted_max_images,
        "background": curate.background,
        "background_weight": curate.background_weight,
        "whiten_dim": curate.whiten_dim,
        "against": curate.against,
        // What is dropped is not compared; what only marks changes no pair.
        "quality": (!curate.quality.drop.is_empty()).then_some(&curate.quality),
    })
}

/// Finds the pairs of a source into `OUT/SOURCE/curation/pairs`.
///
/// # Errors
/// When tables do not belong together, or FAISS refuses.
pub(super) fn pairs(inputs: &Inputs<'_>) -> Result<StageDone> {
    let sources = inputs.against.iter().map(|(_, folders)| folders).chain(&inputs.background);
    let plan = StagePlan {
        stage: "pairs",
        version: VERSION,
        folder: inputs.layout.pairs(inputs.source),
        config: config_of(inputs.config),
        inputs: inputs.pool.inputs().chain(sources.flat_map(PoolFolders::inputs)).collect(),
    };
    let folder = plan.folder.clone();
    inputs.run(plan, |run, previous| {
        let previous = previous.map(|manifest| (PreviousPairs::new(folder), manifest));
        run_pairs(inputs, previous.as_ref(), run)
    })
}

fn run_pairs(inputs: &Inputs<'_>, previous: Option<&(PreviousPairs, Manifest)>, mut run: StageRun) -> Result<Manifest> {
    let config = &inputs.config.curate;
    let mut memory = Memory::of(config, &run.folder());
    let mut pool = inputs.pool.read(&config.quality, &mut memory)?;
    let count = pool.images.len() as u64;
    pool.drop_low_quality(&config.quality);
    let in_pool = pool.images.len();
    let mut references: Vec<(usize, String)> = Vec::new();
    for (name, folders) in &inputs.against {
        references.push((pool.images.len(), name.clone()));
        let references = folders.read(&config.quality, &mut memory)?;
        pool = pool.append(references, &memory)?;
    }
    let mut background = inputs.background.as_ref().map(PoolFolders::read_embeddings).transpose()?;
    if config.whiten_dim > 0 {
        let whitening = match previous {
            Some((previous, _)) => previous.whitening()?,
            None => Whitening::fit(&pool.vectors, in_pool, config.whiten_dim)?,
        };
        pool.vectors = whitening.apply(&pool.vectors)?;
        background = background.map(|vectors| whitening.apply(&vectors)).transpose()?;
        whitening.write(&mut run)?;
    }
    let known = match previous {
        Some((previous, _)) => previous.known(&pool.images, in_pool)?,
        None => KnownPairs::none(pool.images.len()),
    };
    let added = known.is_new.iter().filter(|is_new| **is_new).count();
    let FoundPairs { pairs, count: found, near, occurrences } =
        find_all_pairs(&pool, background.as_ref(), known, previous, inputs, &mut run, &memory)?;
    tracing::info!("{count} images, {found} pairs with evidence");
    write_rarity(&mut run, &pool.images, &occurrences)?;
    write_pairs(&mut run, &pool.images, pairs.iter())?;
    let mut neighbours = json!(near.as_ref().map(NearPairs::facts));
    if let Some((_, manifest)) = previous {
        add_previous_neighbours(&mut neighbours, &manifest.facts["neighbours"]);
        run.extend(manifest);
    }
    let facts = json!({
        "pairs": found,
        "added": added,
        "neighbours": neighbours,
        "copy_similarity_min": config.copy_similarity_min,
        "against": config.against,
        "encoder": inputs.config.embed.encoder,
    });
    Compared::new(pool.images, &pool.prints, references, in_pool).write(&mut run)?;
    // Two threads may build an index in different orders; what it finds is the same.
    Ok(run.finish(Rows { input: count, output: count, rejected: 0 }, facts, &[INDEX_FILE])?)
}

/// The pairs; the index that it took is written when it is worth resuming from.
fn find_all_pairs(
    pool: &Pool,
    background: Option<&Vectors>,
    known: KnownPairs,
    previous: Option<&(PreviousPairs, Manifest)>,
    inputs: &Inputs<'_>,
    run: &mut StageRun,
    memory: &Memory,
) -> Result<FoundPairs> {
    let config = &inputs.config.curate;
    let set = pool.image_set();
    if !config.evidence.contains(&Evidence::Embedding) {
        return find_pairs(set, known, None, config, memory);
    }
    let restore = |(previous, manifest): &(PreviousPairs, Manifest)| -> Result<_> {
        let restored = previous.neighbours(&pool.images, &known.is_new, &pool.vectors)?;
        Ok(restored.map(|(neighbours, indexed)| (neighbours, indexed, manifest.clone())))
    };
    let mut neighbours = match previous.map(restore).transpose()?.flatten() {
        Some((neighbours, indexed, manifest)) => {
            run.take_over(&manifest, INDEX_FILE)?;
            write_indexed(run, indexed.into_iter())?;
            neighbours
        }
        None => {
            let neighbours = Neighbours::within(&pool.vectors, config, memory.share(Share::Index))?;
            if neighbours.name() != "flat" {
                neighbours.write(&run.path(INDEX_FILE))?;
                write_indexed(run, pool.images.iter().map(|image| image.id.0))?;
            }
            neighbours
        }
    };
    if let Some(background) = background {
        neighbours.normalise(background, config)?;
    }
    find_pairs(set, known, Some(neighbours), config, memory)
}

/// Adds up in whose neighbourhood images lay, each when it was new.
fn add_previous_neighbours(now: &mut Value, previous: &Value) {
    let Some(bins) = now["nearest"].as_array_mut() else { return };
    for (bin, before) in bins.iter_mut().zip(previous["nearest"].as_array().into_iter().flatten()) {
        *bin = json!(bin.as_u64().unwrap_or(0) + before.as_u64().unwrap_or(0));
    }
}
