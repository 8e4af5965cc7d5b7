//! Gram anchoring (Simeoni et al. 2025, eq. 2; DINOv3): the similarities of an image's patches to each other stay those of an
//! earlier teacher, whatever the features themselves become. It has no head.

use super::contrast::l2_normalise;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

/// The mean squared difference of both networks' Gram matrices of L2-normalised patches, image by image, shape `[1]`.
///
/// Similarities below zero are kept on both sides, as in DINOv3's published runs.
///
/// # Shapes
/// - patches: `[images, patches, dim]`, after the final norm
/// - anchor: `[images, patches, any dim]`, of the same grid; its gradient is stopped by the caller
pub fn gram<B: Backend>(patches: Tensor<B, 3>, anchor: Tensor<B, 3>) -> Tensor<B, 1> {
    let gap = similarities(patches) - similarities(anchor);
    (gap.clone() * gap).mean()
}

/// Cosines of an image's patches, `[images, patches, patches]`.
pub(super) fn similarities<B: Backend>(patches: Tensor<B, 3>) -> Tensor<B, 3> {
    let unit = l2_normalise(patches);
    unit.clone().matmul(unit.swap_dims(1, 2))
}

#[cfg(test)]
mod tests {
    use super::super::comparison::{Cpu, Golden, close, f64_tensor, host, table, table_views};
    use super::*;

    #[test]
    fn the_loss_and_its_gradient_are_pytorch_s() {
        let golden = Golden::load();
        let anchor = golden.tensor::<2>("gram.y").reshape([3, 5, 8]);
        golden.holds("gram", &["x"], |inputs| {
            gram(inputs[0].clone().reshape([3, 5, 8]), anchor.clone().cast(inputs[0].dtype()))
        });
    }

    #[test]
    fn the_specification_s_value_holds() {
        let (a, b) = table_views();
        close("Gram(A, B)", &host(gram(a.unsqueeze(), b.unsqueeze())), &[0.108575], table::ROUNDING);
    }

    #[test]
    fn a_rotation_of_the_features_and_another_width_cost_nothing() {
        let values: Vec<f64> = (0..12).map(|at| (at as f64 * 1.3).cos()).collect();
        let turned: Vec<f64> = values.chunks(2).flat_map(|pair| [pair[1], -pair[0], 0.0]).collect();
        let patches: Tensor<Cpu, 3> = f64_tensor(&values, [2, 3, 2]);
        let loss = host(gram(patches, f64_tensor(&turned, [2, 3, 3])))[0];
        assert!(loss < 1e-20, "{loss}");
    }
}
