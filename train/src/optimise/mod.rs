//! How a network is changed: AdamW, the schedules, the teacher's moving average.

mod adamw;
mod ema;
mod schedule;

pub use adamw::{AdamW, Stepped};
pub use ema::follow;
pub use schedule::{Schedule, StepSchedule};
