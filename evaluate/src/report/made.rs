//! What is there to report on: the folders and manifests of a source, its subset, its runs and their evaluations.

use super::Subject;
use crate::Result;
use crate::scores::Scores;
use lapidary_pipeline::stage::{CuratedManifests, Layout, read_curated, read_manifest, require_manifest};
use lapidary_schemas::Manifest;
use std::path::PathBuf;

/// A stage's folder with its manifest.
#[derive(Debug, Clone)]
pub(crate) struct MadeFolder {
    pub(crate) folder: PathBuf,
    pub(crate) manifest: Manifest,
}

impl MadeFolder {
    pub(super) fn read(folder: PathBuf) -> Option<Self> {
        let manifest = read_manifest(&folder).ok()?;
        Some(Self { folder, manifest })
    }
}

/// A run and its evaluation on the probe.
#[derive(Debug, Clone)]
pub(super) struct MadeRun {
    pub(super) name: String,
    pub(super) run: MadeFolder,
    pub(super) eval: Option<MadeFolder>,
    /// The evaluation's scores, where it is of this version.
    pub(super) scores: Option<Scores>,
}

/// All that is there of a report's subject.
#[derive(Debug, Clone)]
pub(super) struct Made {
    pub(super) source: String,
    pub(super) images: MadeFolder,
    pub(super) curated: Option<CuratedManifests>,
    pub(super) subset: Option<MadeFolder>,
    pub(super) runs: Vec<MadeRun>,
    /// The probe's source.
    pub(super) probe: String,
    /// Names of the source's classes.
    pub(super) classes: Vec<String>,
}

impl Made {
    /// Looks for what a subject names.
    ///
    /// # Errors
    /// When the source was not ingested, or a run that was named is not there.
    pub(super) fn of(layout: &Layout, subject: &Subject) -> Result<Self> {
        let source = &subject.source;
        let folder = layout.images(source);
        let manifest = require_manifest(&folder, "ingested images", "run `lapidary ingest --data DIR` first")?;
        let classes = serde_json::from_value(manifest.facts["classes"].clone()).unwrap_or_default();
        let mut runs = Vec::new();
        for name in &subject.runs {
            let folder = layout.run(source, name);
            let manifest = match require_manifest(&folder, "finished run", "`lapidary runs` lists them") {
                Ok(manifest) => manifest,
                // The run last trained may be another source's, or unfinished.
                Err(_) if !subject.runs_are_named => continue,
                Err(error) => return Err(error.into()),
            };
            let eval = MadeFolder::read(layout.eval(source, name, &subject.probe));
            let scores = eval.as_ref().and_then(|eval| serde_json::from_value(eval.manifest.facts.clone()).ok());
            runs.push(MadeRun { name: name.clone(), run: MadeFolder { folder, manifest }, eval, scores });
        }
        let subset = (!subject.subset.is_empty()).then(|| MadeFolder::read(layout.subset(source, &subject.subset)));
        Ok(Self {
            source: source.clone(),
            images: MadeFolder { folder, manifest },
            curated: read_curated(layout, source).ok(),
            subset: subset.flatten(),
            runs,
            probe: subject.probe.clone(),
            classes,
        })
    }

    /// The manifests that the report is made from, those furthest along last.
    pub(super) fn manifests(&self) -> Vec<&Manifest> {
        let curated = self.curated.iter().flat_map(|curated| &curated.stages);
        let runs = self
            .runs
            .iter()
            .flat_map(|run| std::iter::once(&run.run.manifest).chain(run.eval.as_ref().map(|eval| &eval.manifest)));
        std::iter::once(&self.images.manifest)
            .chain(curated)
            .chain(self.subset.as_ref().map(|subset| &subset.manifest))
            .chain(runs)
            .collect()
    }
}
