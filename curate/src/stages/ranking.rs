//! The stage `ranking`: a decision on every image. Another order of the leaves needs this stage alone.

use super::clusters::compared_embeddings;
use super::inputs::{Inputs, StageDone, StagePlan};
use crate::Result;
use crate::clusters::read_tree;
use crate::fingerprints::{dropped_for, issues_of, read_measures};
use crate::groups::read_excluded;
use crate::input::{Image, index_of, read_images, read_kept};
use crate::pairs::Compared;
use crate::ranking::{Decision, Kept, Verdicts, rank, read_retrieved, tree_of, write_decisions};
use lapidary_pipeline::PipelineError;
use lapidary_pipeline::stage::{StageRun, read_manifest};
use lapidary_schemas::config::LeafOrder;
use lapidary_schemas::{Config, Digest, Manifest, Rows};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap, HashSet};

const VERSION: u32 = 1;

/// The part of the configuration that the ranking depends on.
pub(super) fn config_of(config: &Config) -> Value {
    let curate = &config.curate;
    json!({
        "seed": (curate.leaf_order == LeafOrder::Random).then_some(config.seed),
        "leaf_order": curate.leaf_order,
        "weight": curate.weight,
        "quality": curate.quality,
    })
}

/// Ranks the images of a source into `OUT/SOURCE/curation/ranking`.
///
/// # Errors
/// When a table cannot be read, or they do not belong together.
pub(super) fn ranking(inputs: &Inputs<'_>) -> Result<StageDone> {
    let (layout, source) = (inputs.layout, inputs.source);
    let mut digests: BTreeMap<String, Digest> =
        [inputs.pool.images_input(), inputs.pool.fingerprints_input()].into_iter().collect();
    for folder in [layout.groups(source), layout.clusters(source)] {
        digests.extend([inputs.input(&folder)?]);
    }
    let is_spread = inputs.config.curate.leaf_order == LeafOrder::FarthestPoint;
    if is_spread {
        digests.extend([inputs.pool.embeddings_input()]);
    }
    let is_whitened = inputs.config.curate.whiten_dim > 0;
    if !inputs.against.is_empty() || (is_spread && is_whitened) {
        digests.extend([inputs.input(&layout.pairs(source))?]);
    }
    let plan = StagePlan {
        stage: "ranking",
        version: VERSION,
        folder: layout.ranking(source),
        config: config_of(inputs.config),
        inputs: digests,
    };
    inputs.run(plan, |run, previous| run_ranking(inputs, previous.as_ref(), run))
}

fn run_ranking(inputs: &Inputs<'_>, previous: Option<&Manifest>, mut run: StageRun) -> Result<Manifest> {
    let (layout, source, config) = (inputs.layout, inputs.source, inputs.config);
    let (groups, clusters) = (layout.groups(source), layout.clusters(source));
    let images = read_images(&inputs.pool.images)?;
    let measures = read_measures(&inputs.pool.fingerprints, &images)?;
    let issues = issues_of(&images, &measures, &config.curate.quality);
    let (ids, levels) = read_tree(&clusters)?;
    let kept: Vec<usize> = ids.iter().map(|id| index_of(&images, *id)).collect::<Result<_>>()?;
    let relevance = read_retrieved(&clusters)?;
    let vectors = if config.curate.leaf_order == LeafOrder::FarthestPoint {
        let mut vectors = compared_embeddings(inputs, &images)?;
        vectors.retain(&kept);
        Some(vectors)
    } else {
        None
    };
    let of_kept = Kept {
        ids: &ids,
        issues: &kept.iter().map(|image| issues[*image].len()).collect::<Vec<_>>(),
        relevance: &ids.iter().map(|id| relevance.get(id).copied()).collect::<Vec<_>>(),
        vectors: vectors.as_ref(),
    };
    let (tree, places) = tree_of(&of_kept, &levels, config);

    let references = reference_names(inputs)?;
    let verdicts = Verdicts { images: &images, issues: &issues, references: &references };
    let ranked = rank(tree).into_iter().enumerate();
    let mut decisions: Vec<Decision> =
        ranked.map(|(rank, point)| verdicts.kept(kept[point], rank, places[point])).collect();
    let mut others: Vec<Decision> =
        read_excluded(&groups)?.iter().map(|excluded| verdicts.excluded(excluded)).collect::<Result<_>>()?;
    let is_ranked: HashSet<u64> = ids.iter().copied().collect();
    for (id, _) in read_kept(&groups)?.into_iter().filter(|(id, _)| !is_ranked.contains(id)) {
        others.push(verdicts.off_topic(index_of(&images, id)?));
    }
    let dropped =
        (0..images.len()).filter_map(|image| Some((image, dropped_for(&issues[image], &config.curate.quality)?)));
    others.extend(dropped.map(|(image, because)| verdicts.low_quality(image, because)));
    others.sort_by_key(|decision| decision.image);
    decisions.extend(others);
    if decisions.len() != images.len() {
        let text = format!("{} decisions on {} images", decisions.len(), images.len());
        return Err(PipelineError::Internal(text).into());
    }
    write_decisions(&mut run, &decisions)?;
    let mut by_reason: BTreeMap<&str, u64> = BTreeMap::new();
    decisions.iter().for_each(|decision| *by_reason.entry(decision.reason.code()).or_default() += 1);
    let facts = json!({"images_by_reason": by_reason, "added": read_manifest(&clusters)?.facts["added"]});
    if let Some(previous) = previous {
        run.extend(previous);
    }
    let count = images.len() as u64;
    Ok(run.finish(Rows { input: count, output: count, rejected: 0 }, facts, &[])?)
}

/// Source and path of each image of an evaluation set, by id.
fn reference_names(inputs: &Inputs<'_>) -> Result<HashMap<u64, String>> {
    if inputs.against.is_empty() {
        return Ok(HashMap::new());
    }
    let compared = Compared::read(&inputs.layout.pairs(inputs.source))?;
    let named = |(place, image): (usize, &Image)| {
        (image.id.0, format!("{}: {}", compared.source_of(place).unwrap_or_default(), image.path))
    };
    Ok(compared.images.iter().enumerate().skip(compared.references_from).map(named).collect())
}
