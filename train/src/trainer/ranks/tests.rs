//! A run on several ranks beside one on one: the same loss and gradients but for rounding, the same bits each time, and the same
//! copies on all ranks, for every objective and whatever else a step can have.

use super::super::Computed;
use super::super::tests::{batch, batch_with, config};
use super::*;
use crate::backend::Cpu;
use crate::checkpoint::Checkpoint;
use crate::model::{Vit, host_values, initialise};
use burn::tensor::Tensor;
use burn::tensor::backend::AutodiffBackend;
use lapidary_schemas::config::{ObjectiveKind, Precision, Targets};
use lapidary_schemas::{Config, Digest};

/// Names with the objective and what else is changed.
type Changes = [(&'static str, ObjectiveKind, fn(&mut Config)); 10];

const CHANGES: Changes = [
    ("the hybrid, stochastic depth", ObjectiveKind::Hybrid, |config| config.model.drop_path = 0.3),
    ("Barlow Twins in parts and pieces", ObjectiveKind::BarlowTwins, |config| {
        (config.pretrain.accumulate, config.pretrain.pieces) = (3, 2);
    }),
    ("the hybrid, blocks computed again", ObjectiveKind::Hybrid, |config| config.pretrain.recompute_blocks = true),
    ("parts whose blocks are computed again", ObjectiveKind::Dino, |config| {
        (config.pretrain.accumulate, config.pretrain.recompute_blocks) = (2, true);
    }),
    ("BatchNorm in DINO's head", ObjectiveKind::Dino, |config| config.objective.head_batch_norm = true),
    ("DINOv2: masks, Sinkhorn, KoLeo, registers", ObjectiveKind::Dino, |config| {
        config.model.registers = 2;
        config.objective.targets = Targets::Sinkhorn;
        (config.objective.ibot_weight, config.objective.koleo_weight) = (1.0, 0.1);
        config.objective.ibot_separate_head = true;
    }),
    ("masks and a centre", ObjectiveKind::Dino, |config| config.objective.ibot_weight = 1.0),
    ("VICReg", ObjectiveKind::Vicreg, |_| {}),
    ("SimCLR", ObjectiveKind::Simclr, |config| config.objective.simclr_dim = 8),
    ("SSCD", ObjectiveKind::Sscd, |config| config.objective.sscd_dim = 8),
];

/// A run of the small network at its first step.
fn trainer(kind: ObjectiveKind, change: impl Fn(&mut Config), ranks: usize) -> Trainer<Cpu> {
    let mut config = config(kind, 1);
    // So small that rounding is not made into steps.
    config.pretrain.base_learning_rate = 1e-3;
    change(&mut config);
    let schedule = Schedule::new(&config.pretrain, &config.objective, 8, 8);
    Trainer::<Cpu>::new(&config, schedule, &Default::default()).spread_over(vec![Default::default(); ranks])
}

/// The loss of the step at hand, its scalars, and its gradients by the parameters' names.
fn step(trainer: &Trainer<Cpu>) -> (f64, BTreeMap<String, f64>, BTreeMap<String, Vec<f32>>) {
    let Computed { scalars, gradients, .. } = trainer.compute(batch());
    let values = gradients.each().map(|(name, gradient)| (name.to_owned(), host_values(gradient.clone())));
    let (values, readings) = (values.collect(), scalars.read());
    (readings.loss, readings.metrics, values)
}

/// Asserts that a run on several ranks takes the first step of a run on one.
fn is_the_same(what: &str, one: &Trainer<Cpu>, several: &Trainer<Cpu>) {
    let ((loss, metrics, gradients), (found, found_metrics, found_gradients)) = (step(one), step(several));
    assert!((found - loss).abs() < 1e-5 * loss.abs().max(1e-2), "{what}: {found}, expected {loss}");
    for (name, expected) in &metrics {
        let found = found_metrics[name];
        assert!((found - expected).abs() < 2e-3 * expected.abs().max(1e-2), "{what}: {name}: {found}, {expected}");
    }
    assert_eq!(found_gradients.keys().collect::<Vec<_>>(), gradients.keys().collect::<Vec<_>>(), "{what}");
    let norm = |values: &[f32]| values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    let whole = gradients.values().map(|values| norm(values).powi(2)).sum::<f64>().sqrt();
    for (name, expected) in &gradients {
        let difference: Vec<f32> = found_gradients[name].iter().zip(expected).map(|(a, b)| a - b).collect();
        // A bias before BatchNorm, and one of keys, has a gradient of rounding alone.
        let off = norm(&difference) / norm(expected).max(1e-3 * whole);
        assert!(off < 2e-3, "{what}: {name}: {off}");
    }
}

#[test]
fn every_objective_s_step_on_several_ranks_is_that_on_one() {
    for (what, kind, change) in CHANGES {
        let one = trainer(kind, change, 1);
        // 24 images: shares of 12, 8, 6 and, of five ranks, of 4 and 5.
        for ranks in [2, 3, 4, 5] {
            is_the_same(&format!("{what}, {ranks} ranks"), &one, &trainer(kind, change, ranks));
        }
    }
}

#[test]
fn a_run_on_several_ranks_gives_the_same_bits_each_time_and_resumes_to_the_bit() {
    for (what, kind, change) in CHANGES {
        let run = |steps: usize, start: Option<&Checkpoint>| {
            let mut trainer = trainer(kind, change, 2);
            if let Some(start) = start {
                trainer = trainer.restore(start, Path::new("")).expect("restores");
            }
            (0..steps).for_each(|_| drop(trainer.train(batch())));
            trainer.checkpoint()
        };
        let straight = run(4, None);
        assert_eq!(straight, run(4, None), "{what}");
        assert_eq!(straight, run(2, Some(&run(2, None))), "{what}");
    }
}

#[test]
fn the_copies_of_all_ranks_stay_the_first_one_s_to_the_bit() {
    // The first rank begins the others anew when it is restored, from its own state: were theirs another, the two would part.
    for (what, kind, change) in CHANGES {
        let (mut left, mut renewed) = (trainer(kind, change, 3), trainer(kind, change, 3));
        for _ in 0..3 {
            left.train(batch());
            renewed.train(batch());
            renewed.rank.end_others();
        }
        assert_eq!(left.checkpoint(), renewed.checkpoint(), "{what}");
    }
}

#[test]
fn gram_anchoring_and_distillation_on_several_ranks_are_those_on_one() {
    let anchored = |ranks: usize| {
        let mut trainer = trainer(
            ObjectiveKind::Dino,
            |config| (config.objective.gram_weight, config.objective.gram_from_step) = (1.0, 1),
            ranks,
        );
        // The anchor is taken before the second step.
        (0..2).for_each(|_| drop(trainer.train(batch())));
        trainer
    };
    is_the_same("Gram anchoring", &anchored(1), &anchored(2));
    type Inner = <Cpu as AutodiffBackend>::InnerBackend;
    let distilled = |ranks: usize| {
        let trainer = trainer(
            ObjectiveKind::Distillation,
            |config| {
                (config.objective.distill_dim, config.objective.distill_queue) = (16, 40);
                config.objective.distill_patch_weight = 0.5;
            },
            ranks,
        );
        let teacher: Vit<Inner> = initialise(Vit::new(&trainer.config.model, false, &Default::default()), 5);
        trainer.distil_from(teacher, &Digest("a".repeat(64)))
    };
    for ranks in [2, 3] {
        is_the_same("distillation", &distilled(1), &distilled(ranks));
    }
}

#[test]
fn steps_ahead_and_skipped_steps_on_several_ranks_are_those_read_one_by_one() {
    let run = |metrics_steps: usize| {
        let mut trainer = trainer(ObjectiveKind::Hybrid, |config| config.pretrain.health_steps = 5, 2);
        trainer.set_metrics_steps(metrics_steps);
        let mut reports = Vec::new();
        for value in [0.5, 0.5, f32::NAN, 0.5, f32::INFINITY, 0.5, 0.5] {
            reports.extend(trainer.advance(batch_with(value), false));
        }
        reports.extend(trainer.read());
        let text = |report: crate::StepReport| format!("{} {:?} {}", report.loss, report.metrics, report.skipped);
        (reports.into_iter().map(text).collect::<Vec<_>>(), trainer.checkpoint())
    };
    let (reports, state) = run(3);
    assert_eq!((reports.len(), state.skipped.steps), (7, 2));
    assert_eq!((reports, state), run(1));
}

#[test]
fn half_precision_on_several_ranks_is_near_and_health_is_that_of_the_whole_batch() {
    let look = |ranks: usize, precision: Precision| {
        let change = |config: &mut Config| {
            config.pretrain.health_steps = 1;
            config.pretrain.precision = precision;
        };
        trainer(ObjectiveKind::Hybrid, change, ranks).train(batch()).metrics
    };
    for precision in [Precision::F32, Precision::F16] {
        let (one, three) = (look(1, precision), look(3, precision));
        assert_eq!(one.keys().collect::<Vec<_>>(), three.keys().collect::<Vec<_>>());
        assert!(one.len() > 20, "the run's health is looked at: {one:?}");
        for (name, expected) in &one {
            let off = (three[name] - expected).abs() / expected.abs().max(1e-2);
            assert!(off < if precision == Precision::F32 { 5e-3 } else { 5e-2 }, "{name}: {} {expected}", three[name]);
        }
    }
}

#[test]
fn a_rank_that_fails_ends_the_step_with_what_it_said() {
    let mut trainer = trainer(ObjectiveKind::Dino, |_| {}, 3);
    trainer.train(batch());
    let third: &Ranks<_> = &trainer.rank.other_ends[1];
    third.abandon("device 2 is out of memory");
    let failed = catch_unwind(AssertUnwindSafe(|| trainer.train(batch()))).expect_err("fails");
    assert_eq!(said_of_panic(failed.as_ref()), "device 2 is out of memory");
    drop(trainer);
}

#[test]
fn gathered_rows_are_in_the_order_of_the_batch_and_their_gradient_is_the_rank_s_own() {
    let _alone = super::super::GRAPHS.lock();
    let device = Default::default();
    let rows = |images: std::ops::Range<usize>| {
        let values: Vec<f32> =
            (0..2).flat_map(|view| images.clone().map(move |image| (10 * view + image) as f32)).collect();
        Tensor::<Cpu, 1>::from_floats(&values[..], &device).reshape([values.len(), 1])
    };
    std::thread::scope(|scope| {
        for end in collectives::<Cpu>(&[device; 3]) {
            scope.spawn(move || {
                let share = BatchShare::of(&end, 7);
                let own = rows(share.images()).require_grad();
                let all = share.gather(own.clone());
                assert_eq!(all.to_data(), rows(0..7).to_data());
                let mean = share.mean_of_rows(own.clone().inner());
                assert!((mean.into_scalar() - 8.0).abs() < 1e-5, "of 0 to 6 and 10 to 16");
                end.barrier();
                let gradients = (all.clone() * all).sum().backward();
                let found = own.grad(&gradients).expect("a gradient");
                assert_eq!(found.to_data(), (own.inner() * 2.0).to_data());
            });
        }
    });
}
