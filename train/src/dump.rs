//! A dump: what it takes to compute one step again, whose loss or gradients were not finite.
//!
//! A folder with the state before the step (`state.safetensors`), the rows of the plan that the batch was rendered from
//! (`views.parquet`), its pixels where they are few (`pixels.safetensors`), the configuration (`config.toml`), and what the
//! step came to (`step.json`). `lapidary pretrain --replay DUMP` computes the step again and says where it is not finite.

use crate::Result;
use crate::backend::{DeviceChoice, Program, run_on};
use crate::checkpoint::{Checkpoint, Snapshot};
use crate::frozen_teacher::FrozenTeacher;
use crate::operators::TrainBackend;
use crate::optimise::Schedule;
use crate::pretrain::loader_options;
use crate::trainer::{Readings, StepReport, Trainer};
use lapidary_pipeline::cli::{resolve, to_toml};
use lapidary_pipeline::loader::{Batch, Pixels, ViewGroup, load};
use lapidary_pipeline::plan::{PlanReader, View, read_views, write_views};
use lapidary_pipeline::stage::{Layout, write_json, write_synced};
use lapidary_pipeline::{ImageStore, PipelineError};
use lapidary_schemas::config::ViewKind;
use lapidary_schemas::{Config, ImageId, Manifest};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const STATE: &str = "state";
const STEP_FILE: &str = "step.json";
const VIEWS_FILE: &str = "views.parquet";
const PIXELS_FILE: &str = "pixels.safetensors";
const CONFIG_FILE: &str = "config.toml";
/// Pixels are kept up to so many bytes; more are rendered from the images again.
const PIXELS_MAX_BYTES: usize = 64 << 20;
const PREFIX: &str = "dump-step-";

/// Where a run's batches come from.
#[derive(Debug, Clone)]
pub(crate) struct Inputs {
    pub(crate) images: PathBuf,
    pub(crate) plan_folder: PathBuf,
    pub(crate) plan_manifest: Manifest,
}

/// What a dump says of its step.
#[derive(Debug, Serialize, Deserialize)]
struct About {
    step: usize,
    /// Steps of the whole run, which schedules span.
    steps: usize,
    steps_per_epoch: usize,
    /// The folder of the ingested images.
    images: PathBuf,
    plan: PathBuf,
    image_ids: Vec<String>,
    /// As it was; null when it was not finite.
    loss: Option<f64>,
    metrics: BTreeMap<String, Option<f64>>,
}

/// The name of the dump of a step.
pub(crate) fn name(step: usize) -> String {
    format!("{PREFIX}{step}")
}

/// The files of all dumps in a run's folder, relative to it.
pub(crate) fn files(run: &Path) -> Result<Vec<String>> {
    let list = |folder: &Path| -> Result<Vec<PathBuf>> {
        let entries = std::fs::read_dir(folder).map_err(PipelineError::io("list", folder))?;
        Ok(entries.filter_map(|entry| entry.ok()).map(|entry| entry.path()).collect())
    };
    let mut files = Vec::new();
    let is_dump =
        |path: &PathBuf| path.is_dir() && path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(PREFIX));
    for dump in list(run)?.into_iter().filter(is_dump) {
        let relative = |path: PathBuf| path.strip_prefix(run).ok().map(|path| path.to_string_lossy().into_owned());
        files.extend(list(&dump)?.into_iter().filter_map(relative));
    }
    Ok(files)
}

/// Writes the dump of a step of a run: `(step, steps, steps_per_epoch)`. The trainer is as it was before that step, since
/// nothing was changed by it.
pub(crate) fn write<B: TrainBackend>(
    folder: &Path,
    config: &Config,
    inputs: &Inputs,
    trainer: &Trainer<B>,
    (step, steps, steps_per_epoch): (usize, usize, usize),
    report: &StepReport,
) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(PipelineError::io("create folder", folder))?;
    let store = ImageStore::open(&inputs.images)?;
    let mut reader = PlanReader::open(&inputs.plan_folder, &inputs.plan_manifest, &store, config.pretrain.batch)?;
    let views = reader.step(step, &store)?.to_vec();
    write_views(&folder.join(VIEWS_FILE), &views)?;
    let batch = load(&store, step, &views, &trainer.reads(), loader_options(&config.pretrain))?;
    write_pixels(&folder.join(PIXELS_FILE), &batch)?;
    Snapshot { step, ..trainer.snapshot() }.save_as_it_is(folder, STATE)?;
    write_synced(&folder.join(CONFIG_FILE), to_toml(config).as_bytes())?;
    let finite = |value: f64| value.is_finite().then_some(value);
    let about = About {
        step,
        steps,
        steps_per_epoch,
        images: absolute(&inputs.images),
        plan: absolute(&inputs.plan_folder),
        image_ids: batch.ids.iter().map(ImageId::to_string).collect(),
        loss: finite(report.loss),
        metrics: report.metrics.iter().map(|(name, value)| (name.clone(), finite(*value))).collect(),
    };
    Ok(write_json(&folder.join(STEP_FILE), &about)?)
}

