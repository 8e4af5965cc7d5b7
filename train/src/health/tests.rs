//! Runs that are made to collapse, healthy ones, and series of metrics made by hand.

use super::names;
use super::verdict::thresholds::{LOOKS, STUCK_STEPS, WINDOW_STEPS};
use super::{Monitor, OnCollapse, Symptom, Verdict, Watch};
use crate::backend::Cpu;
use crate::optimise::Schedule;
use crate::trainer::Trainer;
use crate::trainer::tests::{batch, config};
use lapidary_schemas::Config;
use lapidary_schemas::config::ObjectiveKind;
use serde_json::{Value, json};

/// The verdicts on a run of the trainer's tests, slowed down so that DINO is healthy: at a learning rate of 0.05 and a momentum
/// of 0.9 its teacher is dragged to one prototype, which is said of it.
fn trained(kind: ObjectiveKind, steps: usize, change: impl Fn(&mut Config)) -> Vec<Verdict> {
    let mut config = config(kind, 1);
    config.pretrain.health_steps = 5;
    if kind != ObjectiveKind::BarlowTwins {
        config.pretrain.base_learning_rate = 1e-2;
        config.pretrain.momentum = 0.99;
    }
    change(&mut config);
    let schedule = Schedule::new(&config.pretrain, &config.objective, steps, steps);
    let mut trainer = Trainer::<Cpu>::new(&config, schedule, &Default::default());
    let mut watch = Watch::new(&config, steps, steps);
    for step in 0..steps {
        let report = trainer.train(batch());
        let mut line = json!({"step": step, "loss": report.loss});
        report.metrics.iter().for_each(|(name, value)| line[name] = json!(value));
        for verdict in watch.note(&line) {
            println!("{kind:?}: {verdict}");
        }
    }
    watch.verdicts().to_vec()
}

fn symptoms(verdicts: &[Verdict]) -> Vec<Symptom> {
    verdicts.iter().map(|verdict| verdict.symptom).collect()
}

#[test]
fn healthy_runs_are_given_no_verdict() {
    for kind in [ObjectiveKind::Dino, ObjectiveKind::BarlowTwins, ObjectiveKind::Hybrid] {
        let verdicts = trained(kind, 200, |_| {});
        assert!(verdicts.is_empty(), "{kind:?}: {verdicts:?}");
    }
}

#[test]
fn without_a_centre_and_at_a_low_temperature_one_prototype_is_left() {
    let verdicts = trained(ObjectiveKind::Dino, 200, |config| {
        config.objective.center_momentum = 1.0;
        config.objective.teacher_temperature = 0.01;
    });
    assert!(symptoms(&verdicts).contains(&Symptom::FewPrototypes), "{verdicts:?}");
    assert!(!symptoms(&verdicts).contains(&Symptom::Uniform), "{verdicts:?}");
}

#[test]
fn at_a_high_temperature_the_teacher_is_uniform() {
    let verdicts = trained(ObjectiveKind::Dino, 200, |config| {
        config.objective.teacher_temperature = 5.0;
        // So fast that the student is there within the test.
        config.pretrain.base_learning_rate = 5e-2;
        config.pretrain.momentum = 0.9;
    });
    assert!(symptoms(&verdicts).contains(&Symptom::Uniform), "{verdicts:?}");
    assert!(!symptoms(&verdicts).contains(&Symptom::FewPrototypes), "{verdicts:?}");
}

#[test]
fn without_its_off_diagonal_term_barlow_twins_uses_few_dimensions() {
    let verdicts = trained(ObjectiveKind::BarlowTwins, 300, |config| config.objective.barlow_off_diagonal = 0.0);
    assert!(symptoms(&verdicts).contains(&Symptom::FewDimensions), "{verdicts:?}");
}

