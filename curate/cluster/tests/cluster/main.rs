//! A cluster on loopback: one scheduler and several executors as processes, killed and restarted; what comes out is what one
//! machine makes.
//!
//! The binaries of the main workspace are needed beside this one's: `make cluster-check` builds both, those of stores too.

mod commands;
mod fleet;
mod in_process;
mod loopback;
mod readme;
mod refusals;
mod run;
#[expect(dead_code, reason = "tests of the main workspace use the rest of it")]
#[path = "../../../../tests/e2e/store_server.rs"]
mod store_server;
mod stores;
