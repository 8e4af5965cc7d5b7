//! The stage `curate`: quality, copies, contamination, retrieval, clusters, ranking, and a decision for every image.
//!
//! Where a curation is there already, it resumes from that one: images that have gone leave it, new and touched ones
//! are compared with all and go to the nearest leaf of the tree that is there, and everything is ranked again. What was
//! found among the others stays as it was. How well the tree still fits is told by its [`Drift`].

use super::summary::summary;
use crate::Result;
use crate::clusters::{Drift, Level, PreviousTree, Spread, cluster, write_clusters};
use crate::fingerprints::{Pool, PoolFolders};
use crate::groups::{members_of, write_duplicates};
use crate::input::{Image, Vectors, Whitening};
use crate::pairs::{
    FoundPairs, KnownPairs, NearPairs, Neighbours, PreviousPairs, find_pairs, write_curated, write_indexed,
    write_pairs, write_rarity,
};
use crate::ranking::{Decision, Seeds, Verdicts, rank, tree_of, write_decisions};
use crate::truth::score;
use lapidary_pipeline::PipelineError;
use lapidary_pipeline::stage::{Layout, Opened, Outcome, Previous, StageRun, StageSpec, digest_of_file};
use lapidary_schemas::config::{Evidence, SeedMode};
use lapidary_schemas::tables::INDEX_FILE;
use lapidary_schemas::{Config, DecisionReason, Digest, Manifest, QualityIssue, Rows};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const VERSION: u32 = 4;

/// Curates a source by the embeddings of `config.embed.encoder` into `OUT/SOURCE/curation`; with `rebuild`, from
/// nothing.
///
/// # Errors
/// When images, fingerprints or embeddings are not there or do not match, or FAISS refuses.
pub fn curate(
    layout: &Layout,
    source: &str,
    config: &Config,
    dry_run: bool,
    rebuild: bool,
) -> Result<(Outcome, PathBuf, Option<Manifest>)> {
    let encoder = &config.embed.encoder;
    let (folders, mut inputs) = PoolFolders::of(layout, source, encoder)?;
    let own: BTreeSet<String> = inputs.keys().cloned().collect();
    let mut against = Vec::new();
    for name in &config.curate.against {
        let (folders, digests) = PoolFolders::of(layout, name, encoder)?;
        inputs.extend(digests);
        against.push((name.clone(), folders));
    }
    let mut background = None;
    if !config.curate.background.is_empty() {
        let (folders, digests) = PoolFolders::of(layout, &config.curate.background, encoder)?;
        inputs.extend(digests);
        background = Some(folders);
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
        out: layout.out.clone(),
        folder: folder.clone(),
        config: json!({"seed": config.seed, "encoder": encoder, "curate": config.curate}),
        inputs,
        resumable: false,
        previous: Previous::Kept,
    };
    match spec.open_or_rebuild(dry_run, rebuild)? {
        Opened::UpToDate(manifest) => Ok((Outcome::UpToDate, folder, Some(*manifest))),
        Opened::DryRun => Ok((Outcome::WouldRun, folder, None)),
        Opened::Run(run) => {
            // Clusters that seeds retrieve are made of the pool as it is: there is nothing to resume from.
            let afresh = rebuild || (seeds.is_some() && config.curate.seed_mode == SeedMode::Clusters);
            let is_grown = |name: &str, digest: &Digest| {
                run.has_same(name, digest) || (own.contains(name) && run.has_extended(layout, name, digest))
            };
            let previous = run.previous(is_grown).filter(|_| !afresh);
            let previous = previous.map(|manifest| PreviousCuration::new(manifest, &folder));
            let seeds = seeds.map(|(seeds, _)| seeds);
            let curation = Curation { folders, against, background, seeds, truth, config };
            Ok((Outcome::Ran, folder, Some(run_curate(&curation, previous.as_ref(), run)?)))
        }
    }
}

/// What is to be curated, and by what.
struct Curation<'a> {
    folders: PoolFolders,
    against: Vec<(String, PoolFolders)>,
    background: Option<PoolFolders>,
    seeds: Option<Seeds>,
    truth: Option<PathBuf>,
    config: &'a Config,
}

