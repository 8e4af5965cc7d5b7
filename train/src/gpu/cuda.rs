//! Whether an NVIDIA GPU can be used: driver, its devices, NVRTC and the toolkit's headers, each looked for by itself.
//!
//! burn panics in a thread of its own when one of them is missing, so all are looked for before the first tensor.

use super::first_line;
use serde_json::{Value, json};
use std::ffi::c_int;
use std::path::{Path, PathBuf};

/// The number of devices that the driver knows, or why there are none.
#[expect(unsafe_code, reason = "loading a driver and asking it for its devices is a foreign call")]
fn devices() -> Result<usize, String> {
    // SAFETY: the driver's libraries run no code of ours on loading; the symbols have had these types since CUDA 2.
    unsafe {
        let driver = libloading::Library::new("libcuda.so.1")
            .map_err(|e| format!("no NVIDIA driver: {e}\nhint: use --device cpu"))?;
        let init: libloading::Symbol<unsafe extern "C" fn(u32) -> c_int> =
            driver.get(b"cuInit").map_err(|e| e.to_string())?;
        let count: libloading::Symbol<unsafe extern "C" fn(*mut c_int) -> c_int> =
            driver.get(b"cuDeviceGetCount").map_err(|e| e.to_string())?;
        let mut devices: c_int = 0;
        match (init(0), count(&raw mut devices)) {
            (0, 0) => Ok(usize::try_from(devices).unwrap_or(0)),
            (code, _) => Err(format!("the NVIDIA driver does not start (CUDA error {code})")),
        }
    }
}

/// A device's memory, if the driver says it.
#[expect(unsafe_code, reason = "asking a driver for a device's memory is a foreign call")]
pub(super) fn memory_mib(index: usize) -> Option<f64> {
    // SAFETY: as in `devices`; the symbols have had these types since CUDA 3.2.
    unsafe {
        let driver = libloading::Library::new("libcuda.so.1").ok()?;
        let init: libloading::Symbol<unsafe extern "C" fn(u32) -> c_int> = driver.get(b"cuInit").ok()?;
        let get: libloading::Symbol<unsafe extern "C" fn(*mut c_int, c_int) -> c_int> =
            driver.get(b"cuDeviceGet").ok()?;
        let total: libloading::Symbol<unsafe extern "C" fn(*mut usize, c_int) -> c_int> =
            driver.get(b"cuDeviceTotalMem_v2").ok()?;
        let (mut device, mut bytes): (c_int, usize) = (0, 0);
        let codes = [init(0), get(&raw mut device, c_int::try_from(index).ok()?), total(&raw mut bytes, device)];
        (codes == [0; 3]).then_some(bytes as f64 / f64::from(1u32 << 20))
    }
}

/// The name under which NVRTC loads, or why it does not.
#[expect(unsafe_code, reason = "whether a library is there is found by loading it")]
fn nvrtc() -> Result<&'static str, String> {
    let names = ["libnvrtc.so", "libnvrtc.so.13", "libnvrtc.so.12"];
    // SAFETY: the compiler's library runs no code of ours on loading.
    names.into_iter().find(|name| unsafe { libloading::Library::new(name) }.is_ok()).ok_or_else(|| {
        "libnvrtc is not found\nhint: install CUDA's nvrtc, or add its folder to LD_LIBRARY_PATH".to_owned()
    })
}

/// The toolkit's headers, or why there are none.
fn headers() -> Result<PathBuf, String> {
    let root = std::env::var("CUDA_PATH").unwrap_or_else(|_| "/usr/local/cuda".to_owned());
    let headers = Path::new(&root).join("include");
    let missing = || format!("no CUDA headers under `{root}/include`\nhint: set CUDA_PATH to the toolkit's folder");
    headers.is_dir().then_some(headers.clone()).ok_or_else(missing)
}

/// Whether device `index` can be used by this binary.
pub(super) fn probe(index: usize) -> Result<(), String> {
    if !cfg!(feature = "cuda") {
        return Err("this binary was built without CUDA\nhint: `make build CUDA=1`".to_owned());
    }
    let devices = devices()?;
    if index >= devices {
        return Err(format!("the driver knows {devices} devices"));
    }
    nvrtc()?;
    headers()?;
    Ok(())
}

/// What was found of each, as JSON.
pub(super) fn facts() -> Value {
    json!({
        "built_with_cuda": cfg!(feature = "cuda"),
        "driver": devices().map_or_else(first_line, |devices| format!("{devices} devices")),
        "nvrtc": nvrtc().map_or_else(first_line, str::to_owned),
        "headers": headers().map_or_else(first_line, |path| path.display().to_string()),
    })
}
