//! The maps over shards, run by the executors of an Apache DataFusion Ballista cluster.
//!
//! A stage that makes a shard of each shard of its input becomes a plan: [`ShardStageExec`] has a partition for each group of
//! shards, and a partition's rows are lines of the manifest ([`ManifestLine`]). Whoever executes a partition, plain DataFusion
//! or an executor of Ballista, starts `lapidary STAGE --shard i/n` for it. So an executor runs the very code that one machine
//! runs, for any encoder on any device; a process that dies, or is cancelled, takes the one shard with it that it was making;
//! and this crate links neither FAISS nor Polars nor burn. What is made lies in OUT, a folder or a store that all see, under
//! names that do not depend on who made it, with a marker for each shard: a task that runs twice does no harm, and what is lost
//! with a scheduler's memory is only who was working on what. So the client reads what is made from the markers, and from the
//! scheduler no more than that all is.
//!
//! What this crate leaves to others: the shares themselves (`lapidary_pipeline::stage::Shares`), and every reduction, which
//! `lapidary` makes on the client as without a cluster.
//!
//! | module | what it holds |
//! |---|---|
//! | `task` | what is sent: a stage with all its settings, and into how many groups its shards fall |
//! | `line` | a row of the result |
//! | `runner` | the process that makes a group's shards |
//! | `build` | which build of Lapidary does the work |
//! | `plan` | [`ShardStageExec`] |
//! | `codec` | the plan as bytes, and who refuses it |
//! | `client` | submitting, waiting, submitting again |
//! | `watch` | what the client sees meanwhile |
//! | `job` | a job of the scheduler |
//! | `scheduler`, `executor` | the two roles of `lapidary-worker` |

mod build;
mod client;
mod codec;
mod error;
mod executor;
mod job;
mod line;
mod plan;
mod runner;
mod scheduler;
mod task;
mod watch;

pub use build::build_of;
pub use client::{Cluster, Submission};
pub use codec::ShardStageCodec;
pub use error::{ClusterError, Result};
pub use executor::{ExecutorOptions, run_executor};
pub use line::ManifestLine;
pub use plan::ShardStageExec;
pub use runner::{Runner, sibling_binary, version_of};
pub use scheduler::run_scheduler;
pub use task::{Build, Stage, StageTask, shard_names};
