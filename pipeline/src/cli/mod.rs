//! The skeleton that all binaries share: arguments, configuration, logs, exit codes, what is said on success.

mod closed_pipe;
pub mod dispatch;
mod resolve;
mod say;
pub mod upkeep;

pub use resolve::{resolve, to_toml};
pub use say::{announce, announce_shared, say};

use crate::stage::{Layout, progress};
use crate::{PipelineError, interrupt, remote};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use lapidary_schemas::Config;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Arguments that every verb takes.
#[derive(Debug, Clone, Args)]
pub struct CommonArgs {
    /// The folder that everything is written under, or a place in a store: s3://bucket/out, gs://, az://
    #[arg(long, default_value = "out", value_name = "DIR|URL", global = true)]
    pub out: PathBuf,
    /// The folder that stands for a store here [default: one for each URL under $XDG_CACHE_HOME/lapidary]
    #[arg(long, value_name = "DIR", global = true)]
    pub cache: Option<PathBuf>,
    /// The source to work on, by its name or its folder [default: the one last ingested]
    #[arg(long, value_name = "NAME|DIR", global = true)]
    pub source: Option<PathBuf>,
    /// A built-in configuration: demo, cifar-vitti4, coco-vits16
    #[arg(long, value_name = "NAME", global = true)]
    pub preset: Option<String>,
    /// A TOML file laid over the preset
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// A single key laid over both, e.g. pretrain.batch=32 (repeatable)
    #[arg(long = "set", value_name = "KEY=VALUE", global = true)]
    pub set: Vec<String>,
    /// Say what would be done, and do nothing
    #[arg(long, global = true)]
    pub dry_run: bool,
    /// Print what is said as JSON on stdout
    #[arg(long, global = true)]
    pub json: bool,
    /// Say more (-vv: still more)
    #[arg(long, short, action = clap::ArgAction::Count, global = true)]
    pub verbose: u8,
    /// Say only warnings and errors
    #[arg(long, short, global = true)]
    pub quiet: bool,
}

impl CommonArgs {
    /// Lets a folder stand for OUT, when that lies in a store: from here on OUT is that folder.
    fn attach(&mut self) -> crate::Result<()> {
        match self.out.to_str().filter(|out| remote::is_url(out)) {
            Some(url) => self.out = remote::attach(url, self.cache.as_deref())?,
            None => self.out = remote::local_path(&self.out)?,
        }
        Ok(())
    }

    /// OUT as the user knows it.
    pub fn out_in_words(&self) -> String {
        remote::in_words(&self.out)
    }

    /// The output tree.
    pub fn layout(&self) -> Layout {
        Layout::new(&self.out)
    }

    /// The resolved configuration.
    ///
    /// # Errors
    /// [`PipelineError::Usage`] for a key or value that cannot be.
    pub fn resolve(&self) -> crate::Result<Config> {
        resolve(self.preset.as_deref(), self.config.as_deref(), &self.set)
    }

    /// The source to work on.
    ///
    /// # Errors
    /// When none was named and none was ingested.
    pub fn source(&self) -> crate::Result<String> {
        if let Some(named) = &self.source {
            return self.layout().source_named(named);
        }
        let source = self.layout().current().source;
        if source.is_empty() {
            return Err(PipelineError::Missing {
                what: "source",
                path: self.out.clone(),
                hint: "run `lapidary ingest --data DIR` first, or name one with --source".to_owned(),
            });
        }
        Ok(source)
    }
}

/// An error on its way out of the process, with the exit code it asks for.
#[derive(Debug)]
pub struct Failure {
    /// 1 failed, 2 wrong usage, 3 too much rejected, 4 empty selection, 130 interrupted.
    pub exit_code: u8,
    /// What to print.
    pub error: anyhow::Error,
}

impl From<PipelineError> for Failure {
    fn from(error: PipelineError) -> Self {
        Self { exit_code: error.exit_code(), error: error.into() }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self { exit_code: 1, error }
    }
}

/// A binary's command line: what all verbs take, and the verb.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli<V: Subcommand> {
    #[command(flatten)]
    common: CommonArgs,
    #[command(subcommand)]
    verb: V,
}

/// Parses arguments, starts logging and interrupts, runs the verb, prints its error and returns its exit code.
///
/// `about` is the line that `--help` begins with.
pub fn run_main<V: Subcommand>(
    about: &'static str,
    verb: impl FnOnce(&CommonArgs, V) -> Result<(), Failure>,
) -> ExitCode {
    // Users type `lapidary VERB`, whichever binary it is that runs the verb.
    let command = Cli::<V>::command().name("lapidary").bin_name("lapidary").about(about);
    let parsed = command.try_get_matches().and_then(|matches| Cli::<V>::from_arg_matches(&matches));
    let mut cli = match parsed {
        Ok(cli) => cli,
        Err(usage) => {
            let _ = usage.print();
            return ExitCode::from(if usage.use_stderr() { 2 } else { 0 });
        }
    };
    start_logging(cli.common.verbose, cli.common.quiet);
    interrupt::install();
    closed_pipe::end_quietly();
    let attached = cli.common.attach().map_err(Failure::from);
    match attached.and_then(|()| verb(&cli.common, cli.verb)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let text = remote::explained(&format!("{:#}", failure.error));
            progress::suspend(|| eprintln!("error: {text}"));
            ExitCode::from(failure.exit_code)
        }
    }
}

fn start_logging(verbose: u8, quiet: bool) {
    let level = match (quiet, verbose) {
        (true, _) => "warn",
        (_, 0) => "info",
        (_, 1) => "debug",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_env("LAPIDARY_LOG").unwrap_or_else(|_| EnvFilter::new(format!("warn,lapidary={level},lapidary_pipeline={level},lapidary_curate={level},lapidary_train={level},lapidary_evaluate={level}")));
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colour)
        .without_time()
        .with_target(false)
        .with_writer(AboveBars)
        .init();
}

/// Writes log lines above the progress bars instead of through them.
struct AboveBars;

impl Write for AboveBars {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        progress::suspend(|| std::io::stderr().write(bytes))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

impl MakeWriter<'_> for AboveBars {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        Self
    }
}
