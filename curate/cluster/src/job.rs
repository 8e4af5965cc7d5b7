//! A job of Ballista's scheduler, as its client sees it: submitted, asked after, cancelled.
//!
//! Results are not fetched: the lines that tasks return lie in OUT as markers. So only the scheduler's port need be reachable,
//! and the scheduler's word that a job is done is all that is taken from it.

use crate::error::TaskError;
use crate::{ClusterError, ShardStageCodec, StageTask};
use ballista_core::BALLISTA_VERSION;
use ballista_core::config::{BALLISTA_JOB_NAME, BALLISTA_SCHEDULER_MAX_PARTITIONS_PER_TASK};
use ballista_core::extension::SessionConfigExt;
use ballista_core::serde::protobuf::execute_query_params::Query;
use ballista_core::serde::protobuf::job_status::Status as JobStatus;
use ballista_core::serde::protobuf::scheduler_grpc_client::SchedulerGrpcClient;
use ballista_core::serde::protobuf::{
    CancelJobParams, ExecuteQueryParams, ExecuteQueryResult, GetJobStatusParams, KeyValuePair, SuccessfulJob,
    execute_query_result,
};
use ballista_core::utils::{GrpcClientConfig, create_grpc_client_endpoint};
use ballista_core::version::{check_compatibility, insert_version_header, version_from_metadata};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion_proto::physical_plan::AsExecutionPlan;
use datafusion_proto::protobuf::PhysicalPlanNode;
use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

/// How long a cancellation may take: the scheduler may be why it is needed.
const CANCEL_WITHIN: Duration = Duration::from_secs(2);
const CONNECT_SECS: u64 = 5;
const KEEPALIVE_SECS: u64 = 10;

/// Which executor made each group, counted from 1, as far as that is known.
pub(crate) type Makers = BTreeMap<usize, String>;

/// Why an attempt brought nothing.
#[derive(Debug)]
pub(crate) enum AttemptError {
    /// Nobody answered: trying again may help.
    Lost(String),
    /// It would come out the same.
    Refused(ClusterError),
}

impl AttemptError {
    fn refused(detail: String) -> Self {
        Self::Refused(ClusterError::Job { detail })
    }

    /// What a call came back with. Which versions do not go together, and which plans cannot be, the scheduler says by code.
    fn of(status: &Status) -> Self {
        match status.code() {
            Code::FailedPrecondition | Code::InvalidArgument | Code::Unimplemented | Code::OutOfRange => {
                Self::refused(format!("the scheduler refused: {}", status.message()))
            }
            code => Self::Lost(format!("{code:?}: {}", chain(status))),
        }
    }
}

/// An error and what it came from.
fn chain(error: &dyn Error) -> String {
    let (mut text, mut source) = (error.to_string(), error.source());
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        source = inner.source();
    }
    text
}

/// How a job is.
#[derive(Debug)]
pub(crate) enum JobState {
    /// The scheduler knows nothing of it: not yet, or no more.
    Unknown,
    /// It is queued or runs.
    Running,
    /// All tasks have ended well.
    Done(Makers),
}

/// A job that was submitted.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    scheduler: SchedulerGrpcClient<Channel>,
    id: String,
}

/// What a plan is submitted as.
fn request(plan: Arc<dyn ExecutionPlan>, task: &StageTask) -> Result<ExecuteQueryParams, ClusterError> {
    let engine = |error: datafusion::error::DataFusionError| ClusterError::Engine(error.to_string());
    let node = PhysicalPlanNode::try_from_physical_plan(plan, &ShardStageCodec::default()).map_err(engine)?;
    let mut bytes = Vec::new();
    node.try_encode(&mut bytes).map_err(engine)?;
    let config = SessionConfig::new_with_ballista()
        // Several groups in a task would be tried again together.
        .set_str(BALLISTA_SCHEDULER_MAX_PARTITIONS_PER_TASK, "1")
        .set_str(BALLISTA_JOB_NAME, &format!("{} {}", task.stage.verb(), task.source));
    let entries = config.options().entries();
    let settings = entries.into_iter().map(|entry| KeyValuePair { key: entry.key, value: entry.value }).collect();
    let session_id = SessionContext::new_with_config(config).session_id();
    Ok(ExecuteQueryParams {
        operation_id: session_id.clone(),
        session_id,
        settings,
        query: Some(Query::PhysicalPlan(bytes)),
    })
}

