//! The scheduler of `lapidary-worker`: it hands groups of shards out to the executors that ask for them.
//!
//! It holds its jobs in memory alone: clients submit again what it forgot, and executors go on asking while it is away.

use crate::{ClusterError, Result, ShardStageCodec};
use ballista_core::config::TaskSchedulingPolicy;
use ballista_core::error::BallistaError;
use ballista_scheduler::cluster::BallistaCluster;
use ballista_scheduler::config::SchedulerConfig;
use ballista_scheduler::scheduler_process::start_server;
use std::net::SocketAddr;
use std::sync::Arc;

/// How long a cluster that has lost all its executors may be without any: they come back after a restart.
const NO_EXECUTORS_SECS: u64 = 180;

fn engine(error: BallistaError) -> ClusterError {
    ClusterError::Engine(error.to_string())
}

/// Runs a scheduler until the process ends. An executor that was not heard of for `timeout_secs` has its tasks given to others.
///
/// # Errors
/// When the address is taken, or it ends by itself.
pub async fn run_scheduler(bind: SocketAddr, timeout_secs: u64) -> Result<()> {
    let config = SchedulerConfig {
        bind_host: bind.ip().to_string(),
        bind_port: bind.port(),
        external_host: bind.ip().to_string(),
        scheduling_policy: TaskSchedulingPolicy::PullStaged,
        executor_timeout_seconds: timeout_secs,
        expire_dead_executor_interval_seconds: (timeout_secs / 4).max(1),
        // An executor that says that it ends has its tasks given to others at once.
        executor_termination_grace_period: 0,
        no_executors_grace_period_seconds: timeout_secs.max(NO_EXECUTORS_SECS),
        override_physical_codec: Some(Arc::new(ShardStageCodec::default())),
        ..SchedulerConfig::default()
    };
    let cluster = BallistaCluster::new_from_config(&config).await.map_err(engine)?;
    tracing::info!("scheduler on {bind}");
    start_server(cluster, bind, Arc::new(config)).await.map_err(engine)?;
    Err(ClusterError::Engine(format!("the scheduler on {bind} ended by itself")))
}
