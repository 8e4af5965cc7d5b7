//! GPUs by Vulkan (Metal on a Mac), as wgpu lists them.

/// An adapter as wgpu lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adapter {
    /// What its driver calls it.
    pub name: String,
    /// The driver and its version.
    pub driver: String,
    /// What it is.
    pub kind: Kind,
    /// Its number among those of its kind.
    pub of_kind: usize,
}

/// What an adapter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A card with memory of its own.
    Discrete,
    /// A part of the processor, whose memory it shares.
    Integrated,
    /// A part of a card, lent to a virtual machine.
    Virtual,
    /// A processor that draws in software.
    Software,
}

/// All adapters, real ones first.
///
/// # Errors
/// Why there can be none: this binary was built without wgpu.
#[cfg(feature = "wgpu")]
pub fn adapters() -> Result<Vec<Adapter>, String> {
    // Drivers are loaded, and some print a line, each time that they are asked.
    static LISTED: std::sync::LazyLock<Vec<Adapter>> = std::sync::LazyLock::new(list);
    Ok(LISTED.clone())
}

#[cfg(feature = "wgpu")]
fn list() -> Vec<Adapter> {
    use burn_wgpu::graphics::{AutoGraphicsApi, GraphicsApi};
    let backends = AutoGraphicsApi::backend().into();
    let descriptor = wgpu::InstanceDescriptor { backends, ..wgpu::InstanceDescriptor::new_without_display_handle() };
    let listed = wgpu::Instance::new(descriptor).enumerate_adapters(backends);
    let mut counts = [0usize; 4];
    let mut adapters: Vec<Adapter> = Vec::new();
    for listed in burn_cubecl::cubecl::future::block_on(listed) {
        let info = listed.get_info();
        let kind = match info.device_type {
            wgpu::DeviceType::DiscreteGpu => Kind::Discrete,
            wgpu::DeviceType::IntegratedGpu => Kind::Integrated,
            wgpu::DeviceType::VirtualGpu => Kind::Virtual,
            wgpu::DeviceType::Cpu => Kind::Software,
            // CubeCL cannot be given one of another kind.
            wgpu::DeviceType::Other => continue,
        };
        let of_kind = counts[kind as usize];
        counts[kind as usize] += 1;
        let driver = [info.driver, info.driver_info].join(" ").trim().to_owned();
        adapters.push(Adapter { name: info.name, driver, kind, of_kind });
    }
    adapters.sort_by_key(|adapter| (adapter.kind as usize, adapter.of_kind));
    adapters
}

/// All adapters, real ones first.
///
/// # Errors
/// Why there can be none: this binary was built without wgpu.
#[cfg(not(feature = "wgpu"))]
pub fn adapters() -> Result<Vec<Adapter>, String> {
    Err("this binary was built without wgpu\nhint: `make build WGPU=1`".to_owned())
}

#[cfg(feature = "wgpu")]
impl Adapter {
    /// The device that it is.
    pub fn device(&self) -> crate::GpuDevice {
        use burn_wgpu::WgpuDevice;
        crate::GpuDevice::Wgpu(match self.kind {
            Kind::Discrete => WgpuDevice::DiscreteGpu(self.of_kind),
            Kind::Integrated => WgpuDevice::IntegratedGpu(self.of_kind),
            Kind::Virtual => WgpuDevice::VirtualGpu(self.of_kind),
            Kind::Software => WgpuDevice::Cpu,
        })
    }
}
