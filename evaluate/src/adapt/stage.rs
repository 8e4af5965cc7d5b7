//! The stage `adapt`: a run and a probe in, an adapted network a rung out.

use super::fit::{Fit, Rates, Task};
use super::heads::{Hidden, train_head};
use super::learned::Learned;
use super::limits;
use super::network::{Classifier, Head};
use super::rung::Rung;
use super::scores::Adapted;
use super::tune::{look, tune};
use crate::Result;
use crate::eval::{SCORES_FILE, warn_if_contaminated};
use crate::probes::{check_finite, held_out};
use burn::module::AutodiffModule;
use lapidary_pipeline::ImageStore;
use lapidary_pipeline::stage::{
    Layout, Opened, Outcome, Previous, Progress, StageRun, StageSpec, peak_memory_mib, reset_peak_memory, write_json,
};
use lapidary_schemas::config::AdaptConfig;
use lapidary_schemas::{Config, Manifest, Rows};
use lapidary_train::backend::{DeviceChoice, Program, run_on};
use lapidary_train::export::export_classifier;
use lapidary_train::model::{initialise, parameter_shapes, snapshot};
use lapidary_train::operators::TrainBackend;
use lapidary_train::probe::{Features, Labelled, Probe, features, stratified};
use lapidary_train::{FinishedRun, TrainError};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

/// Whose network is adapted to what, and how.
#[derive(Debug, Clone)]
pub struct AdaptRequest {
    /// The run's source.
    pub source: String,
    /// The run.
    pub run: String,
    /// The probe's source.
    pub probe: String,
    /// The rungs.
    pub rungs: Vec<Rung>,
    /// Where.
    pub device: DeviceChoice,
}

/// What became of a rung.
#[derive(Debug)]
pub struct RungDone {
    /// The rung.
    pub rung: Rung,
    /// Whether it ran.
    pub outcome: Outcome,
    /// Its folder.
    pub folder: PathBuf,
    /// Its manifest; none in a dry run.
    pub manifest: Option<Manifest>,
}

/// Adapts a run to a probe by each rung that is asked for, into `OUT/SOURCE/adapted/RUN/PROBE/RUNG`, the cheapest first.
///
/// # Errors
/// When run or probe are not there, the device cannot be used, or a loss is no number.
pub fn adapt(layout: &Layout, request: &AdaptRequest, config: &Config, dry_run: bool) -> Result<Vec<RungDone>> {
    limits::check(&config.adapt)?;
    crate::limits::check(&config.eval)?;
    let run = FinishedRun::open(layout, &request.source, &request.run)?;
    let probe = Probe::open(layout, &request.probe, &config.eval, config.seed)?;
    warn_if_contaminated(layout, &run, &probe.name);
    let labels = Labels::of(&probe, &config.adapt, config.seed);
    let mut rungs = request.rungs.clone();
    // A process's peak is known since it was reset, but pages that it has once held may stay with it.
    rungs.sort_unstable();
    rungs.dedup();
    let (mut all, mut frozen) = (Vec::new(), None);
    for rung in rungs {
        let folder = layout.adapted(&request.source, &run.name, &probe.name, rung.name());
        let spec = StageSpec {
            stage: "adapt",
            version: 1,
            out: layout.out.clone(),
            folder: folder.clone(),
            config: json!({
                "seed": config.seed,
                "rung": rung.name(),
                "adapt": rung.settings(&config.adapt),
                "eval": {"max_train": config.eval.max_train, "max_test": config.eval.max_test},
            }),
            inputs: BTreeMap::from([
                (layout.name_of(&probe.folder), probe.digest.clone()),
                (layout.name_of(&run.folder), run.manifest.digest.clone()),
            ]),
            resumable: false,
            previous: Previous::Kept,
        };
        let (outcome, manifest) = match spec.open(dry_run)? {
            Opened::UpToDate(manifest) => (Outcome::UpToDate, Some(*manifest)),
            Opened::DryRun => (Outcome::WouldRun, None),
            Opened::Run(stage) => {
                let store = ImageStore::open(&probe.folder)?;
                let climb = Climb {
                    rung,
                    run: &run,
                    probe: &probe,
                    labels: &labels,
                    store,
                    config,
                    frozen: &mut frozen,
                    stage,
                };
                // The program's own errors travel inside: run_on knows only the trainer's.
                (Outcome::Ran, Some(run_on(request.device, climb)??))
            }
        };
        all.push(RungDone { rung, outcome, folder, manifest });
    }
    Ok(all)
}

