//! Gram anchoring (Simeoni et al. 2025, eq. 2; DINOv3): the similarities of an image's patches to each other stay those of an
//! earlier teacher, whatever the features themselves become. It has no head.
//!
//! The anchor is the teacher's backbone as it was at `objective.gram_from_step` and at each refresh since; the trainer keeps it.
//! It sees the crops that the student sees. DINOv3's refined form, whose anchor sees them at twice the resolution, is not here.

use super::contrast::l2_normalise;
use super::{Loss, Needs, Objective, Pending, StepInput, Views};
use crate::operators::{Operators, TrainBackend};
use crate::optimise::StepSchedule;
use burn::tensor::Tensor;
use lapidary_schemas::config::ViewKind;
use std::collections::BTreeMap;

/// The student's patches of the global views, masked or not, against the anchor's.
#[derive(Debug)]
pub(super) struct Gram;

impl<A: TrainBackend> Objective<A> for Gram {
    fn name(&self) -> &'static str {
        "gram"
    }

    fn needs(&self) -> Needs {
        Needs { student: vec![ViewKind::Global], patches: true, anchor: true, ..Needs::default() }
    }

    fn share(&self, schedule: &StepSchedule) -> f64 {
        schedule.gram_share
    }

    fn loss(&self, step: &StepInput<'_, A>) -> Loss<A> {
        let total = mean_over_globals(step, &step.features.anchor, gram);
        let total =
            total.expect("the plan has global views (see limits), and the anchor was taken (see Trainer::train)");
        let total = step.share.part_of_mean(total);
        let value = step.share.sum(total.clone().inner());
        let metrics = vec![("loss_gram", value.clone())];
        Loss { total, value, metrics, pending: Pending::new(), outputs: BTreeMap::new() }
    }
}

/// A loss of the student's patches beside another network's, a mean over all global views whatever their sizes; none when there
/// are none.
pub(super) fn mean_over_globals<A: TrainBackend>(
    step: &StepInput<'_, A>,
    other: &[Views<A::InnerBackend>],
    loss: impl Fn(Tensor<A, 3>, Tensor<A, 3>) -> Tensor<A, 1>,
) -> Option<Tensor<A, 1>> {
    let (mut sum, mut count) = (None::<Tensor<A, 1>>, 0);
    for (student, other) in step.features.globals_beside(other) {
        let (Some(patches), Some(others)) = (&student.patches, &other.patches) else { continue };
        let of_group = loss(patches.clone(), Tensor::from_inner(others.clone())) * student.views as f64;
        count += student.views;
        sum = Some(sum.map_or(of_group.clone(), |sum| sum + of_group));
    }
    Some(sum? / count as f64)
}

/// The mean squared difference of both networks' Gram matrices of L2-normalised patches, image by image, shape `[1]`.
///
/// Similarities below zero are kept on both sides, as in DINOv3's published runs.
///
/// # Shapes
/// - patches: `[images, patches, dim]`, after the final norm
/// - anchor: `[images, patches, any dim]`, of the same grid; its gradient is stopped by the caller
pub fn gram<B: Operators>(patches: Tensor<B, 3>, anchor: Tensor<B, 3>) -> Tensor<B, 1> {
    let gap = similarities(patches) - similarities(anchor);
    (gap.clone() * gap).mean()
}

/// Cosines of an image's patches, `[images, patches, patches]`.
pub(super) fn similarities<B: Operators>(patches: Tensor<B, 3>) -> Tensor<B, 3> {
    let unit = l2_normalise(patches);
    unit.clone().matmul(unit.swap_dims(1, 2))
}

#[cfg(test)]
mod tests {
    use super::super::comparison::{Cpu, Golden, close, f64_tensor, host, table, table_views};
    use super::*;

    #[test]
    fn the_loss_and_its_gradient_are_pytorch_s() {
        let golden = Golden::load();
        let anchor = golden.tensor::<2>("gram.y").reshape([3, 5, 8]);
        golden.holds("gram", &["x"], |inputs| {
            gram(inputs[0].clone().reshape([3, 5, 8]), anchor.clone().cast(inputs[0].dtype()))
        });
    }

    #[test]
    fn the_specification_s_value_holds() {
        let (a, b) = table_views();
        close("Gram(A, B)", &host(gram(a.unsqueeze(), b.unsqueeze())), &[0.108575], table::ROUNDING);
    }

    #[test]
    fn a_rotation_of_the_features_and_another_width_cost_nothing() {
        let values: Vec<f64> = (0..12).map(|at| (at as f64 * 1.3).cos()).collect();
        let turned: Vec<f64> = values.chunks(2).flat_map(|pair| [pair[1], -pair[0], 0.0]).collect();
        let patches: Tensor<Cpu, 3> = f64_tensor(&values, [2, 3, 2]);
        let loss = host(gram(patches, f64_tensor(&turned, [2, 3, 3])))[0];
        assert!(loss < 1e-20, "{loss}");
    }
}
