//! burn's own backend for GPUs with its fusion, which joins chains of burn's operations in one kernel; only to be compared with
//! `Gpu`, since fusion is known to be wrong in burn 0.21 (burn#5257, #4366). Nothing trains on it.
//!
//! It has every operator as `reference` states it: a kernel of ours would be given no tensor that fusion has not computed yet, and
//! plain operations are what there is to join.

use crate::Operators;
use burn_cubecl::CubeBackend;
use burn_fusion::Fusion;

/// NVIDIA's GPUs by CUDA, with fusion.
#[cfg(feature = "cuda")]
pub type FusedCuda = Fusion<CubeBackend<burn_cubecl::cubecl::cuda::CudaRuntime, f32, i32, u32>>;

/// GPUs by Vulkan or Metal, with fusion.
#[cfg(feature = "wgpu")]
pub type FusedWgpu = Fusion<CubeBackend<burn_cubecl::cubecl::wgpu::WgpuRuntime, f32, i32, u32>>;

#[cfg(feature = "cuda")]
impl Operators for FusedCuda {
    crate::collective::of_ranks!();
}

#[cfg(feature = "wgpu")]
impl Operators for FusedWgpu {
    crate::collective::of_ranks!();
}
