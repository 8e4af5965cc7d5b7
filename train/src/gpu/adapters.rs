//! GPUs by Vulkan (Metal on a Mac), through wgpu: real ones first, then processors that draw in software, which are taken only
//! when they are named.

use lapidary_operators::adapters::{Adapter, Kind, adapters};
use serde_json::{Value, json};

/// The number and name of the adapter that was asked for; without a number the first one.
pub(super) fn find(asked: Option<usize>) -> Result<(usize, String), String> {
    choose(&adapters()?, asked)
}

fn choose(adapters: &[Adapter], asked: Option<usize>) -> Result<(usize, String), String> {
    let index = asked.unwrap_or(0);
    match adapters.get(index) {
        Some(adapter) => Ok((index, adapter.name.clone())),
        None if adapters.is_empty() => Err("Vulkan knows no adapter\nhint: install a driver (Debian's \
             mesa-vulkan-drivers has one that draws in software), or use --device cpu"
            .to_owned()),
        None => {
            Err(format!("there are {} adapters, counted from 0; `lapidary-train doctor` lists them", adapters.len()))
        }
    }
}

/// The first adapter that is no processor.
pub(super) fn real() -> Result<(usize, String), String> {
    first_real(&adapters()?)
}

fn first_real(adapters: &[Adapter]) -> Result<(usize, String), String> {
    match adapters.first() {
        None => Err("no adapter".to_owned()),
        Some(Adapter { kind: Kind::Software, name, .. }) => {
            Err(format!("`{name}` draws in software, and is taken only by --device wgpu"))
        }
        Some(adapter) => Ok((0, adapter.name.clone())),
    }
}

/// Every adapter as JSON, or why there are none.
pub(super) fn facts() -> Value {
    match adapters() {
        Err(why) => json!(super::first_line(why)),
        Ok(adapters) => adapters
            .iter()
            .enumerate()
            .map(|(index, adapter)| {
                let kind = format!("{:?}", adapter.kind).to_lowercase();
                json!({"device": format!("wgpu:{index}"), "name": adapter.name, "kind": kind, "driver": adapter.driver})
            })
            .collect(),
    }
}

/// The adapter of a number.
#[cfg(feature = "wgpu")]
pub(super) fn device(index: usize) -> Option<lapidary_operators::GpuDevice> {
    adapters().ok()?.get(index).map(Adapter::device)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter(name: &str, kind: Kind) -> Adapter {
        Adapter { name: name.to_owned(), driver: String::new(), kind, of_kind: 0 }
    }

    #[test]
    fn a_software_adapter_is_taken_only_when_it_is_named() {
        let both = [adapter("card", Kind::Discrete), adapter("llvmpipe", Kind::Software)];
        assert_eq!(first_real(&both), Ok((0, "card".to_owned())));
        assert_eq!(choose(&both, None), Ok((0, "card".to_owned())));
        assert_eq!(choose(&both, Some(1)), Ok((1, "llvmpipe".to_owned())));
        assert!(first_real(&both[1..]).is_err_and(|why| why.contains("llvmpipe")));
        assert_eq!(choose(&both[1..], None), Ok((0, "llvmpipe".to_owned())));
    }

    #[test]
    fn a_number_too_high_and_no_adapter_are_said() {
        assert!(choose(&[adapter("card", Kind::Integrated)], Some(1)).is_err_and(|why| why.contains("1 adapters")));
        assert!(choose(&[], None).is_err_and(|why| why.contains("mesa-vulkan-drivers")));
    }
}
