//! Nothing to use: this crate holds the end-to-end tests (`e2e/`) and the benchmarks against peers (`bench/`).
