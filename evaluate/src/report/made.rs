//! What is there to report on: the folders and manifests of a source, its subset, its runs and their evaluations.

use super::Subject;
use crate::Result;
use crate::scores::Scores;
use lapidary_pipeline::stage::{CuratedManifests, Layout, StageFolder, read_curated, read_manifest, require_manifest};
use lapidary_schemas::Manifest;
use maud::{Markup, html};
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

/// A run and its evaluations.
#[derive(Debug, Clone)]
pub(super) struct MadeRun {
    pub(super) name: String,
    pub(super) run: MadeFolder,
    /// In the order of [`Made::probes`].
    pub(super) evals: Vec<MadeEval>,
}

/// A run's evaluation on a probe set.
#[derive(Debug, Clone)]
pub(super) struct MadeEval {
    /// The probe's source.
    pub(super) probe: String,
    pub(super) eval: MadeFolder,
    /// The evaluation's scores, where it is of this version.
    pub(super) scores: Option<Scores>,
}

/// A probe set with what the runs did on it.
#[derive(Debug, Clone)]
pub(super) struct Measured<'a> {
    pub(super) probe: &'a str,
    /// It stands beside others, under a heading of its own.
    is_one_of_several: bool,
    /// Each run that was measured, by name, in the order of the report's runs.
    pub(super) runs: Vec<(&'a str, &'a MadeEval)>,
}

impl<'a> Measured<'a> {
    /// The runs whose scores are of this version.
    pub(super) fn scored(&self) -> Vec<(&'a str, &'a Scores)> {
        self.runs.iter().filter_map(|(run, eval)| Some((*run, eval.scores.as_ref()?))).collect()
    }

    /// A heading of a part of what is said of it.
    pub(super) fn heading(&self, text: &str) -> Markup {
        html! { @if self.is_one_of_several { h4 { (text) } } @else { h3 { (text) } } }
    }
}

/// All that is there of a report's subject.
#[derive(Debug, Clone)]
pub(super) struct Made {
    pub(super) source: String,
    pub(super) images: MadeFolder,
    pub(super) curated: Option<CuratedManifests>,
    pub(super) subset: Option<MadeFolder>,
    pub(super) runs: Vec<MadeRun>,
    /// The probe sets that are reported on, the one last ingested first.
    probes: Vec<String>,
    /// Names of the source's classes.
    pub(super) classes: Vec<String>,
}

impl MadeRun {
    fn on(&self, probe: &str) -> Option<&MadeEval> {
        self.evals.iter().find(|eval| eval.probe == probe)
    }

    /// The run's folder and those of its evaluations.
    pub(super) fn folders(&self) -> impl Iterator<Item = &MadeFolder> {
        std::iter::once(&self.run).chain(self.evals.iter().map(|eval| &eval.eval))
    }
}

impl MadeEval {
    /// A run's evaluation on a probe set; none when it is of an earlier state of the run.
    fn read(layout: &Layout, source: &str, run: &MadeRun, probe: &str) -> Option<Self> {
        let eval = MadeFolder::read(layout.eval(source, &run.name, probe))?;
        let measured = eval.manifest.inputs.get(&layout.name_of(&run.run.folder));
        let scores = serde_json::from_value(eval.manifest.facts.clone()).ok();
        (measured == Some(&run.run.manifest.digest)).then(|| Self { probe: probe.to_owned(), eval, scores })
    }
}

/// The probe sets that runs were measured on: `first`, then the others by name.
fn probes_measured(layout: &Layout, source: &str, runs: &[MadeRun], first: &str) -> Vec<String> {
    let evals = layout.out.join(source).join("evals");
    let is_shown = |run: Option<&str>| runs.iter().any(|shown| run == Some(&shown.name));
    let name = |stage: StageFolder| {
        let run = stage.folder.strip_prefix(&evals).ok()?.parent()?.to_str();
        let is_probe = !stage.is_aside && stage.manifest().is_some() && is_shown(run);
        is_probe.then(|| stage.folder.file_name()?.to_str().map(str::to_owned)).flatten()
    };
    let mut names: Vec<String> = layout.stages().into_iter().filter_map(name).collect();
    names.sort_by_key(|name| (name != first, name.clone()));
    names.dedup();
    names
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
            runs.push(MadeRun { name: name.clone(), run: MadeFolder { folder, manifest }, evals: Vec::new() });
        }
        let probes = if subject.probes.is_empty() {
            probes_measured(layout, source, &runs, &subject.first_probe)
        } else {
            subject.probes.clone()
        };
        for run in &mut runs {
            run.evals = probes.iter().filter_map(|probe| MadeEval::read(layout, source, run, probe)).collect();
        }
        let subset = (!subject.subset.is_empty()).then(|| MadeFolder::read(layout.subset(source, &subject.subset)));
        Ok(Self {
            source: source.clone(),
            images: MadeFolder { folder, manifest },
            curated: read_curated(layout, source).ok(),
            subset: subset.flatten(),
            runs,
            probes,
            classes,
        })
    }

    /// Each probe set on which a run was measured.
    pub(super) fn measured(&self) -> Vec<Measured<'_>> {
        let sets = self.probes.iter().map(|probe| {
            let runs = self.runs.iter().filter_map(|run| Some((run.name.as_str(), run.on(probe)?)));
            Measured { probe, is_one_of_several: false, runs: runs.collect() }
        });
        let mut sets: Vec<Measured<'_>> = sets.filter(|set| !set.runs.is_empty()).collect();
        let is_one_of_several = sets.len() > 1;
        sets.iter_mut().for_each(|set| set.is_one_of_several = is_one_of_several);
        sets
    }

    /// The manifests that the report is made from, those furthest along last.
    pub(super) fn manifests(&self) -> Vec<&Manifest> {
        let curated = self.curated.iter().flat_map(|curated| &curated.stages);
        let runs = self.runs.iter().flat_map(MadeRun::folders).map(|made| &made.manifest);
        std::iter::once(&self.images.manifest)
            .chain(curated)
            .chain(self.subset.as_ref().map(|subset| &subset.manifest))
            .chain(runs)
            .collect()
    }
}
