//! iBOT's loss on masked patches (Zhou et al. 2022, eq. 2; DINOv2): where the student sees the mask token, it predicts the
//! teacher's distribution over prototypes for the patch that the teacher sees.
//!
//! Each masked view counts alike, however many of its patches are masked: the mean over its masked patches, then over all global
//! views, of which those without a mask count as 0. iBOT's (a mean over images, view by view) and DINOv2's (weights of one over
//! the view's masked patches, summed, over the number of views) are both this.

use super::masks::MaskAmount;
use super::targets::TeacherTargets;
use super::{Loss, Needs, Objective, Pending, StepInput, Views};
use crate::model::HostTensor;
use crate::operators::{Operators, TrainBackend, soft_cross_entropy};
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, TensorData};
use lapidary_schemas::config::{ObjectiveConfig, ViewKind};
use std::collections::BTreeMap;

/// Masked patches of the global views, against the teacher's, through DINO's head or one of their own.
///
/// With a centre the teacher's head sees every patch, because the centre is the running mean of the logits of *all* patches of
/// the global views, masked or not, as in iBOT (DINOv2's takes the masked ones only): `views * batch * patches * prototypes`
/// values.
#[derive(Debug)]
pub(super) struct Ibot<B: Backend> {
    student_temperature: f64,
    targets: TeacherTargets<B>,
    amount: MaskAmount,
}

impl<B: Operators<Inner = B>> Ibot<B> {
    /// The loss with a centre of zeros.
    pub(super) fn new(config: &ObjectiveConfig, device: &B::Device) -> Self {
        Self {
            student_temperature: config.student_temperature,
            targets: TeacherTargets::new("ibot.center", config, device),
            amount: MaskAmount { share: config.mask_share, ratio: config.mask_ratio },
        }
    }
}

/// The patches of the global views, view after view, whatever their sizes: `[patches of all views, dim]`.
fn global_patches<B: Operators>(views: &[Views<B>]) -> Tensor<B, 2> {
    let globals = views.iter().filter(|views| views.kind == ViewKind::Global);
    let rows = globals.filter_map(|views| views.patches.clone()).map(|patches| patches.flatten(0, 1));
    Tensor::cat(rows.collect(), 0)
}

/// Which of them are masked.
fn global_masks<B: Operators>(views: &[Views<B>]) -> MaskedPatches {
    let globals = views.iter().filter(|views| views.kind == ViewKind::Global);
    let with_patches = globals.filter_map(|views| Some((&views.mask[..], views.patches.as_ref()?.dims()[1])));
    MaskedPatches::of_groups(&with_patches.collect::<Vec<_>>())
}

