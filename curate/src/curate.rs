//! The stage `curate`: quality, copies, contamination, retrieval, clusters, ranking, and a decision for every image.

use crate::clusters::{Level, cluster};
use crate::copies::{members_of, neighbour_facts, score};
use crate::decisions::{Decision, Verdicts};
use crate::evidence::find_pairs;
use crate::input::Image;
use crate::pool::PoolFolders;
use crate::ranking::rank;
use crate::seeds::Seeds;
use crate::summary::summary;
use crate::tree::tree_of;
use crate::whitening::whitened;
use crate::{Result, tables};
use lapidary_pipeline::PipelineError;
use lapidary_pipeline::stage::{Layout, Opened, Outcome, StageRun, StageSpec, digest_of_file};
use lapidary_schemas::{Config, DecisionReason, Manifest, QualityIssue, Rows};
use serde_json::json;
use std::path::{Path, PathBuf};

const VERSION: u32 = 2;

/// Curates a source by the embeddings of `config.embed.encoder` into `OUT/SOURCE/curation`.
///
/// # Errors
/// When images, fingerprints or embeddings are not there or do not match, or FAISS refuses.
pub fn curate(
    layout: &Layout,
    source: &str,
    config: &Config,
    dry_run: bool,
) -> Result<(Outcome, PathBuf, Option<Manifest>)> {
    let encoder = &config.embed.encoder;
    let (folders, mut inputs) = PoolFolders::of(layout, source, encoder)?;
    let mut against = Vec::new();
    for name in &config.curate.against {
        let (folders, digests) = PoolFolders::of(layout, name, encoder)?;
        inputs.extend(digests);
        against.push((name.clone(), folders));
    }
    let seeds = Seeds::of(layout, config)?;
    inputs.extend(seeds.iter().flat_map(|(_, digests)| digests.clone()));
    let truth = (!config.curate.truth.is_empty()).then(|| PathBuf::from(&config.curate.truth));
    if let Some(path) = &truth {
        let address = path.canonicalize().map_err(PipelineError::io("open", path))?;
        inputs.insert(address.to_string_lossy().into_owned(), digest_of_file(path)?.0);
    }
    let folder = layout.curation(source);
    let spec = StageSpec {
        stage: "curate",
        version: VERSION,
        folder: folder.clone(),
        config: json!({"seed": config.seed, "encoder": encoder, "curate": config.curate}),
        inputs,
        resumable: false,
    };
    match spec.open(dry_run)? {
        Opened::UpToDate(manifest) => Ok((Outcome::UpToDate, folder, Some(*manifest))),
        Opened::DryRun => Ok((Outcome::WouldRun, folder, None)),
        Opened::Run(run) => {
            let seeds = seeds.map(|(seeds, _)| seeds);
            let manifest = run_curate(&folders, &against, seeds.as_ref(), config, truth.as_deref(), run)?;
            Ok((Outcome::Ran, folder, Some(manifest)))
        }
    }
}

