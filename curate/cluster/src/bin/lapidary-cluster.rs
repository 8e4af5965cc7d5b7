//! `lapidary-cluster`: what `lapidary fingerprint`, `embed` and `curate` become with `--cluster`. The maps go to the executors,
//! everything else is done by `lapidary` on this machine, as without a cluster.

use anyhow::{Context, anyhow};
use clap::Subcommand;
use lapidary_cluster::{Cluster, ManifestLine, Stage, StageTask, beside, version_of};
use lapidary_pipeline::cli::{CommonArgs, Failure, run_main, to_toml};
use lapidary_pipeline::stage::{Layout, require_manifest};
use lapidary_pipeline::{encoder_name, weights_file};
use lapidary_schemas::Config;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

#[derive(Debug, Subcommand)]
enum Verb {
    /// Take hashes, keypoints and measures of quality of all images, on a cluster
    Fingerprint {
        /// The scheduler's address
        #[arg(long, value_name = "df://HOST:PORT")]
        cluster: Cluster,
    },
    /// Turn images into embeddings, on a cluster
    Embed {
        /// The scheduler's address
        #[arg(long, value_name = "df://HOST:PORT")]
        cluster: Cluster,
        /// `descriptor`, a run's name, or a file or folder of weights that all executors see [default: embed.encoder]
        #[arg(long)]
        encoder: Option<String>,
        /// What executors compute on: cpu, cuda, cuda:N, wgpu, wgpu:N or auto
        #[arg(long, default_value = "auto")]
        device: String,
    },
    /// Fingerprint and embed on a cluster what is not yet; find duplicates, cluster and rank on this machine
    Curate {
        /// The scheduler's address
        #[arg(long, value_name = "df://HOST:PORT")]
        cluster: Cluster,
        /// As `lapidary curate` has it
        #[arg(long)]
        rebuild: bool,
        /// As `lapidary curate` has it
        #[arg(long, value_name = "SOURCE|DIR|FILE", allow_hyphen_values = true)]
        seeds: Option<PathBuf>,
        /// As `lapidary curate` has it
        #[arg(long, value_name = "SOURCE|DIR", allow_hyphen_values = true)]
        against: Vec<PathBuf>,
    },
}

fn main() -> ExitCode {
    run_main("Stages whose shards the executors of a cluster make", run)
}

fn run(common: &CommonArgs, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Fingerprint { cluster } => OnCluster::new(common, &cluster, None, "auto")?.make(Stage::Fingerprint),
        Verb::Embed { cluster, encoder, device } => {
            OnCluster::new(common, &cluster, encoder, &device)?.make(Stage::Embed)
        }
        Verb::Curate { cluster, .. } => {
            let stages = OnCluster::new(common, &cluster, None, "auto")?;
            stages.make(Stage::Fingerprint)?;
            if !stages.has_embeddings_from_elsewhere()? {
                stages.make(Stage::Embed)?;
            }
            let arguments = without_cluster(std::env::args_os().skip(1));
            let error = Command::new(beside("lapidary")).args(arguments).exec();
            Err(anyhow!(error).context("run `lapidary curate`").into())
        }
    }
}

/// The arguments as they came, but for `--cluster` and its value.
fn without_cluster(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut kept = Vec::new();
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        if argument == "--cluster" {
            arguments.next();
        } else if !argument.as_encoded_bytes().starts_with(b"--cluster=") {
            kept.push(argument);
        }
    }
    kept
}

/// The stages of a source on a cluster.
struct OnCluster<'a> {
    common: &'a CommonArgs,
    cluster: &'a Cluster,
    config: Config,
    device: &'a str,
    source: String,
    lapidary: PathBuf,
}

impl<'a> OnCluster<'a> {
    fn new(
        common: &'a CommonArgs,
        cluster: &'a Cluster,
        encoder: Option<String>,
        device: &'a str,
    ) -> Result<Self, Failure> {
        let mut config = common.resolve()?;
        if let Some(encoder) = encoder {
            config.embed.encoder = encoder;
        }
        // Executors stand elsewhere.
        if let Some(weights) = weights_file(Path::new(&config.embed.encoder)) {
            let weights = weights.canonicalize().with_context(|| format!("open `{}`", weights.display()))?;
            config.embed.encoder = weights.to_string_lossy().into_owned();
        }
        Ok(Self { common, cluster, config, device, source: common.source()?, lapidary: beside("lapidary") })
    }

    /// Vectors that `embed --from` took are nothing to compute, here or elsewhere.
    fn has_embeddings_from_elsewhere(&self) -> Result<bool, Failure> {
        let layout = self.common.layout();
        let folder = layout.embeddings(&self.source, &encoder_name(&self.config.embed.encoder)?);
        let manifest = require_manifest(&folder, "embeddings", "");
        Ok(manifest.is_ok_and(|manifest| manifest.config.get("from").is_some()))
    }

