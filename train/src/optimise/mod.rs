//! How a network is changed: parameter groups, clipping, AdamW and LARS, the schedules, the teacher's moving average.

mod adamw;
mod clip;
#[cfg(test)]
mod golden;
mod gradients;
mod groups;
mod lars;
mod optimiser;
mod schedule;

pub use adamw::AdamW;
pub use gradients::Gradients;
pub use groups::{Group, GroupRow, Groups, describe};
pub use lars::Lars;
pub use optimiser::Optimiser;
pub use schedule::{Schedule, StepSchedule};
