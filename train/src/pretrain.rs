//! The stage `pretrain`: a plan in, a run folder out, resumable at every checkpoint.

use crate::backend::{DeviceChoice, Program, device_name, run_on};
use crate::checkpoint::{Checkpoint, FINAL, Keep, remove_halves, step_name};
use crate::dump::{self, Inputs};
use crate::limits::{self, Planned};
use crate::metrics::{Clock, Metrics, Took};
use crate::optimise::Schedule;
use crate::start::Start;
use crate::trainer::Trainer;
use crate::writer::Writer;
use crate::{Result, TrainError};
use burn::tensor::backend::AutodiffBackend;
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
/// So many skipped steps in a row stop a run.
const SKIPPED_STOP: usize = 3;

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
    device: DeviceChoice,
    dry_run: bool,
) -> Result<(Outcome, PathBuf, Option<Manifest>)> {
    let plan_folder = layout.plan(source, plan);
    let plan_manifest = require_manifest(&plan_folder, "plan", "run `lapidary plan` first")?;
    let images = layout.images(source);
    let images_manifest = require_manifest(&images, "ingested images", "run `lapidary ingest --data DIR` first")?;
    let mut config = config.clone();
    // The views that were planned are the ones that are trained on.
    config.plan.views = serde_json::from_value(plan_manifest.config["view"].clone())
        .map_err(|e| PipelineError::format(&plan_folder, e))?;
    config.model = config.model.resolved();
    let fact = |name: &str| plan_manifest.facts[name].as_u64().unwrap_or(0) as usize;
    limits::check(&config, Planned { name: plan, images: fact("images"), epochs: fact("epochs") })?;
    let start = Start::of(layout, source, &config.pretrain.init_from, &config.model)?;
    let mut pretrain = json!(config.pretrain);
    // What changes neither the steps nor their results is no reason to train again; what a run starts from is an input.
    for key in ["init_from", "checkpoint_steps", "keep_last", "prefetch_batches", "loader_threads"] {
        pretrain.as_object_mut().map(|table| table.remove(key));
    }
    if let Some(run) = run {
        check_name(run)?;
    }
    let mut spec = StageSpec {
        stage: "pretrain",
        version: 1,
        out: layout.out.clone(),
        folder: PathBuf::new(),
        config: json!({
            "seed": config.seed, "model": config.model, "objective": config.objective, "pretrain": pretrain,
        }),
        inputs: BTreeMap::from_iter(
            [
                (layout.name_of(&images), images_manifest.digest),
                (layout.name_of(&plan_folder), plan_manifest.digest.clone()),
            ]
            .into_iter()
            .chain(start.iter().map(|start| start.input.clone())),
        ),
        resumable: true,
        previous: Previous::Kept,
    };
    let default = || format!("{}-{plan}-{}", config.objective.kind.name(), short_key(&spec.key()));
    let folder = layout.run(source, &run.map_or_else(default, str::to_owned));
    spec.folder = folder.clone();
    let stage = match spec.open(dry_run)? {
        Opened::UpToDate(manifest) => return Ok((Outcome::UpToDate, folder, Some(*manifest))),
        Opened::DryRun => return Ok((Outcome::WouldRun, folder, None)),
        Opened::Run(stage) => stage,
    };
    let store = ImageStore::open(&images)?;
    let reader = PlanReader::open(&plan_folder, &plan_manifest, &store, config.pretrain.batch)?;
    let steps = if config.pretrain.steps == 0 { reader.steps() } else { config.pretrain.steps };
    let inputs = Inputs { images, plan_folder, plan_manifest };
    let program = Run { config, reader, store, inputs, start, steps, device: device_name(device)?, stage };
    let manifest = run_on(device, program)?;
    Ok((Outcome::Ran, folder, Some(manifest)))
}

struct Run {
    config: Config,
    reader: PlanReader,
    store: ImageStore,
    inputs: Inputs,
    start: Option<Start>,
    steps: usize,
    device: String,
    stage: StageRun,
}

impl Program for Run {
    type Output = Manifest;

