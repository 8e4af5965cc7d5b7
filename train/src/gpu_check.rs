//! What a GPU must show before its runs are trusted: its kernels beside their operators, twenty steps beside the CPU's, and what a
//! step of a configuration takes. Every line is printed when it is known, so that a check that is cut off leaves what it found.

#[cfg(all(feature = "fusion", any(feature = "cuda", feature = "wgpu")))]
mod fused;

use crate::backend::{Cpu, DeviceChoice, ParallelProgram, computes_in, device_name, run_on_all};
use crate::model::{host_values, snapshot, stored_as};
use crate::operators::{Operators, TrainBackend};
use crate::optimise::Schedule;
use crate::{Result, StepReport, Trainer};
use burn::module::AutodiffModule;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use lapidary_pipeline::loader::{Batch, Pixels, ViewGroup};
use lapidary_schemas::config::{
    ModelConfig, ObjectiveConfig, ObjectiveKind, Precision, PretrainConfig, ViewKind, ViewSpec,
};
use lapidary_schemas::{Config, ImageId};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Instant;

/// Steps of the comparison with the CPU.
const COMPARED_STEPS: usize = 20;

/// Pixels of waves, other ones for each step, in the shapes of a configuration's views.
fn batch(config: &Config, step: usize) -> Batch {
    let images = config.pretrain.batch;
    let group = |view: &ViewSpec| {
        let (size_px, views) = (usize::from(view.size_px), usize::from(view.count));
        let count = views * images * 3 * size_px * size_px;
        let values = (0..count).map(|at| ((at + 7919 * step) as f32 * 0.731).sin()).collect();
        ViewGroup { kind: view.kind, size_px, views, pixels: Pixels::Rendered(values) }
    };
    let ids = (0..images as u64).map(ImageId).collect();
    Batch { step, ids, groups: config.plan.views.iter().map(group).collect() }
}

/// A small run. Its projector has ReLU after BatchNorm: where rounding moves a value over 0 the gradient jumps, and two runs part
/// ways by as much as a per cent in twenty steps, on the CPU in two or three pieces as well. DINO alone has no such kinks.
fn small() -> Config {
    let view = |kind, count, size_px| ViewSpec { kind, count, size_px, ..ViewSpec::default() };
    let mut config = Config {
        model: ModelConfig {
            image_px: 16,
            patch_px: 4,
            dim: 32,
            depth: 2,
            heads: 2,
            mlp_ratio: 2,
            drop_path: 0.0,
            layer_scale: 0.1,
            ..ModelConfig::default()
        },
        objective: ObjectiveConfig {
            prototypes: 48,
            head_hidden: 32,
            head_bottleneck: 16,
            barlow_dim: 24,
            ..ObjectiveConfig::default()
        },
        pretrain: PretrainConfig {
            batch: 24,
            base_learning_rate: 5e-3,
            warmup_steps: 5,
            freeze_last_layer_steps: 2,
            ..PretrainConfig::default()
        },
        ..Config::default()
    };
    config.plan.views = vec![view(ViewKind::Global, 2, 16), view(ViewKind::Local, 2, 8)];
    config
}

/// A run as it went: losses, seconds a step, the first step's gradients, and the student's weights after the last step.
struct Course {
    losses: Vec<f64>,
    step_secs: f64,
    gradients: BTreeMap<String, Vec<f32>>,
    weights: Vec<f32>,
    first_weights: Vec<f32>,
    collective: &'static str,
}

