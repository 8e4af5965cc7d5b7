//! The client: it submits a stage, shows how many of its shards are there, and submits again what a cluster forgot.
//!
//! A scheduler holds its jobs in memory, and an executor that dies takes the rows of its results along. Neither is a loss: what
//! was made has its marker in OUT, so that a plan submitted again makes the rest, and returns the lines of all.

use crate::{ClusterError, ManifestLine, Result, ShardStageCodec, ShardStageExec, StageTask};
use arrow::array::RecordBatch;
use ballista_core::config::{BALLISTA_JOB_NAME, BALLISTA_SCHEDULER_MAX_PARTITIONS_PER_TASK};
use ballista_core::execution_plans::execute_physical_plan;
use ballista_core::extension::SessionConfigExt;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion_proto::protobuf::PhysicalPlanNode;
use futures::TryStreamExt;
use lapidary_pipeline::interrupt;
use lapidary_pipeline::stage::Progress;
use lapidary_schemas::Manifest;
use std::collections::HashSet;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Where Ballista's schedulers are by custom.
const DEFAULT_PORT: u16 = 50050;
/// How often it looks for new shards, and for Ctrl-C.
const LOOK: Duration = Duration::from_millis(250);
/// How long a scheduler that was never there is asked for, and one that was.
const PATIENCE_FIRST: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(180);
/// An attempt that lasted so long had a scheduler.
const ANSWERED: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_secs(1);
/// Ballista decodes plans by deep recursion.
const STACK_BYTES: usize = 16 << 20;

/// A cluster, by its scheduler's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    host: String,
    port: u16,
}

impl FromStr for Cluster {
    type Err = ClusterError;

