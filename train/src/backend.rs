//! The backends, named here and nowhere else: burn-flex on the CPU; with the feature `cuda` NVIDIA's GPUs, with `wgpu` any that
//! Vulkan or Metal know.
//!
//! A generic program is instantiated once for each, because that is what costs compile time.

use crate::gpu::resolve;
use crate::operators::TrainBackend;
use crate::{Result, TrainError};
use burn::backend::Autodiff;
use std::str::FromStr;

/// The CPU's backend with gradients.
pub type Cpu = Autodiff<burn_flex::Flex>;

/// The backend of all GPUs with gradients.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
pub type Gpu = Autodiff<lapidary_operators::Gpu>;

/// What [`device_name`] calls the CPU.
pub const CPU: &str = "cpu";

/// A device as asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The CPU.
    Cpu,
    /// An NVIDIA GPU, by its number.
    Cuda(usize),
    /// A GPU by Vulkan or Metal, by its number; without one the first.
    Wgpu(Option<usize>),
    /// CUDA where it can be used, else an adapter that is no processor, else the CPU.
    Auto,
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            "auto" | "" => Ok(Self::Auto),
            "wgpu" => Ok(Self::Wgpu(None)),
            _ => {
                let number = |prefix| text.strip_prefix(prefix)?.parse().ok();
                let cuda = number("cuda:").map(Self::Cuda);
                cuda.or_else(|| number("wgpu:").map(|index| Self::Wgpu(Some(index))))
                    .ok_or_else(|| format!("`{text}` is no device: write cpu, cuda, cuda:N, wgpu, wgpu:N or auto"))
            }
        }
    }
}

/// Something to run on whichever backend is chosen.
pub trait Program {
    /// What it returns.
    type Output;

    /// Runs on a device of backend `B`.
    ///
    /// # Errors
    /// Whatever the program says.
    fn run<B: TrainBackend>(self, device: B::Device) -> Result<Self::Output>;
}

/// Runs a program on the device that was asked for.
///
/// # Errors
/// [`TrainError::Device`] when it cannot be used or is lost; whatever the program says.
pub fn run_on<P: Program>(choice: DeviceChoice, program: P) -> Result<P::Output> {
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    if let Some(gpu) = resolve(choice)?.gpu() {
        return guarded(choice, || program.run::<Gpu>(gpu));
    }
    resolve(choice)?;
    program.run::<Cpu>(Default::default())
}

/// Runs with a GPU's panics as errors: burn has no other way to say that a device is lost or its memory is full.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
fn guarded<T>(choice: DeviceChoice, run: impl FnOnce() -> Result<T>) -> Result<T> {
    let lost = |panic: Box<dyn std::any::Any + Send>| {
        let said = panic.downcast_ref::<String>().cloned();
        let said = said.or_else(|| panic.downcast_ref::<&str>().map(|said| (*said).to_owned())).unwrap_or_default();
        let device = device_name(choice).unwrap_or_else(|_| "gpu".to_owned());
        let hint = "hint: what was written stays, and the same command resumes from the last checkpoint; if memory is \
                    short, lower pretrain.batch, or raise pretrain.accumulate or pretrain.recompute_blocks";
        TrainError::Device { device, detail: format!("it failed in the middle: {said}\n{hint}") }
    };
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).map_err(lost)?
}

/// The device's name, for a reader and for `environment.json`.
///
/// # Errors
/// [`TrainError::Device`] when it cannot be used.
pub fn device_name(choice: DeviceChoice) -> Result<String> {
    Ok(resolve(choice)?.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read() {
        assert_eq!("cuda:3".parse(), Ok(DeviceChoice::Cuda(3)));
        assert_eq!("wgpu".parse(), Ok(DeviceChoice::Wgpu(None)));
        assert_eq!("wgpu:1".parse(), Ok(DeviceChoice::Wgpu(Some(1))));
        assert_eq!("auto".parse(), Ok(DeviceChoice::Auto));
        assert!("gpu".parse::<DeviceChoice>().is_err());
    }
}
