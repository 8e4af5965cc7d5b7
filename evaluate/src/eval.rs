//! The stage `eval`: a run and a probe in, scores and attention maps out, the untrained twin beside the trained network.

use crate::attention;
use crate::scores::{NetworkScores, Scores};
use crate::{Result, limits, linear};
use lapidary_pipeline::stage::{
    Layout, Opened, Outcome, Previous, Progress, StageRun, StageSpec, ancestor, write_json,
};
use lapidary_pipeline::{ImageStore, PipelineError, decode};
use lapidary_schemas::config::EvalConfig;
use lapidary_schemas::{Config, Manifest, Rows};
use lapidary_train::backend::{DeviceChoice, Program, run_on};
use lapidary_train::operators::{Operators, TrainBackend};
use lapidary_train::probe::{Features, Labelled, Probe, features, knn, stratified};
use lapidary_train::{FinishedRun, FrozenVit, TrainError};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

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
        version: 2,
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
fn warn_if_contaminated(layout: &Layout, run: &FinishedRun, probe: &str) {
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
        let linear_list = stratified(&self.probe.train, self.config.label_share, 0, self.seed);
        let scores = Scores {
            run: self.run.name.clone(),
            probe: self.probe.name.clone(),
            classes: self.probe.classes.len(),
            train_images: self.probe.train.len(),
            linear_labels: linear_list.len(),
            test_images: self.probe.test.len(),
            chance_top1: self.chance(),
            trained: self.scores(&trained, device)?,
            untrained: self.scores(&untrained, device)?,
        };
        write_json(&self.stage.path(SCORES_FILE), &scores)?;
        self.draw_attention(&trained)?;
        let count = (self.probe.train.len() + self.probe.test.len()) as u64;
        let rows = Rows { input: count, output: count, rejected: 0 };
        Ok(self.stage.finish(rows, json!(scores), &[])?)
    }

    /// Share of the test images' most frequent class.
    fn chance(&self) -> f64 {
        let mut counts = vec![0usize; self.probe.classes.len()];
        self.probe.test.iter().for_each(|l| counts[l.class as usize] += 1);
        counts.into_iter().max().unwrap_or(0) as f64 / self.probe.test.len() as f64
    }

    fn scores<B: Operators>(&self, network: &FrozenVit<B>, device: &B::Device) -> Result<NetworkScores> {
        let (probe, config) = (&self.probe, &self.config);
        let features = |list: &[Labelled]| -> Result<Features> {
            let progress = Progress::new("features", list.len() as u64, "images");
            Ok(features::compute(&self.store, list, network, config.batch, |images| progress.add(images))?)
        };
        let (train, test) = (features(&probe.train)?, features(&probe.test)?);
        let chosen: BTreeSet<_> = stratified(&probe.train, config.label_share, 0, self.seed).into_iter().collect();
        let labelled: Vec<usize> =
            probe.train.iter().enumerate().filter(|(_, l)| chosen.contains(l)).map(|(index, _)| index).collect();
        let classes = probe.classes.len();
        let rates = if config.linear_learning_rates.is_empty() { &[1.0][..] } else { &config.linear_learning_rates };
        let linear = linear::probe::<B>(&train.select(&labelled), &test, classes, config.linear_steps, rates, device);
        let (k, temperature) = (config.knn_neighbours, config.knn_temperature);
        let knn = knn::probe::<B>(&train.normalised(), &test.normalised(), classes, k, temperature, device);
        Ok(NetworkScores {
            knn_top1: knn.top1(),
            knn_top5: knn.top5(),
            linear_top1: linear.accuracy.top1(),
            linear_top5: linear.accuracy.top5(),
            linear_learning_rate: linear.learning_rate,
        })
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
