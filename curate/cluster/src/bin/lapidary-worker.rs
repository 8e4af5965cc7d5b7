//! `lapidary-worker`: a scheduler of a cluster, or one of its executors.

use anyhow::{Context, bail};
use clap::{Parser, ValueEnum};
use lapidary_cluster::{Cluster, ExecutorOptions, beside, run_executor, run_scheduler};
use std::io::IsTerminal;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
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
    /// The address it listens on; of an executor, port 0 is any that is free [default: 0.0.0.0:50050, of an executor 0.0.0.0:0]
    #[arg(long, value_name = "IP:PORT")]
    bind: Option<SocketAddr>,
    /// An executor's scheduler
    #[arg(long, value_name = "HOST:PORT", required_if_eq("role", "executor"))]
    scheduler: Option<Cluster>,
    /// The name or address that clients reach an executor at [default: the one that it comes to the scheduler from]
    #[arg(long, value_name = "HOST")]
    advertise: Option<String>,
    /// Where an executor keeps configurations, logs and the rows of results [default: a temporary folder]
    #[arg(long, value_name = "DIR")]
    work_dir: Option<PathBuf>,
    /// Tasks that an executor runs at once, each a process with all cores unless RAYON_NUM_THREADS says otherwise
    #[arg(long, value_name = "N", default_value_t = 1)]
    concurrent_tasks: usize,
    /// The `lapidary` that makes an executor's shards [default: the one beside this binary]
    #[arg(long, value_name = "FILE")]
    lapidary: Option<PathBuf>,
    /// A scheduler gives an executor's tasks to others when it was not heard of for so long; it is heard of every 5 seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(10..))]
    executor_timeout_secs: u64,
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
    runtime.block_on(run(arguments))
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let any = |port: u16| SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port);
    if arguments.role == Role::Scheduler {
        let bind = arguments.bind.unwrap_or_else(|| any(50050));
        return Ok(run_scheduler(bind, arguments.executor_timeout_secs).await?);
    }
    let Some(scheduler) = arguments.scheduler else { bail!("an executor needs --scheduler HOST:PORT") };
    let bind = with_free_port(arguments.bind.unwrap_or_else(|| any(0)))?;
    // Kept until the process ends.
    let scratch = tempfile::tempdir().context("make a temporary folder")?;
    let options = ExecutorOptions {
        bind,
        advertise: arguments.advertise,
        scheduler: scheduler.address(),
        work_dir: arguments.work_dir.unwrap_or_else(|| scratch.path().to_owned()),
        concurrent_tasks: arguments.concurrent_tasks,
        lapidary: arguments.lapidary.unwrap_or_else(|| beside("lapidary")),
    };
    Ok(run_executor(options).await?)
}

/// The address, with a port that is free now where it has none: executors tell the scheduler which.
fn with_free_port(bind: SocketAddr) -> anyhow::Result<SocketAddr> {
    if bind.port() != 0 {
        return Ok(bind);
    }
    let listener = TcpListener::bind(bind).with_context(|| format!("listen on {bind}"))?;
    Ok(listener.local_addr()?)
}