fn absolute(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// Writes a batch's pixels, unless they are many, or are to be finished on the device.
fn write_pixels(path: &Path, batch: &Batch) -> Result<()> {
    let mut bytes: BTreeMap<String, (Vec<usize>, Vec<u8>)> = BTreeMap::new();
    for (index, group) in batch.groups.iter().enumerate() {
        let Pixels::Rendered(values) = &group.pixels else { return Ok(()) };
        let shape = vec![group.views, batch.ids.len(), 3, group.size_px, group.size_px];
        let values = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        bytes.insert(format!("{index}.{}", group.kind.name()), (shape, values));
    }
    if bytes.values().map(|(_, values)| values.len()).sum::<usize>() > PIXELS_MAX_BYTES {
        return Ok(());
    }
    let fault = |e: safetensors::SafeTensorError| PipelineError::format(path, e);
    let mut tensors = Vec::with_capacity(bytes.len());
    for (name, (shape, values)) in &bytes {
        tensors.push((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), values).map_err(fault)?));
    }
    Ok(write_synced(path, &safetensors::serialize(tensors, None).map_err(fault)?)?)
}

fn read_pixels(path: &Path, step: usize, ids: Vec<ImageId>) -> Result<Batch> {
    let whole = std::fs::read(path).map_err(PipelineError::io("read", path))?;
    let fault = |detail: String| PipelineError::format(path, detail);
    let parsed = SafeTensors::deserialize(&whole).map_err(|e| fault(e.to_string()))?;
    let mut tensors = parsed.tensors();
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    let mut groups = Vec::new();
    for (name, tensor) in tensors {
        let kind = name.split_once('.').and_then(|(_, kind)| ViewKind::from_name(kind));
        let (Some(kind), [views, images, 3, size_px, _]) = (kind, tensor.shape()) else {
            return Err(fault(format!("tensor `{name}` is no group of views")).into());
        };
        if *images != ids.len() || tensor.dtype() != Dtype::F32 {
            return Err(fault(format!("tensor `{name}` is of another batch")).into());
        }
        let words = tensor.data().chunks_exact(4);
        let pixels = Pixels::Rendered(words.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect());
        groups.push(ViewGroup { kind, size_px: *size_px, views: *views, pixels });
    }
    Ok(Batch { step, ids, groups })
}

/// Computes the step of a dump again: its loss and the norm of its gradients, by part, and what is not finite.
///
/// # Errors
/// When it is no dump, its images are gone and its pixels were not kept, or the device cannot be used.
pub fn replay(dump: &Path, device: DeviceChoice) -> Result<Value> {
    let path = dump.join(STEP_FILE);
    let text = std::fs::read(&path).map_err(PipelineError::io("read", &path))?;
    let about: About = serde_json::from_slice(&text).map_err(|e| PipelineError::format(&path, e))?;
    let config = resolve(None, Some(&dump.join(CONFIG_FILE)), &[])?;
    let views = read_views(&dump.join(VIEWS_FILE))?;
    let state = Checkpoint::load_as_it_is(dump, STATE)?;
    let teacher = teacher_of(&config, &about.images)?;
    run_on(device, Replay { dump: dump.to_owned(), about, config, views, state, teacher })
}

/// The frozen teacher of a run whose images lie in `OUT/SOURCE/images`.
fn teacher_of(config: &Config, images: &Path) -> Result<Option<FrozenTeacher>> {
    let source = images.parent().unwrap_or(images);
    let name = source.file_name().unwrap_or_default().to_string_lossy();
    FrozenTeacher::of(&Layout::new(source.parent().unwrap_or(source)), &name, config)
}

