//! `lapidary-cluster`: what `lapidary fingerprint`, `embed` and `curate` become with `--cluster`. The maps go to the executors,
//! everything else is done by `lapidary` on this machine, as without a cluster.

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};
use lapidary_cluster::{
    Cluster, ClusterError, ManifestLine, Stage, StageTask, Submission, build_of, shard_names, sibling_binary,
    version_of,
};
use lapidary_pipeline::cli::{CommonArgs, Failure, run_main, to_toml};
use lapidary_pipeline::stage::{read_manifest, require_shards};
use lapidary_pipeline::{PipelineError, encoder_name, remote, weights_file};
use lapidary_schemas::Config;
use lapidary_schemas::tables::KEPT_FILE;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// Which cluster, and how patient its client is.
#[derive(Debug, Clone, Args)]
struct ClusterArgs {
    /// The scheduler's address
    #[arg(long, value_name = "df://HOST:PORT")]
    cluster: Cluster,
    /// Give up when no shard was made for so long; a warning comes after a minute
    #[arg(long, value_name = "SECONDS", default_value_t = 14_400, value_parser = clap::value_parser!(u64).range(1..))]
    give_up_secs: u64,
}

/// The options of [`ClusterArgs`], which `lapidary` itself has none of.
const CLUSTER_OPTIONS: [&str; 2] = ["--cluster", "--give-up-secs"];

#[derive(Debug, Subcommand)]
enum Verb {
    /// Take hashes, keypoints and measures of quality of all images, on a cluster
    Fingerprint {
        /// The cluster
        #[command(flatten)]
        cluster: ClusterArgs,
    },
    /// Turn images into embeddings, on a cluster
    Embed {
        /// The cluster
        #[command(flatten)]
        cluster: ClusterArgs,
        /// `descriptor`, a run's name, or a file or folder of weights that all executors see [default: embed.encoder]
        #[arg(long)]
        encoder: Option<String>,
        /// What executors compute on: cpu, cuda, cuda:N, wgpu, wgpu:N or auto
        #[arg(long, default_value = "auto")]
        device: String,
    },
    /// Fingerprint and embed on a cluster what is not yet; find duplicates, cluster and rank on this machine, but for assigning
    /// images to a tree that was fitted on a sample
    Curate {
        /// The cluster
        #[command(flatten)]
        cluster: ClusterArgs,
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
        Verb::Curate { cluster, seeds, .. } => {
            let stages = OnCluster::new(common, &cluster, None, "auto")?;
            stages.make(Stage::Fingerprint)?;
            if !stages.has_embeddings_from_elsewhere()? {
                stages.make(Stage::Embed)?;
            }
            let arguments = without_cluster(std::env::args_os().skip(1));
            if seeds.is_none() && stages.may_sample()? {
                stages.curate_until("groups", &arguments)?;
                if stages.is_sampled()? {
                    stages.curate_until("tree", &arguments)?;
                    stages.make(Stage::Assign)?;
                }
            }
            let error = Command::new(sibling_binary("lapidary")).args(arguments).exec();
            Err(anyhow!(error).context("run `lapidary curate`").into())
        }
    }
}

/// The arguments as they came, but for the options of a cluster and their values.
fn without_cluster(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut kept = Vec::new();
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let bytes = argument.as_encoded_bytes();
        let has_value =
            |option: &&str| bytes.strip_prefix(option.as_bytes()).is_some_and(|rest| rest.starts_with(b"="));
        if CLUSTER_OPTIONS.iter().any(|option| argument == *option) {
            arguments.next();
        } else if !CLUSTER_OPTIONS.iter().any(has_value) {
            kept.push(argument);
        }
    }
    kept
}

/// The stages of a source on a cluster.
struct OnCluster<'a> {
    common: &'a CommonArgs,
    cluster: &'a ClusterArgs,
    config: Config,
    device: &'a str,
    source: String,
    lapidary: PathBuf,
    /// OUT as `lapidary` is to be given it, and the folder that stands for it here when it is a URL.
    out: (String, Option<PathBuf>),
}

impl<'a> OnCluster<'a> {
    fn new(
        common: &'a CommonArgs,
        cluster: &'a ClusterArgs,
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
        let (source, lapidary) = (common.source()?, sibling_binary("lapidary"));
        Ok(Self { common, cluster, config, device, source, lapidary, out: out_of(common)? })
    }

