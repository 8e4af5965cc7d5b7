//! The stage `pretrain`: a plan in, a run folder out, resumable at every checkpoint.

use crate::backend::{CPU, DeviceChoice, ParallelProgram, device_names, least_memory_mib, run_on_all};
use crate::checkpoint::{Checkpoint, FINAL, Keep, remove_halves, step_name};
use crate::dump::{self, Inputs};
use crate::extension::{EXTENDED_AFTER, Extension};
use crate::frozen_teacher::FrozenTeacher;
use crate::health::names::KNN_TOP1;
use crate::health::{Monitor, OnCollapse, Watch};
use crate::knn_watch::KnnWatch;
use crate::limits::{self, Planned};
use crate::memory::Needed;
use crate::metrics::{Clock, Metrics, Took};
use crate::operators::TrainBackend;
use crate::optimise::Schedule;
use crate::start::Start;
use crate::suitable::{refuse_devices, refuse_precision};
use crate::tensorboard::EVENTS_FILE;
use crate::trainer::{SKIPPED_STOP, Trainer};
use crate::upload::Batches;
use crate::writer::Writer;
use crate::{Result, TrainError};
use lapidary_pipeline::cli::to_toml;
use lapidary_pipeline::loader::{Loader, LoaderOptions};
use lapidary_pipeline::plan::PlanReader;
use lapidary_pipeline::sources::check_name;
use lapidary_pipeline::stage::{
    Layout, Opened, Outcome, Previous, Progress, StageRun, StageSpec, environment, require_manifest, short_key,
    write_json, write_synced,
};
use lapidary_pipeline::{ImageStore, PipelineError, interrupt};
use lapidary_schemas::config::{AugmentOn, PretrainConfig};
use lapidary_schemas::{Config, Manifest, Rows};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

/// The metrics of every step, one JSON object a line.
pub const METRICS_FILE: &str = "metrics.jsonl";
/// The folder of checkpoints.
pub const CHECKPOINTS: &str = "checkpoints";
/// Steps whose metrics are read at once on a device that is waited for.
const METRICS_STEPS: usize = 10;
/// Keys of `pretrain` that change neither the steps nor their results: no reason to train again. What a run starts from is an
/// input.
pub(crate) const RUNNING_KEYS: [&str; 9] = [
    "init_from",
    "checkpoint_steps",
    "keep_last",
    "metrics_steps",
    "health_steps",
    "watch",
    "watch_epochs",
    "prefetch_batches",
    "loader_threads",
];

/// How a run is run, which changes none of its results.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// Where: one device, or several, each of which takes its share of a batch through the backbone.
    pub devices: Vec<DeviceChoice>,
    /// Say what would be done, and do nothing.
    pub dry_run: bool,
    /// What to do when it collapses.
    pub on_collapse: OnCollapse,
}

/// Trains on a plan of a source into `OUT/SOURCE/runs/RUN`; by default the run is named by its objective, its plan and the
/// key of all its settings, so that runs of other settings lie beside it.
///
/// # Errors
/// When the plan is not there or too short, the device cannot be used, or training fails.
pub fn pretrain(
    layout: &Layout,
    source: &str,
    plan: &str,
    run: Option<&str>,
    config: &Config,
    options: RunOptions,
) -> Result<(Outcome, PathBuf, Option<Manifest>)> {
    let asked = Asked { layout, source, plan, run, is_plan_named: true };
    train(asked, config.clone(), None, options)
}

/// Trains a finished run for so many steps more (see `train/src/extension.rs`), on its own plan or on another.
///
/// # Errors
/// As [`pretrain`]; when there is no such run, or the configuration differs from the run's.
pub fn extend(
    layout: &Layout,
    source: &str,
    plan: Option<&str>,
    (run, more_steps): (&str, usize),
    config: &Config,
    options: RunOptions,
) -> Result<(Outcome, PathBuf, Option<Manifest>)> {
    let extension = Extension::open(layout, source, run)?;
    let config = extension.config(config, more_steps)?;
    let own = extension.plan(layout, source)?;
    let asked = Asked { layout, source, plan: plan.unwrap_or(&own), run: Some(run), is_plan_named: plan.is_some() };
    train(asked, config, Some(extension), options)
}

/// The configuration that [`extend`] would train by.
///
/// # Errors
/// When there is no such run, or the configuration differs from the run's.
pub fn extended_config(
    layout: &Layout,
    source: &str,
    (run, more_steps): (&str, usize),
    config: &Config,
) -> Result<Config> {
    Extension::open(layout, source, run)?.config(config, more_steps)
}