fn course<B: TrainBackend>(devices: &[B::Device], (kind, precision): (ObjectiveKind, Precision)) -> Course {
    let mut config = small();
    config.objective.kind = kind;
    config.pretrain.precision = precision;
    let schedule = Schedule::new(&config.pretrain, &config.objective, COMPARED_STEPS, COMPARED_STEPS);
    let mut trainer = Trainer::<B>::new(&config, schedule, &devices[0]).spread_over(devices.to_vec());
    let weights = |trainer: &Trainer<B>| -> Vec<f32> {
        let named = snapshot(&trainer.student().valid()).into_iter().filter(|(name, _)| !is_rounding(name));
        named.flat_map(|(_, tensor)| tensor.values).collect()
    };
    let first_weights = weights(&trainer);
    let gradients = trainer.compute(batch(&config, 0)).gradients;
    assert!(gradients.norms().keys().any(|name| name.starts_with("backbone.")), "the backbone is trained");
    let values =
        |(name, gradient): (&str, &Tensor<B::InnerBackend, 1>)| (name.to_owned(), host_values(gradient.clone()));
    let gradients = gradients.each().filter(|(name, _)| !is_rounding(name)).map(values).collect();
    let train = |step| {
        let batch = batch(&config, step);
        let begun = Instant::now();
        let loss = trainer.train(batch).loss;
        (loss, begun.elapsed().as_secs_f64())
    };
    let (losses, secs): (Vec<f64>, Vec<f64>) = (0..COMPARED_STEPS).map(train).unzip();
    let step_secs = median(&secs[COMPARED_STEPS / 2..]);
    let collective = trainer.collective();
    Course { losses, step_secs, gradients, weights: weights(&trainer), first_weights, collective }
}

/// The middle one of an odd number of values, the higher of two in the middle of an even one.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// The keys' biases have gradients of rounding alone, which Adam makes steps of.
fn is_rounding(name: &str) -> bool {
    name.ends_with("qkv.bias")
}

/// The norm of the difference of two lists, as a part of the second's.
fn off(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len(), "as many values as there are");
    let difference = found.iter().zip(expected).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum::<f64>();
    let norm = expected.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>();
    (difference / norm.max(1e-20)).sqrt()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt().max(1e-30)
}

/// How twenty steps of a small run on a device differ from the CPU's.
#[derive(Debug, Clone, Copy)]
pub struct Compared {
    /// How many devices shared each batch, and how they reached each other.
    pub ranks: (usize, &'static str),
    /// What is minimised.
    pub kind: ObjectiveKind,
    /// The largest relative difference of a loss in the first five steps, and in all.
    pub losses: [f64; 2],
    /// The precision of its activations; the CPU's are f32.
    pub precision: Precision,
    /// The largest difference of a parameter's gradient in the first step, as a part of its norm.
    pub gradients: f64,
    /// 1 less the cosine of all gradients of the first step with the CPU's.
    pub gradients_apart: f64,
    /// The difference of the weights after the last step, but for the keys' biases, as a part of what the steps changed.
    pub weights: f64,
    /// The largest relative difference of a loss on the CPU between one rank and two: what rounding comes to.
    pub rounding: f64,
    /// Seconds of a step on the device and on the CPU: the median of the last ten, when all kernels are compiled.
    pub step_secs: [f64; 2],
}

impl Compared {
    /// Whether the device trains as the CPU does. Rounding grows from step to step.
    pub fn holds(&self) -> bool {
        // Where there are kinks the first step tells: from there on rounding decides on which side of 0 a value falls, and
        // which order of adding up is the luckier one.
        match (self.kind == ObjectiveKind::Dino, self.precision == Precision::F32) {
            (true, true) => self.losses[1] < 1e-4 && self.gradients < 0.01 && self.weights < 0.01,
            (true, false) => self.losses[1] < 1e-2 && self.gradients_apart < 1e-3,
            (false, true) => {
                self.gradients < 0.01
                    && self.gradients_apart < 1e-5
                    && self.losses[0] < 1e-2
                    && self.losses[1] < 0.1
                    && self.weights < 0.3
            }
            (false, false) => self.losses[1] < 0.2 && self.gradients_apart < 1e-3,
        }
    }

