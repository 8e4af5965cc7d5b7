//! What all stages and binaries share beside the stage runtime itself: memory, interrupts, panics of other people's code,
//! keyed randomness, ranges of keys, and the report kit.

mod allocator;
mod caught;
pub mod interrupt;
pub mod random;
mod ranges;
pub mod report;

pub use allocator::{keep_pages, keep_pages_for};
pub(crate) use caught::caught;
pub use ranges::Ranges;
