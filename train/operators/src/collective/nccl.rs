//! Ranks on CUDA's devices, each device once: NCCL adds, as burn-cuda's `distributed` has it (CubeCL's `all_reduce`), on a stream of
//! its own that the rank's waits for. On the host threads meet for names and barriers alone.
//!
//! CubeCL 0.10 runs these calls on a thread of the device, which writes an error to its log and goes on. So a sum whose result is known is
//! asked for before the first step, and the trainer counts the ranks in a sum of each step.

use super::meeting::Meeting;
use super::{Collective, Ranks};
use crate::gpu::{Gpu, GpuDevice, GpuTensor, OnCuda};
use burn_backend::ops::FloatTensorOps;
use burn_backend::{DeviceId, TensorData};
use burn_cubecl::cubecl::cuda::{CudaDevice, CudaRuntime};
use burn_cubecl::cubecl::future::block_on;
use burn_cubecl::cubecl::ir::ElemType;
use burn_cubecl::cubecl::prelude::{ComputeClient, Runtime};
use burn_cubecl::cubecl::server::ReduceOperation;
use burn_cubecl::tensor::CubeTensor;
use burn_std::device::Device;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A rank on a device of its own.
#[derive(Debug)]
struct Nccl {
    rank: usize,
    device: CudaDevice,
    /// All ranks' devices.
    devices: Vec<DeviceId>,
    meeting: Arc<Meeting<BTreeSet<String>>>,
}

/// The ends of ranks on these devices; none where they are not CUDA's, where one is there twice, which NCCL has no way for, where
/// its library does not load, or where it does not add up.
pub(crate) fn over_nccl(devices: &[GpuDevice]) -> Option<Vec<Ranks<Gpu>>> {
    let of_cuda = |device: &GpuDevice| match device {
        GpuDevice::Cuda(device) => Some(device.clone()),
        #[cfg(feature = "wgpu")]
        GpuDevice::Wgpu(_) => None,
    };
    let devices: Vec<CudaDevice> = devices.iter().map(of_cuda).collect::<Option<_>>()?;
    let ids: Vec<DeviceId> = devices.iter().map(Device::to_id).collect();
    let is_twice = |at: usize| ids[..at].contains(&ids[at]);
    if (0..ids.len()).any(is_twice) || !is_there() {
        return None;
    }
    let meeting = Arc::new(Meeting::new(devices.len()));
    let end = |(rank, device): (usize, CudaDevice)| {
        Arc::new(Nccl { rank, device, devices: ids.clone(), meeting: Arc::clone(&meeting) })
    };
    let ends: Vec<Arc<Nccl>> = devices.into_iter().enumerate().map(end).collect();
    add_up(&ends).then(|| ends.into_iter().map(|end| end as Ranks<Gpu>).collect())
}

/// Whether ranks that bring 1, 2, ... have the sum of these. NCCL's communicators are made with it.
fn add_up(ends: &[Arc<Nccl>]) -> bool {
    let own = |end: &Arc<Nccl>| {
        let own = TensorData::from([end.rank as f32 + 1.0]);
        end.ask(OnCuda::float_from_data(own, &end.device))
    };
    // All are asked before one is waited for.
    let sums: Vec<CubeTensor<CudaRuntime>> = ends.iter().map(own).collect();
    ends.iter().for_each(|end| end.client().sync_collective());
    let expected = (ends.len() * (ends.len() + 1)) as f32 / 2.0;
    sums.into_iter().all(|sum| {
        let sum = block_on(OnCuda::float_into_data(sum));
        sum.is_ok_and(|sum| sum.to_vec::<f32>().is_ok_and(|sum| sum == [expected]))
    })
}

impl Nccl {
    fn client(&self) -> ComputeClient<CudaRuntime> {
        CudaRuntime::client(&self.device)
    }

    /// Asks for a sum, in place where no other holds the tensor; it is there once the device's stream has waited for it.
    fn ask(&self, share: CubeTensor<CudaRuntime>) -> CubeTensor<CudaRuntime> {
        let sum = crate::cube::writable(share);
        let (from, to) = (sum.handle.clone(), sum.handle.clone());
        let dtype = ElemType::from(sum.dtype);
        self.client().all_reduce(from, to, dtype, self.devices.clone(), ReduceOperation::Sum);
        sum
    }
}

/// Whether NCCL's library loads under the name that CubeCL loads it by.
#[expect(unsafe_code, reason = "whether a library is there is found by loading it")]
fn is_there() -> bool {
    // SAFETY: NCCL runs no code of ours on loading.
    unsafe { libloading::Library::new("libnccl.so") }.is_ok()
}

impl Collective<Gpu> for Nccl {
    fn name(&self) -> &'static str {
        "nccl"
    }

    fn rank(&self) -> usize {
        self.rank
    }

    fn ranks(&self) -> usize {
        self.devices.len()
    }

    fn sum(&self, share: GpuTensor) -> GpuTensor {
        let share = match share {
            GpuTensor::Cuda(share) => share,
            #[cfg(feature = "wgpu")]
            GpuTensor::Wgpu(_) => unreachable!("the ranks are CUDA's devices"),
        };
        let sum = self.ask(share);
        self.client().sync_collective();
        GpuTensor::Cuda(sum)
    }

    fn union(&self, names: BTreeSet<String>) -> BTreeSet<String> {
        self.meeting.exchange(self.rank, names, |all| all.into_iter().flatten().collect())
    }

    fn settle(&self) {
        // burn has no error here either: what the device refused, its memory being full, is said by a panic.
        if let Err(error) = self.client().flush() {
            std::panic::panic_any(error.to_string());
        }
        self.barrier();
    }

    fn abandon(&self, why: &str) {
        self.meeting.abandon(why);
    }
}
