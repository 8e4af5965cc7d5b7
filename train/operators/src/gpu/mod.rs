//! One backend for every GPU: CUDA's and wgpu's behind one type that is not generic. burn's backend for GPUs is compiled wherever
//! it is named with its runtime, which takes minutes; behind this one it is compiled once, here, and what trains on it is
//! compiled once for both.

mod bool;
mod delegate;
mod float;
mod int;
mod operators;
mod other;

use burn::tensor::TensorMetadata;
use burn_backend::quantization::QuantScheme;
use burn_backend::{
    Backend, BackendTypes, DType, DTypeUsageSet, DeviceId, DeviceOps, ExecutionError, QTensorPrimitive, Shape,
    TensorData,
};
#[cfg(feature = "cuda")]
use burn_cubecl::cubecl::cuda::{CudaDevice, CudaRuntime};
#[cfg(feature = "wgpu")]
use burn_cubecl::cubecl::wgpu::{WgpuDevice, WgpuRuntime};
use burn_cubecl::tensor::CubeTensor;
use burn_std::device::Device;
use delegate::Which;

#[cfg(feature = "cuda")]
pub(crate) type OnCuda = burn_cubecl::CubeBackend<CudaRuntime, f32, i32, u32>;
#[cfg(feature = "wgpu")]
type OnWgpu = burn_cubecl::CubeBackend<WgpuRuntime, f32, i32, u32>;

/// The backend of all GPUs.
#[derive(Debug, Default, Clone)]
pub struct Gpu;

/// A GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GpuDevice {
    /// By CUDA.
    #[cfg(feature = "cuda")]
    Cuda(CudaDevice),
    /// By Vulkan or Metal.
    #[cfg(feature = "wgpu")]
    Wgpu(WgpuDevice),
}

/// A tensor of any kind on a GPU.
#[derive(Debug, Clone)]
pub enum GpuTensor {
    /// By CUDA.
    #[cfg(feature = "cuda")]
    Cuda(CubeTensor<CudaRuntime>),
    /// By Vulkan or Metal.
    #[cfg(feature = "wgpu")]
    Wgpu(CubeTensor<WgpuRuntime>),
}

/// Of a value of this enum whose variants have the same method.
macro_rules! of_either {
    ($type:ident, $value:expr, $inner:ident => $body:expr) => {
        match $value {
            #[cfg(feature = "cuda")]
            $type::Cuda($inner) => $body,
            #[cfg(feature = "wgpu")]
            $type::Wgpu($inner) => $body,
        }
    };
}

/// What a backend says of a device.
macro_rules! on_backend {
    ($device:expr, $inner:ident, $backend:ident => $body:expr) => {
        match $device {
            #[cfg(feature = "cuda")]
            GpuDevice::Cuda($inner) => {
                type $backend = OnCuda;
                $body
            }
            #[cfg(feature = "wgpu")]
            GpuDevice::Wgpu($inner) => {
                type $backend = OnWgpu;
                $body
            }
        }
    };
}

impl GpuTensor {
    fn which(&self) -> Which {
        match self {
            #[cfg(feature = "cuda")]
            Self::Cuda(_) => Which::Cuda,
            #[cfg(feature = "wgpu")]
            Self::Wgpu(_) => Which::Wgpu,
        }
    }
}

impl GpuDevice {
    /// An NVIDIA GPU by its number.
    #[cfg(feature = "cuda")]
    pub fn cuda(index: usize) -> Self {
        Self::Cuda(CudaDevice::new(index))
    }

    /// Whether it is reached by CUDA.
    pub fn is_cuda(&self) -> bool {
        match self {
            #[cfg(feature = "cuda")]
            Self::Cuda(_) => true,
            #[cfg(feature = "wgpu")]
            Self::Wgpu(_) => false,
        }
    }

    fn which(&self) -> Which {
        match self {
            #[cfg(feature = "cuda")]
            Self::Cuda(_) => Which::Cuda,
            #[cfg(feature = "wgpu")]
            Self::Wgpu(_) => Which::Wgpu,
        }
    }
}

impl Default for GpuDevice {
    fn default() -> Self {
        #[cfg(feature = "cuda")]
        return Self::Cuda(CudaDevice::default());
        #[cfg(not(feature = "cuda"))]
        Self::Wgpu(WgpuDevice::default())
    }
}

