//! Which binary runs a verb: `lapidary` runs a stage itself or becomes the stage's binary beside it, as git does.

use crate::{PipelineError, Result};
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

/// The client of a cluster; a workspace of its own, which `make cluster` builds.
pub const CLUSTER_BINARY: &str = "lapidary-cluster";

/// Whether the executors of a cluster are asked to make the shards.
pub fn asks_for_cluster(arguments: &[OsString]) -> bool {
    arguments.iter().any(|a| a == "--cluster" || a.as_encoded_bytes().starts_with(b"--cluster="))
}

/// Stages that several processes can make shares of.
const SHARED_STAGES: [&str; 5] = ["ingest", "fingerprint", "embed", "assign", "cut"];

/// Which binary runs a verb, if not this one.
pub fn binary_of(verb: &str) -> Option<&'static str> {
    match verb {
        "fingerprint" | "duplicates" | "score" | "curate" | "assign" | "cut" | "diff" | "explain" => {
            Some("lapidary-curate")
        }
        "pretrain" | "export" | "doctor" | "gpu-check" => Some("lapidary-train"),
        "eval" | "adapt" | "compare" | "report" | "serve" | "card" => Some("lapidary-evaluate"),
        _ => None,
    }
}

/// `lapidary finish STAGE ...` is `lapidary STAGE ... --shard finish`.
pub fn finish(arguments: &[OsString]) -> ExitCode {
    let stage = arguments.first().and_then(|stage| stage.to_str()).unwrap_or_default();
    if !SHARED_STAGES.contains(&stage) {
        eprintln!("error: {}", no_shared_stage());
        return ExitCode::from(2);
    }
    let shard = ["--shard", "finish"].map(OsString::from);
    become_sibling("lapidary", &[arguments, &shard].concat())
}

fn no_shared_stage() -> String {
    format!("`lapidary finish STAGE` ends what `--shard i/n` began: STAGE is {}", SHARED_STAGES.join(", "))
}

/// The same for arguments that begin with options: what they are without `finish`, and with `--shard finish`.
///
/// # Errors
/// When they name no stage that several processes can make.
pub fn finish_after_options(mut arguments: Vec<OsString>) -> Result<Vec<OsString>, PipelineError> {
    let is_finish = |pair: &[OsString]| pair[0] == "finish" && SHARED_STAGES.iter().any(|stage| pair[1] == *stage);
    let at = arguments.windows(2).position(is_finish).ok_or_else(|| PipelineError::Usage(no_shared_stage()))?;
    arguments.remove(at);
    arguments.extend(["--shard", "finish"].map(OsString::from));
    Ok(arguments)
}

/// Becomes a binary that lies beside this one: signals to the process that was started reach the work. Returns when that
/// cannot be.
pub fn become_sibling(binary: &str, arguments: &[OsString]) -> ExitCode {
    let path = std::env::current_exe().ok().and_then(|me| me.parent().map(|folder| folder.join(binary)));
    let path = path.filter(|path| path.is_file()).unwrap_or_else(|| PathBuf::from(binary));
    let error = Command::new(&path).args(arguments).exec();
    let hint = match binary {
        CLUSTER_BINARY => "`make cluster` builds what `--cluster` takes, beside this binary",
        _ => "`make build` builds all binaries",
    };
    eprintln!("error: run `{}`: {error}\nhint: {hint}", path.display());
    ExitCode::from(1)
}