    /// Makes a stage, unless it is there.
    fn make(&self, stage: Stage) -> Result<(), Failure> {
        let dry = self.facts(stage)?;
        if dry["outcome"] == "up_to_date" || self.common.dry_run {
            let dry_run: &[&str] = if self.common.dry_run { &["--dry-run"] } else { &[] };
            return self.say(stage.verb(), stage, dry_run);
        }
        let layout = self.common.layout();
        let images = layout.images(&self.source);
        let manifest = require_manifest(&images, "ingested images", "run `lapidary ingest --data DIR` first")?;
        let out = layout.out.canonicalize().with_context(|| format!("open `{}`", layout.out.display()))?;
        let task = StageTask {
            lapidary: version_of(&self.lapidary).map_err(anyhow::Error::from)?,
            stage,
            out,
            source: self.source.clone(),
            folder: dry["folder"].as_str().unwrap_or_default().to_owned(),
            config: to_toml(&self.config),
            device: self.device.to_owned(),
            of: Layout::shards(&images)?.len().min(StageTask::MAX_GROUPS),
        };
        let lines = match self.cluster.run(&task, &manifest) {
            Err(lapidary_cluster::ClusterError::Pipeline(error)) => return Err(error.into()),
            lines => lines.map_err(anyhow::Error::from)?,
        };
        let made = Made::of(stage, &lines);
        tracing::info!("{}", made.said());
        if self.common.json {
            println!("{}", serde_json::json!({"cluster": made}));
        }
        self.say("finish", stage, &[])
    }

    /// What the stage would do, as `lapidary` says it.
    fn facts(&self, stage: Stage) -> Result<Value, Failure> {
        let mut command = self.command(stage.verb(), stage);
        command.args(["--dry-run", "--json"]).stdin(Stdio::null()).stderr(Stdio::inherit());
        let output = command.output().with_context(|| format!("run `{}`", self.lapidary.display()))?;
        ended(stage.verb(), output.status)?;
        Ok(serde_json::from_slice(&output.stdout).context("read what `lapidary --dry-run --json` said")?)
    }

    /// Runs `lapidary`, which says what became of the stage.
    fn say(&self, verb: &str, stage: Stage, more: &[&str]) -> Result<(), Failure> {
        let mut command = self.command(verb, stage);
        command.args(more);
        if self.common.json {
            command.arg("--json");
        }
        let status = command.status().with_context(|| format!("run `{}`", self.lapidary.display()))?;
        ended(verb, status)
    }

    fn command(&self, verb: &str, stage: Stage) -> Command {
        let common = self.common;
        let mut command = Command::new(&self.lapidary);
        command.arg(verb);
        if verb == "finish" {
            command.arg(stage.verb());
        }
        command.arg("--out").arg(&common.out).args(["--source", &self.source]);
        if let Some(preset) = &common.preset {
            command.args(["--preset", preset]);
        }
        if let Some(config) = &common.config {
            command.arg("--config").arg(config);
        }
        for key in &common.set {
            command.args(["--set", key]);
        }
        if stage == Stage::Embed {
            command.args(["--encoder", &self.config.embed.encoder, "--device", self.device]);
        }
        if common.quiet {
            command.arg("--quiet");
        }
        command.args((0..common.verbose).map(|_| "-v"));
        command
    }
}

/// A process's failure is this one's, with its exit code; it has said why itself.
fn ended(verb: &str, status: std::process::ExitStatus) -> Result<(), Failure> {
    if status.success() {
        return Ok(());
    }
    let exit_code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    Err(Failure { exit_code, error: anyhow!("`lapidary {verb}` did not succeed: {status}") })
}

/// What executors did.
#[derive(Debug, Serialize)]
struct Made {
    stage: Stage,
    shards: usize,
    images: u64,
    bytes: u64,
    executors: usize,
    /// Seconds that executors worked, all of them together.
    executor_secs: f64,
}

impl Made {
    fn of(stage: Stage, lines: &[ManifestLine]) -> Self {
        Self {
            stage,
            shards: lines.len(),
            images: lines.iter().map(|line| line.rows).sum(),
            bytes: lines.iter().map(|line| line.bytes).sum(),
            executors: lines.iter().map(|line| line.worker.as_str()).collect::<BTreeSet<_>>().len(),
            executor_secs: lines.iter().map(|line| line.secs).sum(),
        }
    }

    fn said(&self) -> String {
        let Self { stage, shards, images, executors, executor_secs, .. } = self;
        let stage = stage.verb();
        format!(
            "{stage}: {shards} shards of {images} images by {executors} executors, {executor_secs:.1} s of their time"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cluster_is_taken_out_of_the_arguments() {
        let kept = |text: &str| without_cluster(text.split(' ').map(OsString::from)).join(&OsString::from(" "));
        assert_eq!(kept("curate --cluster df://a:1 --out x"), "curate --out x");
        assert_eq!(kept("--out x curate --cluster=df://a:1 --rebuild"), "--out x curate --rebuild");
    }
}
