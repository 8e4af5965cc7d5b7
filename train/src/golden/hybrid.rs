//! The hybrid is the weighted sum of its parents; without one of them it is the other, up to rounding: a product sums over the
//! views of both, in blocks.

use super::{difference, steps};
use lapidary_schemas::config::ObjectiveKind;
use std::collections::BTreeMap;

#[test]
fn gradients_are_the_weighted_sum_and_without_one_parent_those_of_the_other() {
    let gradients = |kind, scale, weight| steps::start_gradients(kind, scale, weight);
    let barlow = gradients(ObjectiveKind::BarlowTwins, 1.0, 0.0);
    let dino = gradients(ObjectiveKind::Dino, 1.0, 1.0);
    let both = gradients(ObjectiveKind::Hybrid, 0.5, 2.0);
    for (name, found) in &both {
        let zeros = vec![0.0; found.len()];
        let (of_barlow, of_dino) = (barlow.get(name).unwrap_or(&zeros), dino.get(name).unwrap_or(&zeros));
        let sum: Vec<f32> = of_barlow.iter().zip(of_dino).map(|(barlow, dino)| 0.5 * barlow + 2.0 * dino).collect();
        let apart = difference(&super::with_true_gradient(name, found), &super::with_true_gradient(name, &sum));
        assert!(apart < 1e-5, "{name}: {apart}");
    }
    let without_dino = gradients(ObjectiveKind::Hybrid, 1.0, 0.0);
    // All together to 1e-5 of their norm; a tensor alone, whose sum may cancel, to ten times that.
    let same = |found: &BTreeMap<String, Vec<f32>>, expected: &BTreeMap<String, Vec<f32>>| {
        let values = |all: &BTreeMap<String, Vec<f32>>| -> Vec<f32> {
            expected.keys().flat_map(|name| super::with_true_gradient(name, &all[name])).collect()
        };
        let apart = difference(&values(found), &values(expected));
        assert!(apart < 1e-5, "all: {apart}");
        for name in expected.keys() {
            let one = |all: &BTreeMap<String, Vec<f32>>| super::with_true_gradient(name, &all[name]);
            let apart = difference(&one(found), &one(expected));
            assert!(apart < 1e-4, "{name}: {apart}");
        }
    };
    same(&without_dino, &barlow);
    // 0 in the configuration asks for a scale of its own; this is 0 in f32.
    let without_barlow = gradients(ObjectiveKind::Hybrid, 1e-300, 1.0);
    same(&without_barlow, &dino);
    assert!(barlow.len() > 20 && dino.len() > 20 && both.len() > dino.len());
}
