//! The optimisers, the schedules and the teacher's moving average against PyTorch and numpy in f64
//! (tests/golden/optimisers.py, which says what is in its data).

use super::{Gradients, Optimiser, Schedule, StepSchedule};
use crate::backend::Cpu;
use crate::model::{
    HostTensor, Network, NetworkConfig, Seen, from_disk, host_values, load, map_named, shapes, snapshot,
};
use burn::module::AutodiffModule;
use burn::tensor::{Tensor, TensorData};
use burn_flex::Flex;
use lapidary_schemas::config::{ClipBy, ModelConfig, ObjectiveConfig, ObjectiveKind, OptimiserKind, PretrainConfig};
use serde::Deserialize;
use std::collections::BTreeMap;

const STEPS: usize = 20;
const PER_EPOCH: usize = 5;

#[derive(Deserialize)]
struct Golden {
    shapes: BTreeMap<String, Vec<usize>>,
    runs: BTreeMap<String, BTreeMap<String, Vec<f64>>>,
    teacher: BTreeMap<String, Vec<f64>>,
    ema: BTreeMap<String, Vec<f64>>,
    schedules: Vec<Schedules>,
}

#[derive(Deserialize)]
struct Schedules {
    epochs: usize,
    per_epoch: usize,
    warmup_epochs: f64,
    temperature: (f64, f64, u32),
    learning_rate: Vec<f64>,
    weight_decay: Vec<f64>,
    momentum: Vec<f64>,
    teacher_temperature: Vec<f64>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../../../tests/golden/optimisers.json")).expect("the script's format")
}

/// The values of each parameter, by its number among the sorted names and the value's own, in PyTorch's order.
fn by_formula(value: impl Fn(f64, f64) -> f64) -> BTreeMap<String, HostTensor> {
    let tensor = |(k, (name, shape)): (usize, (String, Vec<usize>))| {
        let count = shape.iter().product::<usize>();
        let values = (0..count).map(|i| value(k as f64, i as f64) as f32).collect();
        (name, HostTensor { shape, values })
    };
    golden().shapes.into_iter().enumerate().map(tensor).collect()
}

fn start(k: f64, i: f64) -> f64 {
    0.5 * (0.9 * i + 1.7 * k).cos()
}

fn student() -> Network<Cpu> {
    let model =
        ModelConfig { image_px: 4, patch_px: 2, dim: 4, depth: 2, heads: 2, mlp_ratio: 2, ..ModelConfig::default() };
    let objective = ObjectiveConfig {
        kind: ObjectiveKind::Hybrid,
        prototypes: 6,
        head_hidden: 4,
        head_bottleneck: 4,
        barlow_dim: 4,
        norm_last_layer: false,
        ..ObjectiveConfig::default()
    };
    let student = Network::student(&NetworkConfig::of(&model, &objective), 1, &Default::default());
    let found: BTreeMap<_, _> = snapshot(&student).into_iter().map(|(name, tensor)| (name, tensor.shape)).collect();
    assert_eq!(found, golden().shapes, "the script's network is ours");
    load(student, &by_formula(start), &Default::default()).expect("all parameters")
}

fn gradients(student: &Network<Cpu>, step: usize) -> Gradients<Flex> {
    let (values, in_memory) = (snapshot(&student.valid()), shapes::<Cpu, _>(student));
    let mut gradients = BTreeMap::new();
    for (k, (name, tensor)) in values.into_iter().enumerate() {
        let gradient = |(i, p): (usize, &f32)| {
            let phase = 0.7 * i as f64 + 0.9 * k as f64 + 0.31 * step as f64;
            ((0.05 + 0.1 * (k % 5) as f64) * phase.sin() + 0.02 * f64::from(*p)) as f32
        };
        let on_disk =
            HostTensor { values: tensor.values.iter().enumerate().map(gradient).collect(), shape: tensor.shape };
        let flat = from_disk(&name, &in_memory[&name], Some(&on_disk)).expect("its own shape");
        let count = flat.len();
        gradients.insert(name, Tensor::from_data(TensorData::new(flat, [count]), &Default::default()));
    }
    Gradients::of::<Cpu, _>(student, gradients)
}

/// The student and the teacher after all steps.
fn train(config: PretrainConfig, mut student: Network<Cpu>) -> [BTreeMap<String, HostTensor>; 2] {
    let config = PretrainConfig {
        batch: 256,
        final_learning_rate: 1e-5 * config.base_learning_rate / 2e-3,
        warmup_steps: 4,
        momentum: 0.9,
        ..config
    };
    let schedule = Schedule::new(&config, &ObjectiveConfig::default(), STEPS, PER_EPOCH);
    let mut optimiser = Optimiser::<Flex>::new(&config, 2);
    let mut teacher = Network::teacher_of(&student.valid());
    for step in 0..STEPS {
        // Through the host half-way, as a run that is resumed.
        if step == STEPS / 2 {
            let state = optimiser.tensors().into_iter().map(|(key, tensor)| (key, host_values(tensor))).collect();
            optimiser = Optimiser::new(&config, 2);
            optimiser.restore(&state, &Default::default());
        }
        let at = schedule.at(step);
        let gradients = gradients(&student, step);
        let (next, of_next) = optimiser.step(student, Some(teacher), gradients, &at);
        (student, teacher) = (next, of_next.expect("a teacher was given"));
    }
    [snapshot(&student.valid()), snapshot(&teacher)]
}

