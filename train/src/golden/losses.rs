//! DINO's loss over two steps in a row, with its centre; Barlow Twins' loss; the teacher's temperature.

use super::{assert_gradients, assert_near, file, gradients, hashed, head, on_device, on_host, part, read};
use crate::backend::Cpu;
use crate::model::{Network, NetworkConfig};
use crate::objective::{Dino, Features, Objective, StepInput, Views, redundancy};
use crate::operators::Operators;
use crate::optimise::Schedule;
use crate::share::BatchShare;
use burn::module::AutodiffModule;
use burn::tensor::{Tensor, TensorData};
use burn_flex::Flex;
use lapidary_schemas::config::{ModelConfig, ObjectiveConfig, ObjectiveKind, PretrainConfig, ViewKind};

const DIM: usize = 16;

fn config() -> ObjectiveConfig {
    ObjectiveConfig {
        kind: ObjectiveKind::Dino,
        teacher_temperature_start: 0.04,
        teacher_temperature: 0.07,
        teacher_temperature_warmup_epochs: 3,
        ..head::config(false, false)
    }
}

/// A step an epoch.
fn schedule() -> Schedule {
    Schedule::new(&PretrainConfig::default(), &config(), 6, 1)
}

fn group<B: Operators>(kind: ViewKind, class: Tensor<B, 2>, batch: usize) -> Views<B> {
    Views { kind, size_px: 16, views: class.dims()[0] / batch, class, patches: None, mask: Vec::new() }
}

#[test]
fn dino_over_two_steps_is_the_references() {
    let (golden, batch) = (read("parts.safetensors"), 4);
    let model = ModelConfig { image_px: 4, patch_px: 4, dim: DIM, depth: 1, heads: 1, ..ModelConfig::default() };
    let network = |case| Network {
        head: Some(head::head(&golden, case)),
        ..Network::<Cpu>::student(&NetworkConfig::of(&model, &config()), 1, &Default::default())
    };
    let (student, teacher) = (network("plain"), Network::teacher_of(&network("teacher").valid()));
    for locals in [0, 6, 8] {
        let mut dino = Dino::<Flex>::new(&config(), &Default::default());
        for step in 0..2 {
            let what = format!("dino.{locals}.{step}");
            let golden = part(&golden, &format!("{what}."));
            let class = on_device::<Cpu, 2>(&golden["student"]).require_grad();
            let rows = class.dims()[0];
            let mut views = vec![group(ViewKind::Global, class.clone().slice([0..2 * batch, 0..DIM]), batch)];
            if locals > 0 {
                views.push(group(ViewKind::Local, class.clone().slice([2 * batch..rows, 0..DIM]), batch));
            }
            let of_teacher = vec![group(ViewKind::Global, on_device(&golden["teacher"]), batch)];
            let features =
                Features { batch, student: views, teacher: of_teacher, frozen: Vec::new(), anchor: Vec::new() };
            let at = schedule().at(step);
            let share = BatchShare::whole(features.batch);
            let input =
                StepInput { features: &features, share: &share, student: &student, teacher: &teacher, schedule: &at };
            let loss = dino.loss(&input);
            assert_near(&what, &on_host(loss.total.clone()), &golden["loss"].values, 1e-6);
            let backward = loss.total.backward();
            let mut expected = part(&golden, "gradient.");
            let of_features = expected.remove("features").expect("of the features").values;
            assert_near(&what, &on_host(class.grad(&backward).expect("a gradient")), &of_features, 1e-5);
            let head = student.head.as_ref().expect("given");
            assert_gradients(&what, &gradients::<Cpu, _>(head, &backward), &expected, 1e-5);
            Objective::<Cpu>::commit(&mut dino, &loss.pending);
            let center = &Objective::<Cpu>::state(&dino)["dino.center"];
            assert_near(&what, &center.values, &golden["center"].values, 1e-6);
        }
    }
}

#[test]
fn temperatures_are_the_references() {
    let expected: Vec<f64> = serde_json::from_slice(&file("temperatures.json")).expect("a list");
    assert_eq!(expected.len(), 6);
    for (epoch, expected) in expected.into_iter().enumerate() {
        assert!((schedule().at(epoch).teacher_temperature - expected).abs() < 1e-12);
    }
}

/// Numbers from -1 to 1, as `numbers` in the script.
fn numbers(width: usize, seed: u64) -> Vec<f32> {
    hashed(16 * width, seed).map(|value| value / 128.0 - 1.0).collect()
}

#[test]
fn barlow_twins_is_the_references_and_a_constant_feature_is_no_nan() {
    let golden = part(&read("parts.safetensors"), "barlow.");
    for width in [64, 512] {
        for case in ["plain", "constant"] {
            let golden = part(&golden, &format!("{width}.{case}."));
            let mut first = numbers(width, 1);
            let mut second: Vec<f32> =
                numbers(width, 2).iter().zip(&first).map(|(noise, own)| 0.5 * own + 0.5 * noise).collect();
            if case == "constant" {
                first.iter_mut().step_by(width).for_each(|value| *value = 0.5);
                second.iter_mut().step_by(width).for_each(|value| *value = 0.25);
            }
            let leaf = |values: Vec<f32>| {
                Tensor::<Cpu, 2>::from_data(TensorData::new(values, [16, width]), &Default::default()).require_grad()
            };
            let (first, second) = (leaf(first), leaf(second));
            let (on, off) = redundancy(first.clone(), second.clone(), &BatchShare::whole(first.dims()[0]));
            let total = on.clone() + off.clone() * ObjectiveConfig::default().barlow_off_diagonal;
            let found = on_host(Tensor::cat(vec![total.clone(), on, off], 0));
            for (found, expected) in found.iter().zip(&golden["loss"].values) {
                assert!((found / expected - 1.0).abs() < 2e-6, "{width} {case}: {found} {expected}");
            }
            let backward = total.backward();
            for (view, leaf) in [("1", first), ("2", second)] {
                let found = on_host(leaf.grad(&backward).expect("a gradient"));
                let what = format!("{width} {case}: gradient of view {view}");
                assert_near(&what, &found, &golden[&format!("gradient.{view}")].values, 1e-5);
            }
        }
    }
}
