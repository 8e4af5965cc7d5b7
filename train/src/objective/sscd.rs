//! SSCD's loss (Pizzi et al. 2022, eq. 3 to 5): a contrastive loss at a low temperature draws the copies of an image together,
//! and an entropy term pushes each descriptor from the nearest of another image, so that distances mean the same all over the
//! sphere. Mixed images, which the reference has besides, are not here.

use super::simclr::ntxent;
use super::{Loss, Needs, Objective, Pending, StepInput, outputs};
use crate::operators::{Operators, TrainBackend};
use burn::tensor::backend::Backend;
use burn::tensor::{Bool, Tensor};
use lapidary_schemas::config::{ObjectiveConfig, ViewKind};

/// SSCD's loss of an image's two global views, through the descriptor.
#[derive(Debug)]
pub(super) struct Sscd {
    temperature: f64,
    entropy_weight: f64,
}

impl Sscd {
    pub(super) fn new(config: &ObjectiveConfig) -> Self {
        Self { temperature: config.sscd_temperature, entropy_weight: config.sscd_entropy_weight }
    }
}

impl<A: TrainBackend> Objective<A> for Sscd {
    fn name(&self) -> &'static str {
        "sscd"
    }

    fn needs(&self) -> Needs {
        Needs { student: vec![ViewKind::Global], patches: true, ..Needs::default() }
    }

    fn loss(&self, step: &StepInput<'_, A>) -> Loss<A> {
        let head = step.student.descriptor.as_ref().expect("a student of SSCD has its descriptor");
        let globals = step.features.student.iter().filter(|views| views.kind == ViewKind::Global);
        let of_group = |views: &super::Views<A>| {
            let patches = views.patches.clone().expect("patches of global views were asked for");
            head.forward(views.class.clone(), patches)
        };
        let descriptors = Tensor::cat(globals.map(of_group).collect(), 0);
        let gathered = step.share.gather(descriptors.clone());
        let parts = sscd(gathered.clone(), self.temperature);
        let total = parts.contrast.clone() + parts.entropy.clone() * self.entropy_weight;
        let value = total.clone().inner();
        let mut metrics = similarities(gathered.inner());
        metrics.extend([
            ("loss_sscd", value.clone()),
            ("loss_contrast", parts.contrast.inner()),
            ("loss_entropy", parts.entropy.inner()),
        ]);
        let outputs = [(outputs::EMBEDDINGS, descriptors.inner())].into();
        Loss { total, value, metrics, pending: Pending::new(), outputs }
    }
}

/// Both terms, shape `[1]` each, before the entropy's weight.
#[derive(Debug)]
pub struct Terms<B: Backend> {
    /// The contrastive loss.
    pub contrast: Tensor<B, 1>,
    /// The negative log of the distance to the nearest descriptor of another image, in the mean.
    pub entropy: Tensor<B, 1>,
}

/// A squared distance below this counts as this.
const SQUARED_DISTANCE_MIN: f64 = 1e-6;
/// Below every cosine.
const NO_COSINE: f64 = -100.0;

/// SSCD's terms of two views.
///
/// # Shapes
/// - descriptors: `[2 * batch, width]`, the first view's rows first, L2-normalised, of at least two images
pub fn sscd<B: Operators>(descriptors: Tensor<B, 2>, temperature: f64) -> Terms<B> {
    let similarity = descriptors.clone().matmul(descriptors.clone().transpose());
    let nearest = similarity.mask_fill(same_image(&descriptors), NO_COSINE).max_dim(1);
    // The log of the distance sqrt(2 - 2 cosine).
    let distance = (nearest * -2.0 + 2.0).clamp_min(SQUARED_DISTANCE_MIN).log() * 0.5;
    Terms { contrast: ntxent(descriptors, temperature), entropy: distance.mean().neg() }
}

