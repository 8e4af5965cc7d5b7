//! The backends, named here and nowhere else: burn-flex on the CPU; with the feature `cuda` NVIDIA's GPUs, with `wgpu` any that
//! Vulkan or Metal know.
//!
//! A generic program is instantiated once for each, because that is what costs compile time.

use crate::gpu::{Device, resolve};
use crate::operators::TrainBackend;
use crate::{Result, TrainError};
use burn::backend::Autodiff;
use burn::tensor::DType;
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

/// Something to run on several devices of one backend.
pub trait ParallelProgram {
    /// What it returns.
    type Output;

    /// Runs on devices of backend `B`, at least one.
    ///
    /// # Errors
    /// Whatever the program says.
    fn run_on_all<B: TrainBackend>(self, devices: Vec<B::Device>) -> Result<Self::Output>;
}

/// A program of one device among those of several.
struct OnFirst<P>(P);

impl<P: Program> ParallelProgram for OnFirst<P> {
    type Output = P::Output;

    fn run_on_all<B: TrainBackend>(self, mut devices: Vec<B::Device>) -> Result<P::Output> {
        self.0.run::<B>(devices.swap_remove(0))
    }
}

/// Runs a program on the device that was asked for.
///
/// # Errors
/// [`TrainError::Device`] when it cannot be used, [`TrainError::DeviceLost`] when it fails in the middle; whatever the program
/// says.
pub fn run_on<P: Program>(choice: DeviceChoice, program: P) -> Result<P::Output> {
    run_on_all(&[choice], OnFirst(program))
}

/// Runs a program on several devices: all GPUs, or the CPU so many times.
///
/// # Errors
/// [`TrainError::Device`] when one cannot be used, or when GPUs and the CPU are asked for together, [`TrainError::DeviceLost`]
/// when one fails in the middle; whatever the program says.
pub fn run_on_all<P: ParallelProgram>(choices: &[DeviceChoice], program: P) -> Result<P::Output> {
    let named = device_names(choices)?;
    let devices = choices.iter().map(|choice| resolve(*choice)).collect::<Result<Vec<_>>>()?;
    if devices.iter().all(|device| *device == Device::Cpu) {
        return program.run_on_all::<Cpu>(vec![Default::default(); devices.len()]);
    }
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    return guarded(&named, || program.run_on_all::<Gpu>(devices.iter().filter_map(crate::gpu::Device::gpu).collect()));
    #[cfg(not(any(feature = "cuda", feature = "wgpu")))]
    unreachable!("{named}: resolve names a GPU only with its feature")
}

/// What a panic says.
pub(crate) fn said_of_panic(panic: &(dyn std::any::Any + Send)) -> String {
    let said = panic.downcast_ref::<String>().cloned();
    let said = said.or_else(|| panic.downcast_ref::<&str>().map(|said| (*said).to_owned()));
    said.unwrap_or_else(|| "its driver said nothing".to_owned())
}

/// Runs with a GPU's panics as errors: burn has no other way to say that a device is lost or its memory is full.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
pub(crate) fn guarded<T>(device: &str, run: impl FnOnce() -> Result<T>) -> Result<T> {
    let lost = |panic: Box<dyn std::any::Any + Send>| {
        let detail = said_of_panic(panic.as_ref());
        TrainError::DeviceLost { device: device.to_owned(), detail, advice: String::new() }
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

/// The names of the devices of a run, with commas.
///
/// # Errors
/// [`TrainError::Device`] when one cannot be used, or when devices of several kinds are asked for together.
pub fn device_names(choices: &[DeviceChoice]) -> Result<String> {
    let names = choices.iter().map(|choice| device_name(*choice)).collect::<Result<Vec<_>>>()?;
    let kind = |name: &String| name.split([':', ' ']).next().unwrap_or_default().to_owned();
    let named = names.join(",");
    if names.iter().all(|name| kind(name) == kind(&names[0])) {
        return Ok(named);
    }
    let detail = "the devices of a run are all the CPU, all CUDA's or all wgpu's".to_owned();
    Err(TrainError::Device { device: named, detail })
}

/// The least memory that one of the devices has, where their drivers say it.
pub(crate) fn least_memory_mib(choices: &[DeviceChoice]) -> Option<f64> {
    let of_each = choices.iter().map(|choice| resolve(*choice).ok()?.memory_mib());
    of_each.reduce(|least, memory| Some(least?.min(memory?))).flatten()
}

/// Whether the device computes in a type.
///
/// # Errors
/// [`TrainError::Device`] when it cannot be used.
pub(crate) fn computes_in(choice: DeviceChoice, dtype: DType) -> Result<bool> {
    let device = resolve(choice)?;
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    if let Some(gpu) = device.gpu() {
        use burn::tensor::backend::Backend;
        return Ok(lapidary_operators::Gpu::supports_dtype(&gpu, dtype));
    }
    Ok(device == Device::Cpu && dtype == DType::F32)
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
