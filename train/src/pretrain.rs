//! The stage `pretrain`: a plan in, a run folder out, resumable at every checkpoint.

use crate::backend::{DeviceChoice, Program, device_name, run_on};
use crate::checkpoint::{Checkpoint, FINAL, prune, step_name};
use crate::optimise::Schedule;
use crate::trainer::{StepReport, Trainer};
use crate::{Result, model};
use burn::tensor::backend::AutodiffBackend;
use lapidary_pipeline::cli::to_toml;
use lapidary_pipeline::loader::{Loader, LoaderOptions};
use lapidary_pipeline::plan::PlanReader;
use lapidary_pipeline::stage::{
    Layout, Opened, Outcome, Previous, Progress, StageRun, StageSpec, environment, require_manifest, short_key,
    write_json,
};
use lapidary_pipeline::{ImageStore, PipelineError, interrupt};
use lapidary_schemas::config::{AugmentOn, ObjectiveKind};
use lapidary_schemas::{Config, Manifest, Rows};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The metrics of every step, one JSON object a line.
pub const METRICS_FILE: &str = "metrics.jsonl";
/// The folder of checkpoints.
pub const CHECKPOINTS: &str = "checkpoints";

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
    model::check(&config.model, &config.plan)?;
    let mut pretrain = json!(config.pretrain);
    // What changes neither the steps nor their results is no reason to train again.
    for key in ["checkpoint_steps", "prefetch_batches", "loader_threads"] {
        pretrain.as_object_mut().map(|table| table.remove(key));
    }
    let mut spec = StageSpec {
        stage: "pretrain",
        version: 1,
        out: layout.out.clone(),
        folder: PathBuf::new(),
        config: json!({
            "seed": config.seed, "model": config.model, "objective": config.objective, "pretrain": pretrain,
        }),
        inputs: BTreeMap::from([
            (layout.name_of(&images), images_manifest.digest),
            (layout.name_of(&plan_folder), plan_manifest.digest.clone()),
        ]),
        resumable: true,
        previous: Previous::Kept,
    };
    let default = || format!("{}-{plan}-{}", kind_name(config.objective.kind), short_key(&spec.key()));
    let folder = layout.run(source, &run.map_or_else(default, str::to_owned));
    spec.folder = folder.clone();
    let stage = match spec.open(dry_run)? {
        Opened::UpToDate(manifest) => return Ok((Outcome::UpToDate, folder, Some(*manifest))),
        Opened::DryRun => return Ok((Outcome::WouldRun, folder, None)),
        Opened::Run(stage) => stage,
    };
    let store = ImageStore::open(&images)?;
    let reader = PlanReader::open(&plan_folder, &plan_manifest, &store, config.pretrain.batch)?;
    let planned = reader.steps();
    let steps = if config.pretrain.steps == 0 { planned } else { config.pretrain.steps };
    if steps > planned {
        let text = format!("pretrain.steps = {steps}, but the plan holds {planned}\nhint: plan more with plan.epochs");
        return Err(PipelineError::Usage(text).into());
    }
    let program = Run { config, reader, store, steps, device: device_name(device)?, stage };
    let manifest = run_on(device, program)?;
    Ok((Outcome::Ran, folder, Some(manifest)))
}

fn kind_name(kind: ObjectiveKind) -> &'static str {
    match kind {
        ObjectiveKind::Dino => "dino",
        ObjectiveKind::BarlowTwins => "barlow-twins",
        ObjectiveKind::Hybrid => "hybrid",
    }
}

struct Run {
    config: Config,
    reader: PlanReader,
    store: ImageStore,
    steps: usize,
    device: String,
    stage: StageRun,
}

impl Program for Run {
    type Output = Manifest;