/// What the reference says of a batch: the mean cosine of copies, of different images, of the nearest different images; and
/// the length of the mean descriptor, which is 0 where they spread over the sphere.
fn similarities<B: Operators>(descriptors: Tensor<B, 2>) -> Vec<(&'static str, Tensor<B, 1>)> {
    let rows = descriptors.dims()[0];
    let similarity = descriptors.clone().matmul(descriptors.clone().transpose());
    let same = same_image(&descriptors);
    let itself = Tensor::<B, 2, Bool>::diag_mask([rows, rows], 0, &descriptors.device()).bool_not();
    let copies = similarity.clone().mask_fill(same.clone().bool_not(), 0.0).mask_fill(itself, 0.0);
    let others = similarity.clone().mask_fill(same.clone(), 0.0).sum() / (rows * (rows - 2)) as f64;
    let center = descriptors.mean_dim(0);
    vec![
        ("positive_similarity", copies.sum() / rows as f64),
        ("negative_similarity", others),
        ("nearest_negative_similarity", similarity.mask_fill(same, NO_COSINE).max_dim(1).mean()),
        ("center_norm", (center.clone() * center).sum().sqrt()),
    ]
}

/// True where two rows of `[2 * batch, ...]` are of one image.
fn same_image<B: Operators>(descriptors: &Tensor<B, 2>) -> Tensor<B, 2, Bool> {
    let rows = descriptors.dims()[0];
    let (batch, device) = ((rows / 2) as i64, descriptors.device());
    let on = |offset: i64| Tensor::<B, 2, Bool>::diag_mask([rows, rows], offset, &device).bool_not();
    on(0).bool_or(on(batch)).bool_or(on(-batch))
}

#[cfg(test)]
mod tests {
    use super::super::comparison::{Cpu, Golden, host};
    use super::super::contrast::l2_normalise;
    use super::*;
    use crate::model::generalised_mean;

    fn total<B: Operators>(z: Tensor<B, 2>) -> Tensor<B, 1> {
        let terms = sscd(l2_normalise(z), 0.05);
        terms.contrast + terms.entropy * 30.0
    }

    #[test]
    fn the_loss_and_its_gradient_are_the_reference_s() {
        Golden::load().holds("sscd", &["z"], |inputs| total(inputs[0].clone()));
    }

    #[test]
    fn the_generalised_mean_and_its_gradient_are_the_reference_s() {
        Golden::load().holds("gem", &["x"], |inputs| {
            let pooled = generalised_mean(inputs[0].clone().reshape([3, 5, 4]));
            (pooled.clone() * pooled).sum()
        });
    }

    #[test]
    fn a_channel_without_a_positive_value_has_a_finite_gradient() {
        let patches = Tensor::<Cpu, 3>::full([1, 3, 2], -1.0, &Default::default()).require_grad();
        let gradients = generalised_mean(patches.clone()).sum().backward();
        let gradient = host(Tensor::<Cpu, 3>::from_inner(patches.grad(&gradients).expect("a leaf")));
        assert!(gradient.iter().all(|value| value.is_finite()), "{gradient:?}");
    }

    #[test]
    fn what_is_said_of_similarities_is_the_reference_s() {
        let golden = Golden::load();
        let said = similarities(l2_normalise(golden.tensor::<2>("sscd.z")));
        for ((name, value), expected) in said.into_iter().zip(golden.values("sscd.said")) {
            let value = host(value)[0];
            assert!((value - expected).abs() < 1e-9, "{name}: {value}, expected {expected}");
        }
    }

    #[test]
    fn images_that_are_all_alike_have_a_finite_gradient() {
        let same = Tensor::<Cpu, 2>::ones([6, 4], &Default::default()).require_grad();
        let loss = total(same.clone());
        let gradient = host(Tensor::<Cpu, 2>::from_inner(same.grad(&loss.backward()).expect("a leaf")));
        assert!(loss.into_scalar().is_finite() && gradient.iter().all(|value| value.is_finite()), "{gradient:?}");
    }

    #[test]
    fn an_image_s_other_view_is_not_its_nearest_neighbour() {
        // Two images, each with two equal views, at right angles.
        let rows = super::super::comparison::f64_tensor::<2>(&[1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0], [4, 2]);
        let entropy = host(sscd(rows, 0.05).entropy)[0];
        assert!((entropy + 2f64.sqrt().ln()).abs() < 1e-9, "{entropy}");
    }
}
