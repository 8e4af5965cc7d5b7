//! How a network is changed: AdamW, the schedules, the teacher's moving average.

mod adamw;
mod ema;
mod gradients;
mod schedule;

pub use adamw::AdamW;
pub use ema::follow;
pub use gradients::Gradients;
pub use schedule::{Schedule, StepSchedule};
