//! The teacher's distributions over prototypes, which DINO's and iBOT's students predict: centred and sharpened, or spread
//! over the batch by Sinkhorn and Knopp's normalisation.

use super::Pending;
use super::sinkhorn::{ROUNDS, sinkhorn, without_rows};
use crate::model::{HostTensor, host_values};
use crate::operators::Operators;
use crate::share::BatchShare;
use burn::tensor::activation::softmax;
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use lapidary_schemas::config::{ObjectiveConfig, Targets};
use std::collections::BTreeMap;

/// Logits of a teacher to distributions, with the running centre of the logits where there is one.
#[derive(Debug)]
pub(super) struct TeacherTargets<B: Backend> {
    /// The centre's name in checkpoints.
    name: &'static str,
    kind: Targets,
    momentum: f64,
    /// Running mean of the teacher's logits, shape `[1, prototypes]`.
    center: Tensor<B, 2>,
}

impl<B: Operators<Inner = B>> TeacherTargets<B> {
    /// Targets with a centre of zeros, which checkpoints call `name`.
    pub(super) fn new(name: &'static str, config: &ObjectiveConfig, device: &B::Device) -> Self {
        let center = Tensor::zeros([1, config.prototypes], device);
        Self { name, kind: config.targets, momentum: config.center_momentum, center }
    }

    /// Whether there is a centre.
    pub(super) fn is_centred(&self) -> bool {
        self.kind == Targets::Centre
    }

    /// The centre before the step at hand.
    pub(super) fn center(&self) -> Tensor<B, 2> {
        self.center.clone()
    }

    /// Distributions of the rank's rows, shape `[rows, prototypes]`: by the centre of the step before, or spread over the rows
    /// of all ranks.
    pub(super) fn of(&self, logits: Tensor<B, 2>, temperature: f64, share: &BatchShare<B>) -> Tensor<B, 2> {
        match self.kind {
            Targets::Centre => softmax((logits - self.center.clone()) / temperature, 1),
            Targets::Sinkhorn => sinkhorn(logits, temperature, ROUNDS, share),
        }
    }

    /// The same where a rank may have no rows, while others have.
    pub(super) fn of_some(
        &self,
        logits: Option<Tensor<B, 2>>,
        temperature: f64,
        share: &BatchShare<B>,
    ) -> Option<Tensor<B, 2>> {
        if logits.is_none() && self.kind == Targets::Sinkhorn {
            without_rows(&self.center, ROUNDS, share);
        }
        logits.map(|logits| self.of(logits, temperature, share))
    }

    /// The centre after a step with these logits, `[rows, prototypes]`: the running mean of all ranks'.
    pub(super) fn next_center(&self, logits: Tensor<B, 2>, share: &BatchShare<B>) -> Tensor<B, 2> {
        self.center.clone() * self.momentum + share.mean_of_rows(logits) * (1.0 - self.momentum)
    }

    /// A centre as it is pending until its step is taken.
    pub(super) fn pending(&self, center: Tensor<B, 2>) -> Pending<B> {
        Pending::from([(self.name, center)])
    }

    /// Takes what was pending.
    pub(super) fn commit(&mut self, pending: &Pending<B>) {
        if let Some(center) = pending.get(self.name) {
            self.center = center.clone();
        }
    }

    /// The centre, for checkpoints.
    pub(super) fn state(&self) -> BTreeMap<String, HostTensor> {
        let shape = self.center.dims().to_vec();
        let values = host_values(self.center.clone().reshape([shape[1]]));
        BTreeMap::from([(self.name.to_owned(), HostTensor { shape, values })])
    }

    /// Resumes from [`TeacherTargets::state`].
    pub(super) fn restore(&mut self, state: &BTreeMap<String, HostTensor>) {
        if let Some(center) = state.get(self.name) {
            let shape = [1, center.values.len()];
            self.center = Tensor::from_data(TensorData::new(center.values.clone(), shape), &self.center.device());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::comparison::{Cpu, Golden, close, f64_tensor, host};
    use super::*;
    use burn_flex::Flex;

    fn targets(center: Tensor<Cpu, 2>) -> TeacherTargets<Flex> {
        TeacherTargets { name: "center", kind: Targets::Centre, momentum: 0.9, center: center.inner() }
    }

    #[test]
    fn the_center_is_the_reference_s() {
        let golden = Golden::load();
        let after = targets(golden.tensor("center.before"))
            .next_center(golden.tensor("center.logits").inner(), &BatchShare::whole(1));
        close("center", &host(after), &golden.values("center.after"), 1e-12);
    }

    #[test]
    fn a_center_that_is_restored_is_the_one_that_was_committed() {
        let row = |values: [f32; 2]| Tensor::<Cpu, 2>::from_data([values], &Default::default());
        let mut first = targets(row([0.0, 0.0]));
        first.commit(&first.pending(first.next_center(row([1.0, -2.0]).inner(), &BatchShare::whole(1))));
        let mut second = targets(row([5.0, 5.0]));
        second.restore(&first.state());
        close("center", &host(second.center()), &host(first.center()), 0.0);
        close("center", &host(second.center()), &[0.1, -0.2], 1e-7);
    }

    #[test]
    fn a_shift_of_all_logits_by_the_center_leaves_the_softmax() {
        let logits = f64_tensor::<2>(&[0.3, -0.1, 0.7, 0.2], [2, 2]);
        let shift = f64_tensor::<2>(&[0.4, -0.6], [1, 2]);
        let found = host(targets(shift.clone()).of((logits.clone() + shift).inner(), 0.5, &BatchShare::whole(2)));
        close("targets", &found, &host(softmax(logits / 0.5, 1)), 1e-12);
    }
}
