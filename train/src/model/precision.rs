//! The precision of matrix products. In bf16 both factors are rounded to it and the product is read as f32 again: sums over
//! tokens, norms, softmax, activations, residuals, heads, losses and all that the optimiser keeps stay f32.

use crate::operators::{self, Operators};
use burn::nn::Linear;
use burn::tensor::{DType, Tensor};
use lapidary_schemas::config::Precision;

/// The product of two matrices, or of stacks of them: `[..., n, k]` and `[..., k, m]` to `[..., n, m]`, as f32.
pub(super) fn product<B: Operators, const D: usize>(
    left: Tensor<B, D>,
    right: Tensor<B, D>,
    precision: Precision,
) -> Tensor<B, D> {
    match precision {
        Precision::F32 => left.matmul(right),
        Precision::Bf16 => left.cast(DType::BF16).matmul(right.cast(DType::BF16)).cast(DType::F32),
    }
}

/// A linear map of tokens `[batch, tokens, inputs]`; its bias is added in f32.
pub(super) fn linear<B: Operators>(map: &Linear<B>, tokens: Tensor<B, 3>, precision: Precision) -> Tensor<B, 3> {
    if precision == Precision::F32 {
        return operators::linear(tokens, map.weight.val(), map.bias.as_ref().map(|bias| bias.val()));
    }
    let mapped = product(tokens, map.weight.val().unsqueeze(), precision);
    match &map.bias {
        Some(bias) => mapped + bias.val().unsqueeze(),
        None => mapped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Cpu;
    use burn::tensor::{Distribution, TensorData};

    #[test]
    fn a_product_in_bf16_is_that_of_rounded_factors_and_its_gradients_are_f32() {
        let device = Default::default();
        // 1 + 2^-9 is rounded to 1, 1 + 2^-7 is not.
        let factor =
            |value: f32| Tensor::<Cpu, 2>::from_data(TensorData::new(vec![value; 4], [2, 2]), &device).require_grad();
        let (left, right) = (factor(1.0 + 2f32.powi(-9)), factor(1.0 + 2f32.powi(-7)));
        let found = product(left.clone(), right.clone(), Precision::Bf16);
        assert_eq!(found.to_data().to_vec::<f32>().expect("f32"), [2.0 + 2f32.powi(-6); 4]);
        let gradients = found.sum().backward();
        let of_left = left.grad(&gradients).expect("a leaf");
        assert_eq!(of_left.into_data().to_vec::<f32>().expect("f32"), [2.0 + 2f32.powi(-6); 4]);
        assert!(right.grad(&gradients).is_some());
    }

    #[test]
    fn products_in_f32_are_burn_s_own() {
        let device = Default::default();
        let random = || Tensor::<Cpu, 3>::random([2, 3, 3], Distribution::Default, &device);
        let (left, right) = (random(), random());
        let found = product(left.clone(), right.clone(), Precision::F32);
        assert_eq!(found.into_data(), left.matmul(right).into_data());
    }
}
