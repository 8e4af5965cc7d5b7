//! Quantised tensors, whole modules and reads of several tensors at once, operation by operation. The trainer uses none of the
//! first two; a backend has them.

use super::delegate::delegate;
use super::delegate::{Inner, Outer, Which};
#[cfg(feature = "cuda")]
use super::{CudaRuntime, OnCuda};
use super::{Gpu, GpuDevice, GpuTensor};
#[cfg(feature = "wgpu")]
use super::{OnWgpu, WgpuRuntime};
use burn_backend::ops::{
    ActivationOps, AttentionModuleOptions, ConvOptions, ConvTransposeOptions, DeformConv2dBackward, DeformConvOptions,
    InterpolateOptions, MaxPool2dBackward, MaxPool2dWithIndices, ModuleOps, QTensorOps, TransactionOps,
    TransactionPrimitive, TransactionPrimitiveData,
};
use burn_backend::quantization::{QuantScheme, QuantizationParametersPrimitive};
use burn_backend::{ExecutionError, FloatDType, Shape, Slice, TensorData};

impl QTensorOps<Gpu> for Gpu {
    async fn q_into_data(tensor: GpuTensor) -> Result<TensorData, ExecutionError> {
        match tensor {
            #[cfg(feature = "cuda")]
            GpuTensor::Cuda(tensor) => OnCuda::q_into_data(tensor).await,
            #[cfg(feature = "wgpu")]
            GpuTensor::Wgpu(tensor) => OnWgpu::q_into_data(tensor).await,
        }
    }

    fn quantize(tensor: GpuTensor, scheme: &QuantScheme, qparams: QuantizationParametersPrimitive<Gpu>) -> GpuTensor {
        match (tensor, qparams.scales) {
            #[cfg(feature = "cuda")]
            (GpuTensor::Cuda(tensor), GpuTensor::Cuda(scales)) => {
                GpuTensor::Cuda(OnCuda::quantize(tensor, scheme, QuantizationParametersPrimitive { scales }))
            }
            #[cfg(feature = "wgpu")]
            (GpuTensor::Wgpu(tensor), GpuTensor::Wgpu(scales)) => {
                GpuTensor::Wgpu(OnWgpu::quantize(tensor, scheme, QuantizationParametersPrimitive { scales }))
            }
            #[cfg(all(feature = "cuda", feature = "wgpu"))]
            (tensor, scales) => unreachable!("{tensor:?} and {scales:?} are on two devices"),
        }
    }

    delegate! {
        device => q_from_data(data: TensorData, device: &GpuDevice) -> GpuTensor;
        tensor => dequantize(tensor: GpuTensor, dtype: FloatDType) -> GpuTensor;
        tensor => q_device(tensor: &GpuTensor) -> GpuDevice;
        tensor => q_to_device(tensor: GpuTensor, device: &GpuDevice) -> GpuTensor;
        tensor => q_reshape(tensor: GpuTensor, shape: Shape) -> GpuTensor;
        tensor => q_expand(tensor: GpuTensor, shape: Shape) -> GpuTensor;
        tensor => q_swap_dims(tensor: GpuTensor, dim1: usize, dim2: usize) -> GpuTensor;
        tensor => q_permute(tensor: GpuTensor, axes: &[usize]) -> GpuTensor;
        tensor => q_flip(tensor: GpuTensor, axes: &[usize]) -> GpuTensor;
        tensor => q_select(tensor: GpuTensor, dim: usize, indices: GpuTensor) -> GpuTensor;
        tensor => q_slice(tensor: GpuTensor, slices: &[Slice]) -> GpuTensor;
    }
}

impl ModuleOps<Gpu> for Gpu {
    fn deform_conv2d_backward(
        x: GpuTensor,
        offset: GpuTensor,
        weight: GpuTensor,
        mask: Option<GpuTensor>,
        bias: Option<GpuTensor>,
        output_grad: GpuTensor,
        options: DeformConvOptions<2>,
    ) -> DeformConv2dBackward<Gpu> {
        macro_rules! on {
            ($backend:ty, $runtime:ty, $x:expr) => {{
                let back = <$backend>::deform_conv2d_backward(
                    $x,
                    Inner::<$runtime>::inner(offset),
                    Inner::<$runtime>::inner(weight),
                    Inner::<$runtime>::inner(mask),
                    Inner::<$runtime>::inner(bias),
                    Inner::<$runtime>::inner(output_grad),
                    options,
                );
                DeformConv2dBackward::new(
                    back.x_grad.outer(),
                    back.offset_grad.outer(),
                    back.weight_grad.outer(),
                    back.mask_grad.map(Outer::outer),
                    back.bias_grad.map(Outer::outer),
                )
            }};
        }
        match x {
            #[cfg(feature = "cuda")]
            GpuTensor::Cuda(x) => on!(OnCuda, CudaRuntime, x),
            #[cfg(feature = "wgpu")]
            GpuTensor::Wgpu(x) => on!(OnWgpu, WgpuRuntime, x),
        }
    }

    fn max_pool2d_with_indices(
        x: GpuTensor,
        kernel_size: [usize; 2],
        stride: [usize; 2],
        padding: [usize; 2],
        dilation: [usize; 2],
        ceil_mode: bool,
    ) -> MaxPool2dWithIndices<Gpu> {
        macro_rules! on {
            ($backend:ty, $runtime:ty, $x:expr) => {{
                let found = <$backend>::max_pool2d_with_indices($x, kernel_size, stride, padding, dilation, ceil_mode);
                MaxPool2dWithIndices::new(found.output.outer(), found.indices.outer())
            }};
        }
        match x {
            #[cfg(feature = "cuda")]
            GpuTensor::Cuda(x) => on!(OnCuda, CudaRuntime, x),
            #[cfg(feature = "wgpu")]
            GpuTensor::Wgpu(x) => on!(OnWgpu, WgpuRuntime, x),
        }
    }