    /// As JSON.
    pub fn facts(&self) -> Value {
        json!({"ranks": self.ranks.0, "collective": self.ranks.1, "loss_of_5_steps_off": self.losses[0], "loss_of_20_steps_off": self.losses[1],
            "objective": self.kind.name(), "precision": self.precision, "rounding_on_the_cpu": self.rounding, "gradients_off": self.gradients,
            "gradients_apart": self.gradients_apart, "weights_off": self.weights, "step_secs": self.step_secs[0],
            "step_secs_on_the_cpu": self.step_secs[1], "holds": self.holds()})
    }
}

/// Trains on devices, of which each takes its share of a batch, and on the CPU.
pub fn compared<B: TrainBackend>(devices: &[B::Device], (kind, precision): (ObjectiveKind, Precision)) -> Compared {
    let on_cpu = |ranks: usize| course::<Cpu>(&vec![Default::default(); ranks], (kind, Precision::F32));
    let (found, expected, otherwise) = (course::<B>(devices, (kind, precision)), on_cpu(1), on_cpu(2));
    let losses_off = |found: &Course, steps: usize| {
        let each = found.losses.iter().zip(&expected.losses).take(steps);
        each.map(|(found, expected)| (found - expected).abs() / expected.abs()).fold(0.0, f64::max)
    };
    let names: Vec<_> = expected.gradients.keys().collect();
    assert_eq!(names, found.gradients.keys().collect::<Vec<_>>(), "the same parameters have gradients");
    let of_names = names.iter().map(|name| off(&found.gradients[*name], &expected.gradients[*name]));
    let changed = |course: &Course| -> Vec<f32> {
        course.weights.iter().zip(&expected.first_weights).map(|(last, first)| last - first).collect()
    };
    let all = |course: &Course| course.gradients.values().flatten().copied().collect::<Vec<f32>>();
    Compared {
        ranks: (devices.len(), found.collective),
        kind,
        precision,
        gradients_apart: 1.0 - cosine(&all(&found), &all(&expected)),
        losses: [losses_off(&found, 5), losses_off(&found, COMPARED_STEPS)],
        gradients: of_names.fold(0.0, f64::max),
        weights: off(&changed(&found), &changed(&expected)),
        rounding: losses_off(&otherwise, COMPARED_STEPS),
        step_secs: [found.step_secs, expected.step_secs],
    }
}

/// Steps of a configuration on pixels of waves.
#[derive(Debug)]
pub struct Rate {
    /// Network, objective, views, batch and precision.
    pub config: Config,
    /// Steps that are timed, after as many as compile the kernels.
    pub steps: usize,
    /// Steps before those.
    pub warmup: usize,
    /// Whether views of all sizes go through a network together; where it is left open, as the device does in a run.
    pub packed: Option<bool>,
}

impl ParallelProgram for Rate {
    type Output = Value;