/// The greatest difference between what was found and what is expected.
fn difference(found: &BTreeMap<String, HostTensor>, expected: &BTreeMap<String, Vec<f64>>) -> f64 {
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    let pairs = found.iter().flat_map(|(name, tensor)| tensor.values.iter().zip(&expected[name]));
    pairs.map(|(found, expected)| (f64::from(*found) - expected).abs()).fold(0.0, f64::max)
}

const ADAMW: fn() -> PretrainConfig = || PretrainConfig {
    base_learning_rate: 2e-3,
    clip_norm: 0.0,
    freeze_last_layer_steps: 0,
    ..PretrainConfig::default()
};

#[test]
fn adamw_is_torchs_with_clipping_a_frozen_last_layer_and_layer_decay() {
    let golden = golden();
    let clipped = |by, clip_norm, freeze_last_layer_steps| PretrainConfig {
        clip_by: by,
        clip_norm,
        freeze_last_layer_steps,
        ..ADAMW()
    };
    for (run, config) in [
        ("adamw_tensor", clipped(ClipBy::Tensor, 0.6, 6)),
        ("adamw_module", clipped(ClipBy::Module, 1.5, 0)),
        ("adamw_global", clipped(ClipBy::Global, 1.5, 6)),
        ("adamw_layers", PretrainConfig { layer_decay: 0.7, patch_embed_rate: 0.2, ..ADAMW() }),
    ] {
        let [student, teacher] = train(config.clone(), self::student());
        let apart = difference(&student, &golden.runs[run]);
        println!("{run}: {apart:.1e}");
        assert!(apart < 1e-6, "{run}: {apart}");
        if run == "adamw_tensor" {
            let apart = difference(&teacher, &golden.teacher);
            println!("its teacher: {apart:.1e}");
            assert!(apart < 1e-6, "teacher: {apart}");
        }
        // What would not be seen if it were left out.
        let plain = train(PretrainConfig { clip_norm: 0.0, ..ADAMW() }, self::student());
        assert!(difference(&plain[0], &golden.runs[run]) > 1e-4, "{run} is no plain run");
    }
}

#[test]
fn lars_is_that_of_barlow_twins_and_of_solo_learn() {
    let golden = golden();
    for (run, lars_clip_rate) in [("lars_barlow", false), ("lars_solo", true)] {
        let config = PretrainConfig {
            optimiser: OptimiserKind::Lars,
            base_learning_rate: 0.2,
            lars_trust: 0.02,
            lars_bias_rate: 0.1,
            lars_clip_rate,
            ..ADAMW()
        };
        let zeroed = map_named(
            student(),
            |(name, _, value): Seen<'_, Cpu>| {
                if name == "projector.2.linear.weight" { value * 0.0 } else { value }
            },
        );
        let apart = difference(&train(config, zeroed)[0], &golden.runs[run]);
        println!("{run}: {apart:.1e}");
        assert!(apart < 1e-6, "{run}: {apart}");
    }
}

#[test]
fn a_teacher_follows_a_moving_student_its_prototypes_norms_included() {
    let mut teacher = Network::teacher_of(&student().valid());
    let schedule = Schedule::new(&ADAMW(), &ObjectiveConfig::default(), 50, 50);
    let mut optimiser = Optimiser::<Flex>::new(&ADAMW(), 2);
    for step in 0..50 {
        let values = by_formula(|k, i| start(k, i) + 0.1 * (0.2 * f64::from(step) + i).sin());
        let student = load(student(), &values, &Default::default()).expect("all parameters");
        let schedule = StepSchedule { momentum: 0.9, ..schedule.at(0) };
        let gradients = Gradients::of::<Cpu, _>(&student, BTreeMap::new());
        teacher = optimiser.step(student, Some(teacher), gradients, &schedule).1.expect("a teacher was given");
    }
    let found = snapshot(&teacher);
    assert!(found.contains_key("head.last_layer.weight_g") && found.contains_key("head.last_layer.weight_v"));
    let apart = difference(&found, &golden().ema);
    println!("after 50 steps: {apart:.1e}");
    assert!(apart < 1e-6, "{apart}");
}

#[test]
fn schedules_are_numpys() {
    for expected in golden().schedules {
        let pretrain = PretrainConfig { batch: 64, warmup_epochs: expected.warmup_epochs, ..PretrainConfig::default() };
        let (first, last, warmup) = expected.temperature;
        let objective = ObjectiveConfig {
            teacher_temperature_start: first,
            teacher_temperature: last,
            teacher_temperature_warmup_epochs: warmup,
            ..ObjectiveConfig::default()
        };
        let steps = expected.epochs * expected.per_epoch;
        let schedule = Schedule::new(&pretrain, &objective, steps, expected.per_epoch);
        let mut apart = 0f64;
        for step in 0..steps {
            let at = schedule.at(step);
            for (found, expected) in [
                (at.learning_rate, &expected.learning_rate),
                (at.weight_decay, &expected.weight_decay),
                (at.momentum, &expected.momentum),
                (at.teacher_temperature, &expected.teacher_temperature),
            ] {
                assert_eq!(expected.len(), steps);
                apart = apart.max((found - expected[step]).abs());
            }
        }
        println!("over {steps} steps: {apart:.1e}");
        assert!(apart < 1e-12, "{apart}");
    }
}