impl Job {
    /// Submits a plan to the scheduler at an URL.
    pub(crate) async fn submit(
        url: &str,
        plan: Arc<dyn ExecutionPlan>,
        task: &StageTask,
    ) -> Result<Self, AttemptError> {
        let config = GrpcClientConfig {
            connect_timeout_seconds: CONNECT_SECS,
            http2_keepalive_interval_seconds: KEEPALIVE_SECS,
            ..GrpcClientConfig::default()
        };
        let lost = |error: &dyn Error| AttemptError::Lost(chain(error));
        let endpoint = create_grpc_client_endpoint(url.to_owned(), Some(&config)).map_err(|e| lost(&e))?;
        let channel = endpoint.connect().await.map_err(|e| lost(&e))?;
        let mut scheduler = SchedulerGrpcClient::new(channel)
            .max_encoding_message_size(config.max_message_size)
            .max_decoding_message_size(config.max_message_size);
        let mut request = Request::new(request(plan, task).map_err(AttemptError::Refused)?);
        insert_version_header(request.metadata_mut());
        let response = scheduler.execute_query(request).await.map_err(|status| AttemptError::of(&status))?;
        let theirs = version_from_metadata(response.metadata()).map(str::to_owned);
        check_compatibility(Some(BALLISTA_VERSION), theirs.as_deref()).map_err(AttemptError::refused)?;
        Ok(Self { scheduler, id: id_in(response.into_inner(), theirs.as_deref().unwrap_or_default(), task)? })
    }

    /// Asks how it is.
    pub(crate) async fn state(&mut self) -> Result<JobState, AttemptError> {
        let asked = self.scheduler.get_job_status(GetJobStatusParams { job_id: self.id.clone() }).await;
        let status = asked.map_err(|status| AttemptError::of(&status))?.into_inner().status;
        match status.and_then(|status| status.status) {
            None => Ok(JobState::Unknown),
            Some(JobStatus::Queued(_) | JobStatus::Running(_)) => Ok(JobState::Running),
            Some(JobStatus::Successful(job)) => Ok(JobState::Done(makers(job))),
            Some(JobStatus::Failed(job)) => Err(AttemptError::refused(why(&job.error))),
        }
    }

    /// Has the scheduler forget it. Executors end the groups that they have begun.
    pub(crate) async fn cancel(mut self) {
        let cancelled = self.scheduler.cancel_job(CancelJobParams { job_id: self.id.clone() });
        match tokio::time::timeout(CANCEL_WITHIN, cancelled).await {
            Ok(Ok(_)) => tracing::debug!("job {} is cancelled", self.id),
            Ok(Err(status)) => tracing::warn!("job {} is not cancelled: {}", self.id, chain(&status)),
            Err(_) => tracing::warn!("job {} is not cancelled: the scheduler does not answer", self.id),
        }
    }
}

/// The id that a scheduler gave, or why it gave none.
fn id_in(result: ExecuteQueryResult, theirs: &str, task: &StageTask) -> Result<String, AttemptError> {
    match result.result {
        Some(execute_query_result::Result::Success(success)) => Ok(success.job_id),
        Some(execute_query_result::Result::Failure(failure)) => {
            let text = format!("{failure:?}");
            // A scheduler of ours says what it does not understand, and its version.
            let detail = TaskError::find(&text).map_or(text, |error| error.text);
            Err(AttemptError::refused(format!(
                "the scheduler, with Ballista {theirs}, cannot read this plan of Lapidary {} with Ballista \
                 {BALLISTA_VERSION}: {detail}",
                task.lapidary
            )))
        }
        None => Err(AttemptError::refused(format!("the scheduler, with Ballista {theirs}, gave no job"))),
    }
}

/// Who holds the rows of each group.
fn makers(job: SuccessfulJob) -> Makers {
    let located = job.partition_location.into_iter();
    located
        .filter_map(|location| Some((location.partition_id?.partition_id as usize + 1, location.executor_meta?.id)))
        .collect()
}

/// Why a job failed: what a task of ours said, or what Ballista says.
fn why(error: &str) -> String {
    match TaskError::find(error) {
        Some(TaskError { retried: true, text }) => format!("{text}\nnote: it was tried several times"),
        Some(TaskError { text, .. }) => text,
        None => format!("the job failed: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::tests::task;
    use ballista_core::serde::protobuf::{ExecuteQueryFailureResult, execute_query_failure_result};

    #[test]
    fn what_comes_out_the_same_is_told_from_who_does_not_answer() {
        for code in [Code::FailedPrecondition, Code::InvalidArgument, Code::OutOfRange] {
            assert!(matches!(AttemptError::of(&Status::new(code, "no")), AttemptError::Refused(_)), "{code:?}");
        }
        for code in [Code::Unavailable, Code::DeadlineExceeded, Code::Cancelled, Code::Unknown] {
            assert!(matches!(AttemptError::of(&Status::new(code, "no")), AttemptError::Lost(_)), "{code:?}");
        }
    }

    #[test]
    fn a_scheduler_that_cannot_read_the_plan_is_named_with_both_versions() {
        let failure = execute_query_failure_result::Failure::PlanParsingFailure("Could not parse plan: x".to_owned());
        let failure = ExecuteQueryFailureResult { failure: Some(failure) };
        let result = Some(execute_query_result::Result::Failure(failure));
        let result = ExecuteQueryResult { operation_id: String::new(), result };
        let refused = id_in(result, "55.7.0", &task(1)).expect_err("no job");
        let AttemptError::Refused(error) = refused else { panic!("{refused:?}") };
        let text = error.to_string();
        assert!(text.contains("Ballista 55.7.0") && text.contains(BALLISTA_VERSION), "{text}");
        assert!(text.contains("Lapidary 0.1.0") && text.contains("Could not parse plan"), "{text}");
    }
}
