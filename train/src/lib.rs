//! Models, objectives, the trainer, checkpoints, and checkpoints as encoders.
//!
//! Everything is generic over burn's backends; [`backend`] names them and nothing else does.

mod accuracy;
mod augment;
mod backbone;
pub mod backend;
mod checkpoint;
mod draws;
mod dump;
mod encoder;
mod error;
pub mod export;
mod extension;
mod frozen_teacher;
#[cfg(test)]
mod golden;
mod gpu;
mod group_table;
pub mod health;
pub mod knn;
mod limits;
mod metrics;
pub mod model;
pub mod objective;
pub mod optimise;
mod pieces;
mod pretrain;
mod start;
pub mod tensorboard;
mod trainer;
pub mod weights;
mod writer;

pub use backbone::Backbone;
pub use checkpoint::{Checkpoint, Entry, Skipped, Snapshot};
pub use dump::{replay, said_of_replay};
pub use encoder::{FinishedRun, VitEncoder};
pub use error::{Result, TrainError};
pub use frozen_teacher::with_teacher;
pub use gpu::gpu_facts;
pub use group_table::{parameter_groups, said_of_groups};
pub use pretrain::{CHECKPOINTS, METRICS_FILE, RunOptions, extend, pretrain};
pub use trainer::{StepReport, Trainer};
