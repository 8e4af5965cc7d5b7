//! Which GPUs can be used, and which one `--device` means: NVIDIA's by CUDA, any by Vulkan or Metal through wgpu.
//!
//! burn panics in a thread of its own when something is missing, so all is looked for before the first tensor.

mod adapters;
mod cuda;

use crate::backend::{CPU, DeviceChoice};
use crate::{Result, TrainError};
#[cfg(any(feature = "cuda", feature = "wgpu"))]
use lapidary_operators::GpuDevice;
use serde_json::{Value, json};

/// A device that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Device {
    /// The CPU.
    Cpu,
    /// An NVIDIA GPU, by its number.
    Cuda(usize),
    /// An adapter, by its number, with its name.
    Wgpu(usize, String),
}

impl Device {
    /// As `--device` names it.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Cpu => CPU.to_owned(),
            Self::Cuda(index) => format!("cuda:{index}"),
            Self::Wgpu(index, _) => format!("wgpu:{index}"),
        }
    }

    /// Its memory, where its driver says it: CUDA's does.
    pub(crate) fn memory_mib(&self) -> Option<f64> {
        match self {
            Self::Cuda(index) => cuda::memory_mib(*index),
            Self::Cpu | Self::Wgpu(..) => None,
        }
    }

    /// The GPU that it is, if it is one.
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    pub(crate) fn gpu(&self) -> Option<GpuDevice> {
        match self {
            Self::Cpu => None,
            #[cfg(feature = "cuda")]
            Self::Cuda(index) => Some(GpuDevice::cuda(*index)),
            #[cfg(not(feature = "cuda"))]
            Self::Cuda(_) => None,
            #[cfg(feature = "wgpu")]
            Self::Wgpu(index, _) => adapters::device(*index),
            #[cfg(not(feature = "wgpu"))]
            Self::Wgpu(..) => None,
        }
    }
}

/// The device that a choice means.
///
/// # Errors
/// [`TrainError::Device`] when it cannot be used.
pub(crate) fn resolve(choice: DeviceChoice) -> Result<Device> {
    let refused = |device: String| move |detail| TrainError::Device { device, detail };
    match choice {
        DeviceChoice::Cpu => Ok(Device::Cpu),
        DeviceChoice::Auto => Ok(automatic().0),
        DeviceChoice::Cuda(index) => {
            cuda::probe(index).map(|()| Device::Cuda(index)).map_err(refused(format!("cuda:{index}")))
        }
        DeviceChoice::Wgpu(asked) => {
            let name = asked.map_or_else(|| "wgpu".to_owned(), |index| format!("wgpu:{index}"));
            adapters::find(asked).map(|(index, name)| Device::Wgpu(index, name)).map_err(refused(name))
        }
    }
}

/// What `auto` takes, and why: CUDA, else an adapter that is no processor, else the CPU.
fn automatic() -> (Device, String) {
    let no_cuda = match cuda::probe(0) {
        Ok(()) => return (Device::Cuda(0), "driver, NVRTC and headers are there".to_owned()),
        Err(why) => first_line(why),
    };
    match adapters::real() {
        Ok((index, name)) => {
            let why = format!("{name}; no CUDA: {no_cuda}");
            (Device::Wgpu(index, name), why)
        }
        Err(why) => (Device::Cpu, format!("no CUDA: {no_cuda}; no wgpu: {}", first_line(why))),
    }
}

fn first_line(why: String) -> String {
    why.lines().next().unwrap_or_default().to_owned()
}

/// What was found of each, as JSON, and what `--device auto` takes.
pub fn gpu_facts() -> Value {
    let (device, why) = automatic();
    json!({
        "gpu": cuda::facts(),
        "adapters": adapters::facts(),
        "auto_takes": device.name(),
        "because": why,
    })
}
