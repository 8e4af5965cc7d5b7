//! Float tensors, operation by operation.

#[cfg(feature = "cuda")]
use super::OnCuda;
#[cfg(feature = "wgpu")]
use super::OnWgpu;
use super::delegate::delegate;
use super::{Gpu, GpuDevice, GpuTensor, through_the_host};
use burn_backend::ops::FloatTensorOps;
use burn_backend::{BoolDType, Distribution, ExecutionError, FloatDType, IntDType, Scalar, Shape, Slice, TensorData};

impl FloatTensorOps<Gpu> for Gpu {
    async fn float_into_data(tensor: GpuTensor) -> Result<TensorData, ExecutionError> {
        match tensor {
            #[cfg(feature = "cuda")]
            GpuTensor::Cuda(tensor) => OnCuda::float_into_data(tensor).await,
            #[cfg(feature = "wgpu")]
            GpuTensor::Wgpu(tensor) => OnWgpu::float_into_data(tensor).await,
        }
    }

    fn float_to_device(tensor: GpuTensor, device: &GpuDevice) -> GpuTensor {
        through_the_host(tensor, device, Self::float_device, Self::float_into_data, Self::float_from_data)
    }

    delegate! {
        device => float_from_data(data: TensorData, device: &GpuDevice) -> GpuTensor;
        device => float_random(
            shape: Shape,
            distribution: Distribution,
            device: &GpuDevice,
            dtype: FloatDType,
        ) -> GpuTensor;
        device => float_zeros(shape: Shape, device: &GpuDevice, dtype: FloatDType) -> GpuTensor;
        device => float_ones(shape: Shape, device: &GpuDevice, dtype: FloatDType) -> GpuTensor;
        device => float_full(shape: Shape, fill_value: Scalar, device: &GpuDevice, dtype: FloatDType) -> GpuTensor;
        tensor => float_device(tensor: &GpuTensor) -> GpuDevice;
        tensor => float_into_int(tensor: GpuTensor, out_dtype: IntDType) -> GpuTensor;
        device => float_empty(shape: Shape, device: &GpuDevice, dtype: FloatDType) -> GpuTensor;
        tensor => float_repeat_dim(tensor: GpuTensor, dim: usize, times: usize) -> GpuTensor;
        lhs => float_add(lhs: GpuTensor, rhs: GpuTensor) -> GpuTensor;
        lhs => float_add_scalar(lhs: GpuTensor, rhs: Scalar) -> GpuTensor;
        tensor => float_clamp(tensor: GpuTensor, min: Scalar, max: Scalar) -> GpuTensor;
        lhs => float_sub(lhs: GpuTensor, rhs: GpuTensor) -> GpuTensor;
        lhs => float_sub_scalar(lhs: GpuTensor, rhs: Scalar) -> GpuTensor;
        lhs => float_mul(lhs: GpuTensor, rhs: GpuTensor) -> GpuTensor;
        lhs => float_mul_scalar(lhs: GpuTensor, rhs: Scalar) -> GpuTensor;
        lhs => float_div(lhs: GpuTensor, rhs: GpuTensor) -> GpuTensor;
        lhs => float_div_scalar(lhs: GpuTensor, rhs: Scalar) -> GpuTensor;
        lhs => float_remainder(lhs: GpuTensor, rhs: GpuTensor) -> GpuTensor;
        lhs => float_remainder_scalar(lhs: GpuTensor, rhs: Scalar) -> GpuTensor;
        lhs => float_matmul(lhs: GpuTensor, rhs: GpuTensor) -> GpuTensor;
        lhs => float_cross(lhs: GpuTensor, rhs: GpuTensor, dim: usize) -> GpuTensor;
        tensor => float_recip(tensor: GpuTensor) -> GpuTensor;
        tensor => float_swap_dims(tensor: GpuTensor, dim1: usize, dim2: usize) -> GpuTensor;
        tensor => float_permute(tensor: GpuTensor, axes: &[usize]) -> GpuTensor;
        tensor => float_flip(tensor: GpuTensor, axes: &[usize]) -> GpuTensor;
        tensor => float_reshape(tensor: GpuTensor, shape: Shape) -> GpuTensor;
        tensor => float_gather(dim: usize, tensor: GpuTensor, indices: GpuTensor) -> GpuTensor;
        tensor => float_scatter_add(dim: usize, tensor: GpuTensor, indices: GpuTensor, value: GpuTensor) -> GpuTensor;
        tensor => float_select(tensor: GpuTensor, dim: usize, indices: GpuTensor) -> GpuTensor;
        tensor => float_select_add(tensor: GpuTensor, dim: usize, indices: GpuTensor, value: GpuTensor) -> GpuTensor;
        tensor => float_slice(tensor: GpuTensor, slices: &[Slice]) -> GpuTensor;
        tensor => float_slice_assign(tensor: GpuTensor, slices: &[Slice], value: GpuTensor) -> GpuTensor;
        tensor => float_mask_where(tensor: GpuTensor, mask: GpuTensor, value: GpuTensor) -> GpuTensor;
        tensor => float_mask_fill(tensor: GpuTensor, mask: GpuTensor, value: Scalar) -> GpuTensor;
        lhs => float_equal(lhs: GpuTensor, rhs: GpuTensor, out_dtype: BoolDType) -> GpuTensor;
        lhs => float_equal_elem(lhs: GpuTensor, rhs: Scalar, out_dtype: BoolDType) -> GpuTensor;
        lhs => float_greater(lhs: GpuTensor, rhs: GpuTensor, out_dtype: BoolDType) -> GpuTensor;
        lhs => float_greater_elem(lhs: GpuTensor, rhs: Scalar, out_dtype: BoolDType) -> GpuTensor;
        lhs => float_greater_equal(lhs: GpuTensor, rhs: GpuTensor, out_dtype: BoolDType) -> GpuTensor;
        lhs => float_greater_equal_elem(lhs: GpuTensor, rhs: Scalar, out_dtype: BoolDType) -> GpuTensor;
        lhs => float_lower(lhs: GpuTensor, rhs: GpuTensor, out_dtype: BoolDType) -> GpuTensor;
        lhs => float_lower_elem(lhs: GpuTensor, rhs: Scalar, out_dtype: BoolDType) -> GpuTensor;
        lhs => float_lower_equal(lhs: GpuTensor, rhs: GpuTensor, out_dtype: BoolDType) -> GpuTensor;
        lhs => float_lower_equal_elem(lhs: GpuTensor, rhs: Scalar, out_dtype: BoolDType) -> GpuTensor;
        tensor => float_sum(tensor: GpuTensor) -> GpuTensor;
        tensor => float_sum_dim(tensor: GpuTensor, dim: usize) -> GpuTensor;
        tensor => float_prod(tensor: GpuTensor) -> GpuTensor;
        tensor => float_prod_dim(tensor: GpuTensor, dim: usize) -> GpuTensor;
        tensor => float_mean(tensor: GpuTensor) -> GpuTensor;
        tensor => float_mean_dim(tensor: GpuTensor, dim: usize) -> GpuTensor;
        tensor => float_cumsum(tensor: GpuTensor, dim: usize) -> GpuTensor;
        tensor => float_cumprod(tensor: GpuTensor, dim: usize) -> GpuTensor;
        tensor => float_cummin(tensor: GpuTensor, dim: usize) -> GpuTensor;
        tensor => float_cummax(tensor: GpuTensor, dim: usize) -> GpuTensor;
        tensor => float_cast(tensor: GpuTensor, dtype: FloatDType) -> GpuTensor;
        tensor => float_exp(tensor: GpuTensor) -> GpuTensor;
        tensor => float_log(tensor: GpuTensor) -> GpuTensor;
        tensor => float_log1p(tensor: GpuTensor) -> GpuTensor;
        lhs => float_powf(lhs: GpuTensor, rhs: GpuTensor) -> GpuTensor;
        tensor => float_powf_scalar_impl(tensor: GpuTensor, value: Scalar) -> GpuTensor;
        tensor => float_sqrt(tensor: GpuTensor) -> GpuTensor;
        tensor => float_abs(tensor: GpuTensor) -> GpuTensor;
        tensor => float_cos(tensor: GpuTensor) -> GpuTensor;
        tensor => float_sin(tensor: GpuTensor) -> GpuTensor;
        tensor => float_tan(tensor: GpuTensor) -> GpuTensor;
        tensor => float_cosh(tensor: GpuTensor) -> GpuTensor;
        tensor => float_sinh(tensor: GpuTensor) -> GpuTensor;
        tensor => float_tanh(tensor: GpuTensor) -> GpuTensor;
        tensor => float_acos(tensor: GpuTensor) -> GpuTensor;
        tensor => float_acosh(tensor: GpuTensor) -> GpuTensor;
        tensor => float_asin(tensor: GpuTensor) -> GpuTensor;
        tensor => float_asinh(tensor: GpuTensor) -> GpuTensor;
        tensor => float_atan(tensor: GpuTensor) -> GpuTensor;
        tensor => float_atanh(tensor: GpuTensor) -> GpuTensor;
        lhs => float_atan2(lhs: GpuTensor, rhs: GpuTensor) -> GpuTensor;
        tensor => float_round(tensor: GpuTensor) -> GpuTensor;
        tensor => float_floor(tensor: GpuTensor) -> GpuTensor;
        tensor => float_ceil(tensor: GpuTensor) -> GpuTensor;
        tensor => float_trunc(tensor: GpuTensor) -> GpuTensor;
        tensor => float_erf(tensor: GpuTensor) -> GpuTensor;
        tensor => float_argmax(tensor: GpuTensor, dim: usize, out_dtype: IntDType) -> GpuTensor;
        tensor => float_argtopk(tensor: GpuTensor, dim: usize, k: usize, out_dtype: IntDType) -> GpuTensor;
        tensor => float_topk(tensor: GpuTensor, dim: usize, k: usize) -> GpuTensor;
        tensor => float_argmin(tensor: GpuTensor, dim: usize, out_dtype: IntDType) -> GpuTensor;
        tensor => float_max(tensor: GpuTensor) -> GpuTensor;
        tensor => float_max_dim(tensor: GpuTensor, dim: usize) -> GpuTensor;
        tensor => float_min(tensor: GpuTensor) -> GpuTensor;
        tensor => float_min_dim(tensor: GpuTensor, dim: usize) -> GpuTensor;
        tensor => float_max_abs(tensor: GpuTensor) -> GpuTensor;
        tensor => float_max_abs_dim(tensor: GpuTensor, dim: usize) -> GpuTensor;
        tensor => float_sign(tensor: GpuTensor) -> GpuTensor;
        tensor => float_expand(tensor: GpuTensor, shape: Shape) -> GpuTensor;
        tensor => float_unfold(tensor: GpuTensor, dim: usize, size: usize, step: usize) -> GpuTensor;
        tensor => float_is_nan(tensor: GpuTensor, out_dtype: BoolDType) -> GpuTensor;
        tensor => float_is_inf(tensor: GpuTensor, out_dtype: BoolDType) -> GpuTensor;
    }
}
