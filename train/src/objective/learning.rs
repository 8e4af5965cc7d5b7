//! Tests of objectives in a trainer: they learn a batch, resume to the bit, take no notice of the batch's order, and masks do
//! what they say.

use super::comparison::Cpu;
use crate::optimise::Schedule;
use crate::trainer::Trainer;
use lapidary_pipeline::loader::{Batch, Pixels, ViewGroup};
use lapidary_schemas::config::{ObjectiveConfig, ObjectiveKind, Targets, ViewKind};
use lapidary_schemas::{Config, ImageId};
use std::collections::BTreeMap;
use std::path::Path;

pub(super) const IMAGES: usize = 12;

/// The trainer tests' small network, with the objective changed.
pub(super) fn config(change: impl Fn(&mut ObjectiveConfig)) -> Config {
    let mut config = crate::trainer::tests::config(ObjectiveKind::Dino, 2);
    config.pretrain.batch = IMAGES;
    (config.objective.simclr_dim, config.objective.sscd_dim) = (8, 8);
    change(&mut config.objective);
    config
}

/// The views of [`config`]'s plan: kind, side, views an image.
const VIEWS: [(ViewKind, usize, usize); 2] = [(ViewKind::Global, 16, 2), (ViewKind::Local, 8, 2)];

pub(super) fn batch(ids: &[usize]) -> Batch {
    batch_of(ids, &VIEWS)
}

/// Images that are waves of their own, each view with a little noise, in the order of `ids`.
fn batch_of(ids: &[usize], views: &[(ViewKind, usize, usize)]) -> Batch {
    let group = |kind, size_px: usize, views: usize| {
        let plane = 3 * size_px * size_px;
        let mut pixels = Vec::new();
        for view in 0..views {
            for &image in ids {
                let noise = |at: usize| (((view * IMAGES + image) * plane + at) as f32 * 791.9).sin();
                let wave = |at: usize| (at as f32 * (1.0 + image as f32) * 0.11).sin() + (image as f32).cos();
                pixels.extend((0..plane).map(|at| 0.7 * wave(at) + 0.1 * noise(at)));
            }
        }
        ViewGroup { kind, size_px, views, pixels: Pixels::Rendered(pixels) }
    };
    Batch {
        step: 0,
        ids: ids.iter().map(|id| ImageId(*id as u64)).collect(),
        groups: views.iter().map(|(kind, size_px, views)| group(*kind, *size_px, *views)).collect(),
    }
}

pub(super) fn in_order() -> Batch {
    batch(&(0..IMAGES).collect::<Vec<_>>())
}

pub(super) fn trainer(config: &Config, steps: usize) -> Trainer<Cpu> {
    Trainer::new(config, Schedule::new(&config.pretrain, &config.objective, steps, steps), &Default::default())
}

/// DINO with everything that can be added to it.
fn dinov2(objective: &mut ObjectiveConfig) {
    (objective.ibot_weight, objective.koleo_weight, objective.ibot_separate_head) = (1.0, 0.1, true);
}

fn first_metrics(change: impl Fn(&mut ObjectiveConfig)) -> BTreeMap<String, f64> {
    trainer(&config(change), 4).train(in_order()).metrics
}

#[test]
fn two_view_objectives_overfit_a_batch() {
    for (kind, share) in [(ObjectiveKind::Vicreg, 0.7), (ObjectiveKind::Simclr, 0.5), (ObjectiveKind::Sscd, 0.5)] {
        let change = |objective: &mut ObjectiveConfig| (objective.kind, objective.sscd_entropy_weight) = (kind, 1.0);
        let mut trainer = trainer(&config(change), 160);
        let losses: Vec<f64> = (0..160).map(|_| trainer.train(in_order()).loss).collect();
        assert!(losses[159] < share * losses[0], "{kind:?}: {} to {}", losses[0], losses[159]);
    }
}

#[test]
fn masked_patches_and_spreading_features_are_learned_beside_dino() {
    for targets in [Targets::Centre, Targets::Sinkhorn] {
        let mut config = config(|objective| {
            dinov2(objective);
            objective.targets = targets;
        });
        // The teacher stands still, so that there is something to reach.
        config.pretrain.momentum = 1.0;
        let mut trainer = trainer(&config, 160);
        let metrics: Vec<_> = (0..160).map(|_| trainer.train(in_order()).metrics).collect();
        for part in ["loss_ibot", "loss_koleo"] {
            let (first, last) = (metrics[0][part], metrics[159][part]);
            assert!(last < first - 0.05, "{targets:?}, {part}: {first} to {last}");
        }
        // The centre moves the teacher's distributions: DINO's loss is held against its floor, their entropy.
        let above_floor = |step: usize| metrics[step]["loss_dino"] - metrics[step]["teacher_entropy"];
        let (first, last) = (above_floor(0), above_floor(159));
        assert!(last < 0.8 * first, "{targets:?}, DINO above its floor: {first} to {last}");
    }
}

