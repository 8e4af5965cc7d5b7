//! Mixed precision. With bf16 or f16 the inputs and outputs of linear maps, attention and activation functions are stored and multiplied
//! in it, as PyTorch's autocast has them; sums are f32 inside each kernel. What they are added to, norms, statistics, losses,
//! weights and all that the optimiser keeps stay f32: weights are rounded where they are used, and their gradients come back
//! as f32.

use crate::operators::{self, Operators};
use burn::nn::Linear;
use burn::tensor::{DType, Tensor};
use lapidary_schemas::config::Precision;

/// What activations are stored in.
pub(crate) fn stored_as(precision: Precision) -> DType {
    match precision {
        Precision::F32 => DType::F32,
        Precision::Bf16 => DType::BF16,
        Precision::F16 => DType::F16,
    }
}

/// A tensor in a type: itself, where it has it.
pub(super) fn to<B: Operators, const D: usize>(tensor: Tensor<B, D>, dtype: DType) -> Tensor<B, D> {
    if tensor.dtype() == dtype { tensor } else { tensor.cast(dtype) }
}

/// A linear map, `[..., inputs]` to `[..., outputs]`, in the type of what it maps.
pub(super) fn linear<B: Operators, const D: usize>(map: &Linear<B>, x: Tensor<B, D>) -> Tensor<B, D> {
    let dtype = x.dtype();
    let bias = map.bias.as_ref().map(|bias| to(bias.val(), dtype));
    operators::linear(x, to(map.weight.val(), dtype), bias)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Cpu;
    use burn::module::Param;
    use burn::nn::LinearConfig;
    use burn::tensor::TensorData;

    #[test]
    fn a_map_in_bf16_is_that_of_rounded_factors_and_the_weights_gradient_is_f32() {
        let device = Default::default();
        // 1 + 2^-9 is rounded to 1, 1 + 2^-7 is not.
        let values = |value: f32| Tensor::<Cpu, 2>::from_data(TensorData::new(vec![value; 4], [2, 2]), &device);
        let mut map = LinearConfig::new(2, 2).with_bias(false).init::<Cpu>(&device);
        map.weight = Param::from_tensor(values(1.0 + 2f32.powi(-7)));
        let x = values(1.0 + 2f32.powi(-9)).require_grad();
        let found = linear(&map, to(x.clone(), DType::BF16));
        assert_eq!(found.dtype(), DType::BF16);
        let found = to(found, DType::F32);
        assert_eq!(found.to_data().to_vec::<f32>().expect("f32"), [2.0 + 2f32.powi(-6); 4]);
        let gradients = found.sum().backward();
        let of = |tensor: &Tensor<Cpu, 2>| tensor.grad(&gradients).expect("a leaf").into_data().to_vec::<f32>();
        assert_eq!(of(&x).expect("f32"), [2.0 + 2f32.powi(-6); 4]);
        assert_eq!(of(&map.weight.val()).expect("f32"), [2.0; 4]);
    }
}
