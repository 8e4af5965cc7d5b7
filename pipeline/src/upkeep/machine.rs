//! What this machine gives: processor, memory, disk, and how FAISS was built for it.

use crate::stage::{Layout, machine_memory_mib};
use crate::{PipelineError, Result, remote};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::Instant;

/// Bytes written to learn the disk's speed.
const WRITTEN_BYTES: usize = 64 << 20;

/// The flags that FAISS was compiled with; none for the generic build.
const FAISS_FLAGS: &str = match option_env!("CXXFLAGS_x86_64_unknown_linux_gnu") {
    Some(flags) => flags,
    None => "",
};

/// Facts about the machine, as JSON; `warnings` holds what stands in the way.
///
/// # Errors
/// When OUT cannot be written.
pub fn machine(layout: &Layout) -> Result<Value> {
    let features = processor_features();
    let mut warnings = Vec::new();
    let needed: Vec<&str> = [("-mavx2", "avx2"), ("-mfma", "fma"), ("-mf16c", "f16c"), ("-mpopcnt", "popcnt")]
        .into_iter()
        .filter(|(flag, feature)| FAISS_FLAGS.contains(flag) && !features.contains(feature))
        .map(|(_, feature)| feature)
        .collect();
    if !needed.is_empty() {
        warnings.push(format!(
            "FAISS was built for {}, which this processor lacks: build again here with make",
            needed.join(", ")
        ));
    }
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let mib = |key: &str| -> Option<u64> {
        let line = memory.lines().find_map(|line| line.strip_prefix(key))?;
        Some(line.trim_start_matches(':').split_whitespace().next()?.parse::<u64>().ok()? >> 10)
    };
    let (free_mib, total_mib) = disk_mib(&layout.out)?;
    if free_mib < 1024 {
        warnings.push(format!("only {free_mib} MiB are free under `{}`", layout.out.display()));
    }
    let cpu_info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processor = cpu_info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    Ok(json!({
        "processor": processor.trim_start_matches([' ', '\t', ':']),
        "features": features,
        "cores": std::thread::available_parallelism().map_or(1, |n| n.get()),
        "threads": rayon::current_num_threads(),
        "memory_mib": machine_memory_mib(),
        "memory_available_mib": mib("MemAvailable"),
        "faiss_built_for": if FAISS_FLAGS.is_empty() { "generic x86-64" } else { FAISS_FLAGS },
        "out": remote::in_words(&layout.out),
        "store": remote::facts(),
        "disk_free_mib": free_mib,
        "disk_mib": total_mib,
        "disk_write_mib_per_sec": write_speed(&layout.out)?,
        "warnings": warnings,
    }))
}

#[cfg(target_arch = "x86_64")]
fn processor_features() -> Vec<&'static str> {
    macro_rules! found {
        ($($name:tt),*) => { [$(($name, std::is_x86_feature_detected!($name))),*] };
    }
    let known = found!("sse4.2", "popcnt", "f16c", "fma", "avx", "avx2", "avx512f", "avx512bw", "avx512vl");
    known.into_iter().filter(|(_, is_there)| *is_there).map(|(name, _)| name).collect()
}

#[cfg(not(target_arch = "x86_64"))]
fn processor_features() -> Vec<&'static str> {
    Vec::new()
}

/// Free and all MiB of the disk that a folder lies on, or will.
fn disk_mib(folder: &Path) -> Result<(u64, u64)> {
    let absolute = std::path::absolute(folder).map_err(PipelineError::io("find", folder))?;
    let there = absolute.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/"));
    let disk = nix::sys::statvfs::statvfs(there)
        .map_err(|e| PipelineError::io("ask for the disk of", there)(std::io::Error::from(e)))?;
    let mib = |blocks: u64| (blocks * disk.fragment_size()) >> 20;
    Ok((mib(disk.blocks_available()), mib(disk.blocks())))
}

/// MiB a second that reach the disk.
fn write_speed(out: &Path) -> Result<f64> {
    fs::create_dir_all(out).map_err(PipelineError::io("create folder", out))?;
    let path = out.join(format!(".speed.{}", std::process::id()));
    let block = vec![0x5a_u8; 1 << 20];
    let begun = Instant::now();
    let written = File::create(&path).and_then(|mut file| {
        for _ in 0..WRITTEN_BYTES >> 20 {
            file.write_all(&block)?;
        }
        file.sync_all()
    });
    let secs = begun.elapsed().as_secs_f64();
    let _ = fs::remove_file(&path);
    written.map_err(PipelineError::io("write", &path))?;
    Ok((WRITTEN_BYTES >> 20) as f64 / secs.max(1e-9))
}
