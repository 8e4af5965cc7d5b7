//! A cluster on loopback: one scheduler and several executors as processes, killed and restarted; what comes out is what one
//! machine makes.
//!
//! The binaries of the main workspace are needed beside this one's: `make cluster-check` builds both.

mod fleet;
mod loopback;
mod made;
mod plain;
mod readme;
mod refusals;
