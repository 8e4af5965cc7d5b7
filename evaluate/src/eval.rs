//! The stage `eval`: a run and a probe in; scores, the lists of labels that they were learned from and attention maps out, the
//! untrained twin beside the trained network.

use crate::dense::DenseProbe;
use crate::geometry::{Geometry, view_features};
use crate::measures::{CopySearch, LabelSets, copy_measures, multi_label_map, retrieval_measures};
use crate::probes::{Crops, FrozenFeatures, LABELS, LabelList, LastBlocks, blocks_read, check_finite, linear_probes};
use crate::read::Reader;
use crate::robustness::{RobustnessProbe, write_robustness};
use crate::scores::{NetworkScores, Scores};
use crate::seeing::Seeing;
use crate::{Result, limits, video};
use lapidary_pipeline::sources::Reject;
use lapidary_pipeline::stage::{
    Layout, Opened, Outcome, Previous, Progress, StageRun, StageSpec, ancestor, write_json,
};
use lapidary_pipeline::{ImageStore, write_rejects};
use lapidary_schemas::config::EvalConfig;
use lapidary_schemas::{Config, Manifest, Rows};
use lapidary_train::backend::{DeviceChoice, Program, run_on};
use lapidary_train::operators::{Operators, TrainBackend};
use lapidary_train::probe::{Features, Labelled, Probe, stratified};
use lapidary_train::{FinishedRun, FrozenVit, TrainError};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What the trained network is called.
const TRAINED: &str = "trained";
const UNTRAINED: &str = "untrained";
/// The scores of a probe.
pub const SCORES_FILE: &str = "scores.json";

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
        version: 4,
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
    fn run_on_backend<B: Operators>(mut self, device: &B::Device) -> Result<Manifest> {
        let (trained, untrained) = (self.run.trained::<B>(device)?, self.run.untrained::<B>(device));
        let (of_trained, rejects) = self.read(TRAINED, &trained)?;
        self.check_what_is_left(&rejects)?;
        let lists = Lists::of(&self.probe, &self.config, self.seed)?;
        let shared = Shared::open(&self, &trained)?;
        let trained_scores = self.scores((TRAINED, &trained), &of_trained, (&lists, &shared), device)?;
        drop(of_trained);
        // What does not decode is gone from the lists already.
        let (of_untrained, _) = self.read(UNTRAINED, &untrained)?;
        let scores = Scores {
            run: self.run.name.clone(),
            probe: self.probe.name.clone(),
            classes: self.probe.classes.len(),
            train_images: self.probe.train.len(),
            linear_labels: lists.quick.indices.len(),
            test_images: self.probe.test.len(),
            chance_top1: self.chance(),
            trained: trained_scores,
            untrained: self.scores((UNTRAINED, &untrained), &of_untrained, (&lists, &shared), device)?,
        };
        lists.write(&self.probe, &self.stage.path(LABELS))?;
        write_json(&self.stage.path(SCORES_FILE), &scores)?;
        let networks = [(TRAINED, &scores.trained), (UNTRAINED, &scores.untrained)];
        let robustness: Vec<_> =
            networks.iter().filter_map(|(name, of)| Some((*name, of.robustness.as_ref()?))).collect();
        if !robustness.is_empty() {
            write_robustness(&self.stage.folder(), &robustness)?;
        }
        let count = (self.probe.train.len() + self.probe.test.len()) as u64;
        // Images without a label are the probe's rejects, and those that no longer decode.
        let rejected = self.probe.unlabelled + rejects.len() as u64;
        if !rejects.is_empty() {
            write_rejects(&mut self.stage, &rejects)?;
        }
        let rows = Rows { input: count + rejected, output: count, rejected };
        Ok(self.stage.finish(rows, json!(scores), &[])?)
    }

    /// What a network makes of the train and the test images; those that do not decode leave the probe.
    fn read<B: Operators>(
        &mut self,
        name: &'static str,
        network: &FrozenVit<B>,
    ) -> Result<((Features, LastBlocks), Vec<Reject>)> {
        let reader = Reader { store: &self.store, network: (name, network), batch: self.config.batch };
        let (train, mut rejects) = reader.class_tokens(&mut self.probe.train)?;
        let blocks = blocks_read(&self.config, network.depth()).max(1);
        let (test, of_test) = reader.last_blocks(&mut self.probe.test, blocks)?;
        rejects.extend(of_test);
        Ok(((train, test), rejects))
    }

    /// Says what was set aside, and refuses a probe of which too little is left.
    fn check_what_is_left(&self, rejects: &[Reject]) -> Result<()> {
        let Some(first) = rejects.first() else { return Ok(()) };
        let (probe, count) = (&self.probe, rejects.len());
        tracing::warn!(
            "{count} images of probe `{}` no longer decode and are set aside; the first is {} ({}: {})\nhint: ingest it again",
            probe.name,
            first.path,
            first.reason.text(),
            first.detail
        );
        probe.check_learnable().map_err(|why| {
            let detail = format!("{why}, since {count} images no longer decode\nhint: ingest it again");
            TrainError::Probe { probe: probe.name.clone(), detail }.into()
        })
    }

    /// Share of the test images' most frequent class.
    fn chance(&self) -> f64 {
        let mut counts = vec![0usize; self.probe.classes.len()];
        self.probe.test.iter().for_each(|l| counts[l.class as usize] += 1);
        counts.into_iter().max().unwrap_or(0) as f64 / self.probe.test.len() as f64
    }

    fn scores<B: Operators>(
        &self,
        (name, network): (&'static str, &FrozenVit<B>),
        (train, last_blocks): &(Features, LastBlocks),
        (lists, shared): (&Lists, &Shared),
        device: &B::Device,
    ) -> Result<NetworkScores> {
        let (probe, config, seed) = (&self.probe, &self.config, self.seed);
        let test = &last_blocks.class_tokens();
        let classes = probe.classes.len();
        let frozen = FrozenFeatures { train, test, classes, config, seed };
        let knn = frozen.knn::<B>(device);
        let quick = frozen.quick::<B>(&lists.quick, device);
        let mut probes = knn.clone();
        probes.push(quick.clone());
        probes.extend(frozen.by_labels(&lists.others)?);
        if config.mlp.steps > 0 {
            probes.push(frozen.mlp::<B>(device)?);
        }
        if blocks_read(config, network.depth()) > 0 {
            let (store, batch, blocks) = (&self.store, config.batch, last_blocks.blocks);
            let interpolation = config.crops.interpolation;
            let crops =
                Crops { store, list: &probe.train, network: (name, network), blocks, batch, interpolation, seed };
            let read = |indices: &[usize]| {
                let mut list: Vec<Labelled> = indices.iter().map(|index| probe.train[*index]).collect();
                Ok(Reader { store, network: (name, network), batch }.last_blocks(&mut list, blocks)?.0)
            };
            probes.extend(linear_probes(&crops, last_blocks, (classes, config), device, read)?);
        }
        let mut measures = Vec::new();
        if let Some(sets) = &lists.sets {
            measures.push(multi_label_map((train, test), sets, classes, config, seed)?);
        }
        if config.retrieval_images > 0 {
            measures.extend(retrieval_measures((train, test), &probe.test, config.retrieval_images, seed));
        }
        if config.copy_images > 0 {
            let (store, images, batch) = (&self.store, config.copy_images, config.batch);
            let search = CopySearch { store, test: &probe.test, images, batch, seed };
            measures.extend(copy_measures(&search, (name, network))?);
        }
        if let Some(dense) = &shared.dense {
            measures.extend(dense.measures(network, device)?);
        }
        measures.extend(video::measures(network, config, seed)?);
        let robustness = shared.robustness.as_ref().map(|shared| shared.measure(network, train, config, device));
        if name == TRAINED {
            let folder = &self.stage.folder();
            let seeing = Seeing { store: &self.store, probe, config, seed, folder };
            seeing.write(network, (train, test), device)?;
        }
        let headline = knn.first().expect("one k at least: checked by limits::check");
        Ok(NetworkScores {
            knn_top1: headline.top1,
            knn_top5: headline.top5,
            linear_top1: quick.top1,
            linear_top5: quick.top5,
            linear_learning_rate: quick.settings["learning_rate"],
            probes,
            measures,
            geometry: Some(self.geometry(name, network, test)?),
            robustness: robustness.transpose()?,
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
}

/// Images that are prepared once for both networks.
struct Shared {
    dense: Option<DenseProbe>,
    robustness: Option<RobustnessProbe>,
}

impl Shared {
    fn open<B: Operators>(eval: &Eval, network: &FrozenVit<B>) -> Result<Self> {
        let Eval { store, probe, config, seed, .. } = eval;
        let dense = DenseProbe::open(store, probe, config, *seed, network)?;
        let robustness = RobustnessProbe::open(store, &probe.test, probe.classes.len(), config, *seed, network)?;
        Ok(Self { dense, robustness })
    }
}

/// The lists of labels that probes learn from.
struct Lists {
    quick: LabelList,
    others: Vec<LabelList>,
    /// All classes of each image, where images have several.
    sets: Option<LabelSets>,
}

impl Lists {
    fn of(probe: &Probe, config: &EvalConfig, seed: u64) -> Result<Self> {
        let shares = config.label_shares.iter().map(|share| LabelList::share(probe, *share, seed));
        let per_class = config.labels_per_class.iter().map(|count| LabelList::per_class(probe, *count, seed));
        let quick = LabelList::share(probe, config.label_share, seed);
        Ok(Self { quick, others: shares.chain(per_class).collect(), sets: LabelSets::of(probe)? })
    }

    fn write(&self, probe: &Probe, folder: &Path) -> Result<()> {
        std::iter::once(&self.quick).chain(&self.others).try_for_each(|list| list.write(probe, folder))
    }
}
