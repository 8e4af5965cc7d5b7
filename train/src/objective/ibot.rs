//! iBOT's loss on masked patches (Zhou et al. 2022, eq. 2; DINOv2): where the student sees the mask token, it predicts the
//! teacher's distribution over prototypes for the patch that the teacher sees.
//!
//! Each masked view counts alike, however many of its patches are masked: the mean over its masked patches, then over all global
//! views, of which those without a mask count as 0. iBOT's (a mean over images, view by view) and DINOv2's (weights of one over
//! the view's masked patches, summed, over the number of views) are both this.

use burn::tensor::activation::{log_softmax, softmax};
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, TensorData};

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
