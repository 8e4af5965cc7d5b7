//! Tensors of whole numbers, operation by operation.

#[cfg(feature = "cuda")]
use super::OnCuda;
#[cfg(feature = "wgpu")]
use super::OnWgpu;
use super::delegate::delegate;
use super::{Gpu, GpuDevice, GpuTensor, through_the_host};
use burn_backend::ops::IntTensorOps;
use burn_backend::{BoolDType, Distribution, ExecutionError, FloatDType, IntDType, Scalar, Shape, Slice, TensorData};

impl IntTensorOps<Gpu> for Gpu {
    async fn int_into_data(tensor: GpuTensor) -> Result<TensorData, ExecutionError> {
        match tensor {
            #[cfg(feature = "cuda")]
            GpuTensor::Cuda(tensor) => OnCuda::int_into_data(tensor).await,
            #[cfg(feature = "wgpu")]
            GpuTensor::Wgpu(tensor) => OnWgpu::int_into_data(tensor).await,
        }
    }

    fn int_to_device(tensor: GpuTensor, device: &GpuDevice) -> GpuTensor {
        through_the_host(tensor, device, Self::int_device, Self::int_into_data, Self::int_from_data)
    }

    delegate! {
        device => int_empty(shape: Shape, device: &GpuDevice, dtype: IntDType) -> GpuTensor;
        device => int_from_data(data: TensorData, device: &GpuDevice) -> GpuTensor;
        tensor => int_device(tensor: &GpuTensor) -> GpuDevice;
        tensor => int_reshape(tensor: GpuTensor, shape: Shape) -> GpuTensor;
        tensor => int_slice(tensor: GpuTensor, slices: &[Slice]) -> GpuTensor;
        tensor => int_slice_assign(tensor: GpuTensor, slices: &[Slice], value: GpuTensor) -> GpuTensor;
        tensor => int_into_float(tensor: GpuTensor, out_dtype: FloatDType) -> GpuTensor;
        tensor => int_mask_where(tensor: GpuTensor, mask: GpuTensor, value: GpuTensor) -> GpuTensor;
        tensor => int_mask_fill(tensor: GpuTensor, mask: GpuTensor, value: Scalar) -> GpuTensor;
        tensor => int_gather(dim: usize, tensor: GpuTensor, indices: GpuTensor) -> GpuTensor;
        tensor => int_scatter_add(dim: usize, tensor: GpuTensor, indices: GpuTensor, value: GpuTensor) -> GpuTensor;
        tensor => int_select(tensor: GpuTensor, dim: usize, indices: GpuTensor) -> GpuTensor;
        tensor => int_select_add(tensor: GpuTensor, dim: usize, indices: GpuTensor, value: GpuTensor) -> GpuTensor;
        tensor => int_repeat_dim(tensor: GpuTensor, dim: usize, times: usize) -> GpuTensor;
        lhs => int_equal(lhs: GpuTensor, rhs: GpuTensor, out_dtype: BoolDType) -> GpuTensor;
        lhs => int_equal_elem(lhs: GpuTensor, rhs: Scalar, out_dtype: BoolDType) -> GpuTensor;
        lhs => int_greater(lhs: GpuTensor, rhs: GpuTensor, out_dtype: BoolDType) -> GpuTensor;
        lhs => int_greater_elem(lhs: GpuTensor, rhs: Scalar, out_dtype: BoolDType) -> GpuTensor;
        lhs => int_greater_equal(lhs: GpuTensor, rhs: GpuTensor, out_dtype: BoolDType) -> GpuTensor;
        lhs => int_greater_equal_elem(lhs: GpuTensor, rhs: Scalar, out_dtype: BoolDType) -> GpuTensor;
        lhs => int_lower(lhs: GpuTensor, rhs: GpuTensor, out_dtype: BoolDType) -> GpuTensor;
        lhs => int_lower_elem(lhs: GpuTensor, rhs: Scalar, out_dtype: BoolDType) -> GpuTensor;
        lhs => int_lower_equal(lhs: GpuTensor, rhs: GpuTensor, out_dtype: BoolDType) -> GpuTensor;
        lhs => int_lower_equal_elem(lhs: GpuTensor, rhs: Scalar, out_dtype: BoolDType) -> GpuTensor;
        lhs => int_add(lhs: GpuTensor, rhs: GpuTensor) -> GpuTensor;
        lhs => int_add_scalar(lhs: GpuTensor, rhs: Scalar) -> GpuTensor;
        tensor => int_clamp(tensor: GpuTensor, min: Scalar, max: Scalar) -> GpuTensor;
        lhs => int_sub(lhs: GpuTensor, rhs: GpuTensor) -> GpuTensor;
        lhs => int_sub_scalar(lhs: GpuTensor, rhs: Scalar) -> GpuTensor;
        lhs => int_mul(lhs: GpuTensor, rhs: GpuTensor) -> GpuTensor;
        lhs => int_mul_scalar(lhs: GpuTensor, rhs: Scalar) -> GpuTensor;
        lhs => int_div(lhs: GpuTensor, rhs: GpuTensor) -> GpuTensor;
        lhs => int_div_scalar(lhs: GpuTensor, rhs: Scalar) -> GpuTensor;
        lhs => int_remainder(lhs: GpuTensor, rhs: GpuTensor) -> GpuTensor;
        lhs => int_remainder_scalar(lhs: GpuTensor, rhs: Scalar) -> GpuTensor;
        lhs => int_matmul(lhs: GpuTensor, rhs: GpuTensor) -> GpuTensor;
        device => int_zeros(shape: Shape, device: &GpuDevice, dtype: IntDType) -> GpuTensor;
        device => int_ones(shape: Shape, device: &GpuDevice, dtype: IntDType) -> GpuTensor;
        device => int_full(shape: Shape, fill_value: Scalar, device: &GpuDevice, dtype: IntDType) -> GpuTensor;
        tensor => int_sum(tensor: GpuTensor) -> GpuTensor;
        tensor => int_sum_dim(tensor: GpuTensor, dim: usize) -> GpuTensor;
        tensor => int_prod(tensor: GpuTensor) -> GpuTensor;
        tensor => int_prod_dim(tensor: GpuTensor, dim: usize) -> GpuTensor;
        tensor => int_mean_dim(tensor: GpuTensor, dim: usize) -> GpuTensor;
        tensor => int_cumsum(tensor: GpuTensor, dim: usize) -> GpuTensor;
        tensor => int_cumprod(tensor: GpuTensor, dim: usize) -> GpuTensor;
        tensor => int_cummin(tensor: GpuTensor, dim: usize) -> GpuTensor;
        tensor => int_cummax(tensor: GpuTensor, dim: usize) -> GpuTensor;
        tensor => int_argmax(tensor: GpuTensor, dim: usize) -> GpuTensor;
        tensor => int_argtopk(tensor: GpuTensor, dim: usize, k: usize) -> GpuTensor;
        tensor => int_topk(tensor: GpuTensor, dim: usize, k: usize) -> GpuTensor;
        tensor => int_argmin(tensor: GpuTensor, dim: usize) -> GpuTensor;
        tensor => int_max(tensor: GpuTensor) -> GpuTensor;
        tensor => int_max_dim(tensor: GpuTensor, dim: usize) -> GpuTensor;
        tensor => int_max_abs(tensor: GpuTensor) -> GpuTensor;
        tensor => int_max_abs_dim(tensor: GpuTensor, dim: usize) -> GpuTensor;
        tensor => int_min(tensor: GpuTensor) -> GpuTensor;
        tensor => int_min_dim(tensor: GpuTensor, dim: usize) -> GpuTensor;
        tensor => int_abs(tensor: GpuTensor) -> GpuTensor;
        tensor => int_swap_dims(tensor: GpuTensor, dim1: usize, dim2: usize) -> GpuTensor;
        tensor => int_permute(tensor: GpuTensor, axes: &[usize]) -> GpuTensor;
        tensor => int_flip(tensor: GpuTensor, axes: &[usize]) -> GpuTensor;
        device => int_random(
            shape: Shape,
            distribution: Distribution,
            device: &GpuDevice,
            dtype: IntDType,
        ) -> GpuTensor;
        tensor => int_sign(tensor: GpuTensor) -> GpuTensor;
        tensor => int_expand(tensor: GpuTensor, shape: Shape) -> GpuTensor;
        lhs => bitwise_and(lhs: GpuTensor, rhs: GpuTensor) -> GpuTensor;
        lhs => bitwise_and_scalar(lhs: GpuTensor, rhs: Scalar) -> GpuTensor;
        lhs => bitwise_or(lhs: GpuTensor, rhs: GpuTensor) -> GpuTensor;
        lhs => bitwise_or_scalar(lhs: GpuTensor, rhs: Scalar) -> GpuTensor;
        lhs => bitwise_xor(lhs: GpuTensor, rhs: GpuTensor) -> GpuTensor;
        lhs => bitwise_xor_scalar(lhs: GpuTensor, rhs: Scalar) -> GpuTensor;
        tensor => bitwise_not(tensor: GpuTensor) -> GpuTensor;
        lhs => bitwise_left_shift(lhs: GpuTensor, rhs: GpuTensor) -> GpuTensor;
        lhs => bitwise_left_shift_scalar(lhs: GpuTensor, rhs: Scalar) -> GpuTensor;
        lhs => bitwise_right_shift(lhs: GpuTensor, rhs: GpuTensor) -> GpuTensor;
        lhs => bitwise_right_shift_scalar(lhs: GpuTensor, rhs: Scalar) -> GpuTensor;
        tensor => int_cast(tensor: GpuTensor, dtype: IntDType) -> GpuTensor;
        tensor => int_unfold(tensor: GpuTensor, dim: usize, size: usize, step: usize) -> GpuTensor;
    }
}