    /// Vectors that `embed --from` took are nothing to compute, here or elsewhere.
    fn has_embeddings_from_elsewhere(&self) -> Result<bool, Failure> {
        let layout = self.common.layout();
        let folder = layout.embeddings(&self.source, &encoder_name(&self.config.embed.encoder)?);
        match require_shards(&folder, "embeddings", "") {
            Ok(manifest) => Ok(manifest.config.get("from").is_some()),
            Err(PipelineError::Missing { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether there are so many images that the tree of clusters may be fitted on a sample.
    fn may_sample(&self) -> Result<bool, Failure> {
        let images = self.common.layout().images(&self.source);
        let images = require_shards(&images, "ingested images", "run `lapidary ingest --data DIR` first")?;
        Ok(!self.common.dry_run && self.is_more_than_fitted(images.rows.output))
    }

    /// Whether so many stay, once groups have been found.
    fn is_sampled(&self) -> Result<bool, Failure> {
        let groups = read_manifest(&self.common.layout().groups(&self.source))?;
        Ok(self.is_more_than_fitted(groups.outputs.get(KEPT_FILE).map_or(0, |kept| kept.rows)))
    }

    fn is_more_than_fitted(&self, images: u64) -> bool {
        let curate = &self.config.curate;
        curate.seeds.is_empty() && images > curate.tree_max_images as u64
    }

    /// Curates here up to a stage; `arguments` are those of `lapidary curate`.
    fn curate_until(&self, stage: &str, arguments: &[OsString]) -> Result<(), Failure> {
        let mut command = Command::new(&self.lapidary);
        command.args(arguments).args(["--until", stage]);
        let status = command.status().with_context(|| format!("run `{}`", self.lapidary.display()))?;
        ended("curate", status)
    }

    /// Makes a stage, unless it is there.
    fn make(&self, stage: Stage) -> Result<(), Failure> {
        let layout = self.common.layout();
        let images = layout.images(&self.source);
        let images = require_shards(&images, "ingested images", "run `lapidary ingest --data DIR` first")?;
        let dry = self.facts(stage)?;
        if dry["outcome"] == "up_to_date" || self.common.dry_run {
            let dry_run: &[&str] = if self.common.dry_run { &["--dry-run"] } else { &[] };
            return self.say(stage.verb(), stage, dry_run);
        }
        let named = |key: &str| {
            let name = dry[key].as_str().filter(|name| !name.is_empty()).map(str::to_owned);
            name.ok_or_else(|| anyhow!("`lapidary {} --dry-run --json` says no `{key}`", stage.verb()))
        };
        let task = StageTask {
            lapidary: version_of(&self.lapidary).map_err(anyhow::Error::from)?,
            build: build_of(&self.lapidary, stage, &self.config.embed.encoder),
            stage,
            out: self.out.0.clone(),
            source: self.source.clone(),
            folder: named("folder")?,
            shares: named("shares")?,
            config: to_toml(&self.config),
            device: self.device.to_owned(),
            of: shard_names(&images).len().clamp(1, StageTask::MAX_GROUPS),
        };
        let give_up_after = Duration::from_secs(self.cluster.give_up_secs);
        let submission = Submission { task: &task, root: &layout.out, images: &images, give_up_after };
        let begun = Instant::now();
        let lines = match self.cluster.cluster.run(&submission) {
            Err(ClusterError::Pipeline(error)) => return Err(error.into()),
            lines => lines.map_err(anyhow::Error::from)?,
        };
        let made = Made::of(stage, &lines, begun.elapsed().as_secs_f64());
        tracing::info!("{}", made.text());
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
        command.args(["--out", &self.out.0, "--source", &self.source]);
        if let Some(cache) = &self.out.1 {
            command.arg("--cache").arg(cache);
        }
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
            // Nothing is computed here, where there may be no such device.
            command.args(["--encoder", &self.config.embed.encoder, "--device", "cpu"]);
        }
        if common.quiet {
            command.arg("--quiet");
        }
        command.args((0..common.verbose).map(|_| "-v"));
        command
    }
}

/// OUT for other processes, here and on executors: an absolute path, or the URL and the folder that stands for it here.
fn out_of(common: &CommonArgs) -> Result<(String, Option<PathBuf>), Failure> {
    if let Some(url) = remote::facts()["url"].as_str() {
        return Ok((url.to_owned(), Some(common.out.clone())));
    }
    let missing =
        |error| anyhow!("open `{}`: {error}\nhint: run `lapidary ingest --data DIR` first", common.out.display());
    let out = common.out.canonicalize().map_err(missing)?;
    let out =
        out.to_str().ok_or_else(|| anyhow!("`{}` is not UTF-8, which messages to executors are", out.display()))?;
    Ok((out.to_owned(), None))
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
    /// How many executors made what they were sent; none where the scheduler no longer knows.
    executors: Option<usize>,
    /// Seconds that executors worked, all of them together.
    executor_secs: f64,
    /// Seconds by the clock from the submission until all were made and seen.
    map_secs: f64,
}

impl Made {
    fn of(stage: Stage, lines: &[ManifestLine], map_secs: f64) -> Self {
        let executors: BTreeSet<&str> = lines.iter().map(|line| line.worker.as_str()).collect();
        let is_known = !executors.is_empty() && !executors.contains("");
        Self {
            stage,
            shards: lines.len(),
            images: lines.iter().map(|line| line.rows).sum(),
            bytes: lines.iter().map(|line| line.bytes).sum(),
            executors: is_known.then_some(executors.len()),
            executor_secs: lines.iter().map(|line| line.secs).sum(),
            map_secs,
        }
    }

    fn text(&self) -> String {
        let Self { stage, shards, images, executors, executor_secs, .. } = self;
        let stage = stage.verb();
        let executors = executors.map_or_else(String::new, |executors| format!(" by {executors} executors"));
        format!("{stage}: {shards} shards of {images} images{executors}, {executor_secs:.1} s of their time")
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
        assert_eq!(kept("curate --give-up-secs 5 --cluster df://a:1 --give-up-secs=6 --json"), "curate --json");
    }
}