fn run_curate(curation: &Curation<'_>, previous: Option<&PreviousCuration>, mut run: StageRun) -> Result<Manifest> {
    let config = curation.config;
    let mut pool = curation.folders.read(&config.curate.quality)?;
    let count = pool.images.len();
    let low_quality = pool.take_low_quality(&config.curate.quality);
    let in_pool = pool.images.len();
    let mut references: Vec<(usize, String)> = Vec::new();
    for (name, folders) in &curation.against {
        references.push((pool.images.len(), name.clone()));
        pool.append(folders.read(&config.curate.quality)?)?;
    }
    let mut background = curation.background.as_ref().map(PoolFolders::read_embeddings).transpose()?;
    if config.curate.whiten_dim > 0 {
        let whitening = match previous {
            Some(previous) => previous.pairs.whitening()?,
            None => Whitening::fit(&pool.vectors, in_pool, config.curate.whiten_dim)?,
        };
        pool.vectors = whitening.apply(&pool.vectors)?;
        background = background.map(|vectors| whitening.apply(&vectors)).transpose()?;
        whitening.write(&mut run)?;
    }
    let before = match previous {
        Some(previous) => previous.pairs.known(&pool.images, in_pool)?,
        None => KnownPairs::none(pool.images.len()),
    };
    let is_new = before.is_new.clone();
    let added = is_new.iter().filter(|is_new| **is_new).count();
    let FoundPairs { pairs, near, occurrences } =
        find_all_pairs(&pool, background.as_ref(), before, previous, config, &mut run)?;
    write_rarity(&mut run, &pool.images, &occurrences)?;
    write_curated(&mut run, &pool.images)?;
    drop(occurrences);
    let members = members_of(pool.image_set(), &pairs, config, in_pool);
    let mut kept: Vec<usize> = {
        let mut stays = vec![true; in_pool];
        members.iter().for_each(|member| stays[member.image] = member.stays());
        (0..in_pool).filter(|image| stays[*image]).collect()
    };
    tracing::info!("{count} images, {} kept, {} pairs with evidence", kept.len(), pairs.len());
    let mut off_topic = Vec::new();
    let mut relevance = vec![None; in_pool];
    if let Some(seeds) = &curation.seeds {
        let images: Vec<Image> = kept.iter().map(|image| pool.images[*image].clone()).collect();
        let retrieved = seeds.retrieve(&images, &pool.vectors.select(&kept), config)?;
        kept.iter().zip(&retrieved).for_each(|(image, similarity)| relevance[*image] = *similarity);
        (kept, off_topic) = kept.into_iter().partition(|image| relevance[*image].is_some());
        tracing::info!("seeds retrieve {} images", kept.len());
    }
    if kept.is_empty() {
        return Err(PipelineError::Empty(format!("of {count} images none is kept")).into());
    }
    // Only the kept images' embeddings are needed from here on; they are moved together, not copied.
    let mut vectors = std::mem::take(&mut pool.vectors);
    vectors.retain(&kept);
    let (levels, drift) = tree_levels(&pool, &kept, &is_new, &vectors, previous, config)?;
    let (tree, places) = tree_of(&pool, &kept, &vectors, &levels, &relevance, config);
    let ranked = rank(tree);

    let verdicts = Verdicts { images: &pool.images, issues: &pool.issues, references: &references };
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

    write_pairs(&mut run, &pool.images, &pairs)?;
    write_duplicates(&mut run, &pool.images, &members, &pairs)?;
    write_clusters(&mut run, &pool.images, &kept, &levels)?;
    write_decisions(&mut run, &decisions)?;
    let mut facts = summary(&run.folder(), &cluster_counts(&levels))?;
    facts["neighbours"] = json!(near.as_ref().map(NearPairs::facts));
    facts["added"] = json!(added);
    facts["tree"] = json!({"drift": drift, "added_share": drift.share(), "distance_ratio": drift.ratio()});
    facts["rebuild_because"] = json!(drift.passes(&config.curate));
    if let Some(previous) = previous {
        let manifest = &previous.tree.manifest;
        add_previous_neighbours(&mut facts["neighbours"], &manifest.facts["neighbours"]);
        run.extend(manifest);
    }
    facts["score_min"] = json!(config.curate.score_min);
    facts["copy_similarity_min"] = json!(config.curate.copy_similarity_min);
    facts["against"] = json!(config.curate.against);
    facts["encoder"] = json!(config.embed.encoder);
    if let Some(truth) = &curation.truth {
        facts["truth"] = score(truth, &pool.images, &pairs, &members)?;
    }
    let count = count as u64;
    // Two threads may build an index in different orders; what it finds is the same.
    Ok(run.finish(Rows { input: count, output: count, rejected: 0 }, facts, &[INDEX_FILE])?)
}

