//! What a run ran on: machine, threads, versions, memory.

use crate::remote::without_credentials;
use serde_json::{Value, json};

/// Machine, processor and versions, as saved beside a run.
pub fn environment() -> Value {
    let cpu_info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processor = cpu_info.lines().find_map(|l| l.strip_prefix("model name")).unwrap_or_default();
    json!({
        "lapidary": env!("CARGO_PKG_VERSION"),
        "os": std::env::consts::OS,
        "arch": std::env::consts::ARCH,
        "processor": processor.trim_start_matches([' ', '\t', ':']),
        "threads": rayon::current_num_threads(),
        "arguments": std::env::args().map(|argument| without_credentials(&argument)).collect::<Vec<_>>(),
    })
}

/// The process's peak resident memory in MiB, or 0 where the system does not say.
pub fn peak_memory_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = peak.and_then(|rest| rest.split_whitespace().next()).and_then(|n| n.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

/// Lets [`peak_memory_mib`] count from what is held now, where the system allows that.
pub fn reset_peak_memory() {
    // Linux: 5 resets the peak resident set size (proc(5)).
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// The memory of this machine in MiB, or of the control group that the process runs in where that is less; none where the
/// system does not say.
pub fn machine_memory_mib() -> Option<u64> {
    let of_machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        Some(line.split_whitespace().next()?.parse::<u64>().ok()? >> 10)
    });
    let of_group = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let of_group = of_group.and_then(|bytes| Some(bytes.trim().parse::<u64>().ok()? >> 20));
    of_machine.into_iter().chain(of_group).min()
}
