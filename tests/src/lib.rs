//! What benchmarks share. This crate holds the end-to-end tests (`e2e/`) and the benchmarks against peers (`bench/`).

/// Seconds of processor time that this process has used.
///
/// # Panics
/// Where there is no `/proc`.
pub fn processor_secs() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let after_name = stat.rsplit(')').next().expect("a name in parentheses");
    let ticks: Vec<f64> =
        after_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
    ticks.iter().sum::<f64>() / 100.0
}