struct Replay {
    dump: PathBuf,
    about: About,
    config: Config,
    views: Vec<View>,
    state: Checkpoint,
    teacher: Option<FrozenTeacher>,
}

impl Program for Replay {
    type Output = Value;

    fn run<B: TrainBackend>(self, device: B::Device) -> Result<Value> {
        let Self { dump, about, config, views, state, teacher } = self;
        let schedule = Schedule::new(&config.pretrain, &config.objective, about.steps, about.steps_per_epoch);
        let mut trainer = Trainer::<B>::new(&config, schedule, &device);
        if let Some(teacher) = &teacher {
            trainer = trainer.distil_from(teacher.vit(&device)?, teacher.digest());
        }
        let trainer = trainer.restore(&state, &dump)?;
        let pixels = dump.join(PIXELS_FILE);
        let batch = if pixels.is_file() {
            let ids = about.image_ids.iter().filter_map(|id| id.parse().ok()).collect();
            read_pixels(&pixels, about.step, ids)?
        } else {
            let store = ImageStore::open(&about.images)?;
            load(&store, about.step, &views, &trainer.reads(), loader_options(&config.pretrain))?
        };
        let broken_images = images_not_finite(&batch);
        let computed = trainer.compute(batch);
        let readings = computed.scalars.read();
        let norms = computed.gradients.norms();
        let is_finite = readings.is_finite();
        let Readings { loss, metrics, .. } = readings;
        Ok(json!({
            "step": about.step,
            "is_finite": is_finite,
            "loss": told(loss),
            "metrics": metrics.iter().map(|(name, value)| (name.clone(), told(*value))).collect::<BTreeMap<_, _>>(),
            "gradient_norm_by_part": by_part(&norms),
            "state_not_finite": state.not_finite(),
            "images_not_finite": broken_images.iter().map(ImageId::to_string).collect::<Vec<_>>(),
        }))
    }
}

/// A number, or what it is instead: JSON has no word for it.
fn told(value: f64) -> Value {
    if value.is_finite() { json!(value) } else { json!(value.to_string()) }
}

/// The norm of the gradients of each part of the network: a block, the head, the projector.
fn by_part(norms: &BTreeMap<String, f64>) -> BTreeMap<String, Value> {
    let part = |name: &str| {
        let depth = match name.split('.').collect::<Vec<_>>()[..] {
            ["backbone", "blocks", ..] => 3,
            ["backbone", ..] => 2,
            _ => 1,
        };
        name.split('.').take(depth).collect::<Vec<_>>().join(".")
    };
    let mut squares: BTreeMap<String, f64> = BTreeMap::new();
    for (name, norm) in norms {
        *squares.entry(part(name)).or_default() += norm * norm;
    }
    squares.into_iter().map(|(part, square)| (part, told(square.sqrt()))).collect()
}

/// The images with a pixel that is not finite.
fn images_not_finite(batch: &Batch) -> Vec<ImageId> {
    let images = batch.ids.len();
    let mut broken = vec![false; images];
    for group in &batch.groups {
        let Pixels::Rendered(values) = &group.pixels else { continue };
        let plane = 3 * group.size_px * group.size_px;
        for (place, values) in values.chunks_exact(plane).enumerate() {
            broken[place % images] |= values.iter().any(|value| !value.is_finite());
        }
    }
    batch.ids.iter().zip(broken).filter(|(_, broken)| *broken).map(|(id, _)| *id).collect()
}

/// A replay in words.
pub fn said_of_replay(facts: &Value) -> Vec<String> {
    let flat = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let finite = if facts["is_finite"] == true { "finite" } else { "not finite" };
    let mut lines = vec![format!("step {} again: loss {}; it is {finite}", facts["step"], flat(&facts["loss"]))];
    for (title, key) in [("metrics", "metrics"), ("gradient norm by part", "gradient_norm_by_part")] {
        lines.push(format!("{title}:"));
        for (name, value) in facts[key].as_object().into_iter().flatten() {
            lines.push(format!("  {name:<24} {}", flat(value)));
        }
    }
    if let Some(tensor) = facts["state_not_finite"].as_str() {
        lines.push(format!("the state before the step is not finite already: tensor `{tensor}`"));
    }
    let images: Vec<&str> =
        facts["images_not_finite"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !images.is_empty() {
        lines.push(format!("images with pixels that are not finite: {}", images.join(", ")));
    }
    lines
}
