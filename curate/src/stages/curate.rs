//! The verb `curate`: its stages in order, each only if it is out of date.
//!
//! | stage | reads | writes |
//! |---|---|---|
//! | `pairs` | images, fingerprints, embeddings | `pairs`, `compared`, `rarity`, an index, the whitening |
//! | `groups` | `pairs`, `compared` | `duplicates`, `kept` |
//! | `tree` | `kept`, embeddings | `centroids-level-*`, `clusters` of a sample; only where that many images stay |
//! | `assign` | embeddings, `tree` | a shard of leaves for each shard of embeddings; only with `tree` |
//! | `clusters` | `kept`, embeddings, seeds; or `tree`, leaves | `clusters`, `centroids-level-*`, `kept`, `retrieved` |
//! | `ranking` | `duplicates`, `clusters`, quality | `decisions` |
//!
//! Each has a key of its own, so that another threshold groups again without another search, and another order of the
//! leaves only ranks.

use super::assign::assigned;
use super::clusters::clusters;
use super::groups::groups;
use super::inputs::{Inputs, StageDone};
use super::pairs::pairs;
use super::ranking::ranking;
use super::tree::{is_sampled, tree};
use crate::Result;
use clap::ValueEnum;
use lapidary_pipeline::PipelineError;
use lapidary_pipeline::stage::{Layout, Outcome, Share, SharedStage, read_manifest, short_key};
use lapidary_schemas::Config;
use lapidary_schemas::tables::MANIFEST_FILE;
use serde_json::{Map, Value, json};
use std::path::PathBuf;

/// A stage after which a curation can end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Until {
    /// All pairs of copies.
    Pairs,
    /// Which images stay.
    Groups,
    /// The tree, fitted on a sample; `lapidary assign` goes on from it.
    Tree,
}

/// A curation: its folder, and what became of each of its stages.
#[derive(Debug, Clone)]
pub struct Curated {
    /// `OUT/SOURCE/curation`.
    pub folder: PathBuf,
    /// Pairs, groups, where the tree is fitted on a sample tree and assign, clusters and ranking.
    pub stages: Vec<StageDone>,
}

/// How a curation is run.
#[derive(Debug, Clone, Copy, Default)]
pub struct CurateOptions {
    /// Only say what would run.
    pub dry_run: bool,
    /// From nothing, where new images were merged into what was there.
    pub rebuild: bool,
    /// The last stage to run; none for all.
    pub until: Option<Until>,
}

/// Curates a source by the embeddings of `config.embed.encoder` into `OUT/SOURCE/curation`.
///
/// # Errors
/// When images, fingerprints or embeddings are not there or do not match, FAISS refuses, or the tree is asked for where all
/// images are fitted.
pub fn curate(layout: &Layout, source: &str, config: &Config, options: CurateOptions) -> Result<Curated> {
    let CurateOptions { dry_run, rebuild, until } = options;
    let inputs = Inputs::of(layout, source, config, dry_run, rebuild)?;
    if !dry_run {
        keep_single_stage(layout, source)?;
    }
    let mut curated = Curated { folder: layout.curation(source), stages: Vec::new() };
    curated.run("pairs", layout.pairs(source), || pairs(&inputs))?;
    if until != Some(Until::Pairs) {
        curated.run("groups", layout.groups(source), || groups(&inputs))?;
    }
    // How many images stay is not known before groups have run.
    let is_known = curated.outcome() != Outcome::WouldRun;
    if until == Some(Until::Tree) || (until.is_none() && is_known && is_sampled(config, inputs.kept()?)) {
        curated.run("tree", layout.tree(source), || tree(&inputs))?;
    }
    if until.is_some() {
        return Ok(curated);
    }
    if curated.stages.iter().any(|stage| stage.stage == "tree") {
        curated.run("assign", layout.assignment(source), || {
            let SharedStage { outcome, folder, manifest, .. } = assigned(&inputs, Share::All)?;
            Ok(StageDone { stage: "assign", folder, outcome, manifest })
        })?;
    }
    curated.run("clusters", layout.clusters(source), || clusters(&inputs))?;
    curated.run("ranking", layout.ranking(source), || ranking(&inputs))?;
    Ok(curated)
}

/// An older curation, which was one stage in the folder that now holds four, is kept aside.
fn keep_single_stage(layout: &Layout, source: &str) -> Result<()> {
    let folder = layout.curation(source);
    if folder.join(MANIFEST_FILE).is_file() {
        let manifest = read_manifest(&folder)?;
        let aside = folder.with_file_name(format!("curation~{}", short_key(&manifest.key)));
        std::fs::rename(&folder, &aside).map_err(PipelineError::io("rename", &folder))?;
        tracing::info!("a curation of one stage is kept as `{}`", aside.display());
    }
    Ok(())
}