/// The labelled images that are learned from, and those that are held out.
struct Labels {
    learned: Vec<Labelled>,
    held: Vec<Labelled>,
}

impl Labels {
    fn of(probe: &Probe, config: &AdaptConfig, seed: u64) -> Self {
        let list = stratified(&probe.train, config.label_share, 0, seed);
        if config.held_out_share == 0.0 {
            return Self { learned: list, held: Vec::new() };
        }
        let classes: Vec<u32> = list.iter().map(|labelled| labelled.class).collect();
        let (held, learned) = held_out(&classes, config.held_out_share, seed);
        let of = |indices: Vec<usize>| indices.into_iter().map(|index| list[index]).collect();
        Self { learned: of(learned), held: of(held) }
    }
}

/// Features of the network as it was trained, and what computing them took.
struct FrozenInputs {
    learned: Features,
    held: Features,
    secs: f64,
}

/// A rung at work.
struct Climb<'a> {
    rung: Rung,
    run: &'a FinishedRun,
    probe: &'a Probe,
    labels: &'a Labels,
    store: ImageStore,
    config: &'a Config,
    /// Kept for the next rung.
    frozen: &'a mut Option<FrozenInputs>,
    stage: StageRun,
}

impl Program for Climb<'_> {
    type Output = Result<Manifest>;

    fn run<B: TrainBackend>(self, device: B::Device) -> Result<Self::Output, TrainError> {
        Ok(self.run_on_backend::<B>(&device))
    }
}