    /// Reads `df://HOST:PORT`, `df://HOST` or `HOST:PORT`.
    fn from_str(text: &str) -> Result<Self> {
        let wrong = || ClusterError::Address(text.to_owned());
        let address = text.strip_prefix("df://").unwrap_or(text).trim_end_matches('/');
        let (host, port) = match address.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().map_err(|_| wrong())?),
            None if text.starts_with("df://") => (address, DEFAULT_PORT),
            None => return Err(wrong()),
        };
        if host.is_empty() || host.contains(['/', '@', ' ']) {
            return Err(wrong());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

/// Why an attempt brought nothing.
enum Setback {
    /// Trying again may help: nobody answered, or a result is gone.
    Lost(String),
    /// It would come out the same.
    Refused(String),
}

impl Setback {
    /// Ballista hands errors of all kinds on as text. A job that it gave up, and what the scheduler refuses to plan, come out
    /// the same again; everything else is somebody who did not answer.
    fn of(error: &str) -> Self {
        let said = error.replace("\\n", "\n").replace("\\\"", "\"");
        let failed = said.find("Job ").is_some_and(|job| said[job..].contains(" failed: "));
        let refused = ["Could not parse plan", "FailedPrecondition", "failed to serialize", "failed to encode"];
        match failed || refused.iter().any(|sign| said.contains(sign)) {
            true => Self::Refused(innermost(&said).to_owned()),
            false => Self::Lost(said),
        }
    }
}

/// What an executor said, out of the wrappers that Ballista prints around it.
fn innermost(said: &str) -> &str {
    let inner = said.rsplit_once("Execution(\"").map_or(said, |(_, inner)| inner).trim_end();
    inner.strip_suffix("\"))").unwrap_or(inner)
}

impl Cluster {
    /// The scheduler's host and port.
    pub fn address(&self) -> (String, u16) {
        (self.host.clone(), self.port)
    }

    /// The scheduler's address as gRPC has it.
    fn url(&self) -> String {
        format!("http://{}:{}", self.host, self.port)
    }

    /// Has the executors make the shards of a stage, and waits. `images` is the manifest that the stage reads.
    ///
    /// # Errors
    /// When no scheduler answers, a stage fails on an executor, or Ctrl-C is pressed: then executors go on with what they were
    /// given, and the same command takes that over.
    pub fn run(&self, task: &StageTask, images: &Manifest) -> Result<Vec<ManifestLine>> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_stack_size(STACK_BYTES)
            .enable_all()
            .build()
            .map_err(ClusterError::process("start threads for", self.url()))?;
        let batches = runtime.block_on(async {
            tokio::select! {
                batches = self.submit_until_done(task) => batches,
                interrupted = watch(task, images) => Err(interrupted),
            }
        });
        // What was lost on the way is not waited for.
        runtime.shutdown_background();
        ManifestLine::from_batches(&batches?)
    }

    /// Submits the plan, again while somebody may still come back.
    async fn submit_until_done(&self, task: &StageTask) -> Result<Vec<RecordBatch>> {
        let plan = ShardStageExec::of_stage(task.clone(), None)?;
        let (mut patience, mut silent_since) = (PATIENCE_FIRST, Instant::now());
        loop {
            let begun = Instant::now();
            let detail = match self.submit(plan.clone(), task).await {
                Ok(batches) => return Ok(batches),
                Err(Setback::Refused(detail)) => return Err(ClusterError::Job { detail }),
                Err(Setback::Lost(detail)) => detail,
            };
            if begun.elapsed() >= ANSWERED {
                (patience, silent_since) = (PATIENCE, Instant::now());
                tracing::warn!("the cluster lost the job and is given it again; shards that are made stay: {detail}");
            }
            if silent_since.elapsed() >= patience {
                return Err(ClusterError::Unreachable { url: self.url(), detail });
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn submit(&self, plan: Arc<dyn ExecutionPlan>, task: &StageTask) -> Result<Vec<RecordBatch>, Setback> {
        let codec = Arc::new(ShardStageCodec::default());
        let config = SessionConfig::new_with_ballista()
            .with_ballista_physical_extension_codec(codec.clone())
            // Several groups in a task would be tried again together.
            .set_str(BALLISTA_SCHEDULER_MAX_PARTITIONS_PER_TASK, "1")
            .set_str(BALLISTA_JOB_NAME, &format!("{} {}", task.stage.verb(), task.source));
        let session = SessionContext::new_with_config(config.clone()).session_id();
        let ballista = config.ballista_config();
        let rows =
            execute_physical_plan::<PhysicalPlanNode>(self.url(), &ballista, plan, codec.as_ref(), session, config);
        let collected = async { rows.await?.try_collect().await }.await;
        collected.map_err(|error: datafusion::error::DataFusionError| Setback::of(&error.to_string()))
    }
}

/// Shows how many images' shards are there, until Ctrl-C is pressed.
async fn watch(task: &StageTask, images: &Manifest) -> ClusterError {
    let rows = |name: &str| images.outputs.get(name).map_or(0, |output| output.rows);
    let shares = task.shares();
    let mut seen: HashSet<String> = shares.names().into_iter().collect();
    let progress = Progress::new(task.stage.verb(), images.rows.output, "images");
    progress.begin_at(seen.iter().map(|name| rows(name)).sum());
    loop {
        if let Err(interrupted) = interrupt::check() {
            return interrupted.into();
        }
        for name in shares.names() {
            if seen.insert(name.clone()) {
                progress.add(rows(&name));
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_odd_ones_refused() {
        let address = |text: &str| text.parse::<Cluster>().map(|cluster| cluster.address()).ok();
        assert_eq!(address("df://node-1:5000"), Some(("node-1".to_owned(), 5000)));
        assert_eq!(address("df://10.0.0.1/"), Some(("10.0.0.1".to_owned(), DEFAULT_PORT)));
        assert_eq!(address("node-1:5000"), Some(("node-1".to_owned(), 5000)));
        for odd in ["", "df://", "node-1", "df://:5000", "http://node:1", "df://a:b", "df://a:70000", "df://u@h:1"] {
            assert!(odd.parse::<Cluster>().is_err(), "{odd}");
        }
    }

    #[test]
    fn a_job_that_failed_is_not_tried_again_and_a_lost_scheduler_is() {
        let failed = "Execution error: Job 7 failed: Task failed due to runtime execution error: Error(Execution(\\\"a\\nhint\\\"))";
        assert!(matches!(Setback::of(failed), Setback::Refused(said) if said == "a\nhint"));
        for lost in ["transport error: it failed: no", "Stream closed without job completing", "tcp connect error"] {
            assert!(matches!(Setback::of(lost), Setback::Lost(_)), "{lost}");
        }
    }
}
