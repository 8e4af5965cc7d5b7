//! Models, objectives, the trainer, checkpoints, and checkpoints as encoders.
//!
//! Everything is generic over burn's backends; [`backend`] names them and nothing else does.

mod accuracy;
mod augment;
pub mod backend;
mod checkpoint;
mod draws;
mod dump;
mod encoder;
mod error;
mod gpu;
pub mod health;
pub mod knn;
mod limits;
mod metrics;
pub mod model;
pub mod objective;
pub mod optimise;
mod pieces;
mod pretrain;
pub mod tensorboard;
mod trainer;

pub use checkpoint::{Checkpoint, Skipped};
pub use dump::{replay, said_of_replay};
pub use encoder::{FinishedRun, VitEncoder};
pub use error::{Result, TrainError};
pub use gpu::gpu_facts;
pub use pretrain::{CHECKPOINTS, METRICS_FILE, RunOptions, pretrain};
pub use trainer::{StepReport, Trainer};
