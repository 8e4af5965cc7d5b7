//! A step whose views go through the networks packed, beside one with a pass for each size: the same loss and the same gradients
//! but for rounding, with all that a step can have: stochastic depth, masks, registers, LayerScale, learned and rotary
//! positions, pieces, parts and blocks that are computed again.

use super::tests::{batch, config};
use super::*;
use crate::backend::Cpu;
use crate::model::host_values;
use lapidary_schemas::config::{FeedForward, ObjectiveKind, Positions, ViewSpec};

/// Names with what is changed of a run of DINO, whose heads have no kinks that rounding could meet.
type Changes = [(&'static str, fn(&mut Config)); 5];

const CHANGES: Changes = [
    ("as it is", |_| {}),
    ("blocks computed again", |config| config.pretrain.recompute_blocks = true),
    ("masks, registers and LayerScale", |config| {
        (config.model.registers, config.model.layer_scale) = (2, 0.5);
        config.objective.ibot_weight = 1.0;
    }),
    ("rotary positions and SwiGLU, blocks computed again", |config| {
        (config.model.positions, config.model.feed_forward) = (Positions::Rope, FeedForward::Swiglu);
        config.model.mlp_ratio = 3;
        config.objective.ibot_weight = 1.0;
        config.pretrain.recompute_blocks = true;
    }),
    ("parts and pieces, blocks computed again", |config| {
        (config.pretrain.accumulate, config.pretrain.pieces) = (2, 3);
        config.pretrain.recompute_blocks = true;
    }),
];

/// Two global and two local views, 17 and 5 tokens each, and a third of the branches of the last block left out.
fn changed(change: fn(&mut Config)) -> Config {
    let mut config = config(ObjectiveKind::Dino, 1);
    (config.model.drop_path, config.model.layer_scale) = (0.3, 0.1);
    change(&mut config);
    config
}

/// The loss of a run's first step, and its gradients by the parameters' names.
fn step<B: TrainBackend>(config: &Config, device: &B::Device, packed: bool) -> (f64, BTreeMap<String, Vec<f32>>) {
    let schedule = Schedule::new(&config.pretrain, &config.objective, 10, 10);
    let mut trainer = Trainer::<B>::new(config, schedule, device);
    trainer.set_packed(packed);
    let Computed { scalars, gradients, .. } = trainer.compute(batch());
    let values =
        |(name, gradient): (&str, &Tensor<B::InnerBackend, 1>)| (name.to_owned(), host_values(gradient.clone()));
    (scalars.read().loss, gradients.each().map(values).collect())
}

/// Asserts that a step packed is one that is not: the loss, and each parameter's gradient as a part of its norm.
fn is_the_same<B: TrainBackend>(what: &str, config: &Config, device: &B::Device) {
    let (loss, gradients) = step::<B>(config, device, false);
    let (packed_loss, packed) = step::<B>(config, device, true);
    assert!((packed_loss - loss).abs() < 2e-6 * loss.abs(), "{what}: {packed_loss}, expected {loss}");
    assert_eq!(packed.keys().collect::<Vec<_>>(), gradients.keys().collect::<Vec<_>>(), "{what}");
    assert!(gradients.keys().any(|name| name.starts_with("backbone.blocks.")), "the backbone is trained");
    let norm = |values: &[f32]| values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    // Of the keys' biases, whose gradients are rounding, those of queries and values tell the scale.
    for (name, expected) in &gradients {
        let difference: Vec<f32> = packed[name].iter().zip(expected).map(|(a, b)| a - b).collect();
        let off = norm(&difference) / norm(expected).max(1e-12);
        assert!(off < 5e-5, "{what}: {name}: {off}");
    }
}

#[test]
fn a_packed_step_is_one_with_a_pass_for_each_size() {
    for (what, change) in CHANGES {
        is_the_same::<Cpu>(what, &changed(change), &Default::default());
    }
}

#[test]
fn a_teacher_that_sees_several_sizes_sees_them_packed() {
    let mut config = changed(|_| {});
    config.plan.views.push(ViewSpec { kind: ViewKind::Global, count: 1, size_px: 24, ..ViewSpec::default() });
    let with_a_third_size = || {
        let mut batch = batch();
        let mut third = batch.groups[0].clone();
        (third.size_px, third.views) = (24, 1);
        let values = (0..24 * 3 * 24 * 24).map(|at| (at as f32 * 0.731).sin()).collect();
        third.pixels = lapidary_pipeline::loader::Pixels::Rendered(values);
        batch.groups.push(third);
        batch
    };
    let loss = |packed: bool| {
        let schedule = Schedule::new(&config.pretrain, &config.objective, 10, 10);
        let mut trainer = Trainer::<Cpu>::new(&config, schedule, &Default::default());
        trainer.set_packed(packed);
        trainer.compute(with_a_third_size()).scalars.read().loss
    };
    let (packed, apart) = (loss(true), loss(false));
    assert!((packed - apart).abs() < 2e-6 * apart, "{packed}, expected {apart}");
}

#[test]
fn a_packed_step_gives_the_same_bits_each_time() {
    let config = changed(|config| config.pretrain.pieces = 2);
    let device = Default::default();
    assert_eq!(step::<Cpu>(&config, &device, true), step::<Cpu>(&config, &device, true));
    let (kept, _) = step::<Cpu>(&changed(|config| config.model.drop_path = 0.0), &device, true);
    assert_ne!(kept, step::<Cpu>(&config, &device, true).0, "stochastic depth leaves branches out");
}

/// On a GPU in software where there is no other.
#[cfg(feature = "wgpu")]
#[test]
fn a_packed_step_on_a_gpu_is_one_with_a_pass_for_each_size() {
    use crate::backend::{DeviceChoice, Gpu};
    let Some(gpu) = crate::gpu::resolve(DeviceChoice::Wgpu(None)).ok().and_then(|device| device.gpu()) else {
        return eprintln!("skipped: no adapter");
    };
    for (what, change) in CHANGES {
        is_the_same::<Gpu>(what, &changed(change), &gpu);
    }
    let config = changed(|config| config.pretrain.recompute_blocks = true);
    assert_eq!(step::<Gpu>(&config, &gpu, true), step::<Gpu>(&config, &gpu, true), "the same bits each time");
}
