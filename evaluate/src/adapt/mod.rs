//! Adaptation: how far each way of teaching a trained network a probe's classes goes, and what it costs
//! (spec/objectives.md 9). The ways are rungs of a ladder: a head on frozen features (`linear`, `mlp`), low-rank maps (`lora`),
//! all layers one after another (`unfreeze`), a head and then everything (`lp-ft`), everything at once (`full`).
//!
//! Whatever is chosen, when a rung ends and which of its epochs is kept, is chosen on held-out train images; test images are
//! counted once, at the end.

mod best;
mod fit;
mod heads;
mod images;
mod learned;
mod limits;
mod network;
mod order;
mod rung;
mod scores;
mod stage;
mod standard;
mod table;
#[cfg(test)]
mod tests;
mod tune;

pub use rung::Rung;
pub use scores::{Adapted, EpochLine};
pub use stage::{AdaptRequest, RungDone, adapt};
pub use table::said_of_rungs;
