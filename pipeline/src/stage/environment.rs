//! What a run ran on: machine, threads, versions, memory.

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
        "arguments": std::env::args().collect::<Vec<_>>(),
    })
}

/// The process's peak resident memory in MiB, or 0 where the system does not say.
pub fn peak_memory_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = peak.and_then(|rest| rest.split_whitespace().next()).and_then(|n| n.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}