impl Curated {
    /// Runs a stage; what it would be made of is not known before the ones above it have run.
    fn run(&mut self, stage: &'static str, folder: PathBuf, work: impl FnOnce() -> Result<StageDone>) -> Result<()> {
        let done = match self.outcome() {
            outcome @ Outcome::WouldRun => StageDone { stage, folder, outcome, manifest: None },
            _ => work()?,
        };
        self.stages.push(done);
        Ok(())
    }

    /// `ran` when any stage ran.
    pub fn outcome(&self) -> Outcome {
        let has = |outcome: Outcome| self.stages.iter().any(|stage| stage.outcome == outcome);
        [Outcome::WouldRun, Outcome::Ran].into_iter().find(|outcome| has(*outcome)).unwrap_or(Outcome::UpToDate)
    }

    /// The facts of pairs, groups, clusters and ranking; null when one has not run.
    pub fn facts(&self) -> Value {
        let mut facts = Map::new();
        // What was added is what was compared: of the stages below, each counts what came to it.
        let is_of_all = |stage: &&StageDone| !["tree", "assign"].contains(&stage.stage);
        for stage in self.stages.iter().rev().filter(is_of_all) {
            let Some(manifest) = &stage.manifest else { return Value::Null };
            facts.extend(manifest.facts.as_object().cloned().unwrap_or_default());
        }
        Value::Object(facts)
    }

    /// What became of it, as JSON: as of one stage, whose digest is the last one's, with its stages.
    pub fn summary(&self, layout: &Layout) -> Value {
        let manifests: Vec<_> = self.stages.iter().filter_map(|stage| stage.manifest.as_ref()).collect();
        let last = manifests.get(self.stages.len() - 1);
        let wall_secs: f64 = manifests.iter().map(|manifest| manifest.wall_secs).sum();
        let stage = |stage: &StageDone| {
            json!({
                "stage": stage.stage,
                "folder": layout.name_of(&stage.folder),
                "outcome": stage.outcome,
                "digest": stage.manifest.as_ref().map(|m| &m.digest),
                "rows": stage.manifest.as_ref().map(|m| m.rows),
                "wall_secs": stage.manifest.as_ref().map(|m| m.wall_secs),
                "peak_memory_mib": stage.manifest.as_ref().map(|m| m.peak_memory_mib),
            })
        };
        json!({
            "stage": "curate",
            "folder": layout.name_of(&self.folder),
            "outcome": self.outcome(),
            "digest": last.map(|m| &m.digest),
            "rows": last.map(|m| m.rows),
            "facts": self.facts(),
            "wall_secs": last.map(|_| wall_secs),
            "rows_per_sec": last.map(|m| m.rows.input as f64 / wall_secs.max(1e-9)),
            "peak_memory_mib": manifests.iter().map(|m| m.peak_memory_mib).reduce(f64::max),
            "stages": self.stages.iter().map(stage).collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{clusters, groups, pairs, ranking};
    use lapidary_schemas::Config;
    use serde_json::{Value, json};
    use std::collections::BTreeSet;

    #[test]
    fn every_key_of_the_configuration_is_in_the_key_of_a_stage() {
        let config = Config::default();
        let keys =
            |value: &Value| -> BTreeSet<String> { value.as_object().expect("a table").keys().cloned().collect() };
        let of_stages =
            [pairs::config_of, groups::config_of, clusters::config_of, ranking::config_of].map(|of| of(&config));
        let in_stages: BTreeSet<String> = of_stages.iter().flat_map(keys).collect();
        let missing: Vec<String> = keys(&json!(config.curate)).difference(&in_stages).cloned().collect();
        // The table of planted copies is an input, by its digest; memory changes the time alone.
        assert_eq!(missing, ["memory_mib", "truth"]);
    }

    #[test]
    fn thresholds_and_orders_leave_the_stages_above_alone() {
        let mut other = Config::default();
        other.curate.score_min = 0.7;
        other.curate.leaf_order = lapidary_schemas::config::LeafOrder::Farthest;
        let config = Config::default();
        assert_eq!(pairs::config_of(&config), pairs::config_of(&other));
        assert_ne!(groups::config_of(&config), groups::config_of(&other));
        assert_eq!(clusters::config_of(&config), clusters::config_of(&other));
        assert_ne!(ranking::config_of(&config), ranking::config_of(&other));
    }
}
