//! [`ShardStageExec`]: a stage as a plan, which has a partition for each group of shards.
//!
//! Which group a partition stands for is a row of a table in memory below it, and not the partition's own number: Ballista
//! gives a task those partitions of a plan's leaves that it knows how to pick out, tables in memory among them, and numbers
//! them anew; a leaf that it does not know runs whole in every task (`restrict_plan_to_partitions`, a test holds this).

use crate::line::column;
use crate::{ClusterError, ManifestLine, Result, Runner, StageTask};
use arrow::array::{RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::error::{DataFusionError, Result as EngineResult};
use datafusion::execution::TaskContext;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, SendableRecordBatchStream,
};
use futures::{StreamExt, TryStreamExt};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The column of a group's number, which counts from 1.
const GROUP: &str = "group";

/// Makes the shards of a stage; a partition's rows are the [`ManifestLine`]s of its group.
#[derive(Debug)]
pub struct ShardStageExec {
    task: StageTask,
    groups: Arc<dyn ExecutionPlan>,
    /// None where plans are only passed on: on the client and the scheduler.
    runner: Option<Arc<Runner>>,
    properties: Arc<PlanProperties>,
}

impl ShardStageExec {
    /// The plan of a whole stage.
    ///
    /// # Errors
    /// When DataFusion refuses the table of groups.
    pub fn of_stage(task: StageTask, runner: Option<Arc<Runner>>) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = Arc::new(Schema::new(vec![Field::new(GROUP, DataType::UInt64, false)]));
        let group = |index: usize| {
            let column = Arc::new(UInt64Array::from(vec![index as u64]));
            Ok(vec![RecordBatch::try_new(schema.clone(), vec![column])?])
        };
        let groups: Result<Vec<_>, arrow::error::ArrowError> = (1..=task.of).map(group).collect();
        let groups = groups.map_err(|e| ClusterError::Format(e.to_string()))?;
        let groups = MemorySourceConfig::try_new_exec(&groups, schema, None);
        let groups = groups.map_err(|e| ClusterError::Engine(e.to_string()))?;
        Ok(Arc::new(Self::over(task, groups, runner)))
    }

    /// The plan of the groups that a table lists.
    pub(crate) fn over(task: StageTask, groups: Arc<dyn ExecutionPlan>, runner: Option<Arc<Runner>>) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(ManifestLine::schema()),
            Partitioning::UnknownPartitioning(groups.properties().partitioning.partition_count()),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Self { task, groups, runner, properties: Arc::new(properties) }
    }

    /// The stage.
    pub fn task(&self) -> &StageTask {
        &self.task
    }
}

/// Sets a flag when it is dropped, as a stream is whose task was cancelled.
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Makes the groups that a batch lists, one after another, in a thread that may block.
async fn make(groups: RecordBatch, task: StageTask, runner: Arc<Runner>) -> EngineResult<RecordBatch> {
    let stop = Stop(Arc::new(AtomicBool::new(false)));
    let (stopped, worker) = (stop.0.clone(), runner.clone());
    let work = move || -> Result<RecordBatch> {
        let mut lines = Vec::new();
        for group in column::<UInt64Array>(&groups, GROUP)?.values() {
            let index = usize::try_from(*group).ok().filter(|index| (1..=task.of).contains(index));
            let index = index.ok_or_else(|| ClusterError::Format(format!("group {group} of {}", task.of)))?;
            lines.extend(worker.run(&task, index, &stopped)?);
        }
        ManifestLine::batch(&lines)
    };
    // A thread is as patient as the one that it is made by: a task of that runtime makes it.
    let made = runner.threads().spawn(async { tokio::task::spawn_blocking(work).await }).await;
    let made = made.and_then(|made| made).map_err(|e| DataFusionError::External(e.into()))?;
    if made.as_ref().is_err_and(ClusterError::is_retryable) {
        runner.rest();
    }
    Ok(made?)
}

impl DisplayAs for ShardStageExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ShardStageExec: {} of {}, {} groups", self.task.stage.verb(), self.task.source, self.task.of)
    }
}

impl ExecutionPlan for ShardStageExec {
    fn name(&self) -> &str {
        "ShardStageExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.groups]
    }

    /// Groups are what they are: no optimiser is to split or join them.
    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> EngineResult<TreeNodeRecursion>,
    ) -> EngineResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        match <[_; 1]>::try_from(children) {
            Ok([groups]) => Ok(Arc::new(Self::over(self.task.clone(), groups, self.runner.clone()))),
            Err(others) => Err(ClusterError::Format(format!("a stage over {} tables of groups", others.len())).into()),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> EngineResult<SendableRecordBatchStream> {
        let runner = self.runner.clone().ok_or_else(|| {
            DataFusionError::from(ClusterError::Engine(
                "this process makes no shards: it only passes plans on".to_owned(),
            ))
        })?;
        let groups = self.groups.execute(partition, context)?;
        let task = self.task.clone();
        let made = groups.and_then(move |groups| make(groups, task.clone(), runner.clone()));
        Ok(Box::pin(RecordBatchStreamAdapter::new(ManifestLine::schema(), made.boxed())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::tests::task;
    use ballista_scheduler::state::task_builder::restrict_plan_to_partitions;
    use datafusion::physical_plan::collect_partitioned;

    #[test]
    fn a_task_gets_the_groups_that_it_is_to_make_and_no_others() {
        let plan = ShardStageExec::of_stage(task(5), None).expect("a plan");
        assert_eq!(plan.properties().partitioning.partition_count(), 5);
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        for wanted in [vec![3], vec![0, 4]] {
            let picked = restrict_plan_to_partitions(plan.clone(), &wanted).expect("Ballista picks");
            assert_eq!(picked.properties().partitioning.partition_count(), wanted.len());
            let groups = runtime.block_on(collect_partitioned(picked.children()[0].clone(), Arc::default()));
            let groups: Vec<u64> = groups.expect("rows").iter().flatten().map(first_group).collect();
            assert_eq!(groups, wanted.iter().map(|partition| *partition as u64 + 1).collect::<Vec<_>>());
        }
    }

    fn first_group(batch: &RecordBatch) -> u64 {
        column::<UInt64Array>(batch, GROUP).expect("a column").value(0)
    }

    #[test]
    fn who_passes_plans_on_executes_none() {
        let plan = ShardStageExec::of_stage(task(1), None).expect("a plan");
        let refused = plan.execute(0, Arc::default()).err().expect("no runner").to_string();
        assert!(refused.contains("only passes plans on"), "{refused}");
    }
}
