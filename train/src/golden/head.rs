//! DINO's head: logits and gradients with norms that are trained and that are fixed, and with BatchNorm; its initial weights.

use super::{Tensors, assert_gradients, assert_near, gradients, on_device, on_host, part, read, weighted};
use crate::backend::Cpu;
use crate::model::{DinoHead, initialise, load, snapshot};
use burn::tensor::Tensor;
use lapidary_schemas::config::ObjectiveConfig;

pub(super) fn config(batch_norm: bool, frozen: bool) -> ObjectiveConfig {
    ObjectiveConfig {
        prototypes: 32,
        head_hidden: 12,
        head_bottleneck: 8,
        head_batch_norm: batch_norm,
        norm_last_layer: frozen,
        ..ObjectiveConfig::default()
    }
}

/// A head of one of the golden cases.
pub(super) fn head(golden: &Tensors, case: &str) -> DinoHead<Cpu> {
    let config = config(case == "batch_norm", case == "frozen");
    let head = DinoHead::new(16, &config, &Default::default());
    load(head, &part(golden, &format!("head.{case}.parameter.")), &Default::default()).expect("all parameters")
}

#[test]
fn logits_and_gradients_are_the_references() {
    let golden = read("parts.safetensors");
    for case in ["plain", "batch_norm", "frozen", "teacher"] {
        let (head, golden) = (head(&golden, case), part(&golden, &format!("head.{case}.")));
        let features = on_device::<Cpu, 2>(&golden["features"]).require_grad();
        let logits = head.forward(features.clone());
        assert_near(case, &on_host(logits.clone()), &golden["logits"].values, 2e-6);
        let backward = weighted(logits).backward();
        let mut expected = part(&golden, "gradient.");
        let of_features = expected.remove("features").expect("of the features");
        let found: Tensor<_, 2> = features.grad(&backward).expect("features have a gradient");
        assert_near(case, &on_host(found), &of_features.values, 1e-5);
        let mut found = gradients::<Cpu, _>(&head, &backward);
        if case == "batch_norm" {
            // BatchNorm takes off what a bias before it adds: no true gradient.
            for name in ["mlp.0.linear.bias", "mlp.1.linear.bias"] {
                assert!(found.remove(name).is_some() && expected.remove(name).is_some());
            }
        }
        assert_gradients(case, &found, &expected, 1e-5);
        assert_eq!(found.contains_key("last_layer.weight_g"), case != "frozen", "fixed norms have no gradient");
    }
}

#[test]
fn prototypes_start_uniform_within_the_references_bound() {
    let config = ObjectiveConfig { prototypes: 512, head_hidden: 8, head_bottleneck: 256, ..config(false, false) };
    let head = initialise(DinoHead::<Cpu>::new(16, &config, &Default::default()), 3);
    let values = &snapshot(&head)["last_layer.weight_v"].values;
    // U(-1/16, 1/16): a draw passes 0.99 of the bound one time in a hundred; the variance is a third of the bound's square.
    let greatest = values.iter().fold(0f32, |greatest, value| greatest.max(value.abs()));
    assert!((0.99 / 16.0..=1.0 / 16.0).contains(&greatest), "{greatest}");
    let variance = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / values.len() as f64;
    assert!((variance * 768.0 - 1.0).abs() < 0.02, "{variance}");
}
