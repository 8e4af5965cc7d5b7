//! Tensors of truth values, operation by operation.

#[cfg(feature = "cuda")]
use super::OnCuda;
#[cfg(feature = "wgpu")]
use super::OnWgpu;
use super::delegate::delegate;
use super::{Gpu, GpuDevice, GpuTensor, through_the_host};
use burn_backend::ops::BoolTensorOps;
use burn_backend::{BoolDType, ExecutionError, FloatDType, IntDType, Scalar, Shape, Slice, TensorData};

impl BoolTensorOps<Gpu> for Gpu {
    async fn bool_into_data(tensor: GpuTensor) -> Result<TensorData, ExecutionError> {
        match tensor {
            #[cfg(feature = "cuda")]
            GpuTensor::Cuda(tensor) => OnCuda::bool_into_data(tensor).await,
            #[cfg(feature = "wgpu")]
            GpuTensor::Wgpu(tensor) => OnWgpu::bool_into_data(tensor).await,
        }
    }

    fn bool_to_device(tensor: GpuTensor, device: &GpuDevice) -> GpuTensor {
        through_the_host(tensor, device, Self::bool_device, Self::bool_into_data, Self::bool_from_data)
    }

    delegate! {
        device => bool_empty(shape: Shape, device: &GpuDevice, dtype: BoolDType) -> GpuTensor;
        device => bool_zeros(shape: Shape, device: &GpuDevice, dtype: BoolDType) -> GpuTensor;
        device => bool_ones(shape: Shape, device: &GpuDevice, dtype: BoolDType) -> GpuTensor;
        device => bool_from_data(data: TensorData, device: &GpuDevice) -> GpuTensor;
        tensor => bool_into_int(tensor: GpuTensor, out_dtype: IntDType) -> GpuTensor;
        tensor => bool_into_float(tensor: GpuTensor, out_dtype: FloatDType) -> GpuTensor;
        tensor => bool_device(tensor: &GpuTensor) -> GpuDevice;
        tensor => bool_reshape(tensor: GpuTensor, shape: Shape) -> GpuTensor;
        tensor => bool_slice(tensor: GpuTensor, slices: &[Slice]) -> GpuTensor;
        tensor => bool_slice_assign(tensor: GpuTensor, slices: &[Slice], value: GpuTensor) -> GpuTensor;
        tensor => bool_mask_where(tensor: GpuTensor, mask: GpuTensor, value: GpuTensor) -> GpuTensor;
        tensor => bool_mask_fill(tensor: GpuTensor, mask: GpuTensor, value: Scalar) -> GpuTensor;
        tensor => bool_gather(dim: usize, tensor: GpuTensor, indices: GpuTensor) -> GpuTensor;
        tensor => bool_scatter_or(dim: usize, tensor: GpuTensor, indices: GpuTensor, value: GpuTensor) -> GpuTensor;
        tensor => bool_select(tensor: GpuTensor, dim: usize, indices: GpuTensor) -> GpuTensor;
        tensor => bool_select_or(tensor: GpuTensor, dim: usize, indices: GpuTensor, value: GpuTensor) -> GpuTensor;
        tensor => bool_repeat_dim(tensor: GpuTensor, dim: usize, times: usize) -> GpuTensor;
        lhs => bool_equal(lhs: GpuTensor, rhs: GpuTensor) -> GpuTensor;
        lhs => bool_equal_elem(lhs: GpuTensor, rhs: Scalar) -> GpuTensor;
        tensor => bool_not(tensor: GpuTensor) -> GpuTensor;
        lhs => bool_and(lhs: GpuTensor, rhs: GpuTensor) -> GpuTensor;
        lhs => bool_or(lhs: GpuTensor, rhs: GpuTensor) -> GpuTensor;
        tensor => bool_swap_dims(tensor: GpuTensor, dim1: usize, dim2: usize) -> GpuTensor;
        tensor => bool_permute(tensor: GpuTensor, axes: &[usize]) -> GpuTensor;
        tensor => bool_flip(tensor: GpuTensor, axes: &[usize]) -> GpuTensor;
        tensor => bool_expand(tensor: GpuTensor, shape: Shape) -> GpuTensor;
        tensor => bool_unfold(tensor: GpuTensor, dim: usize, size: usize, step: usize) -> GpuTensor;
    }
}
