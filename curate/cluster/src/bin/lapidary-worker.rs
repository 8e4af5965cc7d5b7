//! `lapidary-worker`: a scheduler of a cluster, or one of its executors.

use anyhow::{Context, bail};
use clap::{Parser, ValueEnum};
use lapidary_cluster::{Cluster, ExecutorOptions, run_executor, run_scheduler, sibling_binary};
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tracing_subscriber::EnvFilter;

/// Ballista decodes plans by deep recursion.
const STACK_BYTES: usize = 16 << 20;

/// A scheduler of a cluster, or one of its executors: `lapidary curate --cluster df://HOST:PORT` gives them shards to make
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// What it is
    #[arg(long, value_enum)]
    role: Role,
    /// The address that a scheduler listens on; executors listen on none [default: 0.0.0.0:50050]
    #[arg(long, value_name = "IP:PORT", default_value = "0.0.0.0:50050", hide_default_value = true)]
    bind: SocketAddr,
    /// A scheduler gives an executor's tasks to others when it was not heard of for so long; it is heard of every 5 seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(10..))]
    executor_timeout_secs: u64,
    /// An executor's scheduler
    #[arg(long, value_name = "HOST:PORT", required_if_eq("role", "executor"))]
    scheduler: Option<Cluster>,
    /// Where an executor keeps configurations, logs and what it has of stores [default: a temporary folder]
    #[arg(long, value_name = "DIR")]
    work_dir: Option<PathBuf>,
    /// Tasks that an executor runs at once, each a process with all cores unless RAYON_NUM_THREADS says otherwise
    #[arg(long, value_name = "N", default_value_t = 1)]
    concurrent_tasks: usize,
    /// The `lapidary` that makes an executor's shards [default: the one beside this binary]
    #[arg(long, value_name = "FILE")]
    lapidary: Option<PathBuf>,
    /// An executor kills a process that has made no shard for so long, and another executor tries
    #[arg(long, value_name = "SECONDS", default_value_t = 7200, value_parser = clap::value_parser!(u64).range(1..))]
    stuck_secs: u64,
    /// An executor takes plans of other builds of its version too: of other features, say, with CUDA where the client has none
    #[arg(long)]
    accept_other_builds: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Role {
    /// Hands out tasks
    Scheduler,
    /// Makes shards
    Executor,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let filter =
        EnvFilter::try_from_env("LAPIDARY_LOG").unwrap_or_else(|_| EnvFilter::new("warn,lapidary_cluster=info"));
    tracing_log::LogTracer::init()?;
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colour).with_target(false);
    log.with_writer(std::io::stderr).init();
    let runtime = tokio::runtime::Builder::new_multi_thread().thread_stack_size(STACK_BYTES).enable_all().build()?;
    let ended = runtime.block_on(run(arguments));
    // What is not ended by now is not waited for.
    runtime.shutdown_background();
    ended
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    if arguments.role == Role::Scheduler {
        return Ok(run_scheduler(arguments.bind, arguments.executor_timeout_secs).await?);
    }
    let Some(scheduler) = arguments.scheduler else { bail!("an executor needs --scheduler HOST:PORT") };
    // Kept until the process ends.
    let scratch = tempfile::tempdir().context("make a temporary folder")?;
    let options = ExecutorOptions {
        scheduler: scheduler.address(),
        work_dir: arguments.work_dir.unwrap_or_else(|| scratch.path().to_owned()),
        concurrent_tasks: arguments.concurrent_tasks,
        lapidary: arguments.lapidary.unwrap_or_else(|| sibling_binary("lapidary")),
        stuck_after: Duration::from_secs(arguments.stuck_secs),
        accept_other_builds: arguments.accept_other_builds,
    };
    Ok(run_executor(options).await?)
}
