//! Models, objectives, the trainer, checkpoints, and checkpoints as encoders.
//!
//! Everything is generic over burn's backends; [`backend`] names them and nothing else does.

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
mod finished_run;
mod frozen;
mod frozen_teacher;
#[cfg(test)]
mod golden;
mod gpu;
pub mod gpu_check;
mod group_table;
pub mod health;
mod knn_watch;
mod limits;
mod memory;
mod metrics;
pub mod model;
pub mod objective;
pub mod optimise;
mod pieces;
mod pretrain;
pub mod probe;
pub mod share;
mod start;
mod suitable;
mod summed_loss;
pub mod tensorboard;
mod trainer;
pub mod upload;
pub mod weights;
mod writer;

/// Operators of a Vision Transformer, on the CPU and on GPUs.
pub use lapidary_operators as operators;

pub use backbone::Backbone;
pub use checkpoint::{Checkpoint, Entry, Networks, Skipped, Snapshot};
pub use dump::{replay, said_of_replay};
pub use encoder::VitEncoder;
pub use error::{Result, TrainError};
pub use finished_run::FinishedRun;
pub use frozen::FrozenVit;
pub use frozen_teacher::with_teacher;
pub use gpu::gpu_facts;
pub use group_table::{parameter_groups, said_of_groups};
pub use pretrain::{CHECKPOINTS, METRICS_FILE, RunOptions, extend, extended_config, pretrain};
pub use suitable::refuse_devices;
pub use summed_loss::{SummedLoss, summed_loss};
pub use trainer::{StepReport, Trainer};
