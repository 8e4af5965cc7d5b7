//! Distillation from a frozen teacher whose width and grid may differ from the student's: similarities are matched, not
//! features.
//!
//! The loss is that of lightly-train's recommended default (`distillation`, its version 3 since 0.15; the documentation's
//! method page): an image's class feature has the same similarities to a queue of the teacher's recent class features as the
//! teacher's own, and an image's patches have the teacher's similarities to each other. Student features go through one linear
//! map each for class and patches first, heads of the network (weights truncated normal of 0.02). All global views are read,
//! each as an image of its own; lightly-train has one view and mixes images up, which is not done here. DINOv3 distils by DINO's
//! and iBOT's losses with the frozen teacher's heads instead, which published weights do not hold.

use super::contrast::l2_normalise;
use super::gram::{mean_over_globals, similarities};
use super::{Loss, Needs, Objective, Pending, StepInput};
use crate::model::{HostTensor, host_values};
use crate::operators::{Operators, TrainBackend};
use burn::tensor::activation::log_softmax;
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use lapidary_schemas::config::{ObjectiveConfig, ViewKind};
use std::collections::BTreeMap;

/// The temperature of both terms in lightly-train.
pub const TEMPERATURE: f64 = 0.07;
const QUEUE: &str = "distill.queue";
/// The most class features that a queue has by itself.
const QUEUE_MAX: usize = 8192;

/// The rows of the queue for so many images: lightly-train's table, but at most half of them.
pub fn queue_rows(images: usize) -> usize {
    const TABLE: [(usize, usize); 9] = [
        (50, 16),
        (100, 32),
        (250, 64),
        (500, 128),
        (1_000, 256),
        (2_000, 512),
        (4_000, 1024),
        (10_000, 2048),
        (20_000, 4096),
    ];
    let rows = TABLE.iter().find(|(below, _)| images < *below).map_or(QUEUE_MAX, |(_, rows)| *rows);
    rows.min((images / 2).max(1))
}

/// The global views' class and patch features, against a frozen teacher's.
#[derive(Debug)]
pub(super) struct Distillation<B: Backend> {
    temperature: f64,
    patch_weight: f64,
    /// The teacher's latest class features, L2-normalised, shape `[rows, teacher's width]`; zeros where there are none yet.
    queue: Tensor<B, 2>,
}

impl<B: Operators> Distillation<B> {
    /// The loss with a queue of zeros.
    pub(super) fn new(config: &ObjectiveConfig, device: &B::Device) -> Self {
        Self {
            temperature: config.distill_temperature,
            patch_weight: config.distill_patch_weight,
            queue: Tensor::zeros([config.distill_queue, config.distill_dim], device),
        }
    }
}

impl<A: TrainBackend> Objective<A> for Distillation<A::InnerBackend> {
    fn name(&self) -> &'static str {
        "distill"
    }

    fn needs(&self) -> Needs {
        let patches = self.patch_weight > 0.0;
        Needs { student: vec![ViewKind::Global], patches, frozen: true, ..Needs::default() }
    }

    fn loss(&self, step: &StepInput<'_, A>) -> Loss<A> {
        let map = step.student.distill_class.as_ref().expect("a student of distillation has its maps");
        let student = map.forward(step.features.student_class(&[ViewKind::Global]));
        let teacher = step.features.frozen_class(&[ViewKind::Global]);
        let queue = pushed(self.queue.clone(), step.share.gather(teacher.clone()));
        let keys = Tensor::from_inner(queue.clone());
        let share = step.share;
        let mut total = share.part_of_mean(distil_class(student, Tensor::from_inner(teacher), keys, self.temperature));
        let mut metrics = vec![("distill_class", share.sum(total.clone().inner()))];
        let of_patches = step.student.distill_patches.as_ref().and_then(|map| {
            mean_over_globals(step, &step.features.frozen, |student, teacher| {
                let (from, to) = (side(&student), side(&teacher));
                distil_patches(resized(map.forward(student), from, to), teacher, self.temperature)
            })
        });
        if let Some(of_patches) = of_patches {
            let of_patches = share.part_of_mean(of_patches);
            metrics.push(("distill_patches", share.sum(of_patches.clone().inner())));
            total = total + of_patches * self.patch_weight;
        }
        let value = share.sum(total.clone().inner());
        metrics.push(("loss_distill", value.clone()));
        Loss { total, value, metrics, pending: Pending::from([(QUEUE, queue)]), outputs: BTreeMap::new() }
    }

    fn commit(&mut self, pending: &Pending<A::InnerBackend>) {
        if let Some(queue) = pending.get(QUEUE) {
            self.queue = queue.clone();
        }
    }

    fn state(&self) -> BTreeMap<String, HostTensor> {
        let shape = self.queue.dims().to_vec();
        let values = host_values(self.queue.clone().reshape([shape[0] * shape[1]]));
        BTreeMap::from([(QUEUE.to_owned(), HostTensor { shape, values })])
    }

    fn restore(&mut self, state: &BTreeMap<String, HostTensor>) {
        if let Some(queue) = state.get(QUEUE) {
            let data = TensorData::new(queue.values.clone(), queue.shape.clone());
            self.queue = Tensor::from_data(data, &self.queue.device());
        }
    }
}

