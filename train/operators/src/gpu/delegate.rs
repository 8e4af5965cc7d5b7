//! How an operation reaches the backend of the tensor or the device it is of: what it is given is taken out of [`GpuTensor`] and
//! [`GpuDevice`], what comes back is put in again.

use super::{GpuDevice, GpuTensor};
use crate::Packing;
use burn_backend::ops::{
    AttentionModuleOptions, ConvOptions, ConvTransposeOptions, DeformConvOptions, InterpolateOptions,
};
use burn_backend::quantization::QuantScheme;
use burn_backend::{BoolDType, Distribution, FloatDType, IntDType, Scalar, Shape, Slice, TensorData};
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;

/// Which runtime something is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    #[cfg(feature = "cuda")]
    Cuda,
    #[cfg(feature = "wgpu")]
    Wgpu,
}

/// An argument as the backend of a runtime takes it.
pub(super) trait Inner<R: CubeRuntime> {
    type Of;
    fn inner(self) -> Self::Of;
}

/// A result as ours.
pub(super) trait Outer {
    type Of;
    fn outer(self) -> Self::Of;
}

impl<R: CubeRuntime, T: Inner<R>> Inner<R> for Option<T> {
    type Of = Option<T::Of>;
    fn inner(self) -> Self::Of {
        self.map(Inner::inner)
    }
}

impl<R: CubeRuntime, T: Inner<R>> Inner<R> for Vec<T> {
    type Of = Vec<T::Of>;
    fn inner(self) -> Self::Of {
        self.into_iter().map(Inner::inner).collect()
    }
}

impl<T: Outer> Outer for Option<T> {
    type Of = Option<T::Of>;
    fn outer(self) -> Self::Of {
        self.map(Outer::outer)
    }
}

impl<T: Outer, U: Outer> Outer for (T, U) {
    type Of = (T::Of, U::Of);
    fn outer(self) -> Self::Of {
        (self.0.outer(), self.1.outer())
    }
}

impl<T: Outer, const N: usize> Outer for [T; N] {
    type Of = [T::Of; N];
    fn outer(self) -> Self::Of {
        self.map(Outer::outer)
    }
}

/// What is the same everywhere.
macro_rules! as_it_is {
    ($($type:ty),* $(,)?) => {$(
        impl<R: CubeRuntime> Inner<R> for $type {
            type Of = Self;
            fn inner(self) -> Self {
                self
            }
        }
    )*};
}

as_it_is!(
    usize,
    bool,
    f32,
    f64,
    Shape,
    Scalar,
    TensorData,
    Distribution,
    BoolDType,
    FloatDType,
    IntDType,
    &[usize],
    &[Slice],
    &QuantScheme,
    &Packing,
    (&Packing, usize),
    ConvOptions<2>,
    ConvOptions<3>,
    ConvTransposeOptions<2>,
    ConvTransposeOptions<3>,
    DeformConvOptions<2>,
    AttentionModuleOptions,
    [usize; 2],
    InterpolateOptions,
);

macro_rules! runtime {
    ($feature:literal, $name:ident, $runtime:ty, $device:ty) => {
        #[cfg(feature = $feature)]
        impl Inner<$runtime> for GpuTensor {
            type Of = CubeTensor<$runtime>;
            fn inner(self) -> Self::Of {
                match self {
                    GpuTensor::$name(tensor) => tensor,
                    #[cfg(all(feature = "cuda", feature = "wgpu"))]
                    other => panic!("{other:?} is on another device than {}", stringify!($name)),
                }
            }
        }

        #[cfg(feature = $feature)]
        impl<'a> Inner<$runtime> for &'a GpuTensor {
            type Of = &'a CubeTensor<$runtime>;
            fn inner(self) -> Self::Of {
                match self {
                    GpuTensor::$name(tensor) => tensor,
                    #[cfg(all(feature = "cuda", feature = "wgpu"))]
                    other => panic!("{other:?} is on another device than {}", stringify!($name)),
                }
            }
        }

        #[cfg(feature = $feature)]
        impl<'a> Inner<$runtime> for &'a GpuDevice {
            type Of = &'a $device;
            fn inner(self) -> Self::Of {
                match self {
                    GpuDevice::$name(device) => device,
                    #[cfg(all(feature = "cuda", feature = "wgpu"))]
                    other => panic!("{other:?} is another device than {}", stringify!($name)),
                }
            }
        }

        #[cfg(feature = $feature)]
        impl Outer for CubeTensor<$runtime> {
            type Of = GpuTensor;
            fn outer(self) -> GpuTensor {
                GpuTensor::$name(self)
            }
        }

        #[cfg(feature = $feature)]
        impl Outer for $device {
            type Of = GpuDevice;
            fn outer(self) -> GpuDevice {
                GpuDevice::$name(self)
            }
        }
    };
}

#[cfg(feature = "cuda")]
use burn_cubecl::cubecl::cuda::{CudaDevice, CudaRuntime};
#[cfg(feature = "wgpu")]
use burn_cubecl::cubecl::wgpu::{WgpuDevice, WgpuRuntime};
runtime!("cuda", Cuda, CudaRuntime, CudaDevice);
runtime!("wgpu", Wgpu, WgpuRuntime, WgpuDevice);

/// Operations `by => name(arguments) -> result;`, each handed to the backend that `by` is of.
macro_rules! delegate {
    ($($by:ident => $name:ident($($argument:ident: $type:ty),* $(,)?) -> $result:ty;)*) => {$(
        fn $name($($argument: $type),*) -> $result {
            use super::delegate::{Inner, Outer, Which};
            match $by.which() {
                #[cfg(feature = "cuda")]
                Which::Cuda => Outer::outer(super::OnCuda::$name($(Inner::<super::CudaRuntime>::inner($argument)),*)),
                #[cfg(feature = "wgpu")]
                Which::Wgpu => Outer::outer(super::OnWgpu::$name($(Inner::<super::WgpuRuntime>::inner($argument)),*)),
            }
        }
    )*};
}
pub(super) use delegate;