    fn run_on_all<B: TrainBackend>(self, devices: Vec<B::Device>) -> Result<Value> {
        let Self { config, steps, warmup, packed } = self;
        let packed = packed.unwrap_or(!B::InnerBackend::ON_HOST);
        let all = steps + warmup;
        let schedule = Schedule::new(&config.pretrain, &config.objective, all, all);
        let mut trainer = Trainer::<B>::new(&config, schedule, &devices[0]).spread_over(devices.clone());
        trainer.set_metrics_steps(steps.min(10));
        trainer.set_packed(packed);
        // The same pixels each step: what is timed is not how fast waves are drawn.
        let batch = batch(&config, 0);
        let mut losses = Vec::new();
        let mut note = |reports: Vec<StepReport>| losses.extend(reports.iter().map(|report| report.loss));
        for step in 0..warmup {
            note(trainer.advance(batch.clone(), step + 1 == warmup));
        }
        let wait = || devices.iter().for_each(|device| drop(B::InnerBackend::sync(device)));
        wait();
        let begun = Instant::now();
        for step in 0..steps {
            note(trainer.advance(batch.clone(), step + 1 == steps));
        }
        wait();
        let secs = begun.elapsed().as_secs_f64();
        Ok(json!({
            "batch": config.pretrain.batch,
            "precision": config.pretrain.precision,
            "packed": packed,
            "ranks": devices.len(),
            "collective": trainer.collective(),
            "steps": steps,
            "images_per_sec": steps as f64 * config.pretrain.batch as f64 / secs,
            "step_secs": secs / steps as f64,
            "losses": [losses.first(), losses.last()],
        }))
    }
}

/// Checks the device that was asked for, a line as soon as it is known; whether all holds, but for fusion, which nothing trains
/// with.
///
/// # Errors
/// When the device cannot be used.
pub fn check(device: DeviceChoice, mut said: impl FnMut(Value)) -> Result<bool> {
    let name = device_name(device)?;
    let mut holds = true;
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    if let Some(gpu) = crate::gpu::resolve(device)?.gpu() {
        crate::operators::check::kernels(&gpu, None, |check| {
            holds &= check.holds();
            said(json!({"check": "kernel", "operator": check.operator, "shapes": check.shapes,
                "dtype": format!("{:?}", check.dtype), "worst": check.worst, "bound": check.bound,
                "holds": check.holds()}));
        });
    }
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    if let Some(gpu) = crate::gpu::resolve(device)?.gpu() {
        for precision in [Precision::F32, Precision::Bf16, Precision::F16] {
            let dtype = stored_as(precision);
            if computes_in(device, dtype)? {
                let images = if gpu.is_cuda() { 64 } else { 1 };
                let times = crate::operators::check::attention_times(&gpu, dtype, images, 5);
                said(json!({"check": "attention", "precision": precision, "images": images, "tokens": 197,
                    "tiles_secs": times.tiles_secs, "products_secs": times.products_secs}));
            }
        }
    }
    for precision in [Precision::F32, Precision::Bf16, Precision::F16] {
        if !computes_in(device, stored_as(precision))? {
            continue;
        }
        let of_one = [ObjectiveKind::Dino, ObjectiveKind::Hybrid].map(|kind| (kind, vec![device]));
        let several = shared_by(device).into_iter().map(|devices| (ObjectiveKind::Dino, devices));
        for (kind, devices) in of_one.into_iter().chain(several.filter(|_| precision == Precision::F32)) {
            let compared = run_on_all(&devices, CompareSteps(kind, precision))?;
            holds &= compared.holds();
            said(of_steps(compared.facts(), &name, false));
        }
    }
    with_fusion(device, &name, said)?;
    Ok(holds)
}

/// Devices to share a batch: the one that was asked for twice, and each two and four of CUDA's where there are such.
fn shared_by(device: DeviceChoice) -> Vec<Vec<DeviceChoice>> {
    let first = |count: usize| (0..count).map(DeviceChoice::Cuda).collect::<Vec<_>>();
    let is_there = |devices: &Vec<DeviceChoice>| devices.iter().all(|device| device_name(*device).is_ok());
    let of_cuda = match device_name(device) {
        Ok(name) if name.starts_with("cuda") => vec![first(2), first(4)],
        _ => Vec::new(),
    };
    std::iter::once(vec![device; 2]).chain(of_cuda.into_iter().filter(is_there)).collect()
}

/// What was found of twenty steps, with how they were computed.
fn of_steps(mut facts: Value, device: &str, fusion: bool) -> Value {
    facts["check"] = json!("steps");
    facts["device"] = json!(device);
    facts["fusion"] = json!(fusion);
    facts["autotune"] = json!(cfg!(feature = "autotune"));
    facts
}

/// The same steps with burn's fusion, where it is compiled in.
#[cfg(all(feature = "fusion", any(feature = "cuda", feature = "wgpu")))]
fn with_fusion(device: DeviceChoice, name: &str, mut said: impl FnMut(Value)) -> Result<()> {
    let Some(gpu) = crate::gpu::resolve(device)?.gpu() else { return Ok(()) };
    for kind in [ObjectiveKind::Dino, ObjectiveKind::Hybrid] {
        // That fusion fails is a finding, as that it is off would be.
        let facts = fused::compared_fused((&gpu, name), kind).map_or_else(
            |failed| json!({"objective": kind.name(), "failed": failed.to_string(), "holds": false}),
            |compared| compared.facts(),
        );
        said(of_steps(facts, name, true));
    }
    Ok(())
}

#[cfg(not(all(feature = "fusion", any(feature = "cuda", feature = "wgpu"))))]
fn with_fusion(_: DeviceChoice, name: &str, mut said: impl FnMut(Value)) -> Result<()> {
    said(json!({"check": "fusion", "device": name, "skipped": "burn's fusion is not compiled in",
        "hint": "`make gpu-check` compiles it in and compares it; nothing trains with it"}));
    Ok(())
}

/// Of an objective in a precision.
struct CompareSteps(ObjectiveKind, Precision);

impl ParallelProgram for CompareSteps {
    type Output = Compared;