/// Added to CUDA's kinds of devices, so that wgpu's have others.
#[cfg(feature = "cuda")]
const CUDA: u16 = 1 << 8;

impl Device for GpuDevice {
    fn from_id(id: DeviceId) -> Self {
        #[cfg(feature = "cuda")]
        if id.type_id >= CUDA || cfg!(not(feature = "wgpu")) {
            return Self::Cuda(CudaDevice::from_id(DeviceId::new(id.type_id % CUDA, id.index_id)));
        }
        #[cfg(feature = "wgpu")]
        return Self::Wgpu(WgpuDevice::from_id(id));
        #[cfg(not(feature = "wgpu"))]
        unreachable!("without wgpu all devices are CUDA's")
    }

    fn to_id(&self) -> DeviceId {
        match self {
            #[cfg(feature = "cuda")]
            Self::Cuda(device) => {
                let id = device.to_id();
                DeviceId::new(id.type_id + CUDA, id.index_id)
            }
            #[cfg(feature = "wgpu")]
            Self::Wgpu(device) => device.to_id(),
        }
    }
}

impl DeviceOps for GpuDevice {}

impl TensorMetadata for GpuTensor {
    fn dtype(&self) -> DType {
        of_either!(GpuTensor, self, tensor => tensor.dtype())
    }

    fn shape(&self) -> Shape {
        of_either!(GpuTensor, self, tensor => tensor.shape())
    }

    fn rank(&self) -> usize {
        of_either!(GpuTensor, self, tensor => tensor.rank())
    }
}

impl QTensorPrimitive for GpuTensor {
    fn scheme(&self) -> &QuantScheme {
        of_either!(GpuTensor, self, tensor => tensor.scheme())
    }
}

/// A tensor on another device, by way of the host: burn 0.21 knows no other way between adapters, and between CUDA's devices one
/// that needs NCCL.
fn through_the_host<F: Future<Output = Result<TensorData, ExecutionError>>>(
    tensor: GpuTensor,
    device: &GpuDevice,
    device_of: impl Fn(&GpuTensor) -> GpuDevice,
    read: impl Fn(GpuTensor) -> F,
    write: impl Fn(TensorData, &GpuDevice) -> GpuTensor,
) -> GpuTensor {
    if device_of(&tensor) == *device {
        return tensor;
    }
    // burn has no error here: a device that cannot be read is lost, which whoever runs a program on it catches.
    let data = burn_cubecl::cubecl::future::block_on(read(tensor)).expect("the device can be read");
    write(data, device)
}

impl BackendTypes for Gpu {
    type Device = GpuDevice;
    type FloatTensorPrimitive = GpuTensor;
    type FloatElem = f32;
    type IntTensorPrimitive = GpuTensor;
    type IntElem = i32;
    type BoolTensorPrimitive = GpuTensor;
    type BoolElem = u32;
    type QuantizedTensorPrimitive = GpuTensor;
}

impl Backend for Gpu {
    fn name(device: &GpuDevice) -> String {
        on_backend!(device, inner, B => B::name(inner))
    }

    fn seed(device: &GpuDevice, seed: u64) {
        on_backend!(device, inner, B => B::seed(inner, seed));
    }

    fn sync(device: &GpuDevice) -> Result<(), ExecutionError> {
        on_backend!(device, inner, B => B::sync(inner))
    }

    fn memory_cleanup(device: &GpuDevice) {
        on_backend!(device, inner, B => B::memory_cleanup(inner));
    }

    fn staging<'a, Iter>(data: Iter, device: &GpuDevice)
    where
        Iter: Iterator<Item = &'a mut TensorData>,
    {
        on_backend!(device, inner, B => B::staging(data, inner));
    }

    fn dtype_usage(device: &GpuDevice, dtype: DType) -> DTypeUsageSet {
        on_backend!(device, inner, B => B::dtype_usage(inner, dtype))
    }

    fn supports_dtype(device: &GpuDevice, dtype: DType) -> bool {
        on_backend!(device, inner, B => B::supports_dtype(inner, dtype))
    }

    fn device_count(type_id: u16) -> usize {
        match Self::Device::from_id(DeviceId::new(type_id, 0)).which() {
            #[cfg(feature = "cuda")]
            Which::Cuda => OnCuda::device_count(type_id % CUDA),
            #[cfg(feature = "wgpu")]
            Which::Wgpu => OnWgpu::device_count(type_id),
        }
    }
}