/// A healthy line.
fn line(step: usize) -> Value {
    let mut line = json!({
        "step": step, "loss": 2.0 + 0.1 * (step as f64).sin(), "loss_dino": 2.5,
        "gradient_norm_barlow": 3.0, "gradient_norm_dino": 1.0, "data_wait_secs": 0.1, "step_secs": 1.0,
    });
    if step.is_multiple_of(50) {
        line[names::TEACHER_ENTROPY_SHARE] = json!(0.6);
        line[names::KL_TEACHER_STUDENT] = json!(0.3);
        line[names::PROTOTYPES_PERPLEXITY] = json!(12.0);
        line[names::FEATURE_STD] = json!(0.9);
        line[names::RANKME] = json!(9.0);
        line[names::BARLOW_OFF_DIAGONAL_RMS] = json!(0.1);
    }
    line
}

/// What is said of 3,000 steps of which some are changed, step by step.
fn said(change: impl Fn(usize, &mut Value), cut_at: Option<usize>) -> Vec<(usize, Verdict)> {
    let config = config(ObjectiveKind::Hybrid, 1);
    let new = || Watch::new(&config, 3000, 100);
    let (mut watch, mut said) = (new(), Vec::new());
    let mut kept = Vec::new();
    for step in 0..3000 {
        let mut line = line(step);
        change(step, &mut line);
        if cut_at == Some(step) {
            // As a resumed run has it: from the lines alone, which are text.
            watch = new();
            kept.iter().for_each(|text: &String| drop(watch.note(&serde_json::from_str(text).expect("JSON"))));
        }
        kept.push(line.to_string());
        said.extend(watch.note(&line).into_iter().map(|verdict| (step, verdict)));
    }
    let standing = said.iter().filter(|(_, verdict)| verdict.recovered_at.is_none()).count();
    assert_eq!(watch.verdicts().len(), standing, "each is remembered once");
    said
}

#[test]
fn each_symptom_is_said_once_with_its_keys_and_so_is_its_end_however_the_run_is_cut() {
    assert!(said(|_, _| {}, None).is_empty(), "a healthy run");
    type Change = fn(&mut Value);
    fn at_looks(line: &mut Value, changes: &[(&str, f64)]) {
        if line[names::FEATURE_STD].is_number() {
            changes.iter().for_each(|(name, value)| line[*name] = json!(value));
        }
    }
    let looks = (LOOKS - 1) * 50;
    let cases: [(Symptom, Change, usize, usize, &str); 9] = [
        (
            Symptom::Uniform,
            |line| at_looks(line, &[(names::TEACHER_ENTROPY_SHARE, 0.998), (names::KL_TEACHER_STUDENT, 1e-4)]),
            1200,
            1200 + looks,
            "collapsed to uniform since step 1,200: teacher entropy 0.998 of ln K|objective.teacher_temperature",
        ),
        (
            Symptom::FewPrototypes,
            |line| at_looks(line, &[(names::PROTOTYPES_PERPLEXITY, 1.04)]),
            1200,
            1200 + looks,
            "collapsed to few prototypes since step 1,200: perplexity 1.04 of 24|objective.center_momentum",
        ),
        (
            Symptom::Point,
            |line| at_looks(line, &[(names::FEATURE_STD, 0.02)]),
            1200,
            1200 + looks,
            "features collapsed to a point since step 1,200: std|pretrain.base_learning_rate",
        ),
        (
            Symptom::FewDimensions,
            |line| at_looks(line, &[(names::RANKME, 1.1)]),
            1200,
            1200 + looks,
            "RankMe 1.1 of 16|objective.barlow_off_diagonal",
        ),
        (
            Symptom::FewDimensions,
            |line| at_looks(line, &[(names::BARLOW_OFF_DIAGONAL_RMS, 0.9)]),
            1200,
            1200 + looks,
            "RMS off the diagonal 0.90|objective.barlow_off_diagonal",
        ),
        (
            Symptom::Stuck,
            |line| line["loss_dino"] = json!(24f64.ln() * 1.0005),
            1200,
            1200 + STUCK_STEPS - 1,
            "loss stuck at ln K since step 1,200: DINO's loss 1.0005 of ln K|pretrain.base_learning_rate",
        ),
        (Symptom::Diverging, |line| line["loss"] = json!(9.0), 1200, 1300, "loss diverging|pretrain.clip_norm"),
        (
            Symptom::Drowned,
            |line| line["gradient_norm_barlow"] = json!(0.005),
            1200,
            1300,
            "DINO's gradient norm is 200 times Barlow Twins'|objective.barlow_balance",
        ),
        (Symptom::Waiting, |line| line["data_wait_secs"] = json!(0.8), 1200, 1300, "waiting for data|loader_threads"),
    ];
    for (symptom, change, from, told_at, expected) in cases {
        let ill = |step: usize, line: &mut Value| {
            if (from..2000).contains(&step) {
                change(line);
            }
        };
        let straight = said(ill, None);
        assert_eq!(straight.len(), 2, "{symptom:?}: {straight:?}");
        let ((first_at, first), (last_at, last)) = (&straight[0], &straight[1]);
        assert_eq!((first.symptom, last.symptom), (symptom, symptom));
        assert!(first_at.abs_diff(told_at) <= WINDOW_STEPS, "{symptom:?} is said at {first_at}");
        assert!(first.since.abs_diff(from) <= WINDOW_STEPS && first.since <= *first_at, "{first:?}");
        assert!(first.recovered_at.is_none() && (2000..2200).contains(last_at), "{symptom:?}: {last_at} {last:?}");
        let text = first.to_string();
        expected.split('|').for_each(|part| assert!(text.contains(part), "{text}"));
        assert!(last.to_string().starts_with("recovered at step 2,"), "{last}");
        for cut_at in [1203, 1290, 1777, 2051] {
            assert_eq!(said(ill, Some(cut_at)), straight, "{symptom:?}, cut at {cut_at}");
        }
    }
}

