//! What losses share: cross-entropies over similarities, L2 normalisation, off-diagonal squares.
//!
//! Pure functions of tensors that keep their inputs' precision; heads, views and weights are their callers' business. What is
//! left out of a sum is masked, never subtracted afterwards: in f32 "all minus diagonal" cancels.

use crate::operators::Operators;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Bool, Int, Tensor};

/// Stands for minus infinity in f32 without making NaN of what is subtracted from it.
pub(super) const EXCLUDED: f64 = -1e30;

/// Vectors along the last dimension over their Euclidean norm, or over 1e-12 where that is greater: zeros stay zeros, and their
/// gradient is finite.
pub fn l2_normalise<B: Operators, const D: usize>(values: Tensor<B, D>) -> Tensor<B, D> {
    crate::model::l2_normalise(values, D - 1)
}

/// Contrastive cross-entropy (InfoNCE; van den Oord et al. 2018, eq. 4), shape `[1]`: the mean over rows of q of
/// -log softmax(q . k / temperature) at the row's own key.
///
/// # Shapes
/// - q: `[rows, dim]`, L2-normalised by the caller
/// - k: `[keys, dim]`, of which row i is the positive of q's row i; at least as many as rows
/// - excluded: `[rows, keys]`, true where a key is no negative of a row (itself); none excludes nothing
pub fn contrast<B: Operators>(
    q: Tensor<B, 2>,
    k: Tensor<B, 2>,
    excluded: Option<Tensor<B, 2, Bool>>,
    temperature: f64,
) -> Tensor<B, 1> {
    let (rows, device) = (q.dims()[0], q.device());
    let mut logits = q.matmul(k.transpose()) / temperature;
    if let Some(excluded) = excluded {
        logits = logits.mask_fill(excluded, EXCLUDED);
    }
    let own: Tensor<B, 2, Int> = Tensor::arange(0..rows as i64, &device).unsqueeze_dim(1);
    log_softmax(logits, 1).gather(1, own).mean().neg()
}

/// The sum of the squares off the diagonal of a square matrix, shape `[1]`.
pub fn off_diagonal_squares<B: Operators>(matrix: Tensor<B, 2>) -> Tensor<B, 1> {
    let (shape, device) = (matrix.dims(), matrix.device());
    let off = Tensor::<B, 2, Bool>::diag_mask(shape, 0, &device);
    let off = matrix.mask_fill(off.bool_not(), 0.0);
    (off.clone() * off).sum()
}

#[cfg(test)]
mod tests {
    use super::super::comparison::{Cpu, Golden, close, f64_tensor, host};
    use super::*;
    use crate::operators::soft_cross_entropy;

    #[test]
    fn contrast_across_two_sides_is_pytorch_s() {
        Golden::load().holds("crossed", &["q", "k"], |inputs| {
            contrast(l2_normalise(inputs[0].clone()), l2_normalise(inputs[1].clone()), None, 0.2)
        });
    }

    #[test]
    fn soft_cross_entropy_is_pytorch_s() {
        let golden = Golden::load();
        let targets: Tensor<Cpu, 2> = golden.tensor("soft.targets");
        golden.holds("soft", &["logits"], |inputs| {
            soft_cross_entropy(inputs[0].clone(), targets.clone().cast(inputs[0].dtype()), 1.0).mean()
        });
    }

    #[test]
    fn equal_embeddings_lose_ln_of_the_keys_that_count() {
        let same = Tensor::<Cpu, 2>::ones([6, 4], &Default::default()) / 2.0;
        let loss = contrast(same.clone(), same, None, 0.07).into_scalar();
        assert!((loss - 6f32.ln()).abs() < 1e-6, "{loss}");
    }

    #[test]
    fn a_row_of_zeros_stays_zero_and_its_gradient_is_finite() {
        let rows = f64_tensor::<2>(&[0.0, 0.0, 3.0, 4.0], [2, 2]).require_grad();
        let unit = l2_normalise(rows.clone());
        close("unit", &host(unit.clone()), &[0.0, 0.0, 0.6, 0.8], 1e-12);
        let gradient = host(Tensor::<Cpu, 2>::from_inner(rows.grad(&unit.sum().backward()).expect("a leaf")));
        assert!(gradient.iter().all(|value| value.is_finite()), "{gradient:?}");
    }

    #[test]
    fn a_large_diagonal_takes_nothing_from_small_off_diagonal_squares() {
        let values: Vec<f32> = (0..9).map(|at| if at % 4 == 0 { 3e4 } else { 1e-3 }).collect();
        let matrix = Tensor::<Cpu, 1>::from_floats(values.as_slice(), &Default::default()).reshape([3, 3]);
        let off = off_diagonal_squares(matrix).into_scalar();
        assert!((off / 6e-6 - 1.0).abs() < 1e-5, "{off}");
    }
}
