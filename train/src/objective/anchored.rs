//! Tests of Gram anchoring in a trainer: when the anchor is taken, that its loss is the pure one, that it holds patches to it,
//! and that runs resume to the bit.

use super::comparison::Cpu;
use super::gram::gram;
use super::learning::{IMAGES, config, in_order, trainer};
use crate::checkpoint::Checkpoint;
use crate::model::{HostTensor, Vit, host_values, load, named_gradients};
use crate::operators::Operators;
use burn::tensor::{Tensor, TensorData};
use lapidary_pipeline::loader::Pixels;
use lapidary_schemas::Config;
use lapidary_schemas::config::{ObjectiveConfig, ObjectiveKind};
use std::collections::BTreeMap;

/// Anchored from step 2 on, at full weight from 4 on, the anchor taken again at 5 and at 8.
fn anchored(objective: &mut ObjectiveConfig) {
    (objective.gram_weight, objective.gram_from_step, objective.gram_warmup_steps) = (2.0, 2, 2);
    (objective.gram_refresh_steps, objective.gram_refreshes_max) = (3, 2);
}

/// What a network makes of the patches of both global views.
fn patches<B: Operators>(weights: &BTreeMap<String, HostTensor>, config: &Config) -> (Vit<B>, Tensor<B, 3>) {
    let Pixels::Rendered(values) = &in_order().groups[0].pixels.clone() else { unreachable!("rendered in learning") };
    let device = Default::default();
    let pixels = Tensor::from_data(TensorData::new(values.clone(), [2 * IMAGES, 3, 16, 16]), &device);
    let network = load(Vit::new(&config.model, false, &device), weights, &device).expect("its own weights");
    let tokens = network.tokens(pixels, &Default::default(), true);
    (network, tokens.patches.expect("asked for"))
}

#[test]
fn the_anchor_is_the_teacher_of_its_step_and_the_loss_the_pure_one() {
    let config = config(anchored);
    let mut trainer = trainer(&config, 12);
    let mut states: Vec<Checkpoint> = Vec::new();
    for step in 0..12 {
        states.push(trainer.checkpoint());
        let report = trainer.train(in_order());
        let after = trainer.checkpoint();
        let weight = [0.0, 0.0, 0.0, 1.0].get(step).copied().unwrap_or(2.0);
        assert_eq!(report.metrics.get("weight_gram").copied().unwrap_or(0.0), weight, "step {step}");
        let taken = match step {
            0..2 => None,
            2..5 => Some(2),
            5..8 => Some(5),
            _ => Some(8),
        };
        let anchor = taken.map_or(BTreeMap::new(), |step: usize| states[step].part("teacher.backbone."));
        assert_eq!(after.part("anchor."), anchor, "step {step}");
        if weight > 0.0 {
            let (_, student) = patches::<Cpu>(&states[step].part("student.backbone."), &config);
            let loss = f64::from(gram(student, patches::<Cpu>(&anchor, &config).1).into_scalar());
            let found = report.metrics["loss_gram"];
            assert!((found - loss).abs() < 1e-5 * loss && loss > 0.0, "step {step}: {found} {loss}");
        } else {
            assert!(!report.metrics.contains_key("loss_gram"), "step {step}");
        }
    }
}

#[test]
fn its_gradient_is_added_to_the_others() {
    let with = config(anchored);
    let mut first = trainer(&with, 12);
    (0..7).for_each(|_| drop(first.train(in_order())));
    let state = first.checkpoint();
    let without = trainer(&config(|_| {}), 12).restore(&state, "".as_ref()).expect("restores");
    let (student, seen) = patches::<Cpu>(&state.part("student.backbone."), &with);
    let loss = gram(seen, patches::<Cpu>(&state.part("anchor."), &with).1) * 2.0;
    let alone = named_gradients::<Cpu, _>(&student, &loss.backward());
    let (mut with, mut without) = (first.compute(in_order()).gradients, without.compute(in_order()).gradients);
    let mut compared = 0;
    for (name, gradient) in alone {
        let name = format!("backbone.{name}");
        let of = |gradients: &mut crate::optimise::Gradients<_>| gradients.take(&name).expect("a gradient").gradient;
        let (both, others) = (host_values(of(&mut with)), host_values(of(&mut without)));
        let length = both.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
        let values = host_values(gradient);
        let gap =
            both.iter().zip(&others).zip(&values).map(|((both, others), own)| f64::from(both - others - own).powi(2));
        assert!(gap.sum::<f64>().sqrt() < 1e-4 * length + 1e-7, "{name}");
        compared += usize::from(values.iter().any(|value| value.abs() > 1e-4));
    }
    assert!(compared > 10, "{compared} gradients that matter");
}

#[test]
fn patches_stay_like_the_anchor_s() {
    let left_with = |weight: f64| {
        let config = config(|objective| {
            (objective.gram_weight, objective.gram_from_step) = (weight, 0);
        });
        let mut trainer = trainer(&config, 60);
        (0..60).map(|_| trainer.train(in_order()).metrics["loss_gram"]).last().expect("60 steps")
    };
    let (held, free) = (left_with(50.0), left_with(1e-9));
    assert!(held < 0.3 * free, "{held} with, {free} without");
}

#[test]
fn runs_resume_to_the_bit_before_and_after_each_anchor() {
    let masked = |objective: &mut ObjectiveConfig| {
        anchored(objective);
        objective.ibot_weight = 1.0;
    };
    // Where the objective has no teacher, one follows the student for the anchor's sake.
    let without_teacher = |objective: &mut ObjectiveConfig| {
        anchored(objective);
        objective.kind = ObjectiveKind::BarlowTwins;
    };
    let changes: [&dyn Fn(&mut ObjectiveConfig); 2] = [&masked, &without_teacher];
    for change in changes {
        let config = config(change);
        let mut straight = trainer(&config, 10);
        (0..10).for_each(|_| drop(straight.train(in_order())));
        for cut in [1, 2, 3, 5, 6, 9] {
            let mut first = trainer(&config, 10);
            (0..cut).for_each(|_| drop(first.train(in_order())));
            let folder = tempfile::tempdir().expect("a folder");
            first.snapshot().save(folder.path(), "a", None).expect("saves");
            let state = Checkpoint::load(folder.path(), "a").expect("loads");
            let mut second = trainer(&config, 10).restore(&state, folder.path()).expect("restores");
            (cut..10).for_each(|_| drop(second.train(in_order())));
            assert_eq!(straight.checkpoint(), second.checkpoint(), "{:?}, cut after {cut}", config.objective.kind);
        }
    }
}
