//! Tests of whole steps on small networks and drawn batches.

use super::*;
use crate::backend::Cpu;
use crate::checkpoint::Checkpoint;
use crate::model::named_tensors;
use burn::tensor::DType;
use lapidary_pipeline::loader::{Pixels, ViewGroup};
use lapidary_schemas::ImageId;
use lapidary_schemas::config::{ModelConfig, ObjectiveConfig, ObjectiveKind, PretrainConfig, ViewSpec};
use std::path::Path;

pub(crate) fn config(kind: ObjectiveKind, pieces: usize) -> Config {
    let view = |kind, count, size_px| ViewSpec { kind, count, size_px, ..ViewSpec::default() };
    let mut config = Config {
        model: ModelConfig {
            image_px: 16,
            patch_px: 4,
            dim: 16,
            depth: 2,
            heads: 2,
            mlp_ratio: 2,
            drop_path: 0.0,
            ..ModelConfig::default()
        },
        objective: ObjectiveConfig {
            kind,
            prototypes: 24,
            head_hidden: 16,
            head_bottleneck: 8,
            barlow_dim: 12,
            ..ObjectiveConfig::default()
        },
        pretrain: PretrainConfig {
            batch: 24,
            pieces,
            base_learning_rate: 5e-2,
            warmup_steps: 5,
            freeze_last_layer_steps: 2,
            weight_decay: 0.0,
            final_weight_decay: 0.0,
            momentum: 0.9,
            ..PretrainConfig::default()
        },
        ..Config::default()
    };
    config.plan.views = vec![view(ViewKind::Global, 2, 16), view(ViewKind::Local, 2, 8)];
    config
}

/// Images that are waves of their own, each view with a little noise.
pub(crate) fn batch() -> Batch {
    let group = |kind, size_px: usize, views: usize| {
        let value = |i: usize| {
            let plane = 3 * size_px * size_px;
            let (view, image, at) = (i / plane / 24, i / plane % 24, i % plane);
            let wave = ((at as f32 * (1.0 + image as f32) * 0.11).sin() + (image as f32).cos()) * 0.7;
            wave + 0.1 * ((i * 7919 + view) as f32).sin()
        };
        let pixels = (0..views * 24 * 3 * size_px * size_px).map(value).collect();
        ViewGroup { kind, size_px, views, pixels: Pixels::Rendered(pixels) }
    };
    let ids = (0..24).map(ImageId).collect();
    Batch { step: 0, ids, groups: vec![group(ViewKind::Global, 16, 2), group(ViewKind::Local, 8, 2)] }
}

/// What is left to learn of each part of an objective: DINO's loss above its floor, the teacher's entropy, and Barlow
/// Twins' loss; at the first and at the last of 400 steps beside a teacher that stands still.
fn left_to_learn(kind: ObjectiveKind) -> Vec<(&'static str, f64, f64)> {
    let mut config = config(kind, 2);
    config.pretrain.momentum = 1.0;
    let schedule = Schedule::new(&config.pretrain, &config.objective, 400, 400);
    let mut trainer = Trainer::<Cpu>::new(&config, schedule, &Default::default());
    let metrics: Vec<_> = (0..400).map(|_| trainer.train(batch()).metrics).collect();
    let (first, last) = (&metrics[0], &metrics[399]);
    let mut left = Vec::new();
    if first.contains_key("loss_dino") {
        left.push(("dino", first["loss_dino"] - first["teacher_entropy"], last["loss_dino"] - last["teacher_entropy"]));
    }
    if first.contains_key("loss_barlow") {
        left.push(("barlow", first["loss_barlow"], last["loss_barlow"]));
    }
    left
}

#[test]
fn every_objective_overfits_a_batch() {
    for (kind, parts, share) in [
        (ObjectiveKind::BarlowTwins, 1, 0.2),
        (ObjectiveKind::Dino, 1, 0.25),
        // The two share the backbone's 16 numbers.
        (ObjectiveKind::Hybrid, 2, 0.4),
    ] {
        let left = left_to_learn(kind);
        assert_eq!(left.len(), parts, "{kind:?}");
        for (part, first, last) in left {
            assert!(last < share * first, "{kind:?}, {part}: {first} to {last}");
        }
    }
}