#[test]
fn what_lasts_less_long_is_not_said() {
    let verdicts = said(
        |step, line| {
            // Two looks of three, and 400 steps of 500.
            if (1200..1300).contains(&step) && line[names::FEATURE_STD].is_number() {
                line[names::FEATURE_STD] = json!(0.01);
            }
            if (500..900).contains(&step) {
                line["loss_dino"] = json!(24f64.ln());
            }
        },
        None,
    );
    assert!(verdicts.is_empty(), "{verdicts:?}");
}

#[test]
fn a_collapsed_run_stops_where_that_is_asked_for_and_so_does_a_resumed_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let metrics = folder.path().join("metrics.jsonl");
    let config = config(ObjectiveKind::Hybrid, 1);
    let ill = |step: usize| {
        let mut line = line(step);
        if step >= 1200 && line[names::FEATURE_STD].is_number() {
            line[names::FEATURE_STD] = json!(0.02);
        }
        line
    };
    let text: String = (0..1290).map(|step| format!("{}\n", ill(step))).collect();
    std::fs::write(&metrics, text).expect("writes");
    let open = |on_collapse| {
        Monitor::open(folder.path(), &metrics, Watch::new(&config, 3000, 100), on_collapse).expect("opens")
    };
    for (on_collapse, stops) in [(OnCollapse::Warn, false), (OnCollapse::Stop, true)] {
        let mut monitor = open(on_collapse);
        assert!(monitor.stop(1289).is_none(), "two looks of three");
        (1290..1301).for_each(|step| monitor.note(&ill(step)).expect("notes"));
        assert_eq!(monitor.verdicts().len(), 1);
        let error = monitor.stop(1300);
        assert_eq!(error.is_some(), stops);
        if let Some(error) = error {
            let failure = lapidary_pipeline::cli::Failure::from(error);
            let text = failure.error.to_string();
            assert_eq!(failure.exit_code, 1);
            for part in ["step 1300", "features collapsed to a point since step 1,200", "pretrain.base_learning_rate"] {
                assert!(text.contains(part), "{text}");
            }
        }
    }
    let text: String = (0..1305).map(|step| format!("{}\n", ill(step))).collect();
    std::fs::write(&metrics, text).expect("writes");
    assert!(open(OnCollapse::Stop).stop(1305).is_some(), "it is collapsed still");
    assert!(open(OnCollapse::Warn).stop(1305).is_none());
}
