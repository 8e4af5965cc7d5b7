//! Tests of distillation in a trainer: its steps are the losses of both networks' features, it learns, it resumes to the bit,
//! and beside no other teacher.

use super::comparison::Cpu;
use super::distill::{distil_class, distil_patches, pushed, resized};
use super::learning::{IMAGES, config, in_order, trainer};
use crate::backbone::Backbone;
use crate::checkpoint::Checkpoint;
use crate::model::{Network, NetworkConfig, Seen, Vit, host_values, initialise, load, map_named, named_gradients};
use crate::operators::Operators;
use crate::trainer::Trainer;
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{Tensor, TensorData};
use lapidary_pipeline::loader::{Batch, Pixels};
use lapidary_schemas::config::{ModelConfig, ObjectiveKind};
use lapidary_schemas::{Config, Digest};
use std::path::{Path, PathBuf};

type Inner = <Cpu as AutodiffBackend>::InnerBackend;

const WIDTH: usize = 12;
const QUEUE: usize = 40;
const PATCH_WEIGHT: f64 = 0.5;

/// A teacher of another width, depth and patch than the student's, with weights that are large enough to tell images apart.
fn teacher() -> Vit<Inner> {
    let model = ModelConfig {
        image_px: 24,
        patch_px: 8,
        dim: WIDTH,
        depth: 3,
        heads: 3,
        mlp_ratio: 2,
        ..ModelConfig::default()
    };
    let drawn = initialise(Vit::new(&model, false, &Default::default()), 5);
    map_named(drawn, |(name, _, values): Seen<'_, Inner>| if name.contains("norm") { values } else { values * 10.0 })
}

fn digest(of: &str) -> Digest {
    Digest(of.repeat(64))
}

fn distillation() -> Config {
    config(|objective| {
        objective.kind = ObjectiveKind::Distillation;
        (objective.distill_dim, objective.distill_queue) = (WIDTH, QUEUE);
        objective.distill_patch_weight = PATCH_WEIGHT;
    })
}

fn fresh(config: &Config, steps: usize) -> Trainer<Cpu> {
    trainer(config, steps).distil_from(teacher(), &digest("a"))
}

fn global_pixels<B: Operators>(batch: &Batch) -> Tensor<B, 4> {
    let Pixels::Rendered(values) = &batch.groups[0].pixels else { unreachable!("rendered in learning") };
    Tensor::from_data(TensorData::new(values.clone(), [2 * IMAGES, 3, 16, 16]), &Default::default())
}

#[test]
fn a_step_s_loss_and_gradients_are_those_of_both_networks_features() {
    let (config, device) = (distillation(), Default::default());
    let mut trainer = fresh(&config, 6);
    let mut queue = Tensor::<Inner, 2>::zeros([QUEUE, WIDTH], &device);
    for step in 0..3 {
        let network = NetworkConfig::of(&config.model, &config.objective);
        let weights = trainer.checkpoint().part("student.");
        let student = load(Network::<Cpu>::undrawn(&network, &device), &weights, &device).expect("its own weights");
        let seen = student.backbone.tokens(global_pixels(&in_order()), &Default::default(), true);
        let taught = teacher().tokens(global_pixels(&in_order()), &Default::default(), true);
        queue = pushed(queue, taught.class.clone());
        let [class, patches] =
            [&student.distill_class, &student.distill_patches].map(|map| map.as_ref().expect("a map"));
        let class = distil_class(
            class.forward(seen.class),
            Tensor::from_inner(taught.class),
            Tensor::from_inner(queue.clone()),
            0.07,
        );
        let mapped = resized(patches.forward(seen.patches.expect("asked for")), [4, 4], [2, 2]);
        let patches = distil_patches(mapped, Tensor::from_inner(taught.patches.expect("asked for")), 0.07);
        let loss = class + patches * PATCH_WEIGHT;
        let expected = named_gradients::<Cpu, _>(&student, &loss.backward());

        let mut computed = trainer.compute(in_order());
        let loss = f64::from(loss.into_scalar());
        let found = computed.scalars.read().loss;
        assert!((found - loss).abs() < 2e-6 * loss, "step {step}: {found} {loss}");
        assert!(expected.len() > 30 && expected.contains_key("distill_patches.weight"), "{:?}", expected.keys());
        for (name, gradient) in expected {
            let found = computed.gradients.take(&name).expect("it has a gradient").gradient;
            let [gap, length] = [found - gradient.clone(), gradient]
                .map(|values| host_values(values).iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt());
            assert!(gap < 1e-4 * length + 1e-7, "step {step}, {name}: {gap} of {length}");
        }
        trainer.train(in_order());
        let state = trainer.checkpoint();
        assert_eq!(
            state.tensors["objective.distill.queue"].values,
            host_values(queue.clone().reshape([QUEUE * WIDTH]))
        );
    }
}

#[test]
fn the_student_learns_the_teacher_s_similarities_of_images_and_of_patches() {
    let mut trainer = fresh(&distillation(), 160);
    let metrics: Vec<_> = (0..160).map(|_| trainer.train(in_order()).metrics).collect();
    for part in ["distill_class", "distill_patches"] {
        // The queue of the first steps is part zeros: from when it is full.
        let (first, last) = (metrics[1][part], metrics[159][part]);
        assert!(last < 0.4 * first, "{part}: {first} to {last}");
    }
}

#[test]
fn the_state_has_the_queue_and_the_maps_and_not_the_teacher() {
    let mut trainer = fresh(&distillation(), 4);
    trainer.train(in_order());
    let state = trainer.checkpoint();
    assert_eq!(state.tensors["student.distill_class.weight"].shape, [WIDTH, 16]);
    assert_eq!(state.tensors["student.distill_patches.bias"].shape, [WIDTH]);
    assert_eq!(state.tensors["objective.distill.queue"].shape, [QUEUE, WIDTH]);
    assert!(!state.tensors.keys().any(|name| name.starts_with("teacher.") || name.starts_with("anchor.")));
    let mut without = distillation();
    without.objective.distill_patch_weight = 0.0;
    let report = fresh(&without, 4).train(in_order());
    assert!(report.metrics.contains_key("distill_class") && !report.metrics.contains_key("distill_patches"));
}

#[test]
fn a_distillation_resumes_to_the_bit_and_pieces_change_nothing_but_rounding() {
    let mut config = distillation();
    config.objective.koleo_weight = 0.1;
    let mut straight = fresh(&config, 6);
    let losses: Vec<f64> = (0..6).map(|_| straight.train(in_order()).loss).collect();
    for cut in 1..6 {
        let mut first = fresh(&config, 6);
        (0..cut).for_each(|_| drop(first.train(in_order())));
        let folder = tempfile::tempdir().expect("a folder");
        first.snapshot().save(folder.path(), "a", None).expect("saves");
        let state = Checkpoint::load(folder.path(), "a").expect("loads");
        let mut second = fresh(&config, 6).restore(&state, folder.path()).expect("restores");
        (cut..6).for_each(|_| drop(second.train(in_order())));
        assert_eq!(straight.checkpoint(), second.checkpoint(), "cut after {cut}");
    }
    (config.pretrain.accumulate, config.pretrain.pieces, config.pretrain.recompute_blocks) = (2, 1, true);
    let mut in_parts = fresh(&config, 6);
    for (step, loss) in losses.into_iter().enumerate() {
        let other = in_parts.train(in_order()).loss;
        assert!((other - loss).abs() < 1e-3 * loss.abs(), "step {step}: {other} {loss}");
    }
}

#[test]
fn another_teacher_is_refused_with_the_key_and_both_digests() {
    let config = distillation();
    let mut first = fresh(&config, 6);
    first.train(in_order());
    let other = trainer(&config, 6).distil_from(teacher(), &digest("b"));
    let error = other.restore(&first.checkpoint(), Path::new("run/checkpoints")).err().expect("refuses").to_string();
    for part in ["run/checkpoints", "objective.distill_from", "aaaaaaaaaaaa", "bbbbbbbbbbbb", "hint:"] {
        assert!(error.contains(part), "{part} in {error}");
    }
}

#[test]
fn published_weights_teach() {
    // timm's own ViT, in its layout; tests/golden/weights.py made it.
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/weights/timm");
    let backbone = Backbone::of_file(&folder).expect("reads");
    let mut config = distillation();
    let model = &backbone.weights.model;
    config.objective.distill_dim = model.dim;
    assert_eq!(16 % model.patch_px, 0, "{model:?}");
    let mut trainer =
        trainer(&config, 40).distil_from(backbone.vit(&Default::default()).expect("a network"), &backbone.digest);
    let losses: Vec<f64> = (0..40).map(|_| trainer.train(in_order()).loss).collect();
    assert!(losses[39] < 0.9 * losses[1], "{losses:?}");
}