impl Climb<'_> {
    fn run_on_backend<B: TrainBackend>(mut self, device: &B::Device) -> Result<Manifest> {
        reset_peak_memory();
        let begun = Instant::now();
        let (fit, cached_secs) = self.climb::<B>(device)?;
        let (seconds, peak_mib) = (begun.elapsed().as_secs_f64() + cached_secs, peak_memory_mib());
        let network = Classifier { backbone: fit.best.backbone.clone().merged(), head: fit.best.head.clone() };
        let looked = look(&self.task(), &network, &self.probe.test, device)?;
        let (tensors, head) = (snapshot(&network.backbone), network.head.tensors());
        let classes = &self.probe.classes;
        let why_not = export_classifier(&tensors, &self.run.model, &head, classes, &self.stage.folder())?;
        let kept = fit.history.get(fit.best_epoch).and_then(|epoch| epoch.held_out_top1);
        let notes = self.notes(why_not);
        let adapted = Adapted {
            run: self.run.name.clone(),
            probe: self.probe.name.clone(),
            kind: self.rung.name().to_owned(),
            classes: classes.len(),
            labels: self.labels.learned.len(),
            held_out: self.labels.held.len(),
            test_images: self.probe.test.len(),
            parameters: count(&network),
            trainable_parameters: fit.trainable,
            steps: fit.steps,
            epochs: fit.history.len(),
            best_epoch: fit.best_epoch + 1,
            seconds,
            peak_mib,
            held_out_top1: kept,
            test_top1: looked.accuracy.top1(),
            test_top5: looked.accuracy.top5(),
            settings: self.settings(),
            history: fit.history,
            notes,
        };
        write_json(&self.stage.path(SCORES_FILE), &adapted)?;
        let images = (self.labels.learned.len() + self.labels.held.len() + self.probe.test.len()) as u64;
        let rejected = self.probe.unlabelled;
        let rows = Rows { input: images + rejected, output: images, rejected };
        Ok(self.stage.finish(rows, json!(adapted), &[SCORES_FILE])?)
    }

    fn task(&self) -> Task<'_> {
        Task {
            store: &self.store,
            model: &self.run.model,
            config: &self.config.adapt,
            seed: self.config.seed,
            classes: self.probe.classes.len(),
            learned: &self.labels.learned,
            held: &self.labels.held,
            feature_batch: self.config.eval.batch,
        }
    }

    /// The adapted classifier, its low-rank maps beside its weights; and seconds that an earlier rung has spent for it.
    fn climb<B: TrainBackend>(&mut self, device: &B::Device) -> Result<(Fit<Classifier<B::InnerBackend>>, f64)> {
        let (rung, name) = (self.rung, self.rung.name());
        let (run, whole) = (self.run, self.config);
        let (model, config) = (&run.model, &whole.adapt);
        if matches!(rung, Rung::Linear | Rung::Mlp | Rung::LpFt) {
            let cached_secs = self.compute_frozen::<B>(device)?;
            let frozen = self.frozen.as_ref().expect("computed just before");
            let hidden = (rung == Rung::Mlp).then(|| Hidden {
                width: if config.mlp_width == 0 { 2 * model.dim } else { config.mlp_width },
                dropout: config.mlp_dropout,
            });
            let task = self.task();
            let head = train_head::<B>(&task, (&frozen.learned, &frozen.held), hidden, name, device)?;
            let backbone = self.run.trained::<B::InnerBackend>(device)?.vit;
            let Fit { best, steps, best_epoch, history, trainable } = head;
            let network = Classifier { backbone, head: best };
            if rung != Rung::LpFt {
                return Ok((Fit { best: network, steps, best_epoch, history, trainable }, cached_secs));
            }
            let before = Fit { best: (), steps, best_epoch, history, trainable };
            let rates = Rates {
                backbone: config.lp_ft_learning_rate,
                head: config.lp_ft_learning_rate,
                layer_decay: 1.0,
                weight_decay: config.lp_ft_weight_decay,
                warmup_epochs: config.warmup_epochs,
            };
            let tuned = tune(&task, Classifier::<B>::from_inner(network), (Learned::All, rates), name, device)?;
            return Ok((tuned.after(before), cached_secs));
        }
        let mut backbone = self.run.trained::<B>(device)?.vit;
        let tuned_rates = |backbone: f64, layer_decay: f64| Rates {
            backbone,
            head: config.head_learning_rate,
            layer_decay,
            weight_decay: config.weight_decay,
            warmup_epochs: config.warmup_epochs,
        };
        let (learned, rates) = match rung {
            Rung::Lora => {
                backbone = backbone.with_lora(config.lora_rank, self.lora_alpha(), self.config.seed);
                (Learned::Lora, tuned_rates(config.lora_learning_rate, 1.0))
            }
            Rung::Unfreeze => {
                let learned = Learned::FromTheTop { every: config.unfreeze_epochs };
                (learned, tuned_rates(config.learning_rate, config.layer_decay))
            }
            _ => (Learned::All, tuned_rates(config.learning_rate, config.layer_decay)),
        };
        let head = initialise(Head::<B>::new(model.dim, None, self.probe.classes.len(), device), self.config.seed);
        let fit = tune(&self.task(), Classifier { backbone, head }, (learned, rates), name, device)?;
        Ok((fit, 0.0))
    }

    /// Computes the features that heads learn from, unless an earlier rung has; the seconds that it took then.
    fn compute_frozen<B: TrainBackend>(&mut self, device: &B::Device) -> Result<f64> {
        if let Some(frozen) = &*self.frozen {
            return Ok(frozen.secs);
        }
        let begun = Instant::now();
        let network = self.run.trained::<B::InnerBackend>(device)?;
        let of = |list: &[Labelled]| -> Result<Features> {
            let progress = Progress::new("features", list.len() as u64, "images");
            let batch = self.config.eval.batch;
            let features = features::compute(&self.store, list, &network, batch, |images| progress.add(images))?;
            check_finite("trained", list, &features)?;
            Ok(features)
        };
        let (learned, held) = (of(&self.labels.learned)?, of(&self.labels.held)?);
        *self.frozen = Some(FrozenInputs { learned, held, secs: begun.elapsed().as_secs_f64() });
        // This rung's own clock has seen it.
        Ok(0.0)
    }

    fn lora_alpha(&self) -> f64 {
        let config = &self.config.adapt;
        if config.lora_alpha > 0.0 { config.lora_alpha } else { config.lora_rank as f64 }
    }

    /// The numbers that the rung was made with.
    fn settings(&self) -> BTreeMap<String, f64> {
        let settings = self.rung.settings(&self.config.adapt);
        let numbers = settings.as_object().into_iter().flatten();
        let mut all: BTreeMap<String, f64> =
            numbers.filter_map(|(key, value)| Some((key.clone(), value.as_f64()?))).collect();
        all.entry("lora_alpha".to_owned()).and_modify(|alpha| *alpha = self.lora_alpha());
        all
    }

    fn notes(&self, why_not_timm: Option<String>) -> Vec<String> {
        let mut notes = Vec::new();
        if self.labels.held.is_empty() {
            notes.push("no label is held out: it ran all epochs and the last is kept".to_owned());
        }
        notes.extend(why_not_timm.map(|why| format!("its tensors have Lapidary's names: {why}")));
        notes
    }
}

/// Values of a network's parameters.
fn count<B: burn::tensor::backend::Backend>(network: &Classifier<B>) -> usize {
    parameter_shapes(network).iter().map(|(_, shape)| shape.iter().product::<usize>()).sum()
}
