//! KoLeo (Sablayrolles et al. 2019, eq. 4), as DINOv2: features are pushed from their nearest neighbours in the batch, so that
//! they spread over the sphere. It has no head, and is taken of each global view's class features by itself.

use super::contrast::l2_normalise;
use super::{Loss, Needs, Objective, Pending, StepInput};
use crate::operators::{Operators, TrainBackend};
use burn::tensor::{Bool, Tensor};
use lapidary_schemas::config::ViewKind;
use std::collections::BTreeMap;

/// The sum over an image's global views of KoLeo, each among the batch's same view.
#[derive(Debug)]
pub(super) struct KoLeo;

impl<A: TrainBackend> Objective<A> for KoLeo {
    fn name(&self) -> &'static str {
        "koleo"
    }

    fn needs(&self) -> Needs {
        Needs { student: vec![ViewKind::Global], ..Needs::default() }
    }

    fn loss(&self, step: &StepInput<'_, A>) -> Loss<A> {
        let class = step.share.gather(step.features.student_class(&[ViewKind::Global]));
        let views = class.split(step.share.batch(), 0).into_iter();
        let total = views.map(koleo).reduce(|sum, view| sum + view).expect("the plan has global views: see limits");
        let value = total.clone().inner();
        let metrics = vec![("loss_koleo", value.clone())];
        Loss { total, value, metrics, pending: Pending::new(), outputs: BTreeMap::new() }
    }
}

/// Added to each component of a difference, and to its length.
const DISTANCE_MIN: f64 = 1e-8;

/// -mean log of the distance to the nearest other row, shape `[1]`.
///
/// Which row is nearest, by dot product, is no part of the gradient; the distance to it is one of both rows.
///
/// # Shapes
/// - features: `[batch, dim]`, at least two images, not normalised
pub fn koleo<B: Operators>(features: Tensor<B, 2>) -> Tensor<B, 1> {
    let ([batch, _], device) = (features.dims(), features.device());
    let unit = l2_normalise(features);
    let fixed = unit.clone().detach();
    let itself = Tensor::<B, 2, Bool>::diag_mask([batch, batch], 0, &device).bool_not();
    let nearest = fixed.clone().matmul(fixed.transpose()).mask_fill(itself, -1.0).argmax(1).reshape([batch]);
    let gap = unit.clone() - unit.select(0, nearest) + DISTANCE_MIN;
    let distance = (gap.clone() * gap).sum_dim(1).sqrt();
    (distance + DISTANCE_MIN).log().mean().neg()
}

#[cfg(test)]
mod tests {
    use super::super::comparison::{Cpu, Golden, close, f64_tensor, host, table, table_views};
    use super::*;

    #[test]
    fn the_loss_and_its_gradient_are_dinov2_s() {
        Golden::load().holds("koleo", &["x"], |inputs| koleo(inputs[0].clone()));
        Golden::load().holds("koleo_pair", &["x"], |inputs| koleo(inputs[0].clone()));
    }

    #[test]
    fn equal_rows_have_dinov2_s_finite_gradient() {
        // A distance of 1e-8 has no finite difference to compare with.
        Golden::load().equals("koleo_twins", &["x"], |inputs| koleo(inputs[0].clone()));
    }

    #[test]
    fn the_specification_s_value_holds() {
        close("KoLeo(A)", &host(koleo(table_views().0)), &[-0.347508], table::ROUNDING);
    }

    #[test]
    fn the_order_of_rows_and_their_lengths_are_nothing_to_it() {
        let values: Vec<f64> = (0..24).map(|at| (at as f64 * 1.9).sin()).collect();
        let rows: Vec<&[f64]> = values.chunks(4).collect();
        let moved: Vec<f64> = [3, 0, 5, 1, 4, 2].iter().flat_map(|at| rows[*at]).map(|value| value * 7.0).collect();
        let loss = |values: &[f64]| host(koleo(f64_tensor::<2>(values, [6, 4])))[0];
        assert!((loss(&values) - loss(&moved)).abs() < 1e-9);
    }

    #[test]
    fn a_batch_of_one_picture_over_and_over_is_finite_in_f32() {
        let same = Tensor::<Cpu, 2>::ones([5, 8], &Default::default()).require_grad();
        let loss = koleo(same.clone());
        let gradients = loss.backward();
        let gradient = host(Tensor::<Cpu, 2>::from_inner(same.grad(&gradients).expect("a leaf")));
        assert!(loss.into_scalar().is_finite() && gradient.iter().all(|value| value.is_finite()), "{gradient:?}");
    }
}