/// The student's weights after three steps.
fn weights(change: impl Fn(&mut Config)) -> BTreeMap<String, HostTensor> {
    let mut config = config(ObjectiveKind::Hybrid, 1);
    config.model.drop_path = 0.2;
    change(&mut config);
    let schedule = Schedule::new(&config.pretrain, &config.objective, 3, 3);
    let mut trainer = Trainer::<Cpu>::new(&config, schedule, &Default::default());
    (0..3).for_each(|_| drop(trainer.train(batch())));
    snapshot(&trainer.student.valid())
}

#[test]
fn pieces_parts_and_recomputed_blocks_change_nothing_but_rounding() {
    let whole = weights(|_| {});
    for (what, other) in [
        ("pieces", weights(|config| config.pretrain.pieces = 3)),
        ("parts, Barlow Twins included", weights(|config| config.pretrain.accumulate = 3)),
        ("recomputed blocks", weights(|config| config.pretrain.recompute_blocks = true)),
        (
            "all together",
            weights(|config| {
                config.pretrain.accumulate = 2;
                config.pretrain.pieces = 2;
                config.pretrain.recompute_blocks = true;
            }),
        ),
    ] {
        for (name, tensor) in other {
            for (a, b) in tensor.values.iter().zip(&whole[&name].values) {
                assert!((a - b).abs() < 2e-3, "{what}: {name}: {a} {b}");
            }
        }
    }
    let undropped = weights(|config| config.model.drop_path = 0.0);
    assert_ne!(undropped, whole, "stochastic depth leaves branches out");
}

#[test]
fn activations_in_bf16_lose_nearly_the_same_and_keep_everything_else_in_f32() {
    let step = |precision| {
        let mut config = config(ObjectiveKind::Hybrid, 2);
        config.pretrain.precision = precision;
        let schedule = Schedule::new(&config.pretrain, &config.objective, 4, 4);
        let mut trainer = Trainer::<Cpu>::new(&config, schedule, &Default::default());
        // Of the first step, from the same weights; Barlow Twins parts ways chaotically after it.
        let metrics = trainer.train(batch()).metrics;
        (metrics, trainer)
    };
    let ((full, _), (half, mut trainer)) = (step(Precision::F32), step(Precision::Bf16));
    for name in ["loss_dino", "loss_barlow", "gradient_norm"] {
        let difference = (full[name] - half[name]).abs() / full[name];
        assert!(difference > 0.0 && difference < 0.02, "{name}: {} {}", full[name], half[name]);
    }
    (1..4).for_each(|_| assert!(!trainer.train(batch()).skipped));
    let is_f32 = |network: &Network<_>| named_tensors(network).values().all(|tensor| tensor.dtype() == DType::F32);
    assert!(is_f32(&trainer.teacher));
    assert!(trainer.optimiser.tensors().into_iter().all(|(_, tensor)| tensor.dtype() == DType::F32));
}

#[test]
fn a_restored_trainer_resumes_to_the_bit() {
    let config = config(ObjectiveKind::Hybrid, 2);
    let schedule = || Schedule::new(&config.pretrain, &config.objective, 6, 3);
    let fresh = || Trainer::<Cpu>::new(&config, schedule(), &Default::default());
    let (mut straight, mut first) = (fresh(), fresh());
    for _ in 0..6 {
        straight.train(batch());
    }
    for _ in 0..3 {
        first.train(batch());
    }
    let mut second = fresh().restore(&first.checkpoint(), Path::new("")).expect("restores");
    for _ in 0..3 {
        second.train(batch());
    }
    assert_eq!(straight.checkpoint(), second.checkpoint());
}

/// The batch with the first value of a view of an image replaced.
pub(super) fn batch_with(value: f32) -> Batch {
    let mut batch = batch();
    let Pixels::Rendered(values) = &mut batch.groups[0].pixels else { unreachable!("rendered above") };
    values[3 * 16 * 16 * 5] = value;
    batch
}

