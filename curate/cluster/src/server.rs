//! The two roles of `lapidary-worker`: a scheduler, which hands out tasks, and executors, which ask it for them.
//!
//! Executors pull: they connect to the scheduler and are not called by it, so that only its port and, for the few rows of a
//! result, theirs of Arrow Flight need to be reachable from the client; a scheduler that comes back after a crash finds them
//! asking. It holds its jobs in memory alone: clients submit again what it forgot.

use crate::{ClusterError, Result, Runner, ShardStageCodec};
use ballista_core::config::TaskSchedulingPolicy;
use ballista_core::error::BallistaError;
use ballista_executor::executor_process::{ExecutorProcessConfig, start_executor_process};
use ballista_scheduler::cluster::BallistaCluster;
use ballista_scheduler::config::SchedulerConfig;
use ballista_scheduler::scheduler_process::start_server;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// How long an executor waits for a scheduler that is not there yet.
const CONNECT_SECS: u16 = 60;

/// What an executor is started with.
#[derive(Debug, Clone)]
pub struct ExecutorOptions {
    /// Where it gives out results.
    pub bind: SocketAddr,
    /// The name or address that clients reach it at; none: the one that it comes to the scheduler from.
    pub advertise: Option<String>,
    /// The scheduler's name or address, and its port.
    pub scheduler: (String, u16),
    /// Where configurations, logs and results of tasks lie.
    pub work_dir: PathBuf,
    /// How many tasks it runs at once; each is a process that uses all cores unless RAYON_NUM_THREADS says otherwise.
    pub concurrent_tasks: usize,
    /// The `lapidary` that makes shards.
    pub lapidary: PathBuf,
}

fn engine(error: BallistaError) -> ClusterError {
    ClusterError::Engine(error.to_string())
}

/// Runs a scheduler until the process ends. An executor that was not heard of for `timeout_secs` has its tasks given to others.
///
/// # Errors
/// When the address is taken.
pub async fn run_scheduler(bind: SocketAddr, timeout_secs: u64) -> Result<()> {
    let config = SchedulerConfig {
        bind_host: bind.ip().to_string(),
        bind_port: bind.port(),
        external_host: bind.ip().to_string(),
        scheduling_policy: TaskSchedulingPolicy::PullStaged,
        executor_timeout_seconds: timeout_secs,
        expire_dead_executor_interval_seconds: (timeout_secs / 4).max(1),
        // Nobody comes for a while after a restart.
        no_executors_grace_period_seconds: timeout_secs.max(180),
        override_physical_codec: Some(Arc::new(ShardStageCodec::default())),
        ..SchedulerConfig::default()
    };
    let cluster = BallistaCluster::new_from_config(&config).await.map_err(engine)?;
    tracing::info!("scheduler on {bind}");
    start_server(cluster, bind, Arc::new(config)).await.map_err(engine)
}

/// Runs an executor until it is told to end (Ctrl-C, SIGTERM); tasks that run are finished.
///
/// # Errors
/// When there is no `lapidary`, no scheduler answers, or the address is taken.
pub async fn run_executor(options: ExecutorOptions) -> Result<()> {
    let ExecutorOptions { bind, advertise, scheduler, work_dir, concurrent_tasks, lapidary } = options;
    let worker = format!("{}:{}", advertise.clone().unwrap_or_else(host_name), bind.port());
    let runner = Runner::new(&lapidary, &work_dir, &worker)?;
    tracing::info!("executor {worker} with Lapidary {}, tasks from {}:{}", runner.version(), scheduler.0, scheduler.1);
    let config = ExecutorProcessConfig {
        bind_host: bind.ip().to_string(),
        external_host: advertise,
        port: bind.port(),
        scheduler_host: scheduler.0,
        scheduler_port: scheduler.1,
        scheduler_connect_timeout_seconds: CONNECT_SECS,
        vcores: concurrent_tasks.max(1),
        task_scheduling_policy: TaskSchedulingPolicy::PullStaged,
        work_dir: Some(work_dir.to_string_lossy().into_owned()),
        // Rows of results are all that its pool would hold; images lie in other processes.
        memory_pool_size: Some(0),
        override_physical_codec: Some(Arc::new(ShardStageCodec::with_runner(Arc::new(runner)))),
        ..ExecutorProcessConfig::default()
    };
    start_executor_process(Arc::new(config)).await.map_err(engine)
}

/// What this machine calls itself.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "localhost".to_owned() } else { name.trim().to_owned() }
}