impl<A: TrainBackend> Objective<A> for Ibot<A::InnerBackend> {
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
        let (patches, of_teacher) = (global_patches(&step.features.student), global_patches(&step.features.teacher));
        let masked = global_masks(&step.features.student);
        let temperature = step.schedule.teacher_temperature;
        let (logits, pending) = if self.targets.is_centred() {
            let logits = teacher_head.forward_share(of_teacher, step.share);
            let center = self.targets.next_center(logits.clone(), step.share);
            ((!masked.is_empty()).then(|| masked.of(logits)), self.targets.pending(center))
        } else {
            let of_masked = (!masked.is_empty()).then(|| masked.of(of_teacher));
            (of_masked.map(|rows| teacher_head.forward_share(rows, step.share)), Pending::new())
        };
        let targets = self.targets.of_some(logits, temperature, step.share);
        let total = match targets {
            Some(targets) => {
                let logits = head.forward_share(masked.of(patches), step.share) / self.student_temperature;
                ibot(logits, Tensor::from_inner(targets), &masked)
            }
            // Nothing is masked: no loss, and a gradient of zeros.
            None => patches.sum() * 0.0,
        };
        let total = step.share.part_of_mean(total);
        let value = step.share.sum(total.clone().inner());
        let metrics = vec![("loss_ibot", value.clone())];
        Loss { total, value, metrics, pending, outputs: BTreeMap::new() }
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
        Self::of_groups(&[(mask, patches)])
    }

    /// Those of several groups of views, each with its mask and its number of patches a view.
    pub fn of_groups(groups: &[(&[u8], usize)]) -> Self {
        let of_views = || groups.iter().flat_map(|(mask, patches)| mask.chunks_exact((*patches).max(1)));
        let views = of_views().count();
        let (mut places, mut weights, mut first) = (Vec::new(), Vec::new(), 0);
        for of_view in of_views() {
            let masked = of_view.iter().filter(|masked| **masked != 0).count();
            let here = of_view.iter().enumerate().filter(|(_, masked)| **masked != 0);
            places.extend(here.map(|(patch, _)| (first + patch) as i64));
            weights.extend(std::iter::repeat_n(1.0 / (masked.max(1) * views) as f64, masked));
            first += of_view.len();
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

    /// The masked ones of the rows of all patches, view after view, `[patches of all views, any]`: `[masked, any]`; at least
    /// one is masked.
    pub fn of<B: Operators>(&self, rows: Tensor<B, 2>) -> Tensor<B, 2> {
        let places = TensorData::new(self.places.clone(), [self.len()]);
        let places = Tensor::<B, 1, Int>::from_data(places, &rows.device());
        rows.select(0, places)
    }
}

/// The weighted cross-entropy of masked patches, shape `[1]`.
///
/// # Shapes
/// - logits: the student's over its temperature, `[masked, prototypes]`, of [`MaskedPatches::of`]
/// - targets: the teacher's distributions of the same patches, `[masked, prototypes]`
pub fn ibot<B: Operators>(logits: Tensor<B, 2>, targets: Tensor<B, 2>, masked: &MaskedPatches) -> Tensor<B, 1> {
    let (device, dtype) = (logits.device(), logits.dtype());
    let weights = TensorData::new(masked.weights.clone(), [masked.len()]);
    let weights = Tensor::<B, 1>::from_data(weights, (&device, dtype));
    (soft_cross_entropy(logits, targets, 1.0) * weights).sum()
}

#[cfg(test)]
mod tests {
    use super::super::comparison::{Cpu, Golden, close, f64_tensor, host};
    use super::*;
    use burn::tensor::activation::softmax;

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
    fn a_uniform_student_loses_ln_k_times_the_share_of_masked_views() {
        let golden = Golden::load();
        let masked = golden_mask(&golden);
        let logits = f64_tensor::<2>(&vec![0.3; masked.len() * 9], [masked.len(), 9]);
        let targets = softmax(golden.tensor::<2>("ibot.logits") / 0.5, 1);
        let loss = host(ibot(logits, targets, &masked))[0];
        assert!((loss - 5.0 / 6.0 * 9f64.ln()).abs() < 1e-12, "{loss}");
    }

    #[test]
    fn masked_patches_are_taken_view_by_view() {
        let masked = MaskedPatches::new(&[0, 1, 0, 0, 0, 0, 1, 0, 1], 3);
        let tokens = Tensor::<Cpu, 1, Int>::arange(0..18, &Default::default()).float().reshape([9, 2]);
        assert_eq!(host(masked.of(tokens)), [2., 3., 12., 13., 16., 17.]);
        close("weights", &masked.weights, &[1.0 / 3.0, 1.0 / 6.0, 1.0 / 6.0], 1e-15);
        let of_two_sizes = MaskedPatches::of_groups(&[(&[0, 1, 0, 0], 2), (&[1, 1, 0, 0], 4)]);
        assert_eq!(of_two_sizes.places, [1, 4, 5]);
        close("weights", &of_two_sizes.weights, &[1.0 / 3.0, 1.0 / 6.0, 1.0 / 6.0], 1e-15);
        assert!(MaskedPatches::new(&[0; 6], 3).is_empty());
    }
}