    fn run<B: AutodiffBackend>(self, device: B::Device) -> Result<Manifest> {
        let Self { config, reader, store, inputs, start, steps, device: device_name, stage } = self;
        let per_epoch = reader.steps_per_epoch();
        let schedule = Schedule::new(&config.pretrain, &config.objective, steps, per_epoch);
        let checkpoints = stage.path(CHECKPOINTS);
        remove_halves(&checkpoints)?;
        let mut trainer = Trainer::<B>::new(&config, schedule, &device);
        if let Some(checkpoint) = Checkpoint::latest(&checkpoints) {
            trainer = trainer.restore(&checkpoint, &checkpoints)?;
            tracing::info!("resuming after step {} of {steps}", trainer.step());
        } else if let Some(start) = &start {
            trainer = trainer.start_from(&start.tensors)?;
            tracing::info!("the backbone starts from `{}`", start.name);
        }
        let started_from = start.map(|start| start.name);
        write_run_files(&stage, &config, &device_name)?;
        let first = trainer.step();
        let mut metrics = Metrics::open(&stage.path(METRICS_FILE), first)?;
        let options = loader_options(&config.pretrain);
        let mut loader = Loader::start(store, reader, trainer.reads(), first..steps, options)?;
        let every_steps = config.pretrain.keep_every_epochs * per_epoch;
        let mut writer = Writer::new(&checkpoints, Keep { last: config.pretrain.keep_last, every_steps });
        let progress = Progress::new("pretrain", steps as u64, "steps");
        progress.add(first as u64);
        let mut clock = Clock::default();
        let mut is_due = false;
        while trainer.step() < steps {
            if let Err(interrupted) = interrupt::check() {
                metrics.sync()?;
                writer.write(trainer.snapshot(), step_name(trainer.step()), None)?;
                writer.finish()?;
                return Err(interrupted.into());
            }
            let begun = Instant::now();
            let Some(batch) = loader.next_batch()? else {
                return Err(PipelineError::Internal(format!("the loader ended before step {steps}")).into());
            };
            let waited_secs = begun.elapsed().as_secs_f64();
            let step = trainer.step();
            let report = trainer.train(batch);
            let took = Took { secs: begun.elapsed().as_secs_f64(), waited_secs };
            clock.note(step - first, took);
            metrics.write(step, step / per_epoch, &report, config.pretrain.batch, took)?;
            progress.add_with(1, || format!("loss {:.4}", report.loss));
            if report.skipped {
                tracing::warn!("step {step} is skipped: its loss or its gradients are not finite");
                let in_a_row = trainer.skipped().in_a_row;
                if in_a_row >= SKIPPED_STOP {
                    metrics.sync()?;
                    let dump = stage.path(&dump::name(step));
                    dump::write(&dump, &config, &inputs, &trainer, (step, steps, per_epoch), &report)?;
                    return Err(TrainError::NotFinite { step, in_a_row, dump });
                }
            }
            // After a skipped step there is nothing new to keep, and older states are worth more than one that may be broken.
            is_due |= trainer.step().is_multiple_of(config.pretrain.checkpoint_steps);
            if is_due && !report.skipped && trainer.step() < steps {
                is_due = false;
                metrics.sync()?;
                writer.write(trainer.snapshot(), step_name(trainer.step()), None)?;
            }
        }
        drop((progress, loader));
        metrics.sync()?;
        writer.write(trainer.snapshot(), FINAL.to_owned(), None)?;
        writer.finish()?;
        let images = (steps * config.pretrain.batch) as u64;
        let facts = json!({
            "steps": steps,
            "epochs": steps as f64 / per_epoch as f64,
            "device": device_name,
            "init_from": started_from,
            "last": metrics.last,
            "skipped_steps": trainer.skipped().steps,
            "steps_per_sec": clock.steps_per_sec(),
            "images_per_sec": clock.steps_per_sec() * config.pretrain.batch as f64,
            "data_wait_share": clock.wait_share(),
        });
        let rows = Rows { input: images, output: images, rejected: 0 };
        // A dump is of a stop that the run has come past since.
        let mut varying = vec![METRICS_FILE.to_owned(), "environment.json".to_owned(), "config.toml".to_owned()];
        varying.extend(dump::files(&stage.folder())?);
        Ok(stage.finish(rows, facts, &varying.iter().map(String::as_str).collect::<Vec<_>>())?)
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
