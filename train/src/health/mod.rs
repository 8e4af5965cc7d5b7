//! A run's health: what is measured every few steps ([`measure`]), and what is said of it ([`Watch`]).

mod look;
mod measures;
mod monitor;
pub mod names;
mod ranks;
mod symptoms;
#[cfg(test)]
mod tests;
pub mod verdict;

pub(crate) use look::look;
pub(crate) use monitor::Monitor;

pub use measures::{Rows, Seen, measure};
pub use monitor::OnCollapse;
pub use ranks::{lidar, rankme};
pub use verdict::{Symptom, Verdict, Watch};
