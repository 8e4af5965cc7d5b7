//! iBOT's loss on masked patches (Zhou et al. 2022, eq. 2; DINOv2): where the student sees the mask token, it predicts the
//! teacher's distribution over prototypes for the patch that the teacher sees.
//!
//! Each masked view counts alike, however many of its patches are masked: the mean over its masked patches, then over all global
//! views, of which those without a mask count as 0. iBOT's (a mean over images, view by view) and DINOv2's (weights of one over
//! the view's masked patches, summed, over the number of views) are both this.

use super::masks::MaskAmount;
use super::sinkhorn::{ROUNDS, sinkhorn};
use super::{Loss, Needs, Objective, Pending, StepInput, Views};
use crate::model::{HostTensor, host_values};
use burn::tensor::activation::{log_softmax, softmax};
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Int, Tensor, TensorData};
use lapidary_schemas::config::{ObjectiveConfig, Targets, ViewKind};
use std::collections::BTreeMap;

const CENTER: &str = "ibot.center";

/// Masked patches of the global views, against the teacher's, through DINO's head or one of their own.
///
/// With a centre the teacher's head sees every patch: logits of `views * batch * patches * prototypes` values.
#[derive(Debug)]
pub(super) struct Ibot<B: Backend> {
    student_temperature: f64,
    center_momentum: f64,
    targets: Targets,
    amount: MaskAmount,
    /// Running mean of the teacher's logits of patches, shape `[1, prototypes]`.
    center: Tensor<B, 2>,
}

impl<B: Backend> Ibot<B> {
    /// The loss with a centre of zeros.
    pub(super) fn new(config: &ObjectiveConfig, device: &B::Device) -> Self {
        Self {
            student_temperature: config.student_temperature,
            center_momentum: config.center_momentum,
            targets: config.targets,
            amount: MaskAmount { share: config.mask_share, ratio: config.mask_ratio },
            center: Tensor::zeros([1, config.prototypes], device),
        }
    }
}

/// The patches of the global views and their mask, group by group, all of one size.
fn global_patches<B: Backend>(views: &[Views<B>]) -> (Tensor<B, 3>, Vec<u8>) {
    let globals = || views.iter().filter(|views| views.kind == ViewKind::Global);
    let patches = globals().filter_map(|views| views.patches.clone()).collect();
    (Tensor::cat(patches, 0), globals().flat_map(|views| views.mask.iter().copied()).collect())
}

impl<A: AutodiffBackend> Objective<A> for Ibot<A::InnerBackend> {
    fn name(&self) -> &'static str {
        "ibot"
    }

    fn needs(&self) -> Needs {
        let globals = vec![ViewKind::Global];
        Needs {
            student: globals.clone(),
            teacher: globals,
            patches: true,
            masks: Some(self.amount),
            ..Needs::default()
        }
    }

    fn loss(&self, step: &StepInput<'_, A>) -> Loss<A> {
        let head = step.student.patch_head.as_ref().or(step.student.head.as_ref());
        let head = head.expect("a student of iBOT has a head: made in Network::student");
        let teacher_head = step.teacher.patch_head.as_ref().or(step.teacher.head.as_ref());
        let teacher_head = teacher_head.expect("the teacher is a copy of the student");
        let (patches, mask) = global_patches(&step.features.student);
        let (of_teacher, _) = global_patches(&step.features.teacher);
        let masked = MaskedPatches::new(&mask, patches.dims()[1]);
        let temperature = step.schedule.teacher_temperature;
        let mut pending = Pending::new();
        let targets = match self.targets {
            Targets::Centre => {
                let [views, count, dim] = of_teacher.dims();
                let logits = teacher_head.forward(of_teacher.reshape([views * count, dim]));
                pending.insert(CENTER, next_center(self.center.clone(), logits.clone(), self.center_momentum));
                let prototypes = logits.dims()[1];
                (!masked.is_empty()).then(|| {
                    let logits = masked.of(logits.reshape([views, count, prototypes]));
                    centred_targets(logits, self.center.clone(), temperature)
                })
            }
            Targets::Sinkhorn => {
                (!masked.is_empty()).then(|| sinkhorn(teacher_head.forward(masked.of(of_teacher)), temperature, ROUNDS))
            }
        };
        let total = match targets {
            Some(targets) => {
                let logits = head.forward(masked.of(patches)) / self.student_temperature;
                ibot(logits, Tensor::from_inner(targets), &masked)
            }
            // Nothing is masked: no loss, and a gradient of zeros.
            None => patches.sum() * 0.0,
        };
        let metrics = vec![("loss_ibot", total.clone().inner())];
        Loss { total, metrics, pending, outputs: BTreeMap::new() }
    }

    fn commit(&mut self, pending: &Pending<A::InnerBackend>) {
        if let Some(center) = pending.get(CENTER) {
            self.center = center.clone();
        }
    }

    fn state(&self) -> BTreeMap<String, HostTensor> {
        let shape = self.center.dims().to_vec();
        let values = host_values(self.center.clone().reshape([shape[1]]));
        BTreeMap::from([(CENTER.to_owned(), HostTensor { shape, values })])
    }

    fn restore(&mut self, state: &BTreeMap<String, HostTensor>) {
        if let Some(center) = state.get(CENTER) {
            let shape = [1, center.values.len()];
            self.center = Tensor::from_data(TensorData::new(center.values.clone(), shape), &self.center.device());
        }
    }
}

