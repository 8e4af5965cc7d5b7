//! The verb `curate`: its four stages in order, each only if it is out of date.
//!
//! | stage | reads | writes |
//! |---|---|---|
//! | `pairs` | images, fingerprints, embeddings | `pairs`, `compared`, `rarity`, an index, the whitening |
//! | `groups` | `pairs`, `compared` | `duplicates`, `kept` |
//! | `clusters` | `kept`, embeddings, seeds | `clusters`, `centroids-level-*`, `kept`, `retrieved` |
//! | `ranking` | `duplicates`, `clusters`, quality | `decisions` |
//!
//! Each has a key of its own, so that another threshold groups again without another search, and another order of the
//! leaves only ranks.

use super::clusters::clusters;
use super::groups::groups;
use super::inputs::{Inputs, StageDone};
use super::pairs::pairs;
use super::ranking::ranking;
use crate::Result;
use lapidary_pipeline::PipelineError;
use lapidary_pipeline::stage::{Layout, Outcome, read_manifest, short_key};
use lapidary_schemas::Config;
use lapidary_schemas::tables::MANIFEST_FILE;
use serde_json::{Map, Value, json};
use std::path::PathBuf;

/// A curation: its folder, and what became of each of its stages.
#[derive(Debug, Clone)]
pub struct Curated {
    /// `OUT/SOURCE/curation`.
    pub folder: PathBuf,
    /// Pairs, groups, clusters and ranking.
    pub stages: Vec<StageDone>,
}

/// Curates a source by the embeddings of `config.embed.encoder` into `OUT/SOURCE/curation`; with `rebuild`, from
/// nothing.
///
/// # Errors
/// When images, fingerprints or embeddings are not there or do not match, or FAISS refuses.
pub fn curate(layout: &Layout, source: &str, config: &Config, dry_run: bool, rebuild: bool) -> Result<Curated> {
    let inputs = Inputs::of(layout, source, config, dry_run, rebuild)?;
    if !dry_run {
        keep_single_stage(layout, source)?;
    }
    let all = [
        ("pairs", pairs as fn(&Inputs<'_>) -> Result<StageDone>, layout.pairs(source)),
        ("groups", groups, layout.groups(source)),
        ("clusters", clusters, layout.clusters(source)),
        ("ranking", ranking, layout.ranking(source)),
    ];
    let mut stages: Vec<StageDone> = Vec::with_capacity(all.len());
    for (stage, run, folder) in all {
        // What a stage would be made of is not known before the ones above it have run.
        let done = match stages.last().map(|above| above.outcome) {
            Some(outcome @ Outcome::WouldRun) => StageDone { stage, folder, outcome, manifest: None },
            _ => run(&inputs)?,
        };
        stages.push(done);
    }
    Ok(Curated { folder: layout.curation(source), stages })
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
    /// `ran` when any stage ran.
    pub fn outcome(&self) -> Outcome {
        let has = |outcome: Outcome| self.stages.iter().any(|stage| stage.outcome == outcome);
        [Outcome::WouldRun, Outcome::Ran].into_iter().find(|outcome| has(*outcome)).unwrap_or(Outcome::UpToDate)
    }

    /// The facts of all stages; null when one has not run.
    pub fn facts(&self) -> Value {
        let mut facts = Map::new();
        // What was added is what was compared: of the stages below, each counts what came to it.
        for stage in self.stages.iter().rev() {
            let Some(manifest) = &stage.manifest else { return Value::Null };
            facts.extend(manifest.facts.as_object().cloned().unwrap_or_default());
        }
        Value::Object(facts)
    }

    /// What became of it, as JSON: as of one stage, whose digest is the ranking's, with its four stages.
    pub fn summary(&self, layout: &Layout) -> Value {
        let manifests: Vec<_> = self.stages.iter().filter_map(|stage| stage.manifest.as_ref()).collect();
        let ranking = manifests.get(self.stages.len() - 1);
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
            "digest": ranking.map(|m| &m.digest),
            "rows": ranking.map(|m| m.rows),
            "facts": self.facts(),
            "wall_secs": ranking.map(|_| wall_secs),
            "rows_per_sec": ranking.map(|m| m.rows.input as f64 / wall_secs.max(1e-9)),
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
