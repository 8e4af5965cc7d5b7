//! The maps over shards, run by the executors of an Apache DataFusion Ballista cluster.
//!
//! A stage that makes a shard of each shard of its input becomes a plan: [`ShardStageExec`] has a partition for each group of
//! shards, and a partition's rows are lines of the manifest ([`ManifestLine`]). Whoever executes a partition, plain DataFusion
//! or an executor of Ballista, starts `lapidary STAGE --shard i/n` for it. So an executor runs the very code that one machine
//! runs, for any encoder on any device; a process that dies, or is cancelled, takes nothing with it; and this crate links
//! neither FAISS nor Polars nor burn. What is made lies in OUT, which all see, under names that do not depend on who made it,
//! with a marker for each shard: a task that runs twice does no harm, and what is lost with a scheduler's memory is only who
//! was working on what.
//!
//! What this crate leaves to others: the shares themselves (`lapidary_pipeline::stage::Shares`), and every reduction, which
//! `lapidary` makes on the client as without a cluster.
//!
//! | module | what it holds |
//! |---|---|
//! | `task` | what is sent: a stage with all its settings, and into how many groups its shards fall |
//! | `line` | a row of the result |
//! | `runner` | the process that makes a group's shards |
//! | `plan` | [`ShardStageExec`] |
//! | `codec` | the plan as bytes, and who refuses it |
//! | `client` | submitting, waiting, submitting again |
//! | `server` | the scheduler and the executor of `lapidary-worker` |

mod client;
mod codec;
mod error;
mod line;
mod plan;
mod runner;
mod server;
mod task;

pub use client::Cluster;
pub use codec::ShardStageCodec;
pub use error::{ClusterError, Result};
pub use line::ManifestLine;
pub use plan::ShardStageExec;
pub use runner::{Runner, beside, version_of};
pub use server::{ExecutorOptions, run_executor, run_scheduler};
pub use task::{Stage, StageTask};