    fn max_pool2d_with_indices_backward(
        x: GpuTensor,
        kernel_size: [usize; 2],
        stride: [usize; 2],
        padding: [usize; 2],
        dilation: [usize; 2],
        ceil_mode: bool,
        output_grad: GpuTensor,
        indices: GpuTensor,
    ) -> MaxPool2dBackward<Gpu> {
        macro_rules! on {
            ($backend:ty, $runtime:ty, $x:expr) => {
                <$backend>::max_pool2d_with_indices_backward(
                    $x,
                    kernel_size,
                    stride,
                    padding,
                    dilation,
                    ceil_mode,
                    Inner::<$runtime>::inner(output_grad),
                    Inner::<$runtime>::inner(indices),
                )
                .x_grad
                .outer()
            };
        }
        MaxPool2dBackward::new(match x {
            #[cfg(feature = "cuda")]
            GpuTensor::Cuda(x) => on!(OnCuda, CudaRuntime, x),
            #[cfg(feature = "wgpu")]
            GpuTensor::Wgpu(x) => on!(OnWgpu, WgpuRuntime, x),
        })
    }

    delegate! {
        x => conv2d(x: GpuTensor, weight: GpuTensor, bias: Option<GpuTensor>, options: ConvOptions<2>) -> GpuTensor;
        x => deform_conv2d(
            x: GpuTensor,
            offset: GpuTensor,
            weight: GpuTensor,
            mask: Option<GpuTensor>,
            bias: Option<GpuTensor>,
            options: DeformConvOptions<2>,
        ) -> GpuTensor;
        x => conv3d(x: GpuTensor, weight: GpuTensor, bias: Option<GpuTensor>, options: ConvOptions<3>) -> GpuTensor;
        x => conv_transpose2d(
            x: GpuTensor,
            weight: GpuTensor,
            bias: Option<GpuTensor>,
            options: ConvTransposeOptions<2>,
        ) -> GpuTensor;
        x => conv_transpose3d(
            x: GpuTensor,
            weight: GpuTensor,
            bias: Option<GpuTensor>,
            options: ConvTransposeOptions<3>,
        ) -> GpuTensor;
        x => adaptive_avg_pool2d_backward(x: GpuTensor, grad: GpuTensor) -> GpuTensor;
        query => attention(
            query: GpuTensor,
            key: GpuTensor,
            value: GpuTensor,
            mask: Option<GpuTensor>,
            attn_bias: Option<GpuTensor>,
            options: AttentionModuleOptions,
        ) -> GpuTensor;
        signal => rfft(signal: GpuTensor, dim: usize, n: Option<usize>) -> (GpuTensor, GpuTensor);
        spectrum_re => irfft(
            spectrum_re: GpuTensor,
            spectrum_im: GpuTensor,
            dim: usize,
            n: Option<usize>,
        ) -> GpuTensor;
        x => avg_pool2d(
            x: GpuTensor,
            kernel_size: [usize; 2],
            stride: [usize; 2],
            padding: [usize; 2],
            count_include_pad: bool,
            ceil_mode: bool,
        ) -> GpuTensor;
        x => avg_pool2d_backward(
            x: GpuTensor,
            grad: GpuTensor,
            kernel_size: [usize; 2],
            stride: [usize; 2],
            padding: [usize; 2],
            count_include_pad: bool,
            ceil_mode: bool,
        ) -> GpuTensor;
        x => adaptive_avg_pool2d(x: GpuTensor, output_size: [usize; 2]) -> GpuTensor;
        x => max_pool2d(
            x: GpuTensor,
            kernel_size: [usize; 2],
            stride: [usize; 2],
            padding: [usize; 2],
            dilation: [usize; 2],
            ceil_mode: bool,
        ) -> GpuTensor;
        x => interpolate(x: GpuTensor, output_size: [usize; 2], options: InterpolateOptions) -> GpuTensor;
        x => interpolate_backward(
            x: GpuTensor,
            grad: GpuTensor,
            output_size: [usize; 2],
            options: InterpolateOptions,
        ) -> GpuTensor;
    }
}

impl ActivationOps<Gpu> for Gpu {}

impl TransactionOps<Gpu> for Gpu {
    async fn tr_execute(asked: TransactionPrimitive<Gpu>) -> Result<TransactionPrimitiveData, ExecutionError> {
        macro_rules! on {
            ($backend:ty, $runtime:ty) => {{
                let inner = TransactionPrimitive::<$backend>::new(
                    Inner::<$runtime>::inner(asked.read_floats),
                    Inner::<$runtime>::inner(asked.read_qfloats),
                    Inner::<$runtime>::inner(asked.read_ints),
                    Inner::<$runtime>::inner(asked.read_bools),
                );
                <$backend>::tr_execute(inner).await
            }};
        }
        let all = [&asked.read_floats, &asked.read_qfloats, &asked.read_ints, &asked.read_bools];
        let first = all.into_iter().flatten().next().map(GpuTensor::which);
        match first {
            None => Ok(TransactionPrimitiveData::default()),
            #[cfg(feature = "cuda")]
            Some(Which::Cuda) => on!(OnCuda, CudaRuntime),
            #[cfg(feature = "wgpu")]
            Some(Which::Wgpu) => on!(OnWgpu, WgpuRuntime),
        }
    }
}