/// The grid of square views' patches, `[rows, columns]`.
fn side<B: Operators>(patches: &Tensor<B, 3>) -> [usize; 2] {
    [patches.dims()[1].isqrt(); 2]
}

/// Kullback and Leibler's divergence of the student's softmax from the teacher's, the mean over rows, shape `[1]`.
fn divergence<B: Operators>(student: Tensor<B, 2>, teacher: Tensor<B, 2>) -> Tensor<B, 1> {
    let (log_s, log_t) = (log_softmax(student, 1), log_softmax(teacher, 1));
    (log_t.clone().exp() * (log_t - log_s)).sum_dim(1).mean()
}

/// The class term, shape `[1]`: similarities to the queue.
///
/// # Shapes
/// - student: `[images, dim]`, mapped to the teacher's width
/// - teacher: `[images, dim]`; its gradient is stopped by the caller
/// - queue: `[rows, dim]`, L2-normalised or zeros, of [`pushed`] with this batch already in it
pub fn distil_class<B: Operators>(
    student: Tensor<B, 2>,
    teacher: Tensor<B, 2>,
    queue: Tensor<B, 2>,
    temperature: f64,
) -> Tensor<B, 1> {
    let keys = queue.transpose();
    let scores = |features: Tensor<B, 2>| l2_normalise(features).matmul(keys.clone()) / temperature;
    divergence(scores(student), scores(teacher))
}

/// The patch term, shape `[1]`: an image's patches' similarities to each other, the mean over all patches.
///
/// # Shapes
/// - student, teacher: `[images, patches, any dim]`, on one grid (see [`resized`])
pub fn distil_patches<B: Operators>(student: Tensor<B, 3>, teacher: Tensor<B, 3>, temperature: f64) -> Tensor<B, 1> {
    let scores = |patches: Tensor<B, 3>| (similarities(patches) / temperature).flatten::<2>(0, 1);
    divergence(scores(student), scores(teacher))
}

/// The queue with a batch's class features at its front and as many of its last rows gone, shape `[rows, dim]`.
///
/// # Shapes
/// - queue: `[rows, dim]`; zeros at first, which every feature is equally unlike
/// - teacher: `[images, dim]`, normalised here; more than `rows` of them are cut off
pub fn pushed<B: Operators>(queue: Tensor<B, 2>, teacher: Tensor<B, 2>) -> Tensor<B, 2> {
    let [rows, dim] = queue.dims();
    let images = teacher.dims()[0].min(rows);
    let front = l2_normalise(teacher.detach()).slice([0..images, 0..dim]);
    if images == rows { front } else { Tensor::cat(vec![front, queue.slice([0..rows - images, 0..dim])], 0) }
}

