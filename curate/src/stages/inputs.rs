//! What a curation is made of: the tables that it reads, and the configuration.

use crate::Result;
use crate::fingerprints::PoolFolders;
use crate::ranking::Seeds;
use lapidary_pipeline::PipelineError;
use lapidary_pipeline::stage::{
    Layout, Opened, Outcome, Previous, StageRun, StageSpec, digest_of_file, read_manifest, require_manifest,
};
use lapidary_schemas::tables::KEPT_FILE;
use lapidary_schemas::{Config, Digest, Manifest};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The tables that a curation reads, looked up once for all its stages.
pub(super) struct Inputs<'a> {
    pub(super) layout: &'a Layout,
    pub(super) source: &'a str,
    pub(super) config: &'a Config,
    pub(super) dry_run: bool,
    pub(super) rebuild: bool,
    pub(super) pool: PoolFolders,
    /// Evaluation sets, by name.
    pub(super) against: Vec<(String, PoolFolders)>,
    pub(super) background: Option<PoolFolders>,
    pub(super) seeds: Option<(Seeds, BTreeMap<String, Digest>)>,
    /// The table of planted copies.
    pub(super) truth: Option<PathBuf>,
}

/// What became of a stage of a curation.
#[derive(Debug, Clone)]
pub struct StageDone {
    /// `pairs`, `groups`, `tree`, `assign`, `clusters` or `ranking`.
    pub stage: &'static str,
    /// Its folder.
    pub folder: PathBuf,
    /// Whether it ran.
    pub outcome: Outcome,
    /// Its manifest; none after a dry run in which it would have run.
    pub manifest: Option<Manifest>,
}

/// A stage's name, version and place, and what it depends on.
pub(super) struct StagePlan {
    pub(super) stage: &'static str,
    pub(super) version: u32,
    pub(super) folder: PathBuf,
    /// The part of the configuration that it depends on.
    pub(super) config: Value,
    pub(super) inputs: BTreeMap<String, Digest>,
}

impl<'a> Inputs<'a> {
    /// Looks the tables up.
    ///
    /// # Errors
    /// When one is not there, with the command that makes it.
    pub(super) fn of(
        layout: &'a Layout,
        source: &'a str,
        config: &'a Config,
        dry_run: bool,
        rebuild: bool,
    ) -> Result<Self> {
        let curate = &config.curate;
        let folders = |name: &str| PoolFolders::of(layout, name, &config.embed.encoder);
        let against = curate.against.iter().map(|name| Ok((name.clone(), folders(name)?))).collect::<Result<_>>()?;
        Ok(Self {
            layout,
            source,
            config,
            dry_run,
            rebuild,
            pool: folders(source)?,
            against,
            background: (!curate.background.is_empty()).then(|| folders(&curate.background)).transpose()?,
            seeds: Seeds::of(layout, config)?,
            truth: (!curate.truth.is_empty()).then(|| PathBuf::from(&curate.truth)),
        })
    }

    /// The name and digest of a stage's folder that another reads.
    ///
    /// # Errors
    /// When it is not there.
    pub(super) fn input(&self, folder: &Path) -> Result<(String, Digest)> {
        Ok((self.layout.name_of(folder), read_manifest(folder)?.digest))
    }

    /// How many images of the source stay.
    ///
    /// # Errors
    /// When groups are not there.
    pub(super) fn kept(&self) -> Result<u64> {
        let hint = "run `lapidary curate` first";
        let groups = require_manifest(&self.layout.groups(self.source), "the groups of copies", hint)?;
        Ok(groups.outputs.get(KEPT_FILE).map_or(0, |kept| kept.rows))
    }

    /// A stage as the runtime opens it.
    pub(super) fn spec(&self, plan: StagePlan) -> StageSpec {
        let StagePlan { stage, version, folder, config, inputs } = plan;
        StageSpec {
            stage,
            version,
            out: self.layout.out.clone(),
            folder,
            config,
            inputs,
            resumable: false,
            previous: Previous::Kept,
        }
    }

    /// Runs a stage unless it is up to date. `work` gets what the stage's folder holds already of the same tables,
    /// grown since; nothing, when all is to be made anew.
    ///
    /// # Errors
    /// When the folder cannot be made, or the work fails.
    pub(super) fn run(
        &self,
        plan: StagePlan,
        work: impl FnOnce(StageRun, Option<Manifest>) -> Result<Manifest>,
    ) -> Result<StageDone> {
        let (stage, folder, spec) = (plan.stage, plan.folder.clone(), self.spec(plan));
        let (outcome, manifest) = match spec.open_or_rebuild(self.dry_run, self.rebuild)? {
            Opened::UpToDate(manifest) => (Outcome::UpToDate, Some(*manifest)),
            Opened::DryRun => (Outcome::WouldRun, None),
            Opened::Run(run) => {
                let own = format!("{}/", self.source);
                let is_grown = |name: &str, digest: &Digest| {
                    run.has_same(name, digest)
                        || (name.starts_with(&own) && run.has_extended(self.layout, name, digest))
                };
                let previous = run.previous(is_grown)?.filter(|_| !self.rebuild);
                (Outcome::Ran, Some(work(run, previous)?))
            }
        };
        Ok(StageDone { stage, folder, outcome, manifest })
    }

    /// The table of planted copies as an input, where there is one.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn truth_input(&self) -> Result<Option<(String, Digest)>> {
        let Some(path) = &self.truth else { return Ok(None) };
        let address = path.canonicalize().map_err(PipelineError::io("open", path))?;
        Ok(Some((address.to_string_lossy().into_owned(), digest_of_file(path)?.0)))
    }
}
