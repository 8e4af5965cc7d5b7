//! The backends, named here and nowhere else: burn-flex on the CPU and, with the feature `cuda`, burn-cuda.
//!
//! A generic program is instantiated once for each, because that is what costs compile time. burn panics in a thread of
//! its own when a driver or compiler is missing, so both are looked for before the first tensor.

use crate::{Result, TrainError};
use burn::backend::Autodiff;
use burn::tensor::backend::AutodiffBackend;
use std::str::FromStr;

/// The CPU's backend with gradients.
pub type Cpu = Autodiff<burn_flex::Flex>;

/// The GPU's backend with gradients.
#[cfg(feature = "cuda")]
pub type Gpu = Autodiff<burn_cuda::Cuda>;

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
    fn run<B: AutodiffBackend>(self, device: B::Device) -> Result<Self::Output>;
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
    Ok(resolve(choice)?.map_or_else(|| "cpu".to_owned(), |index| format!("cuda:{index}")))
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

#[cfg(not(feature = "cuda"))]
fn probe(_index: usize) -> Result<(), String> {
    Err("this binary was built without CUDA\nhint: `make build CUDA=1`".to_owned())
}

/// Whether the driver, the number of its devices, NVRTC and the toolkit's headers are there.
#[cfg(feature = "cuda")]
#[expect(unsafe_code, reason = "loading a driver and asking it for its devices is a foreign call")]
fn probe(index: usize) -> Result<(), String> {
    use std::ffi::c_int;
    use std::path::Path;
    // SAFETY: the driver's libraries run no code of ours on loading; the symbols have had these types since CUDA 2.
    let devices = unsafe {
        let driver = libloading::Library::new("libcuda.so.1")
            .map_err(|e| format!("no NVIDIA driver: {e}\nhint: use --device cpu"))?;
        let init: libloading::Symbol<unsafe extern "C" fn(u32) -> c_int> =
            driver.get(b"cuInit").map_err(|e| e.to_string())?;
        let count: libloading::Symbol<unsafe extern "C" fn(*mut c_int) -> c_int> =
            driver.get(b"cuDeviceGetCount").map_err(|e| e.to_string())?;
        let mut devices: c_int = 0;
        match (init(0), count(&raw mut devices)) {
            (0, 0) => devices,
            (code, _) => return Err(format!("the NVIDIA driver does not start (CUDA error {code})")),
        }
    };
    if index >= devices as usize {
        return Err(format!("the driver knows {devices} devices"));
    }
    let names = ["libnvrtc.so", "libnvrtc.so.13", "libnvrtc.so.12"];
    // SAFETY: as above.
    if !names.iter().any(|name| unsafe { libloading::Library::new(name) }.is_ok()) {
        return Err(
            "libnvrtc is not found\nhint: install CUDA's nvrtc, or add its folder to LD_LIBRARY_PATH".to_owned()
        );
    }
    let root = std::env::var("CUDA_PATH").unwrap_or_else(|_| "/usr/local/cuda".to_owned());
    if !Path::new(&root).join("include").is_dir() {
        return Err(format!("no CUDA headers under `{root}/include`\nhint: set CUDA_PATH to the toolkit's folder"));
    }
    Ok(())
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