/// Which run, on which plan.
struct Asked<'a> {
    layout: &'a Layout,
    source: &'a str,
    plan: &'a str,
    run: Option<&'a str>,
    is_plan_named: bool,
}

fn train(
    asked: Asked<'_>,
    mut config: Config,
    extension: Option<Extension>,
    options: RunOptions,
) -> Result<(Outcome, PathBuf, Option<Manifest>)> {
    let Asked { layout, source, plan, run, is_plan_named } = asked;
    let plan_folder = layout.plan(source, plan);
    let plan_manifest = require_manifest(&plan_folder, "plan", "run `lapidary plan` first")?;
    let images = layout.images(source);
    let images_manifest = require_manifest(&images, "ingested images", "run `lapidary ingest --data DIR` first")?;
    // The views that were planned are the ones that are trained on.
    config.plan.views = serde_json::from_value(plan_manifest.config["view"].clone())
        .map_err(|e| PipelineError::format(&plan_folder, e))?;
    config.model = config.model.resolved();
    let fact = |name: &str| plan_manifest.facts[name].as_u64().unwrap_or(0) as usize;
    limits::check(&config, Planned { name: plan, images: fact("images"), epochs: fact("epochs") })?;
    let device = device_names(&options.devices)?;
    refuse_precision(&options.devices, &device, config.pretrain.precision)?;
    refuse_devices(options.devices.len(), &config)?;
    let watch = KnnWatch::open(layout, &config)?;
    let start = Start::of(layout, source, &config.pretrain.init_from, &config.model)?;
    let teacher = FrozenTeacher::of(layout, source, &config)?;
    if let Some(teacher) = &teacher {
        config.objective = teacher.resolved(&config.objective, fact("images"));
    }
    let mut pretrain = json!(config.pretrain);
    for key in RUNNING_KEYS {
        pretrain.as_object_mut().map(|table| table.remove(key));
    }
    if let Some(run) = run {
        check_name(run)?;
    }
    let mut settings = json!({
        "seed": config.seed, "model": config.model, "objective": config.objective, "pretrain": pretrain,
    });
    let mut inputs = BTreeMap::from([
        (layout.name_of(&images), images_manifest.digest),
        (layout.name_of(&plan_folder), plan_manifest.digest.clone()),
    ]);
    inputs.extend(start.iter().map(|start| start.input.clone()));
    inputs.extend(teacher.iter().map(FrozenTeacher::input));
    if let Some(extension) = &extension {
        settings[EXTENDED_AFTER] = extension.history();
        for (name, digest) in inputs.iter().filter(|_| !is_plan_named) {
            extension.check_input(name, digest)?;
        }
    }
    let mut spec = StageSpec {
        stage: "pretrain",
        version: 1,
        out: layout.out.clone(),
        folder: PathBuf::new(),
        config: settings,
        inputs,
        resumable: true,
        previous: Previous::Kept,
    };
    let default = || format!("{}-{plan}-{}", config.objective.kind.name(), short_key(&spec.key()));
    let folder = layout.run(source, &run.map_or_else(default, str::to_owned));
    spec.folder = folder.clone();
    let stage = match spec.open(options.dry_run)? {
        Opened::UpToDate(manifest) => return Ok((Outcome::UpToDate, folder, Some(*manifest))),
        Opened::DryRun => return Ok((Outcome::WouldRun, folder, None)),
        Opened::Run(stage) => stage,
    };
    let store = ImageStore::open(&images)?;
    let reader = PlanReader::open(&plan_folder, &plan_manifest, &store, config.pretrain.batch)?;
    let steps = if config.pretrain.steps == 0 { reader.steps() } else { config.pretrain.steps };
    let inputs = Inputs { images, plan_folder, plan_manifest };
    let on_collapse = options.on_collapse;
    let (needed, batch) = (Needed::of(&config), config.pretrain.batch);
    let program =
        Run { config, reader, store, inputs, start, watch, teacher, steps, extension, device, on_collapse, stage };
    let manifest = run_on_all(&options.devices, program).map_err(|error| match error {
        TrainError::DeviceLost { device, detail, .. } => {
            let said = needed.said(batch, options.devices.len(), least_memory_mib(&options.devices));
            let advice =
                format!("; {said}\nhint: pretrain.accumulate and pretrain.recompute_blocks need less, for more time");
            TrainError::DeviceLost { device, detail, advice }
        }
        other => other,
    })?;
    Ok((Outcome::Ran, folder, Some(manifest)))
}