#[test]
fn a_step_that_is_not_finite_changes_nothing_but_the_counts_and_resumes_to_the_bit() {
    for kind in [ObjectiveKind::BarlowTwins, ObjectiveKind::Dino, ObjectiveKind::Hybrid] {
        let config = config(kind, 2);
        let schedule = || Schedule::new(&config.pretrain, &config.objective, 8, 4);
        let fresh = || Trainer::<Cpu>::new(&config, schedule(), &Default::default());
        let batches = || [0.5, f32::NAN, 0.5, f32::INFINITY, f32::NAN, 0.5, f32::NEG_INFINITY, 0.5].map(batch_with);
        let mut straight = fresh();
        let mut states = vec![straight.checkpoint()];
        for (step, batch) in batches().into_iter().enumerate() {
            let report = straight.train(batch);
            states.push(straight.checkpoint());
            let (before, after) = (&states[step], &states[step + 1]);
            assert_eq!(after.step, step + 1, "the plan goes on");
            let broken = [1, 3, 4, 6].contains(&step);
            assert_eq!((report.skipped, before.tensors == after.tensors), (broken, broken), "{kind:?}, step {step}");
            let norm = report.metrics["gradient_norm"];
            assert_eq!(report.skipped, !(report.loss.is_finite() && norm.is_finite()));
        }
        let counts: Vec<(usize, usize)> =
            states.iter().map(|state| (state.skipped.steps, state.skipped.in_a_row)).collect();
        assert_eq!(counts, [(0, 0), (0, 0), (1, 1), (1, 0), (2, 1), (3, 2), (3, 0), (4, 1), (4, 0)]);
        // Cut off between two skipped steps, through a file.
        let folder = tempfile::tempdir().expect("a folder");
        states[4].snapshot().save(folder.path(), "a", None).expect("saves");
        let state = Checkpoint::load(folder.path(), "a").expect("loads");
        let mut resumed = fresh().restore(&state, Path::new("")).expect("restores");
        batches().into_iter().skip(4).for_each(|batch| drop(resumed.train(batch)));
        assert_eq!(resumed.checkpoint(), states[8]);
    }
}

#[test]
fn gradients_that_are_not_finite_under_a_finite_loss_are_seen() {
    let config = config(ObjectiveKind::Dino, 2);
    let schedule = Schedule::new(&config.pretrain, &config.objective, 4, 4);
    let fresh = Trainer::<Cpu>::new(&config, schedule, &Default::default());
    // The head's output is so small that its length counts as 1e-12, what it is made of so large that gradients come to
    // some 1e22: the logits are plain numbers, the squares of the gradients pass f32's range.
    let mut state = fresh.checkpoint();
    for (name, factor) in [("student.head.mlp.1.linear.weight", 1e14), ("student.head.mlp.2.linear.weight", 1e-30)] {
        let weight = state.tensors.get_mut(name).expect("a layer of the head");
        weight.values.iter_mut().for_each(|value| *value *= factor);
    }
    let mut trainer = fresh.restore(&state, Path::new("")).expect("restores");
    let report = trainer.train(batch());
    assert!(report.loss.is_finite() && !report.metrics["gradient_norm"].is_finite(), "{report:?}");
    assert!(report.skipped);
    assert_eq!(trainer.checkpoint().tensors, state.tensors);
}

#[test]
fn a_checkpoint_of_version_1_resumes_as_it_would_have_gone_on() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/v1"));
    let mut config = lapidary_pipeline::cli::resolve(None, Some(&folder.join("config.toml")), &[]).expect("reads");
    // What that version did not have.
    config.model.drop_path = 0.0;
    let text = std::fs::read(folder.join("expected.json")).expect("reads");
    let expected: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
    let state = Checkpoint::load(folder, "step-00000005").expect("loads");
    let schedule = Schedule::new(&config.pretrain, &config.objective, 8, 4);
    let trainer = Trainer::<Cpu>::new(&config, schedule, &Default::default());
    let mut trainer = trainer.restore(&state, folder).expect("restores");
    let Pixels::Rendered(values) = &batch().groups[0].pixels else { unreachable!("rendered above") };
    let images = burn::tensor::TensorData::new(values[..2 * 3 * 16 * 16].to_vec(), [2, 3, 16, 16]);
    let features = trainer.teacher.backbone.forward(Tensor::from_data(images, &Default::default()));
    let features: Vec<f32> = features.into_data().to_vec().expect("f32");
    for (found, expected) in features.iter().zip(expected["teacher_features"].as_array().expect("a list")) {
        assert!((f64::from(*found) - expected.as_f64().expect("a number")).abs() < 1e-5);
    }
    let report = trainer.train(batch());
    for (name, expected) in expected["metrics"].as_object().expect("metrics") {
        let (found, expected) = (report.metrics[name], expected.as_f64().expect("a number"));
        assert!((found - expected).abs() < 1e-4 * expected.abs().max(1e-2), "{name}: {found} {expected}");
    }
    // Written again, it is of today's version and the same.
    let temporary = tempfile::tempdir().expect("a folder");
    state.snapshot().save(temporary.path(), "a", None).expect("saves");
    assert_eq!(Checkpoint::load(temporary.path(), "a").expect("loads"), state);
}
