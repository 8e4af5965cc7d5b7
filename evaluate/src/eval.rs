//! The stage `eval`: a run and a probe in; scores, the lists of labels that they were learned from and attention maps out, the
//! untrained twin beside the trained network.

use crate::attention;
use crate::geometry::{Geometry, view_features};
use crate::probes::{FrozenFeatures, LABELS, LabelList, check_finite};
use crate::scores::{NetworkScores, Scores};
use crate::{Result, limits};
use lapidary_pipeline::stage::{
    Layout, Opened, Outcome, Previous, Progress, StageRun, StageSpec, ancestor, write_json,
};
use lapidary_pipeline::{ImageStore, PipelineError, decode};
use lapidary_schemas::config::EvalConfig;
use lapidary_schemas::{Config, Manifest, Rows};
use lapidary_train::backend::{DeviceChoice, Program, run_on};
use lapidary_train::operators::{Operators, TrainBackend};
use lapidary_train::probe::{Features, Labelled, Probe, features, stratified};
use lapidary_train::{FinishedRun, FrozenVit, TrainError};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The scores of a probe.
pub const SCORES_FILE: &str = "scores.json";
/// The folder of attention maps.
pub const ATTENTION: &str = "attention";

/// Measures a run of a source on a probe into `OUT/SOURCE/evals/RUN/PROBE`.
///
/// # Errors
/// When run or probe are not there, or the device cannot be used.
pub fn eval(
    layout: &Layout,
    source: &str,
    run: &str,
    probe: &str,
    config: &Config,
    device: DeviceChoice,
    dry_run: bool,
) -> Result<(Outcome, PathBuf, Option<Manifest>)> {
    limits::check(&config.eval)?;
    let run = FinishedRun::open(layout, source, run)?;
    let probe = Probe::open(layout, probe, &config.eval, config.seed)?;
    warn_if_contaminated(layout, &run, &probe.name);
    let folder = layout.eval(source, &run.name, &probe.name);
    let spec = StageSpec {
        stage: "eval",
        version: 3,
        out: layout.out.clone(),
        folder: folder.clone(),
        config: json!({"seed": config.seed, "eval": config.eval}),
        inputs: BTreeMap::from([
            (layout.name_of(&probe.folder), probe.digest.clone()),
            (layout.name_of(&run.folder), run.manifest.digest.clone()),
        ]),
        resumable: false,
        previous: Previous::Kept,
    };
    let stage = match spec.open(dry_run)? {
        Opened::UpToDate(manifest) => return Ok((Outcome::UpToDate, folder, Some(*manifest))),
        Opened::DryRun => return Ok((Outcome::WouldRun, folder, None)),
        Opened::Run(stage) => stage,
    };
    let store = ImageStore::open(&probe.folder)?;
    let program = Eval { run, probe, store, config: config.eval.clone(), seed: config.seed, stage };
    // The program's own errors travel inside: run_on knows only the trainer's.
    let manifest = run_on(device, program)??;
    Ok((Outcome::Ran, folder, Some(manifest)))
}

/// Says so when the images that the run saw were not compared with the probe's.
pub(crate) fn warn_if_contaminated(layout: &Layout, run: &FinishedRun, probe: &str) {
    // An older curation is one stage.
    let of_stage = |stage| ancestor(layout, &run.manifest, stage);
    let curated = of_stage("pairs").or_else(|| of_stage("curate"));
    let against = curated.as_ref().and_then(|manifest| manifest.facts["against"].as_array());
    if !against.is_some_and(|names| names.iter().any(|name| name == probe)) {
        tracing::warn!(
            "the training images were not compared with probe `{probe}`: copies of its images may be among them\n\
             hint: curate again with --set 'curate.against=[\"{probe}\"]'"
        );
    }
}

struct Eval {
    run: FinishedRun,
    probe: Probe,
    store: ImageStore,
    config: EvalConfig,
    seed: u64,
    stage: StageRun,
}

impl Program for Eval {
    type Output = Result<Manifest>;

    fn run<B: TrainBackend>(self, device: B::Device) -> Result<Self::Output, TrainError> {
        Ok(self.run_on_backend::<B::InnerBackend>(&device))
    }
}

impl Eval {
    fn run_on_backend<B: Operators>(self, device: &B::Device) -> Result<Manifest> {
        let (trained, untrained) = (self.run.trained::<B>(device)?, self.run.untrained::<B>(device));
        let lists = Lists::of(&self.probe, &self.config, self.seed);
        let scores = Scores {
            run: self.run.name.clone(),
            probe: self.probe.name.clone(),
            classes: self.probe.classes.len(),
            train_images: self.probe.train.len(),
            linear_labels: lists.quick.indices.len(),
            test_images: self.probe.test.len(),
            chance_top1: self.chance(),
            trained: self.scores("trained", &trained, &lists, device)?,
            untrained: self.scores("untrained", &untrained, &lists, device)?,
        };
        lists.write(&self.probe, &self.stage.path(LABELS))?;
        write_json(&self.stage.path(SCORES_FILE), &scores)?;
        self.draw_attention(&trained)?;
        let count = (self.probe.train.len() + self.probe.test.len()) as u64;
        // Images without a label are the probe's rejects.
        let rejected = self.probe.unlabelled;
        let rows = Rows { input: count + rejected, output: count, rejected };
        Ok(self.stage.finish(rows, json!(scores), &[])?)
    }

