//! The backends, named here and nowhere else: burn-flex on the CPU and, with the feature `cuda`, burn-cuda.
//!
//! A generic program is instantiated once for each, because that is what costs compile time.

use crate::gpu::probe;
use crate::operators::TrainBackend;
use crate::{Result, TrainError};
use burn::backend::Autodiff;
use std::str::FromStr;

/// The CPU's backend with gradients.
pub type Cpu = Autodiff<burn_flex::Flex>;

/// The GPU's backend with gradients.
#[cfg(feature = "cuda")]
pub type Gpu = Autodiff<burn_cuda::Cuda>;

/// Its operators are burn's own, as the operators' reference states them.
#[cfg(feature = "cuda")]
impl crate::operators::Operators for burn_cuda::Cuda {}

/// What [`device_name`] calls the CPU.
pub const CPU: &str = "cpu";

/// A device as asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The CPU.
    Cpu,
    /// An NVIDIA GPU, by its number.
    Cuda(usize),
    /// The first GPU if one can be used, else the CPU.
    Auto,
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            "auto" | "" => Ok(Self::Auto),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|number| number.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| format!("`{text}` is no device: write cpu, cuda, cuda:N or auto")),
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
/// [`TrainError::Device`] when it cannot be used; whatever the program says.
pub fn run_on<P: Program>(choice: DeviceChoice, program: P) -> Result<P::Output> {
    match resolve(choice)? {
        None => program.run::<Cpu>(Default::default()),
        #[cfg(feature = "cuda")]
        Some(index) => program.run::<Gpu>(burn_cuda::CudaDevice::new(index)),
        #[cfg(not(feature = "cuda"))]
        Some(_) => unreachable!("resolve names a GPU only with the feature `cuda`"),
    }
}

/// The device's name, for a reader and for `environment.json`.
///
/// # Errors
/// [`TrainError::Device`] when it cannot be used.
pub fn device_name(choice: DeviceChoice) -> Result<String> {
    Ok(resolve(choice)?.map_or_else(|| CPU.to_owned(), |index| format!("cuda:{index}")))
}

/// The GPU's number, or none for the CPU.
fn resolve(choice: DeviceChoice) -> Result<Option<usize>> {
    match choice {
        DeviceChoice::Cpu => Ok(None),
        DeviceChoice::Auto => match probe(0) {
            Ok(()) => Ok(Some(0)),
            Err(why) => {
                tracing::debug!("on the CPU: {why}");
                Ok(None)
            }
        },
        DeviceChoice::Cuda(index) => match probe(index) {
            Ok(()) => Ok(Some(index)),
            Err(detail) => Err(TrainError::Device { device: format!("cuda:{index}"), detail }),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read() {
        assert_eq!("cuda:3".parse(), Ok(DeviceChoice::Cuda(3)));
        assert_eq!("auto".parse(), Ok(DeviceChoice::Auto));
        assert!("gpu".parse::<DeviceChoice>().is_err());
    }
}