/// The evidence; the index that it took is written when it is worth resuming from.
fn find_all_pairs(
    pool: &Pool,
    background: Option<&Vectors>,
    before: KnownPairs,
    previous: Option<&PreviousCuration>,
    config: &Config,
    run: &mut StageRun,
) -> Result<FoundPairs> {
    if !config.curate.evidence.contains(&Evidence::Embedding) {
        return find_pairs(pool.image_set(), before, None, &config.curate);
    }
    let restore = |previous: &PreviousCuration| previous.pairs.neighbours(&pool.images, &before.is_new, &pool.vectors);
    let restored = previous.map(restore).transpose()?.flatten();
    let mut neighbours = match (restored, previous) {
        (Some((restored, indexed)), Some(previous)) => {
            run.take_over(&previous.tree.manifest, INDEX_FILE)?;
            write_indexed(run, indexed.into_iter())?;
            restored
        }
        _ => {
            let neighbours = Neighbours::new(&pool.vectors, &config.curate)?;
            if neighbours.name() != "flat" {
                neighbours.write(&run.path(INDEX_FILE))?;
                write_indexed(run, pool.images.iter().map(|image| image.id.0))?;
            }
            neighbours
        }
    };
    if let Some(background) = background {
        neighbours.normalise(background, &config.curate)?;
    }
    find_pairs(pool.image_set(), before, Some(&mut neighbours), &config.curate)
}

/// The levels of the tree of kept images, and how well it fits them.
fn tree_levels(
    pool: &Pool,
    kept: &[usize],
    is_new: &[bool],
    vectors: &Vectors,
    previous: Option<&PreviousCuration>,
    config: &Config,
) -> Result<(Vec<Level>, Drift)> {
    let Some(previous) = previous else {
        let levels = cluster(vectors, &config.curate, config.seed)?;
        let built_from = levels.first().map(Spread::left_out).unwrap_or_default();
        return Ok((levels, Drift { built_from, ..Drift::default() }));
    };
    let images: Vec<&Image> = kept.iter().map(|image| &pool.images[*image]).collect();
    let is_new: Vec<bool> = kept.iter().map(|image| is_new[*image]).collect();
    let (levels, is_added) = previous.tree.tree(&images, &is_new, vectors)?;
    let mut drift = previous.tree.drift();
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
    Ok((levels, drift))
}

/// Adds up in whose neighbourhood images lay, each when it was new.
fn add_previous_neighbours(now: &mut Value, previous: &Value) {
    let Some(bins) = now["nearest"].as_array_mut() else { return };
    for (bin, before) in bins.iter_mut().zip(previous["nearest"].as_array().into_iter().flatten()) {
        *bin = json!(bin.as_u64().unwrap_or(0) + before.as_u64().unwrap_or(0));
    }
}

/// What an earlier curation left, to resume from.
struct PreviousCuration {
    pairs: PreviousPairs,
    tree: PreviousTree,
}

impl PreviousCuration {
    fn new(manifest: Manifest, folder: &Path) -> Self {
        Self { pairs: PreviousPairs::new(folder.to_owned()), tree: PreviousTree::new(manifest, folder.to_owned()) }
    }
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