struct Run {
    config: Config,
    reader: PlanReader,
    store: ImageStore,
    inputs: Inputs,
    start: Option<Start>,
    watch: Option<KnnWatch>,
    teacher: Option<FrozenTeacher>,
    steps: usize,
    extension: Option<Extension>,
    device: String,
    on_collapse: OnCollapse,
    stage: StageRun,
}

impl ParallelProgram for Run {
    type Output = Manifest;

    fn run_on_all<B: TrainBackend>(self, devices: Vec<B::Device>) -> Result<Manifest> {
        let Self { config, reader, store, inputs, start, watch, teacher, steps, extension, on_collapse, stage, .. } =
            self;
        let (device_name, device) = (self.device, devices[0].clone());
        let per_epoch = reader.steps_per_epoch();
        let schedule = Schedule::new(&config.pretrain, &config.objective, steps, per_epoch);
        let (warmup_steps, note) = (schedule.warmup_steps(), schedule.note());
        if let Some(note) = &note {
            tracing::warn!("{note}");
        }
        let checkpoints = stage.path(CHECKPOINTS);
        remove_halves(&checkpoints)?;
        let mut trainer = Trainer::<B>::new(&config, schedule, &device).spread_over(devices);
        if trainer.collective() == "threads" && device_name.starts_with("cuda") {
            tracing::warn!(
                "the devices reach each other by way of the host: one is named twice, or libnccl.so does not load"
            );
        }
        if let Some(teacher) = &teacher {
            trainer = trainer.distil_from(teacher.vit(&device)?, teacher.digest());
        }
        if let Some(checkpoint) = Checkpoint::latest(&checkpoints) {
            trainer = trainer.restore(&checkpoint, &checkpoints)?;
            tracing::info!("resuming after step {} of {steps}", trainer.step());
        } else if let Some(extension) = &extension {
            trainer = trainer.restore(&extension.begin(&stage.folder())?, &checkpoints)?;
            tracing::info!("extending a run of {} steps to {steps}", trainer.step());
        } else if let Some(start) = &start {
            trainer = trainer.start_from(&start.tensors)?;
            tracing::info!("the backbone starts from `{}`", start.name);
        }
        let started_from = start.map(|start| start.name);
        let distilled_from = teacher.map(|teacher| teacher.name().to_owned());
        write_run_files(&stage, &config, &device_name)?;
        let first = trainer.step();
        let mut metrics = Metrics::open(&stage.path(METRICS_FILE), first)?;
        let health = Watch::new(&config, steps, per_epoch);
        let mut monitor = Monitor::open(&stage.folder(), &stage.path(METRICS_FILE), health, on_collapse)?;
        let options = loader_options(&config.pretrain);
        let loader = Loader::start(store, reader, trainer.reads(), first..steps, options)?;
        let mut batches = Batches::start(loader, trainer.uploader().clone())?;
        let every_steps = config.pretrain.keep_every_epochs * per_epoch;
        let mut writer = Writer::new(&checkpoints, Keep { last: config.pretrain.keep_last, every_steps });
        let progress = Progress::new("pretrain", steps as u64, "steps");
        progress.begin_at(first as u64);
        if config.pretrain.metrics_steps == 0 {
            trainer.set_metrics_steps(if device_name.starts_with(CPU) { 1 } else { METRICS_STEPS });
        }
        let mut clock = Clock::default();
        let (mut is_due, mut final_score) = (false, None);
        while trainer.step() < steps {
            // The steps that are read together share their time.
            let (begun, mut waited_secs, mut taken) = (Instant::now(), 0.0, Vec::new());
            let (reports, is_interrupted) = loop {
                if interrupt::check().is_err() {
                    break (trainer.read(), true);
                }
                let waiting = Instant::now();
                let Some(batch) = batches.next()? else {
                    return Err(PipelineError::Internal(format!("the loader ended before step {steps}")).into());
                };
                waited_secs += waiting.elapsed().as_secs_f64();
                let next = trainer.step() + 1;
                taken.push(trainer.step());
                let is_watched = watch.as_ref().is_some_and(|watch| watch.is_due(next, steps, per_epoch));
                let is_read_now = next == steps || is_watched || next.is_multiple_of(config.pretrain.checkpoint_steps);
                let reports = trainer.advance(batch, is_read_now);
                if !reports.is_empty() {
                    break (reports, false);
                }
            };
            let shared = |secs: f64| secs / reports.len().max(1) as f64;
            let took = Took { secs: shared(begun.elapsed().as_secs_f64()), waited_secs: shared(waited_secs) };
            let watch = watch.as_ref().filter(|watch| watch.is_due(trainer.step(), steps, per_epoch));
            let watch = watch.filter(|_| !is_interrupted);
            let score = watch.map(|watch| watch.top1(&trainer.backbone(), &device)).transpose();
            let score = unless_interrupted(score)?;
            let batch = config.pretrain.batch;
            let last = taken.last().copied();
            let mut is_skipped = false;
            for (step, mut report) in taken.into_iter().zip(reports) {
                clock.note(step - first, took);
                if let Some(top1) = score.filter(|_| Some(step) == last) {
                    report.metrics.insert(KNN_TOP1.to_owned(), top1);
                    tracing::info!(
                        "k-NN on `{}` after step {}: {:.1} %",
                        config.pretrain.watch,
                        step + 1,
                        100.0 * top1
                    );
                }
                monitor.note(&metrics.write(step, step / per_epoch, &report, batch, took)?)?;
                let images_per_sec = clock.steps_per_sec() * batch as f64;
                progress.add_with(1, || format!("loss {:.4}, {images_per_sec:.0} images/s", report.loss));
                is_skipped = report.skipped;
                if is_skipped {
                    tracing::warn!("step {step} is skipped: its loss or its gradients are not finite");
                    let in_a_row = trainer.skipped().in_a_row;
                    if in_a_row >= SKIPPED_STOP && step + 1 == trainer.step() {
                        metrics.sync()?;
                        let dump = stage.path(&dump::name(step));
                        dump::write(&dump, &config, &inputs, &trainer, (step, steps, per_epoch), &report)?;
                        return Err(TrainError::NotFinite { step, in_a_row, dump });
                    }
                }
            }
            let stop = if is_interrupted {
                Some(PipelineError::Interrupted.into())
            } else {
                last.and_then(|step| monitor.stop(step))
            };
            if let Some(stop) = stop {
                metrics.sync()?;
                writer.write(trainer.snapshot(), step_name(trainer.step()), None)?;
                writer.finish()?;
                return Err(stop);
            }
            // After a skipped step there is nothing new to keep, and older states are worth more than one that may be broken.
            is_due |= trainer.step().is_multiple_of(config.pretrain.checkpoint_steps) || score.is_some();
            final_score = score;
            if is_due && !is_skipped && trainer.step() < steps {
                is_due = false;
                metrics.sync()?;
                writer.write(trainer.snapshot(), step_name(trainer.step()), score)?;
            }
        }
        drop((progress, batches));
        metrics.sync()?;
        writer.write(trainer.snapshot(), FINAL.to_owned(), final_score)?;
        writer.finish()?;
        let images = (steps * config.pretrain.batch) as u64;
        let facts = json!({
            "steps": steps,
            "epochs": steps as f64 / per_epoch as f64,
            "device": device_name,
            "collective": trainer.collective(),
            "init_from": started_from,
            "distill_from": distilled_from,
            "last": metrics.last,
            "warmup_steps": warmup_steps,
            "schedule_note": note,
            "skipped_steps": trainer.skipped().steps,
            "watch": watch.as_ref().map(|_| &config.pretrain.watch),
            "steps_per_sec": clock.steps_per_sec(),
            "images_per_sec": clock.steps_per_sec() * config.pretrain.batch as f64,
            "data_wait_share": clock.wait_share(),
            "verdicts": monitor.verdicts(),
        });
        let rows = Rows { input: images, output: images, rejected: 0 };
        // A dump is of a stop that the run has come past since.
        let mut varying = vec![METRICS_FILE.to_owned(), "environment.json".to_owned(), "config.toml".to_owned()];
        varying.push(EVENTS_FILE.to_owned());
        varying.extend(dump::files(&stage.folder())?);
        Ok(stage.finish(rows, facts, &varying.iter().map(String::as_str).collect::<Vec<_>>())?)
    }
}

/// A measure that the user interrupts is left out: the loop sees to the interruption itself, with a checkpoint.
fn unless_interrupted(score: Result<Option<f64>>) -> Result<Option<f64>> {
    match score {
        Err(TrainError::Pipeline(PipelineError::Interrupted)) => Ok(None),
        other => other,
    }
}

/// How a run's batches are loaded.
pub(crate) fn loader_options(config: &PretrainConfig) -> LoaderOptions {
    LoaderOptions {
        prefetch: config.prefetch_batches,
        threads: config.loader_threads,
        crops_only: config.augment == AugmentOn::Device,
        scaled_decode: config.scaled_decode,
    }
}

fn write_run_files(stage: &StageRun, config: &Config, device: &str) -> Result<()> {
    write_synced(&stage.path("config.toml"), to_toml(config).as_bytes())?;
    let mut environment = environment();
    environment["device"] = json!(device);
    Ok(write_json(&stage.path("environment.json"), &environment)?)
}