    fn run_on_all<B: TrainBackend>(self, devices: Vec<B::Device>) -> Result<Compared> {
        Ok(compared::<B>(&devices, (self.0, self.1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_trains_as_itself() {
        let compared = compared::<Cpu>(&[Default::default()], (ObjectiveKind::Hybrid, Precision::F32));
        assert_eq!((compared.losses, compared.weights), ([0.0; 2], 0.0));
        assert!(compared.holds());
    }

    /// 20 steps of the small run on a GPU, in software where there is no other, and on one taken as several.
    #[cfg(feature = "wgpu")]
    #[test]
    fn a_gpu_trains_as_the_cpu_does() {
        use crate::backend::Gpu;
        let gpu = match crate::gpu::resolve(DeviceChoice::Wgpu(None)) {
            Ok(device) => device.gpu().expect("wgpu is a GPU"),
            Err(why) => return eprintln!("skipped: {why}"),
        };
        for (devices, kind, precision) in [
            (1, ObjectiveKind::Hybrid, Precision::F32),
            (1, ObjectiveKind::Hybrid, Precision::F16),
            (1, ObjectiveKind::Dino, Precision::F16),
            (1, ObjectiveKind::Dino, Precision::F32),
            (2, ObjectiveKind::Dino, Precision::F32),
            (4, ObjectiveKind::Dino, Precision::F32),
            (2, ObjectiveKind::Hybrid, Precision::F32),
        ] {
            let compared = compared::<Gpu>(&vec![gpu.clone(); devices], (kind, precision));
            println!("{devices}: {compared:?}");
            assert!(compared.holds(), "{devices}: {compared:?}");
        }
    }

    /// In every precision that the GPU has, whatever else lies in its memory.
    #[cfg(feature = "wgpu")]
    #[test]
    fn the_same_step_gives_the_same_bits_on_a_gpu() {
        use crate::backend::Gpu;
        use burn::tensor::Distribution;
        let Some(gpu) = crate::gpu::resolve(DeviceChoice::Wgpu(None)).ok().and_then(|device| device.gpu()) else {
            return eprintln!("skipped: no adapter");
        };
        for precision in [Precision::F32, Precision::F16] {
            let mut config = small();
            config.pretrain.precision = precision;
            let schedule = Schedule::new(&config.pretrain, &config.objective, COMPARED_STEPS, COMPARED_STEPS);
            let trainer = Trainer::<Gpu>::new(&config, schedule, &gpu);
            let step = || -> BTreeMap<String, Vec<f32>> {
                let gradients = trainer.compute(batch(&config, 0)).gradients;
                gradients.each().map(|(name, gradient)| (name.to_owned(), host_values(gradient.clone()))).collect()
            };
            let first = step();
            for round in 0..6 {
                // Memory that is free again is full of other values.
                let filled: Vec<_> = (1..200)
                    .map(|count| {
                        Tensor::<lapidary_operators::Gpu, 1>::random([97 * count], Distribution::Default, &gpu)
                    })
                    .collect();
                drop(filled);
                for (name, values) in step() {
                    let differ = values.iter().zip(&first[&name]).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
                    assert_eq!(differ, 0, "{precision:?}, round {round}: of {} values of {name}", values.len());
                }
            }
        }
    }
}