    /// Share of the test images' most frequent class.
    fn chance(&self) -> f64 {
        let mut counts = vec![0usize; self.probe.classes.len()];
        self.probe.test.iter().for_each(|l| counts[l.class as usize] += 1);
        counts.into_iter().max().unwrap_or(0) as f64 / self.probe.test.len() as f64
    }

    fn scores<B: Operators>(
        &self,
        name: &'static str,
        network: &FrozenVit<B>,
        lists: &Lists,
        device: &B::Device,
    ) -> Result<NetworkScores> {
        let (probe, config) = (&self.probe, &self.config);
        let features = |list: &[Labelled]| -> Result<Features> {
            let progress = Progress::new("features", list.len() as u64, "images");
            let features = features::compute(&self.store, list, network, config.batch, |images| progress.add(images))?;
            check_finite(name, list, &features)?;
            Ok(features)
        };
        let (train, test) = (features(&probe.train)?, features(&probe.test)?);
        let classes = probe.classes.len();
        let frozen = FrozenFeatures { train: &train, test: &test, classes, config, seed: self.seed };
        let knn = frozen.knn::<B>(device);
        let quick = frozen.quick::<B>(&lists.quick, device);
        let by_labels = frozen.by_labels(&lists.others)?;
        let headline = knn.first().expect("one k at least: checked by limits::check");
        Ok(NetworkScores {
            knn_top1: headline.top1,
            knn_top5: headline.top5,
            linear_top1: quick.top1,
            linear_top5: quick.top5,
            linear_learning_rate: quick.settings["learning_rate"],
            probes: knn.iter().cloned().chain([quick]).chain(by_labels).collect(),
            measures: Vec::new(),
            geometry: Some(self.geometry(name, network, &test)?),
        })
    }

    /// The geometry of a sample of the test images' features.
    fn geometry<B: Operators>(&self, name: &'static str, network: &FrozenVit<B>, test: &Features) -> Result<Geometry> {
        let (probe, config) = (&self.probe, &self.config);
        let sample = stratified(&probe.test, 1.0, config.geometry_images, self.seed);
        let index = |one: &Labelled| probe.test.binary_search(one).expect("a sample is of the probe's images");
        let features = test.select(&sample.iter().map(index).collect::<Vec<_>>());
        let views = if config.view_images == 0 {
            None
        } else {
            let list = stratified(&sample, 1.0, config.view_images, self.seed);
            let progress = Progress::new("views", list.len() as u64, "images");
            let views = view_features(&self.store, &list, network, config.batch, |images| progress.add(images))?;
            // View by view, so that the list repeats.
            check_finite(name, &list.repeat(views.len() / list.len()), &views)?;
            Some(views)
        };
        Ok(Geometry::of(&features, views, self.seed))
    }

    /// Attention maps of test images, a class after the other.
    fn draw_attention<B: Operators>(&self, network: &FrozenVit<B>) -> Result<()> {
        let mut seen: Vec<usize> = vec![0; self.probe.classes.len()];
        let mut ordered: Vec<(usize, &Labelled)> = Vec::new();
        for labelled in &self.probe.test {
            ordered.push((seen[labelled.class as usize], labelled));
            seen[labelled.class as usize] += 1;
        }
        ordered.sort_by_key(|(nth, labelled)| (*nth, labelled.class));
        let ids: Vec<_> = ordered.iter().take(self.config.attention_images).map(|(_, l)| l.id).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let fetched = self.store.fetch(&ids)?;
        let decoded = (0..ids.len())
            .map(|i| decode(fetched.get(i), self.store.rule()).map(|d| d.rgb))
            .collect::<Result<Vec<_>, _>>();
        let images = decoded.map_err(|(reason, _)| PipelineError::Usage(reason.text().to_owned()))?;
        let folder = self.stage.path(ATTENTION);
        std::fs::create_dir_all(&folder).map_err(PipelineError::io("create folder", &folder))?;
        for (id, strip) in ids.iter().zip(attention::strips(network, &images)?) {
            let path = folder.join(format!("{id}.png"));
            strip.save(&path).map_err(|e| PipelineError::format(&path, e))?;
        }
        Ok(())
    }
}

/// The lists of labels that probes learn from.
struct Lists {
    quick: LabelList,
    others: Vec<LabelList>,
}

impl Lists {
    fn of(probe: &Probe, config: &EvalConfig, seed: u64) -> Self {
        let shares = config.label_shares.iter().map(|share| LabelList::share(probe, *share, seed));
        let per_class = config.labels_per_class.iter().map(|count| LabelList::per_class(probe, *count, seed));
        Self { quick: LabelList::share(probe, config.label_share, seed), others: shares.chain(per_class).collect() }
    }

    fn write(&self, probe: &Probe, folder: &Path) -> Result<()> {
        std::iter::once(&self.quick).chain(&self.others).try_for_each(|list| list.write(probe, folder))
    }
}