#[test]
fn every_objective_resumes_to_the_bit() {
    let sinkhorn = |objective: &mut ObjectiveConfig| {
        dinov2(objective);
        (objective.targets, objective.ibot_separate_head) = (Targets::Sinkhorn, false);
    };
    let changes: [&dyn Fn(&mut ObjectiveConfig); 5] = [
        &dinov2,
        &sinkhorn,
        &|objective| objective.kind = ObjectiveKind::Vicreg,
        &|objective| objective.kind = ObjectiveKind::Simclr,
        &|objective| objective.kind = ObjectiveKind::Sscd,
    ];
    for change in changes {
        let config = config(change);
        let (mut straight, mut first) = (trainer(&config, 6), trainer(&config, 6));
        (0..6).for_each(|_| drop(straight.train(in_order())));
        (0..3).for_each(|_| drop(first.train(in_order())));
        let mut second = trainer(&config, 6).restore(&first.checkpoint(), Path::new("")).expect("restores");
        (0..3).for_each(|_| drop(second.train(in_order())));
        assert_eq!(straight.checkpoint(), second.checkpoint(), "{:?}", config.objective.kind);
    }
}

#[test]
fn a_batch_in_another_order_loses_the_same() {
    let reversed: Vec<usize> = (0..IMAGES).rev().collect();
    let changes: [&dyn Fn(&mut ObjectiveConfig); 4] = [
        &dinov2,
        &|objective| objective.kind = ObjectiveKind::Vicreg,
        &|objective| objective.kind = ObjectiveKind::Simclr,
        &|objective| objective.kind = ObjectiveKind::Sscd,
    ];
    for change in changes {
        let config = config(change);
        let metrics = |batch| trainer(&config, 4).train(batch).metrics;
        let (one, other) = (metrics(in_order()), metrics(batch(&reversed)));
        for (name, value) in one.iter().filter(|(name, _)| name.starts_with("loss_")) {
            assert!((value - other[name]).abs() < 1e-4 * value.abs(), "{name}: {value} {}", other[name]);
        }
    }
}

#[test]
fn a_mask_ratio_of_zero_is_the_unmasked_student_and_another_is_not() {
    let with = |ratio: [f64; 2]| {
        first_metrics(|objective| {
            dinov2(objective);
            objective.mask_ratio = ratio;
        })
    };
    let (plain, unmasked, masked) = (first_metrics(|_| {}), with([0.0, 0.0]), with([0.1, 0.5]));
    assert_eq!(unmasked["loss_dino"].to_bits(), plain["loss_dino"].to_bits());
    assert_eq!(unmasked["loss_ibot"], 0.0);
    assert!(masked["loss_dino"] != plain["loss_dino"] && masked["loss_ibot"] > 0.0, "{masked:?}");
}

#[test]
fn two_sizes_of_a_kind_of_view_both_enter_the_losses() {
    let sizes = [(ViewKind::Global, 16, 1), (ViewKind::Global, 8, 1), (ViewKind::Local, 8, 1), (ViewKind::Local, 4, 1)];
    let mut config = config(|objective| {
        dinov2(objective);
        (objective.kind, objective.mask_share) = (ObjectiveKind::Hybrid, 1.0);
    });
    let ids: Vec<usize> = (0..IMAGES).collect();
    let metrics = |config: &Config, batch| trainer(config, 4).train(batch).metrics;
    let whole = metrics(&config, batch_of(&ids, &sizes));
    for (place, (kind, size_px, _)) in sizes.into_iter().enumerate() {
        let mut changed = batch_of(&ids, &sizes);
        let Pixels::Rendered(pixels) = &mut changed.groups[place].pixels else { unreachable!("rendered above") };
        pixels.iter_mut().for_each(|value| *value = -*value);
        let changed = metrics(&config, changed);
        for loss in ["loss_dino", "loss_barlow", "loss_ibot", "loss_koleo"] {
            let reads = kind == ViewKind::Global || loss == "loss_dino";
            assert_eq!(changed[loss] != whole[loss], reads, "{loss} and the {kind:?} view of {size_px} px");
        }
    }
    config.pretrain.pieces = 5;
    for (name, value) in metrics(&config, batch_of(&ids, &sizes)) {
        assert!((value - whole[&name]).abs() < 1e-4 * value.abs().max(1e-3), "{name}: {value} {}", whole[&name]);
    }
}
