//! The plan as bytes, for the client, the scheduler and the executors alike; and who refuses it.
//!
//! Ours begin with a word that no message of Ballista's begins with; everything else is Ballista's own codec's.

use crate::{ClusterError, Runner, ShardStageExec, StageTask};
use ballista_core::serde::BallistaPhysicalExtensionCodec;
use datafusion::error::Result as EngineResult;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use datafusion_proto::physical_plan::{PhysicalExtensionCodec, PhysicalProtoConverterExtension};
use std::sync::Arc;

/// What our bytes begin with. As a protobuf tag the first letter would end a group that nothing has begun.
const MAGIC: &[u8] = b"LAPIDARY";

/// Encodes and decodes [`ShardStageExec`]. With a runner it refuses what is of another version.
#[derive(Debug, Default)]
pub struct ShardStageCodec {
    ballista: BallistaPhysicalExtensionCodec,
    runner: Option<Arc<Runner>>,
}

impl ShardStageCodec {
    /// For an executor.
    pub fn with_runner(runner: Arc<Runner>) -> Self {
        Self { ballista: BallistaPhysicalExtensionCodec::default(), runner: Some(runner) }
    }
}

/// A plan that a scheduler does not understand is most likely of another version, which then is what to say.
fn of_another_version(error: ClusterError, json: &[u8]) -> ClusterError {
    let ours = env!("CARGO_PKG_VERSION").to_owned();
    match StageTask::version_in(json) {
        Ok(theirs) if theirs != ours => ClusterError::OtherVersion { worker: "the scheduler".to_owned(), ours, theirs },
        _ => error,
    }
}

impl PhysicalExtensionCodec for ShardStageCodec {
    fn try_decode(
        &self,
        bytes: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        context: &TaskContext,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        let Some(json) = bytes.strip_prefix(MAGIC) else {
            return self.ballista.try_decode(bytes, inputs, context, converter);
        };
        if let Some(runner) = &self.runner {
            runner.refuse_other_version(&StageTask::version_in(json)?)?;
        }
        let task = StageTask::from_json(json).map_err(|error| of_another_version(error, json))?;
        match inputs {
            [groups] => Ok(Arc::new(ShardStageExec::over(task, groups.clone(), self.runner.clone()))),
            others => Err(ClusterError::Format(format!("a stage over {} tables of groups", others.len())).into()),
        }
    }

    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        bytes: &mut Vec<u8>,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> EngineResult<()> {
        match node.downcast_ref::<ShardStageExec>() {
            Some(stage) => {
                bytes.extend_from_slice(MAGIC);
                bytes.extend(stage.task().to_json()?);
                Ok(())
            }
            None => self.ballista.try_encode(node, bytes, converter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::tests::task;
    use ballista_core::JobId;
    use ballista_core::execution_plans::ShuffleWriterExec;
    use datafusion_proto::physical_plan::AsExecutionPlan;
    use datafusion_proto::protobuf::PhysicalPlanNode;
    use std::os::unix::fs::PermissionsExt;

    fn bytes_of(plan: Arc<dyn ExecutionPlan>) -> Vec<u8> {
        let node = PhysicalPlanNode::try_from_physical_plan(plan, &ShardStageCodec::default()).expect("encodes");
        let mut bytes = Vec::new();
        node.try_encode(&mut bytes).expect("encodes");
        bytes
    }

    fn plan_of(bytes: &[u8], codec: &ShardStageCodec) -> EngineResult<Arc<dyn ExecutionPlan>> {
        PhysicalPlanNode::try_decode(bytes)?.try_into_physical_plan(&TaskContext::default(), codec)
    }

    #[test]
    fn a_plan_comes_back_also_below_a_node_of_ballista() {
        let plan = ShardStageExec::of_stage(task(4), None).expect("a plan");
        let job = JobId::from("job".to_owned());
        let written = ShuffleWriterExec::try_new(job, 1, plan.clone(), String::new()).expect("a plan");
        for (plan, depth) in [(plan, 0), (Arc::new(written) as Arc<dyn ExecutionPlan>, 1)] {
            let back = plan_of(&bytes_of(plan), &ShardStageCodec::default()).expect("decodes");
            let stage = if depth == 0 { &back } else { back.children()[0] };
            assert_eq!(stage.downcast_ref::<ShardStageExec>().expect("our node").task(), &task(4));
            assert_eq!(stage.properties().partitioning.partition_count(), 4);
        }
    }

    #[test]
    fn the_bytes_do_not_grow_with_what_is_in_a_group() {
        let most = task(StageTask::MAX_GROUPS);
        let bytes = bytes_of(ShardStageExec::of_stage(most, None).expect("a plan"));
        assert!(bytes.len() < 4 << 20, "{} bytes; Ballista's messages may have 16 MiB", bytes.len());
    }

    #[test]
    fn another_version_and_odd_bytes_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let lapidary = folder.path().join("lapidary");
        std::fs::write(&lapidary, "#!/bin/sh\necho lapidary 9.9.9\n").expect("writes");
        std::fs::set_permissions(&lapidary, std::fs::Permissions::from_mode(0o755)).expect("a program");
        let runner = Runner::new(&lapidary, folder.path(), "node-7").expect("runs");
        let codec = ShardStageCodec::with_runner(Arc::new(runner));
        let bytes = bytes_of(ShardStageExec::of_stage(task(1), None).expect("a plan"));
        let refused = plan_of(&bytes, &codec).expect_err("another version").to_string();
        assert!(refused.contains("executor node-7 runs Lapidary 9.9.9, the plan is of 0.1.0"), "{refused}");
        // A scheduler of ours that knows less than the plan says says which version it is.
        let newer = br#"{"lapidary": "0.9.0", "later": []}"#;
        let refused =
            of_another_version(StageTask::from_json(newer).expect_err("it has another field"), newer).to_string();
        assert!(refused.contains("the scheduler runs Lapidary 0.1.0, the plan is of 0.9.0"), "{refused}");
        for cut in [1, bytes.len() / 2, bytes.len() - 1] {
            assert!(plan_of(&bytes[..cut], &ShardStageCodec::default()).is_err(), "cut at {cut}");
        }
    }
}