fn run_curate(
    folders: &PoolFolders,
    against: &[(String, PoolFolders)],
    seeds: Option<&Seeds>,
    config: &Config,
    truth: Option<&Path>,
    mut run: StageRun,
) -> Result<Manifest> {
    let mut pool = folders.read()?;
    let count = pool.images.len();
    let low_quality = pool.take_low_quality(&config.curate.quality);
    let in_pool = pool.images.len();
    let mut references: Vec<(usize, String)> = Vec::new();
    for (name, folders) in against {
        references.push((pool.images.len(), name.clone()));
        pool.append(folders.read()?)?;
    }
    if config.curate.whiten_dim > 0 {
        pool.vectors = whitened(&pool.vectors, in_pool, config.curate.whiten_dim, &mut run)?;
    }
    let (pairs, near) = find_pairs(pool.known(), &config.curate)?;
    let members = members_of(pool.known(), &pairs, config, in_pool);
    let mut kept: Vec<usize> = {
        let mut stays = vec![true; in_pool];
        members.iter().for_each(|member| stays[member.image] = member.stays());
        (0..in_pool).filter(|image| stays[*image]).collect()
    };
    tracing::info!("{count} images, {} kept, {} pairs with evidence", kept.len(), pairs.len());
    let mut off_topic = Vec::new();
    let mut relevance = vec![None; in_pool];
    if let Some(seeds) = seeds {
        let images: Vec<Image> = kept.iter().map(|image| pool.images[*image].clone()).collect();
        let pulled = seeds.retrieve(&images, &pool.vectors.select(&kept), config)?;
        kept.iter().zip(&pulled).for_each(|(image, similarity)| relevance[*image] = *similarity);
        (kept, off_topic) = kept.into_iter().partition(|image| relevance[*image].is_some());
        tracing::info!("seeds retrieve {} images", kept.len());
    }
    if kept.is_empty() {
        return Err(PipelineError::Empty(format!("of {count} images none is kept")).into());
    }
    // Only the kept images' embeddings are needed from here on; they are moved together, not copied.
    let mut vectors = std::mem::take(&mut pool.vectors);
    vectors.retain(&kept);
    let levels = cluster(&vectors, &config.curate, config.seed)?;
    let (tree, places) = tree_of(&pool, &kept, &vectors, &levels, &relevance, config);
    let ranked = rank(tree);

    let verdicts = Verdicts {
        images: &pool.images,
        prints: &pool.prints,
        quality: &config.curate.quality,
        references: &references,
    };
    let mut decisions: Vec<Decision> =
        ranked.iter().enumerate().map(|(rank, image)| verdicts.kept(*image, rank, places[*image])).collect();
    let mut excluded: Vec<Decision> = members
        .iter()
        .filter(|member| !member.stays())
        .map(|member| verdicts.duplicate(member, &pairs))
        .chain(off_topic.iter().map(|image| verdicts.off_topic(*image)))
        .chain(low_quality.iter().map(|(image, issues)| dropped_for_quality(image, issues, config)))
        .collect();
    excluded.sort_by_key(|decision| decision.image);
    decisions.extend(excluded);
    if decisions.len() != count {
        return Err(PipelineError::Internal(format!("{} decisions on {count} images", decisions.len())).into());
    }

    tables::write_pairs(&mut run, &pool.images, &pairs)?;
    tables::write_duplicates(&mut run, &pool.images, &members, &pairs)?;
    tables::write_clusters(&mut run, &pool.images, &kept, &levels)?;
    tables::write_decisions(&mut run, &decisions)?;
    let mut facts = summary(run.folder(), &cluster_counts(&levels))?;
    facts["neighbours"] = neighbour_facts(near.as_ref());
    facts["score_min"] = json!(config.curate.score_min);
    facts["copy_similarity_min"] = json!(config.curate.copy_similarity_min);
    facts["against"] = json!(config.curate.against);
    facts["encoder"] = json!(config.embed.encoder);
    if let Some(truth) = truth {
        facts["truth"] = score(truth, &pool.images, &pairs, &members)?;
    }
    let count = count as u64;
    Ok(run.finish(Rows { input: count, output: count, rejected: 0 }, facts, &[])?)
}

fn cluster_counts(levels: &[Level]) -> Vec<usize> {
    levels.iter().map(|level| level.centroids.len()).collect()
}

fn dropped_for_quality(image: &Image, issues: &[QualityIssue], config: &Config) -> Decision {
    let because = issues.iter().find(|issue| config.curate.quality.drop.contains(issue));
    Decision {
        image: image.id,
        reason: DecisionReason::LowQuality,
        rank: None,
        place: None,
        duplicate_of: None,
        score: None,
        neighbour: None,
        detail: because.map(|issue| issue.text().to_owned()),
        issues: issues.to_vec(),
    }
}
