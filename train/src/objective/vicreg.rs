//! VICReg's loss (Bardes et al. 2022, eq. 1 to 6): two views' embeddings are equal, each dimension varies, no two of them
//! together.
//!
//! As facebookresearch/vicreg: the invariance is a mean over images and dimensions, variances are unbiased, the variance term is
//! halved over the two views (solo-learn's is not) and the covariance term is the sum of both.

use super::contrast::off_diagonal_squares;
use super::{Loss, Needs, Objective, Pending, StepInput, outputs};
use crate::operators::{Operators, TrainBackend};
use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use burn::tensor::backend::Backend;
use lapidary_schemas::config::ViewKind;

/// Added to a variance before its root.
const VARIANCE_MIN: f64 = 1e-4;

/// VICReg of an image's first two views of a kind, through the projector.
#[derive(Debug)]
pub(super) struct Vicreg {
    weights: [f64; 3],
    kind: ViewKind,
}

impl Vicreg {
    pub(super) fn new(weights: [f64; 3], kind: ViewKind) -> Self {
        Self { weights, kind }
    }
}

impl<A: TrainBackend> Objective<A> for Vicreg {
    fn name(&self) -> &'static str {
        "vicreg"
    }

    fn needs(&self) -> Needs {
        Needs { student: vec![self.kind], ..Needs::default() }
    }

    fn loss(&self, step: &StepInput<'_, A>) -> Loss<A> {
        let projector = step.student.projector.as_ref().expect("a student of VICReg has its projector");
        let (class, batch) = (step.features.student_class(&[self.kind]), step.features.batch);
        // BatchNorm's statistics are each view's own.
        let view = |index: usize| {
            let rows = class.clone().slice([index * batch..(index + 1) * batch, 0..class.dims()[1]]);
            projector.forward_share(rows, step.share)
        };
        let (first, second) = (view(0), view(1));
        let embeddings = Tensor::cat(vec![first.clone().inner(), second.clone().inner()], 0);
        let terms = vicreg(step.share.gather(first), step.share.gather(second));
        let mut metrics = vec![
            ("vicreg_invariance", terms.invariance.clone().inner()),
            ("vicreg_variance", terms.variance.clone().inner()),
            ("vicreg_covariance", terms.covariance.clone().inner()),
        ];
        let total = terms.weighted(self.weights);
        let value = total.clone().inner();
        metrics.push(("loss_vicreg", value.clone()));
        Loss { total, value, metrics, pending: Pending::new(), outputs: [(outputs::EMBEDDINGS, embeddings)].into() }
    }
}

/// The three terms before their weights, shape `[1]` each.
#[derive(Debug, Clone)]
pub struct VicregTerms<B: Backend> {
    /// Mean squared difference of the two views.
    pub invariance: Tensor<B, 1>,
    /// How far the dimensions' standard deviations fall short of 1.
    pub variance: Tensor<B, 1>,
    /// Squares of the covariances of different dimensions, over the width.
    pub covariance: Tensor<B, 1>,
}

impl<B: Operators> VicregTerms<B> {
    /// The sum under weights of invariance, variance and covariance (the paper: 25, 25, 1), shape `[1]`.
    pub fn weighted(self, [invariance, variance, covariance]: [f64; 3]) -> Tensor<B, 1> {
        self.invariance * invariance + self.variance * variance + self.covariance * covariance
    }
}

/// The terms of two views.
///
/// # Shapes
/// - first, second: `[batch, width]`, at least two images
pub fn vicreg<B: Operators>(first: Tensor<B, 2>, second: Tensor<B, 2>) -> VicregTerms<B> {
    let gap = first.clone() - second.clone();
    let ((first_short, first_joint), (second_short, second_joint)) = (spread(first), spread(second));
    VicregTerms {
        invariance: (gap.clone() * gap).mean(),
        variance: (first_short + second_short) / 2.0,
        covariance: first_joint + second_joint,
    }
}

/// How far a view's standard deviations fall short of 1, and its covariances' squares over the width.
fn spread<B: Operators>(view: Tensor<B, 2>) -> (Tensor<B, 1>, Tensor<B, 1>) {
    let [batch, width] = view.dims();
    let degrees = batch.saturating_sub(1).max(1) as f64;
    let centred = view.clone() - view.mean_dim(0);
    let deviation = ((centred.clone() * centred.clone()).sum_dim(0) / degrees + VARIANCE_MIN).sqrt();
    let covariance = centred.clone().transpose().matmul(centred) / degrees;
    (relu(deviation * -1.0 + 1.0).mean(), off_diagonal_squares(covariance) / width as f64)
}

#[cfg(test)]
mod tests {
    use super::super::comparison::{Cpu, Golden, close, host, table, table_views};
    use super::*;

    const WEIGHTS: [f64; 3] = [25.0, 25.0, 1.0];

    fn parts(terms: &VicregTerms<Cpu>) -> Vec<f64> {
        [&terms.invariance, &terms.variance, &terms.covariance]
            .into_iter()
            .flat_map(|term| host(term.clone()))
            .collect()
    }

    #[test]
    fn the_loss_and_its_gradients_are_pytorch_s() {
        let golden = Golden::load();
        golden.holds("vicreg", &["a", "b"], |inputs| vicreg(inputs[0].clone(), inputs[1].clone()).weighted(WEIGHTS));
        let terms = vicreg(golden.tensor("vicreg.a"), golden.tensor("vicreg.b"));
        close("terms", &parts(&terms), &golden.values("vicreg.parts"), 1e-9);
    }

    #[test]
    fn the_specification_s_values_hold() {
        let (a, b) = table_views();
        let terms = vicreg(a, b);
        close("terms", &parts(&terms), &[0.706450, 0.283839, 2.481996], table::ROUNDING);
        close("total", &host(terms.weighted(WEIGHTS)), &[27.239224], 25.0 * table::ROUNDING);
    }

    #[test]
    fn a_collapsed_batch_loses_its_variance_and_nothing_else() {
        let same = Tensor::<Cpu, 2>::ones([4, 3], &Default::default());
        let terms = parts(&vicreg(same.clone(), same));
        assert!(terms[0] == 0.0 && (terms[1] - 0.99).abs() < 1e-6 && terms[2] == 0.0, "{terms:?}");
    }
}