    fn run<B: AutodiffBackend>(self, device: B::Device) -> Result<Manifest> {
        let Self { config, reader, store, steps, device: device_name, stage } = self;
        let per_epoch = reader.steps_per_epoch();
        let schedule = Schedule::new(&config.pretrain, &config.objective, steps, per_epoch);
        let checkpoints = stage.path(CHECKPOINTS);
        let mut trainer = Trainer::<B>::new(&config, schedule, &device);
        if let Some(checkpoint) = Checkpoint::latest(&checkpoints) {
            trainer = trainer.restore(&checkpoint, &checkpoints)?;
            tracing::info!("going on after step {} of {steps}", trainer.step());
        }
        write_run_files(&stage, &config, &device_name)?;
        let first = trainer.step();
        let mut metrics = Metrics::open(&stage.path(METRICS_FILE), first)?;
        let options = LoaderOptions {
            prefetch: config.pretrain.prefetch_batches,
            threads: config.pretrain.loader_threads,
            crops_only: config.pretrain.augment == AugmentOn::Device,
            scaled_decode: config.pretrain.scaled_decode,
        };
        let mut loader = Loader::start(store, reader, trainer.reads(), first..steps, options)?;
        let progress = Progress::new("pretrain", steps as u64, "steps");
        progress.add(first as u64);
        let mut clock = Clock::default();
        while trainer.step() < steps {
            if let Err(interrupted) = interrupt::check() {
                trainer.checkpoint().save(&checkpoints, &step_name(trainer.step()))?;
                return Err(interrupted.into());
            }
            let begun = Instant::now();
            let Some(batch) = loader.next_batch()? else {
                return Err(PipelineError::Internal(format!("the loader ended before step {steps}")).into());
            };
            let waited = begun.elapsed().as_secs_f64();
            let step = trainer.step();
            let report = trainer.train(batch)?;
            let took = begun.elapsed().as_secs_f64();
            clock.note(step - first, waited, took);
            metrics.write(step, step / per_epoch, &report, config.pretrain.batch, waited, took)?;
            progress.add_with(1, || format!("loss {:.4}", report.loss));
            if trainer.step().is_multiple_of(config.pretrain.checkpoint_steps.max(1)) && trainer.step() < steps {
                trainer.checkpoint().save(&checkpoints, &step_name(trainer.step()))?;
                prune(&checkpoints)?;
            }
        }
        drop((progress, loader));
        trainer.checkpoint().save(&checkpoints, FINAL)?;
        prune(&checkpoints)?;
        let images = (steps * config.pretrain.batch) as u64;
        let facts = json!({
            "steps": steps,
            "epochs": steps as f64 / per_epoch as f64,
            "device": device_name,
            "last": metrics.last,
            "steps_per_sec": clock.steps_per_sec(),
            "images_per_sec": clock.steps_per_sec() * config.pretrain.batch as f64,
            "data_wait_share": clock.wait_share(),
        });
        let rows = Rows { input: images, output: images, rejected: 0 };
        Ok(stage.finish(rows, facts, &[METRICS_FILE, "environment.json", "config.toml"])?)
    }
}

fn write_run_files(stage: &StageRun, config: &Config, device: &str) -> Result<()> {
    let path = stage.path("config.toml");
    std::fs::write(&path, to_toml(config)).map_err(PipelineError::io("write", &path))?;
    let mut environment = environment();
    environment["device"] = json!(device);
    Ok(write_json(&stage.path("environment.json"), &environment)?)
}

/// Time spent, the first steps aside: they fill the loader's channel and compile kernels.
#[derive(Default)]
struct Clock {
    steps: usize,
    waited_secs: f64,
    secs: f64,
}

const WARM_UP_STEPS: usize = 3;

impl Clock {
    fn note(&mut self, step: usize, waited: f64, took: f64) {
        if step >= WARM_UP_STEPS {
            self.steps += 1;
            self.waited_secs += waited;
            self.secs += took;
        }
    }

    fn steps_per_sec(&self) -> f64 {
        self.steps as f64 / self.secs.max(1e-9)
    }

    fn wait_share(&self) -> f64 {
        self.waited_secs / self.secs.max(1e-9)
    }
}

/// `metrics.jsonl`: lines of steps that will be done again are cut off on opening.
struct Metrics {
    path: PathBuf,
    file: File,
    last: Value,
}

impl Metrics {
    fn open(path: &Path, first_step: usize) -> Result<Self> {
        let mut kept = String::new();
        if let Ok(file) = File::open(path) {
            for line in BufReader::new(file).lines().map_while(|line| line.ok()) {
                let step = serde_json::from_str::<Value>(&line).ok().and_then(|v| v["step"].as_u64());
                if step.is_some_and(|step| (step as usize) < first_step) {
                    kept.push_str(&line);
                    kept.push('\n');
                }
            }
        }
        std::fs::write(path, kept).map_err(PipelineError::io("write", path))?;
        let file = OpenOptions::new().append(true).open(path).map_err(PipelineError::io("open", path))?;
        Ok(Self { path: path.to_owned(), file, last: Value::Null })
    }

    fn write(
        &mut self,
        step: usize,
        epoch: usize,
        report: &StepReport,
        batch: usize,
        waited: f64,
        took: f64,
    ) -> Result<()> {
        let mut line = json!({
            "step": step,
            "epoch": epoch,
            "loss": report.loss,
            "learning_rate": report.schedule.learning_rate,
            "weight_decay": report.schedule.weight_decay,
            "momentum": report.schedule.momentum,
            "teacher_temperature": report.schedule.teacher_temperature,
        });
        for (name, value) in &report.metrics {
            line[*name] = json!(value);
        }
        self.last = line.clone();
        line["images_per_sec"] = json!(batch as f64 / took.max(1e-9));
        line["data_wait_secs"] = json!(waited);
        line["step_secs"] = json!(took);
        Ok(writeln!(self.file, "{line}").map_err(PipelineError::io("write", &self.path))?)
    }
}