/// Which patches are masked, and what each weighs.
#[derive(Debug, Clone, PartialEq)]
pub struct MaskedPatches {
    /// Places among all patches, view after view.
    places: Vec<i64>,
    /// One over the masked patches of the view, over the number of views.
    weights: Vec<f64>,
}

impl MaskedPatches {
    /// Those of a mask, shape `[views, patches]`, whose masked entries are not 0.
    pub fn new(mask: &[u8], patches: usize) -> Self {
        let views = mask.len() / patches.max(1);
        let (mut places, mut weights) = (Vec::new(), Vec::new());
        for (view, of_view) in mask.chunks_exact(patches.max(1)).enumerate() {
            let masked = of_view.iter().filter(|masked| **masked != 0).count();
            let here = of_view.iter().enumerate().filter(|(_, masked)| **masked != 0);
            places.extend(here.map(|(patch, _)| (view * patches + patch) as i64));
            weights.extend(std::iter::repeat_n(1.0 / (masked.max(1) * views) as f64, masked));
        }
        Self { places, weights }
    }

    /// How many patches are masked.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether none is, so that there is no loss to take.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The masked ones of patch tokens `[views, patches, dim]`: `[masked, dim]`; at least one is masked.
    pub fn of<B: Backend>(&self, tokens: Tensor<B, 3>) -> Tensor<B, 2> {
        let ([views, patches, dim], device) = (tokens.dims(), tokens.device());
        let places = Tensor::<B, 1, Int>::from_data(TensorData::new(self.places.clone(), [self.len()]), &device);
        tokens.reshape([views * patches, dim]).select(0, places)
    }
}

/// The weighted cross-entropy of masked patches, shape `[1]`.
///
/// # Shapes
/// - logits: the student's over its temperature, `[masked, prototypes]`, of [`MaskedPatches::of`]
/// - targets: the teacher's distributions of the same patches, `[masked, prototypes]`
pub fn ibot<B: Backend>(logits: Tensor<B, 2>, targets: Tensor<B, 2>, masked: &MaskedPatches) -> Tensor<B, 1> {
    let (device, dtype) = (logits.device(), logits.dtype());
    let weights = TensorData::new(masked.weights.clone(), [masked.len(), 1]);
    let weights = Tensor::<B, 2>::from_data(weights, (&device, dtype));
    ((targets * log_softmax(logits, 1)).sum_dim(1) * weights).sum().neg()
}

/// The teacher's distributions, centred and sharpened, shape `[rows, prototypes]`.
///
/// # Shapes
/// - logits: `[rows, prototypes]`
/// - center: `[1, prototypes]`, as it was before this step
pub fn centred_targets<B: Backend>(logits: Tensor<B, 2>, center: Tensor<B, 2>, temperature: f64) -> Tensor<B, 2> {
    softmax((logits - center) / temperature, 1)
}

/// The centre after a step, shape `[1, prototypes]`: a running mean of the teacher's logits over *all* patches of the global
/// views, masked or not, as in iBOT (DINOv2's centring takes the masked ones only).
///
/// # Shapes
/// - center: `[1, prototypes]`
/// - logits: `[views * patches, prototypes]`
pub fn next_center<B: Backend>(center: Tensor<B, 2>, logits: Tensor<B, 2>, momentum: f64) -> Tensor<B, 2> {
    center * momentum + logits.mean_dim(0) * (1.0 - momentum)
}

#[cfg(test)]
mod tests {
    use super::super::comparison::{Cpu, Golden, close, f64_tensor, host};
    use super::*;

    fn golden_mask(golden: &Golden) -> MaskedPatches {
        let mask: Vec<u8> = golden.values("ibot.mask").iter().map(|value| *value as u8).collect();
        MaskedPatches::new(&mask, 4)
    }

    #[test]
    fn the_loss_and_its_gradient_are_dinov2_s() {
        let golden = Golden::load();
        let (masked, targets) = (golden_mask(&golden), golden.tensor::<2>("ibot.targets"));
        golden.holds("ibot", &["logits"], |inputs| {
            ibot(inputs[0].clone(), targets.clone().cast(inputs[0].dtype()), &masked)
        });
    }

    #[test]
    fn the_center_is_the_reference_s() {
        let golden = Golden::load();
        let after = next_center(golden.tensor("center.before"), golden.tensor("center.logits"), 0.9);
        close("center", &host(after), &golden.values("center.after"), 1e-12);
    }

    #[test]
    fn a_uniform_student_loses_ln_k_times_the_share_of_masked_views() {
        let golden = Golden::load();
        let masked = golden_mask(&golden);
        let logits = f64_tensor::<2>(&vec![0.3; masked.len() * 9], [masked.len(), 9]);
        let targets = centred_targets(golden.tensor("ibot.logits"), f64_tensor(&[0.1; 9], [1, 9]), 0.5);
        let loss = host(ibot(logits, targets, &masked))[0];
        assert!((loss - 5.0 / 6.0 * 9f64.ln()).abs() < 1e-12, "{loss}");
    }

    #[test]
    fn masked_patches_are_taken_view_by_view() {
        let masked = MaskedPatches::new(&[0, 1, 0, 0, 0, 0, 1, 0, 1], 3);
        let tokens = Tensor::<Cpu, 1, Int>::arange(0..18, &Default::default()).float().reshape([3, 3, 2]);
        assert_eq!(host(masked.of(tokens)), [2., 3., 12., 13., 16., 17.]);
        close("weights", &masked.weights, &[1.0 / 3.0, 1.0 / 6.0, 1.0 / 6.0], 1e-15);
        assert!(MaskedPatches::new(&[0; 6], 3).is_empty());
    }
}
