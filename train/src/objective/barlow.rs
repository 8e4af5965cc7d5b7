//! Barlow Twins' loss (Zbontar et al. 2021, eq. 1; spec/pretraining.md 1.6): the cross-correlation of two views'
//! embeddings, each standardised over the batch, is pulled to the identity.

use super::contrast::off_diagonal_squares;
use super::{Loss, Needs, Objective, Pending, StepInput, outputs};
use crate::operators::{Operators, TrainBackend};
use crate::share::BatchShare;
use burn::tensor::Tensor;
use lapidary_schemas::config::ViewKind;

/// Redundancy reduction.
#[derive(Debug)]
pub struct BarlowTwins {
    off_diagonal: f64,
    kind: ViewKind,
}

impl BarlowTwins {
    /// The loss over the first two views of a kind, with this weight of the off-diagonal terms.
    pub fn new(off_diagonal: f64, kind: ViewKind) -> Self {
        Self { off_diagonal, kind }
    }
}

/// The terms on and off the diagonal of the cross-correlation, unweighted, shape `[1]` each.
///
/// Mean, deviation and correlation are those of the whole batch.
///
/// # Shapes
/// - first, second: embeddings of the two views of the share's images, `[images, width]`
pub(crate) fn redundancy<B: Operators>(
    first: Tensor<B, 2>,
    second: Tensor<B, 2>,
    share: &BatchShare<B::Inner>,
) -> (Tensor<B, 1>, Tensor<B, 1>) {
    let [images, _] = first.dims();
    let (first, second) = (share.standardise(first), share.standardise(second));
    let mean = |sum: Tensor<B, 2>| share.sum(share.part_of_mean(sum / images as f64));
    let diagonal = mean((first.clone() * second.clone()).sum_dim(0));
    let correlation = mean(first.transpose().matmul(second));
    let off = diagonal - 1.0;
    ((off.clone() * off).sum(), off_diagonal_squares(correlation))
}

impl<A: TrainBackend> Objective<A> for BarlowTwins {
    fn name(&self) -> &'static str {
        "barlow"
    }

    fn needs(&self) -> Needs {
        Needs { student: vec![self.kind], ..Needs::default() }
    }

    fn loss(&self, step: &StepInput<'_, A>) -> Loss<A> {
        let projector = step.student.projector.as_ref().expect("a student of Barlow Twins has its projector");
        let class = step.features.student_class(&[self.kind]);
        let (batch, dim) = (step.features.batch, class.dims()[1]);
        // BatchNorm's statistics are each view's own.
        let view = |index: usize| {
            let rows = class.clone().slice([index * batch..(index + 1) * batch, 0..dim]);
            projector.forward_share(rows, step.share)
        };
        let (first, second) = (view(0), view(1));
        let embeddings = Tensor::cat(vec![first.clone().inner(), second.clone().inner()], 0);
        let (on, off) = redundancy(first, second, step.share);
        let total = on.clone() + off.clone() * self.off_diagonal;
        let value = total.clone().inner();
        let metrics = vec![
            ("loss_barlow", value.clone()),
            ("barlow_on_diagonal", on.inner()),
            ("barlow_off_diagonal", off.inner()),
        ];
        Loss { total, value, metrics, pending: Pending::new(), outputs: [(outputs::EMBEDDINGS, embeddings)].into() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::comparison::{f64_tensor, is_differentiated};
    use super::*;
    use burn::tensor::TensorData;
    use burn_flex::Flex;

    /// Of a batch that one rank has.
    fn alone<B: Operators>(first: Tensor<B, 2>, second: Tensor<B, 2>) -> (Tensor<B, 1>, Tensor<B, 1>) {
        let share = BatchShare::whole(first.dims()[0]);
        redundancy(first, second, &share)
    }

    fn tensor(values: Vec<f32>, width: usize) -> Tensor<Flex, 2> {
        let batch = values.len() / width;
        Tensor::from_data(TensorData::new(values, [batch, width]), &Default::default())
    }

    /// Columns that are orthogonal over a batch of four.
    fn orthogonal() -> Tensor<Flex, 2> {
        tensor(vec![1., 1., 1., 1., -1., -1., -1., 1., -1., -1., -1., 1.], 3)
    }

    #[test]
    fn equal_views_of_independent_columns_lose_nothing() {
        let (on, off) = alone(orthogonal(), orthogonal());
        assert!(on.into_scalar() < 1e-6 && off.into_scalar() < 1e-6);
    }

    #[test]
    fn opposite_views_lose_four_a_column_and_equal_columns_lose_off_the_diagonal() {
        let (on, _) = alone(orthogonal(), orthogonal().neg());
        assert!((on.into_scalar() - 12.0).abs() < 1e-3);
        let twin = tensor(vec![1., 1., -1., -1., 2., 2., -2., -2.], 2);
        let (on, off) = alone(twin.clone(), twin);
        assert!(on.into_scalar() < 1e-3 && (off.into_scalar() - 2.0).abs() < 1e-3);
    }

    #[test]
    fn a_constant_feature_is_no_nan() {
        let flat = tensor(vec![1., 0.5, 1., -0.5, 1., 2.0], 2);
        let (on, off) = alone(flat.clone(), flat);
        assert!(on.into_scalar().is_finite() && off.into_scalar().is_finite());
    }

    #[test]
    fn the_gradient_is_the_loss_s_finite_differences() {
        let values = |turn: f64| (0..6 * 4).map(|i| (f64::from(i) * 1.7 + turn).sin()).collect::<Vec<f64>>();
        let views = [0.2, 0.9].map(|turn| f64_tensor::<2>(&values(turn), [6, 4]));
        is_differentiated("redundancy", &views, |inputs| {
            let (on, off) = alone(inputs[0].clone(), inputs[1].clone());
            on + off * 0.0051
        });
    }
}
