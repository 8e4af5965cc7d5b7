//! An executor of `lapidary-worker`: it asks a scheduler for groups of shards, and makes them.
//!
//! It pulls: it connects to the scheduler and listens on nothing, so that no port of its machine need be open. A scheduler that
//! comes back after a crash finds it asking. When it is told to end it stops what it runs and says so, and the scheduler gives
//! that to others at once.

use crate::{ClusterError, Result, Runner, ShardStageCodec};
use ballista_core::serde::protobuf::ExecutorStoppedParams;
use ballista_core::serde::protobuf::scheduler_grpc_client::SchedulerGrpcClient;
use ballista_core::serde::{BallistaCodec, BallistaLogicalExtensionCodec};
use ballista_core::utils::{GrpcClientConfig, create_grpc_client_endpoint, default_config_producer};
use ballista_executor::execution_loop::poll_loop;
use ballista_executor::executor::Executor;
use ballista_executor::executor_process::{ExecutorProcessConfig, structure_executor_metadata};
use ballista_executor::health::ExecutorHealth;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::SessionConfig;
use datafusion_proto::protobuf::{LogicalPlanNode, PhysicalPlanNode};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tonic::transport::Channel;

/// How long a scheduler that is not there yet is waited for.
const CONNECT_WITHIN: Duration = Duration::from_secs(60);
const CONNECT_PAUSE: Duration = Duration::from_millis(500);
const KEEPALIVE_SECS: u64 = 10;
/// How long each step of ending may take: the last question to the scheduler, the word to it, the end of processes.
const END_WITHIN: Duration = Duration::from_secs(5);

/// What an executor is started with.
#[derive(Debug, Clone)]
pub struct ExecutorOptions {
    /// The scheduler's name or address, and its port.
    pub scheduler: (String, u16),
    /// Where configurations, logs, rows of tasks and the folders that stand for stores lie.
    pub work_dir: PathBuf,
    /// How many tasks it runs at once; each is a process that uses all cores unless RAYON_NUM_THREADS says otherwise.
    pub concurrent_tasks: usize,
    /// The `lapidary` that makes shards.
    pub lapidary: PathBuf,
    /// How long a process may make no shard before it is killed.
    pub stuck_after: Duration,
    /// Whether the client's build of what does the work may be another one of the same version.
    pub accept_other_builds: bool,
}

/// Runs an executor until it is told to end (Ctrl-C, SIGTERM).
///
/// # Errors
/// When there is no `lapidary`, no scheduler answers, or it ends without having been told to.
pub async fn run_executor(options: ExecutorOptions) -> Result<()> {
    let ExecutorOptions { scheduler: (host, port), work_dir, concurrent_tasks, lapidary, .. } = options;
    let (worker, tasks) = (worker_name(), concurrent_tasks.max(1));
    let free = Arc::new(Semaphore::new(tasks));
    let runner = Runner::new(&lapidary, &work_dir, &worker)?
        .with_stuck_after(options.stuck_after)
        .with_other_builds(options.accept_other_builds)
        .with_free_tasks(free.clone())
        .with_threads(Handle::current());
    let runner = Arc::new(runner);
    let listen = |kind| signal(kind).map_err(ClusterError::process("listen for signals to", "this process"));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let url = format!("http://{host}:{port}");
    let mut scheduler = tokio::select! {
        connected = connect(&url) => connected?,
        _ = interrupt.recv() => return Ok(()),
        _ = terminate.recv() => return Ok(()),
    };
    tracing::info!("executor {worker} with Lapidary {}, tasks from {host}:{port}", runner.version());
    let executor = Arc::new(executor(&worker, &work_dir, tasks));
    let physical = Arc::new(ShardStageCodec::with_runner(runner.clone()));
    let codec: BallistaCodec<LogicalPlanNode, PhysicalPlanNode> =
        BallistaCodec::new(Arc::new(BallistaLogicalExtensionCodec::default()), physical);
    let polled = poll_loop(scheduler.clone(), executor, codec, None, Some(free.clone()), ExecutorHealth::new());
    let mut polling = tokio::spawn(polled);
    tokio::select! {
        ended = &mut polling => return Err(ClusterError::Engine(format!("it asks for tasks no more: {ended:?}"))),
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    tracing::info!("executor {worker} ends: what it runs is stopped and given to others");
    // First it asks no more, then it says so: else it would be given the same again. What it runs is stopped last, so that it
    // does not count as failed.
    free.close();
    let _ = tokio::time::timeout(END_WITHIN, polling).await;
    let stopped = ExecutorStoppedParams { executor_id: worker, reason: "it was told to end".to_owned() };
    match tokio::time::timeout(END_WITHIN, scheduler.executor_stopped(stopped)).await {
        Ok(Ok(_)) => {}
        unheard => tracing::warn!("the scheduler did not hear of it, and gives its tasks away later: {unheard:?}"),
    }
    runner.stop();
    let begun = Instant::now();
    while !runner.is_idle() && begun.elapsed() < END_WITHIN {
        tokio::time::sleep(CONNECT_PAUSE / 10).await;
    }
    Ok(())
}

/// A channel to the scheduler, which comes back by itself when it breaks.
async fn connect(url: &str) -> Result<SchedulerGrpcClient<Channel>> {
    let config = GrpcClientConfig { http2_keepalive_interval_seconds: KEEPALIVE_SECS, ..GrpcClientConfig::default() };
    let endpoint = create_grpc_client_endpoint(url.to_owned(), Some(&config));
    let endpoint = endpoint.map_err(|e| ClusterError::Engine(e.to_string()))?;
    let begun = Instant::now();
    loop {
        match endpoint.connect().await {
            Ok(channel) => {
                let client = SchedulerGrpcClient::new(channel);
                return Ok(client
                    .max_encoding_message_size(config.max_message_size)
                    .max_decoding_message_size(config.max_message_size));
            }
            Err(error) if begun.elapsed() >= CONNECT_WITHIN => {
                return Err(ClusterError::Unreachable { url: url.to_owned(), detail: error.to_string() });
            }
            Err(_) => tokio::time::sleep(CONNECT_PAUSE).await,
        }
    }
}

/// Ballista's executor, which has no port that anybody could ask it for rows at.
fn executor(worker: &str, work_dir: &std::path::Path, tasks: usize) -> Executor {
    let options = ExecutorProcessConfig {
        executor_id: worker.to_owned(),
        external_host: Some(worker.to_owned()),
        port: 0,
        grpc_port: 0,
        ..ExecutorProcessConfig::default()
    };
    let registration = structure_executor_metadata(&Arc::new(options), u32::try_from(tasks).unwrap_or(u32::MAX));
    let scratch = work_dir.to_owned();
    let runtime = move |_: &SessionConfig| RuntimeEnvBuilder::new().with_temp_file_path(scratch.clone()).build_arc();
    let work_dir = work_dir.to_string_lossy();
    Executor::new_basic(registration, &work_dir, Arc::new(runtime), Arc::new(default_config_producer), tasks)
}

/// What this executor is called: its machine and process, and when it began, as both may come again.
fn worker_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = if host.trim().is_empty() { "localhost" } else { host.trim() };
    let begun = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    format!("{host}:{}:{:06x}", std::process::id(), begun & 0xff_ffff)
}
