//! DINO's loss (Caron et al. 2021, algorithm 1; spec/pretraining.md 1.5): the student's views predict the teacher's
//! distribution over prototypes on the other global views; the teacher is sharpened, and centred or
//! spread over the batch by Sinkhorn and Knopp's normalisation.

use super::targets::TeacherTargets;
use super::{Loss, Needs, Objective, Pending, StepInput, outputs};
use crate::model::HostTensor;
use crate::operators::{Operators, TrainBackend, soft_cross_entropy};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use lapidary_schemas::config::{ObjectiveConfig, ViewKind};
use std::collections::BTreeMap;

/// The least probability that a logarithm is taken of.
const LOG_MIN: f64 = 1e-30;

/// Self-distillation with no labels.
#[derive(Debug)]
pub struct Dino<B: Backend> {
    student_temperature: f64,
    targets: TeacherTargets<B>,
}

impl<B: Operators<Inner = B>> Dino<B> {
    /// The loss with a centre of zeros.
    pub fn new(config: &ObjectiveConfig, device: &B::Device) -> Self {
        let targets = TeacherTargets::new("dino.center", config, device);
        Self { student_temperature: config.student_temperature, targets }
    }
}

/// The student's cross-entropy to the teacher's distributions, shape `[1]`.
///
/// # Shapes
/// - logits: the student's, `[views * batch, prototypes]`, the global views first
/// - teacher: distributions, `[globals * batch, prototypes]`
///
/// The mean over the batch and over all pairs of a teacher's view and another view of the student.
pub(super) fn cross_entropy<B: Operators>(
    logits: Tensor<B, 2>,
    teacher: Tensor<B, 2>,
    batch: usize,
    temperature: f64,
) -> Tensor<B, 1> {
    let rows = logits.dims()[0];
    let (views, globals) = (rows / batch, teacher.dims()[0] / batch);
    let of_view = |view: usize| teacher.clone().slice(view * batch..(view + 1) * batch);
    // What a view is held to: the sum of the teacher's, but for its own.
    let target = |but: Option<usize>| {
        let others = (0..globals).filter(|view| Some(*view) != but);
        others.map(of_view).reduce(|sum, view| sum + view)
    };
    let mut losses = Vec::new();
    for view in 0..globals.min(views) {
        if let Some(target) = target(Some(view)) {
            let own = logits.clone().slice(view * batch..(view + 1) * batch);
            losses.push(soft_cross_entropy(own, target, temperature).sum());
        }
    }
    if let Some(target) = target(None).filter(|_| views > globals) {
        losses.push(soft_cross_entropy(logits.slice(globals * batch..rows), target, temperature).sum());
    }
    let pairs = globals * views - globals;
    let total = losses.into_iter().reduce(|sum, loss| sum + loss).expect("two views at least: see limits");
    total / (pairs * batch) as f64
}

impl<A: TrainBackend> Objective<A> for Dino<A::InnerBackend> {
    fn name(&self) -> &'static str {
        "dino"
    }

    fn needs(&self) -> Needs {
        Needs { student: vec![ViewKind::Global, ViewKind::Local], teacher: vec![ViewKind::Global], ..Needs::default() }
    }

    fn loss(&self, step: &StepInput<'_, A>) -> Loss<A> {
        let head = step.student.head.as_ref().expect("a student of DINO has its head: made in Network::student");
        let teacher_head = step.teacher.head.as_ref().expect("the teacher is a copy of the student");
        let class = step.features.student_class(&[ViewKind::Global, ViewKind::Local]);
        let logits = head.forward_share(class, step.share);
        let teacher_class = step.features.teacher_class(&[ViewKind::Global]);
        let teacher_logits = teacher_head.forward_share(teacher_class, step.share);

        let q = self.targets.of(teacher_logits.clone(), step.schedule.teacher_temperature, step.share);
        // Of what underflowed to 0 the product is 0.
        let entropy = (q.clone() * q.clone().clamp_min(LOG_MIN).log()).sum_dim(1).mean().neg();
        let entropy = step.share.sum(step.share.part_of_mean(entropy));
        let confidence = step.share.mean_of_rows(q.clone()).max();
        let targets = Tensor::from_inner(q.clone());
        let total = cross_entropy(logits.clone(), targets, step.features.batch, self.student_temperature);
        let total = step.share.part_of_mean(total);
        let value = step.share.sum(total.clone().inner());
        let mut metrics =
            vec![("loss_dino", value.clone()), ("teacher_entropy", entropy), ("top_prototype_share", confidence)];
        let mut pending = Pending::new();
        if self.targets.is_centred() {
            let center = self.targets.next_center(teacher_logits, step.share);
            metrics.push(("center_norm", (center.clone() * center.clone()).sum().sqrt()));
            pending.extend(self.targets.pending(center));
        }
        let [globals, width] = q.dims();
        let of_globals = logits.inner().slice([0..globals, 0..width]);
        let outputs = [(outputs::TEACHER, q), (outputs::STUDENT, of_globals), (outputs::CENTER, self.targets.center())];
        Loss { total, value, metrics, pending, outputs: outputs.into() }
    }

    fn commit(&mut self, pending: &Pending<A::InnerBackend>) {
        self.targets.commit(pending);
    }

    fn state(&self) -> BTreeMap<String, HostTensor> {
        self.targets.state()
    }

    fn restore(&mut self, state: &BTreeMap<String, HostTensor>) {
        self.targets.restore(state);
    }
}

