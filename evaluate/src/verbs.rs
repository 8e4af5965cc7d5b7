//! The verbs `adapt` and `compare` at the command line.

use clap::Args;
use lapidary_evaluate::adapt::{AdaptRequest, Adapted, Rung, adapt, said_of_rungs};
use lapidary_evaluate::compare::{Comparison, Format, RunFacts, finished_runs, gather, read_lines, render};
use lapidary_pipeline::PipelineError;
use lapidary_pipeline::cli::{CommonArgs, Failure, announce};
use lapidary_train::backend::DeviceChoice;
use std::path::PathBuf;

/// Arguments of `adapt`.
#[derive(Debug, Args)]
pub(crate) struct AdaptArgs {
    /// The run [default: the one last trained]
    run: Option<String>,
    /// The probe's source [default: the one last ingested as a probe, else the source itself]
    #[arg(long)]
    probe: Option<String>,
    /// linear, mlp, lora, unfreeze, lp-ft, full, with commas between them [default: all]
    #[arg(long, value_name = "RUNGS", value_delimiter = ',')]
    with: Vec<Rung>,
    /// cpu, cuda, cuda:N, wgpu, wgpu:N or auto
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
}

/// Arguments of `compare`.
#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// Runs of the source, or of others as SOURCE/RUN [default: all finished ones of the source]
    runs: Vec<String>,
    /// The probe's source [default: the one last ingested as a probe, else the source itself]
    #[arg(long)]
    probe: Option<String>,
    /// text, csv, json, jsonl (the facts of each run), markdown, latex or html
    #[arg(long, default_value = "text")]
    format: Format,
    /// Compare the runs of this file too, as `--format jsonl` wrote it
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Call the group of these runs so, whatever their settings
    #[arg(long, value_name = "NAME")]
    called: Option<String>,
}

/// The probe that is meant where none is named.
fn probe_or_default(common: &CommonArgs, probe: Option<String>, source: &str) -> String {
    probe.unwrap_or_else(|| {
        let current = common.layout().current();
        if current.probe.is_empty() { source.to_owned() } else { current.probe }
    })
}

/// Adapts a run, and prints the ladder.
pub(crate) fn run_adapt(common: &CommonArgs, arguments: AdaptArgs) -> Result<(), Failure> {
    let (layout, source) = (common.layout(), common.source()?);
    let run = arguments.run.unwrap_or_else(|| layout.current().run);
    if run.is_empty() {
        let hint = "run `lapidary pretrain` first, or name one".to_owned();
        return Err(PipelineError::Missing { what: "run", path: common.out.clone(), hint }.into());
    }
    let request = AdaptRequest {
        probe: probe_or_default(common, arguments.probe, &source),
        rungs: if arguments.with.is_empty() { Rung::ALL.to_vec() } else { arguments.with },
        device: arguments.device,
        source,
        run,
    };
    let done = adapt(&layout, &request, &common.resolve()?, common.dry_run)?;
    let mut scores: Vec<Adapted> = Vec::new();
    for rung in done {
        announce(common, "adapt", &rung.folder, rung.outcome, rung.manifest.as_ref());
        let facts = rung.manifest.map(|manifest| manifest.facts);
        scores.extend(facts.and_then(|facts| serde_json::from_value(facts).ok()));
    }
    if !common.json && !scores.is_empty() {
        said_of_rungs(&scores).iter().for_each(|line| println!("{:>8}  {line}", ""));
    }
    Ok(())
}

/// Compares runs, and prints their tables.
pub(crate) fn run_compare(common: &CommonArgs, arguments: CompareArgs) -> Result<(), Failure> {
    let layout = common.layout();
    let mut facts: Vec<RunFacts> = match &arguments.from {
        Some(path) => read_lines(path)?,
        None => Vec::new(),
    };
    if !arguments.runs.is_empty() || arguments.from.is_none() {
        let source = match common.source() {
            // Runs that are named with their source need no other.
            Err(_) if arguments.runs.iter().all(|run| run.contains('/')) && !arguments.runs.is_empty() => String::new(),
            source => source?,
        };
        let probe = probe_or_default(common, arguments.probe, &source);
        let all = || finished_runs(&layout, &source);
        let named = if arguments.runs.is_empty() { all() } else { arguments.runs };
        for run in &named {
            facts.push(gather(&layout, &source, run, &probe, arguments.called.as_deref())?);
        }
    }
    if facts.is_empty() {
        let hint = "run `lapidary pretrain` first, or name runs as SOURCE/RUN".to_owned();
        return Err(PipelineError::Missing { what: "finished run", path: common.out.clone(), hint }.into());
    }
    let format = if common.json { Format::Json } else { arguments.format };
    if format == Format::Jsonl {
        for run in &facts {
            println!("{}", serde_json::to_string(run).map_err(|e| PipelineError::Internal(e.to_string()))?);
        }
    } else {
        print!("{}", render(&Comparison::of(&facts), format)?);
    }
    Ok(())
}
