//! Looking after an output tree: which runs there are, what is intact, what nothing refers to, and what the machine gives.
//!
//! Nothing here makes anything new, and only [`remove`] and [`collect`] take anything away.

mod collect;
mod machine;
mod remove;
mod runs;
mod verify;

pub use collect::{Garbage, collect};
pub use machine::machine;
pub use remove::{Removed, remove};
pub use runs::{RunState, RunSummary, runs};
pub use verify::{Fault, Verified, verify};
