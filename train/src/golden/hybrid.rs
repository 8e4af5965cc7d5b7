//! The hybrid is the weighted sum of its parents; without one of them it is the other, up to rounding: a product sums over the
//! views of both, in blocks.

use super::{difference, steps};
use lapidary_schemas::config::ObjectiveKind;

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
    let same = |found: &[f32], expected: &[f32], name: &str| {
        let apart = difference(&super::with_true_gradient(name, found), &super::with_true_gradient(name, expected));
        assert!(apart < 1e-5, "{name}: {apart}");
    };
    barlow.iter().for_each(|(name, expected)| same(&without_dino[name], expected, name));
    // 0 in the configuration asks for a scale of its own; this is 0 in f32.
    let without_barlow = gradients(ObjectiveKind::Hybrid, 1e-300, 1.0);
    dino.iter().for_each(|(name, expected)| same(&without_barlow[name], expected, name));
    assert!(barlow.len() > 20 && dino.len() > 20 && both.len() > dino.len());
}
