//! SimCLR's loss, NT-Xent (Chen et al. 2020, eq. 1): each of 2N embeddings finds its other view among the 2N - 1 others.
//!
//! The mean over all 2N rows, as the paper writes it. google-research/simclr adds the means of the two views instead, so that
//! its numbers are twice these.

use super::contrast::{contrast, l2_normalise};
use super::{Loss, Needs, Objective, Pending, StepInput, outputs};
use crate::operators::{Operators, TrainBackend};
use burn::tensor::{Bool, Tensor};
use lapidary_schemas::config::ViewKind;

/// NT-Xent of an image's first two views of a kind, through the projector.
#[derive(Debug)]
pub(super) struct SimClr {
    temperature: f64,
    kind: ViewKind,
}

impl SimClr {
    pub(super) fn new(temperature: f64, kind: ViewKind) -> Self {
        Self { temperature, kind }
    }
}

impl<A: TrainBackend> Objective<A> for SimClr {
    fn name(&self) -> &'static str {
        "simclr"
    }

    fn needs(&self) -> Needs {
        Needs { student: vec![self.kind], ..Needs::default() }
    }

    fn loss(&self, step: &StepInput<'_, A>) -> Loss<A> {
        let projector = step.student.projector.as_ref().expect("a student of SimCLR has its projector");
        let class = step.features.student_class(&[self.kind]);
        // BatchNorm's statistics are over both views at once.
        let rows = class.clone().slice([0..2 * step.features.batch, 0..class.dims()[1]]);
        let embeddings = projector.forward_share(rows, step.share);
        let total = ntxent(step.share.gather(embeddings.clone()), self.temperature);
        let value = total.clone().inner();
        let metrics = vec![("loss_simclr", value.clone())];
        let outputs = [(outputs::EMBEDDINGS, embeddings.inner())].into();
        Loss { total, value, metrics, pending: Pending::new(), outputs }
    }
}

/// NT-Xent of two views, shape `[1]`.
///
/// # Shapes
/// - embeddings: `[2 * batch, width]`, the first view's rows first, not normalised
pub fn ntxent<B: Operators>(embeddings: Tensor<B, 2>, temperature: f64) -> Tensor<B, 1> {
    let [rows, width] = embeddings.dims();
    let (batch, device) = (rows / 2, embeddings.device());
    let q = l2_normalise(embeddings);
    // The views change places, so that each row's other view stands at its own index ...
    let k = Tensor::cat(vec![q.clone().slice([batch..rows, 0..width]), q.clone().slice([0..batch, 0..width])], 0);
    // ... and the row itself half-way round from there.
    let apart = |offset: i64| Tensor::<B, 2, Bool>::diag_mask([rows, rows], offset, &device).bool_not();
    let itself = apart(batch as i64).bool_or(apart(-(batch as i64)));
    contrast(q, k, Some(itself), temperature)
}

#[cfg(test)]
mod tests {
    use super::super::comparison::{Cpu, Golden, close, host, table, table_views};
    use super::*;
    use proptest::prelude::*;

    /// The paper's double loop.
    fn ntxent_reference(rows: &[Vec<f64>], temperature: f64) -> f64 {
        let unit: Vec<Vec<f64>> = rows
            .iter()
            .map(|row| {
                let norm = row.iter().map(|v| v * v).sum::<f64>().sqrt();
                row.iter().map(|v| v / norm).collect()
            })
            .collect();
        let similarity =
            |i: usize, j: usize| unit[i].iter().zip(&unit[j]).map(|(a, b)| a * b).sum::<f64>() / temperature;
        let (count, mut total) = (rows.len(), 0.0);
        for i in 0..count {
            let others: f64 = (0..count).filter(|j| *j != i).map(|j| similarity(i, j).exp()).sum();
            total += others.ln() - similarity(i, (i + count / 2) % count);
        }
        total / count as f64
    }

    #[test]
    fn the_loss_and_its_gradient_are_pytorch_s() {
        Golden::load().holds("ntxent", &["z"], |inputs| ntxent(inputs[0].clone(), 0.5));
    }

    #[test]
    fn the_specification_s_values_hold() {
        let (a, b) = table_views();
        let both = Tensor::cat(vec![a, b], 0);
        close("T 0.5", &host(ntxent(both.clone(), 0.5)), &[0.990221], table::ROUNDING);
        close("T 0.1", &host(ntxent(both, 0.1)), &[0.138075], table::ROUNDING);
    }

    #[test]
    fn equal_embeddings_lose_ln_of_all_others() {
        let loss = ntxent(Tensor::<Cpu, 2>::ones([10, 3], &Default::default()), 0.1).into_scalar();
        assert!((loss - 9f32.ln()).abs() < 1e-5, "{loss}");
    }

    proptest! {
        #[test]
        fn it_is_the_double_loop(seed in 0u32..1000, batch in 1usize..5, width in 2usize..7, temperature in 0.1f64..1.0) {
            let values: Vec<f64> =
                (0..2 * batch * width).map(|at| (f64::from(seed) * 1.3 + at as f64 * 2.7).sin()).collect();
            let rows: Vec<Vec<f64>> = values.chunks(width).map(<[f64]>::to_vec).collect();
            let loss = host(ntxent(super::super::comparison::f64_tensor::<2>(&values, [2 * batch, width]), temperature))[0];
            let expected = ntxent_reference(&rows, temperature);
            prop_assert!((loss - expected).abs() < 1e-9 * expected.abs().max(1.0), "{loss} {expected}");
        }
    }
}