#[cfg(test)]
mod tests {
    use super::super::comparison::{f64_tensor, is_differentiated};
    use super::*;
    use burn::tensor::TensorData;
    use burn::tensor::activation::softmax;
    use burn_flex::Flex;

    fn logits(rows: usize, columns: usize, turn: f32) -> Tensor<Flex, 2> {
        let values: Vec<f32> = (0..rows * columns).map(|i| (i as f32 * 1.7 + turn).sin() * 3.0).collect();
        Tensor::from_data(TensorData::new(values, [rows, columns]), &Default::default())
    }

    /// The loss pair by pair, as the paper writes it.
    fn cross_entropy_reference(student: &[f32], teacher: &[f32], batch: usize, k: usize) -> f64 {
        let (views, globals) = (student.len() / batch / k, teacher.len() / batch / k);
        let (mut total, mut pairs) = (0.0, 0);
        for t in 0..globals {
            for s in (0..views).filter(|s| *s != t) {
                pairs += 1;
                for b in 0..batch {
                    let row = &student[(s * batch + b) * k..][..k];
                    let log_sum = row.iter().map(|v| f64::from(*v).exp()).sum::<f64>().ln();
                    for c in 0..k {
                        let q = f64::from(teacher[(t * batch + b) * k + c]);
                        total -= q * (f64::from(row[c]) - log_sum);
                    }
                }
            }
        }
        total / f64::from(pairs) / batch as f64
    }

    #[test]
    fn the_loss_is_the_mean_over_all_pairs_of_different_views() {
        let (batch, k) = (3, 5);
        let student = logits(6 * batch, k, 0.2);
        let teacher = softmax(logits(2 * batch, k, 1.1), 1);
        let host = |t: &Tensor<Flex, 2>| t.to_data().to_vec::<f32>().expect("f32");
        let expected = cross_entropy_reference(&host(&student), &host(&teacher), batch, k);
        let loss = f64::from(cross_entropy(student, teacher, batch, 1.0).into_scalar());
        assert!((loss - expected).abs() < 1e-5, "{loss} {expected}");
    }

    #[test]
    fn constant_logits_lose_exactly_ln_k() {
        let device = Default::default();
        let uniform = Tensor::<Flex, 2>::ones([4, 7], &device) / 7.0;
        let loss = cross_entropy(Tensor::ones([8, 7], &device), uniform, 2, 1.0).into_scalar();
        assert!((loss - 7f32.ln()).abs() < 1e-6);
    }

    #[test]
    fn the_gradient_is_the_loss_s_finite_differences() {
        let values = |turn: f64, count: usize| (0..count).map(|i| (i as f64 * 1.7 + turn).sin()).collect::<Vec<_>>();
        let teacher = softmax(f64_tensor::<2>(&values(1.1, 2 * 3 * 5), [6, 5]) * 3.0, 1);
        let student = f64_tensor::<2>(&values(0.2, 4 * 3 * 5), [12, 5]);
        is_differentiated("cross_entropy", &[student], |inputs| {
            cross_entropy(inputs[0].clone(), teacher.clone(), 3, 0.1)
        });
    }
}