/// Patch features on another grid, by bilinear interpolation without anti-aliasing (PyTorch's `align_corners=False`).
///
/// # Shapes
/// - patches: `[images, from[0] * from[1], dim]`, grids as `[rows, columns]`
/// - output: `[images, to[0] * to[1], dim]`
pub fn resized<B: Operators>(patches: Tensor<B, 3>, from: [usize; 2], to: [usize; 2]) -> Tensor<B, 3> {
    if from == to {
        return patches;
    }
    let ([images, _, dim], device, dtype) = (patches.dims(), patches.device(), patches.dtype());
    let weights = |axis: usize, shape: [usize; 3]| {
        Tensor::<B, 3>::from_data(TensorData::new(interpolation(from[axis], to[axis]), shape), (&device, dtype))
    };
    // Rows first: each image is [from rows, from columns * dim] ...
    let rows = patches.reshape([images, from[0], from[1] * dim]);
    let rows = weights(0, [1, to[0], from[0]]).repeat_dim(0, images).matmul(rows);
    // ... then columns of each new row.
    let columns = rows.reshape([images * to[0], from[1], dim]);
    let columns = weights(1, [1, to[1], from[1]]).repeat_dim(0, images * to[0]).matmul(columns);
    columns.reshape([images, to[0] * to[1], dim])
}

/// What each place of an axis takes from the places of another, `[to, from]`.
fn interpolation(from: usize, to: usize) -> Vec<f64> {
    let mut weights = vec![0.0; to * from];
    for (place, row) in weights.chunks_exact_mut(from).enumerate() {
        let at = ((place as f64 + 0.5) * from as f64 / to as f64 - 0.5).max(0.0);
        let (low, part) = (at.floor() as usize, at.fract());
        row[low] += 1.0 - part;
        row[(low + 1).min(from - 1)] += part;
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::super::comparison::{Cpu, Golden, close, f64_tensor, host};
    use super::*;

    #[test]
    fn the_class_term_and_its_gradient_are_pytorch_s() {
        let golden = Golden::load();
        let (teacher, queue) = (golden.tensor::<2>("distil_class.teacher"), golden.tensor::<2>("distil_class.queue"));
        golden.holds("distil_class", &["student"], |inputs| {
            let dtype = inputs[0].dtype();
            distil_class(inputs[0].clone(), teacher.clone().cast(dtype), queue.clone().cast(dtype), TEMPERATURE)
        });
    }

    #[test]
    fn the_patch_term_and_its_gradient_through_another_grid_are_pytorch_s() {
        let golden = Golden::load();
        let teacher = golden.tensor::<2>("distil_patches.teacher").reshape([2, 16, 8]);
        golden.holds("distil_patches", &["student"], |inputs| {
            let student = resized(inputs[0].clone().reshape([2, 6, 8]), [2, 3], [4, 4]);
            distil_patches(student, teacher.clone().cast(inputs[0].dtype()), TEMPERATURE)
        });
    }

    #[test]
    fn the_teacher_s_own_features_cost_nothing_whatever_their_lengths() {
        let features: Tensor<Cpu, 2> = f64_tensor(&(0..12).map(|at| (at as f64).sin()).collect::<Vec<_>>(), [3, 4]);
        let queue = pushed(f64_tensor(&[0.0; 20], [5, 4]), features.clone());
        assert!(host(distil_class(features.clone() * 5.0, features.clone(), queue, TEMPERATURE))[0].abs() < 1e-12);
        let patches = features.reshape([1, 3, 4]);
        assert!(host(distil_patches(patches.clone() * 2.0, patches, TEMPERATURE))[0].abs() < 1e-12);
    }

    #[test]
    fn the_queue_is_at_most_half_of_few_images() {
        assert_eq!([1, 20, 99, 648, 4_100, 118_287].map(queue_rows), [1, 10, 32, 256, 2048, 8192]);
        assert!((2..40_000).all(|images| (images / 5..=images / 2).contains(&queue_rows(images))));
    }

    #[test]
    fn the_queue_holds_the_latest_and_a_large_batch_is_cut_off() {
        let rows = |values: &[f64]| f64_tensor::<2>(values, [values.len(), 1]);
        let queue = pushed(pushed(rows(&[0.0; 3]), rows(&[5.0, -5.0])), rows(&[-2.0]));
        close("queue", &host(queue.clone()), &[-1.0, 1.0, -1.0], 1e-12);
        close("cut", &host(pushed(queue, rows(&[1.0, -1.0, -1.0, 1.0]))), &[1.0, -1.0, -1.0], 1e-12);
    }
}
