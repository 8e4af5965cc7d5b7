//! The plan on plain DataFusion, in this process: no scheduler, no executors.

use crate::commands::{binary, copy_images, ingest, lapidary, manifest, run, text};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::{ExecutionPlan, collect};
use lapidary_cluster::{ManifestLine, Runner, ShardStageExec, Stage, StageTask, build_of, version_of};
use lapidary_pipeline::stage::Layout;
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;

fn plan_of(out: &Path, work_dir: &Path, stage: Stage, of: usize) -> Arc<dyn ExecutionPlan> {
    let config = lapidary(&["config"]).stdout;
    let dry = lapidary(&[stage.verb(), "--out", text(out), "--dry-run", "--json"]);
    let dry: Value = serde_json::from_slice(&dry.stdout).expect("JSON");
    let named = |key: &str| dry[key].as_str().expect("a name").to_owned();
    let task = StageTask {
        lapidary: version_of(&binary("lapidary")).expect("it says so"),
        build: build_of(&binary("lapidary"), stage, "descriptor"),
        stage,
        out: text(out).to_owned(),
        source: "pile".to_owned(),
        folder: named("folder"),
        shares: named("shares"),
        config: String::from_utf8(config).expect("UTF-8"),
        device: "cpu".to_owned(),
        of,
    };
    let runner = Runner::new(&binary("lapidary"), work_dir, "here").expect("runs");
    ShardStageExec::of_stage(task, Some(Arc::new(runner))).expect("a plan")
}

#[test]
fn a_stage_is_a_plan_that_may_run_twice() {
    let folder = tempfile::tempdir().expect("a folder");
    let (pile, out, alone) = (folder.path().join("pile"), folder.path().join("out"), folder.path().join("alone"));
    assert!(lapidary(&["draw", text(&pile)]).status.success());
    ingest(&out, &pile, "pile", 1);
    copy_images(&out, &alone, "pile");
    let shards = Layout::shards(&out.join("pile/images")).expect("shards").len();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    for (stage, made) in [(Stage::Fingerprint, "pile/fingerprints"), (Stage::Embed, "pile/embeddings/descriptor")] {
        let lines = |of: usize| {
            let plan = plan_of(&out, &folder.path().join("work"), stage, of);
            assert_eq!(plan.properties().partitioning.partition_count(), of);
            let batches = runtime.block_on(collect(plan, Arc::new(TaskContext::default()))).expect("it runs");
            ManifestLine::from_batches(&batches).expect("lines")
        };
        let first = lines(shards);
        assert_eq!(first.len(), shards, "a line for every shard");
        assert!(first.iter().all(|line| line.secs > 0.0 && line.worker == "here"));
        // Again, and in other groups: what is there is not made again, and its lines are the same.
        assert_eq!(lines(2), first);
        // Options may come first.
        let finished = lapidary(&["--out", text(&out), "finish", stage.verb(), "--quiet"]);
        assert!(finished.status.success(), "{}", String::from_utf8_lossy(&finished.stderr));
        run(&alone, &[stage.verb(), "--quiet"]);
        let stage_folder = made.trim_start_matches("pile/");
        let (ours, theirs) = (manifest(&out, "pile", stage_folder), manifest(&alone, "pile", stage_folder));
        assert_eq!(ours["digest"], theirs["digest"], "{made}");
        for line in &first {
            let output = &ours["outputs"][&line.shard];
            assert_eq!(
                (output["digest"].as_str(), output["rows"].as_u64()),
                (Some(line.digest.as_str()), Some(line.rows))
            );
        }
    }
}
