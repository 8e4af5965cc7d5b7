//! `lapidary-evaluate`: the verbs `eval`, `adapt`, `compare`, `report`, `serve` and `card`.

mod verbs;

use clap::Subcommand;
use lapidary_evaluate::{
    DEFAULT_PORT, ListenOn, Scores, Subject, dataset_cards, eval, model_card, report, said_of_all, said_of_scores,
    serve,
};
use lapidary_pipeline::PipelineError;
use lapidary_pipeline::cli::{CommonArgs, Failure, announce, run_main, say};
use lapidary_pipeline::stage::{Layout, Outcome};
use lapidary_train::backend::DeviceChoice;
use serde_json::json;
use std::path::Path;
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
enum Verb {
    /// Measure a run on one or more probes, beside its untrained twin
    Eval {
        /// The run [default: the one last trained]
        #[arg(long)]
        run: Option<String>,
        /// The probes' sources by name or folder, e.g. A,B; repeatable [default: the one last ingested as a probe, else the source itself]
        #[arg(long, value_name = "NAME|DIR,...")]
        probe: Vec<String>,
        /// cpu, cuda, cuda:N, wgpu, wgpu:N or auto
        #[arg(long, default_value = "auto")]
        device: DeviceChoice,
    },
    /// Adapt a run to a probe's classes, and say what each way cost and gained
    Adapt(verbs::AdaptArgs),
    /// Print runs side by side, mean and spread over seeds, and which differences are larger than the spread
    Compare(verbs::CompareArgs),
    /// Write the report
    Report {
        /// The subset [default: the one last cut]
        #[arg(long)]
        subset: Option<String>,
        /// A run; several are drawn in one chart (repeatable) [default: the one last trained]
        #[arg(long)]
        run: Vec<String>,
        /// Probe sets that the report shows alone, by name or folder, e.g. A,B; repeatable [default: all on which the runs were measured]
        #[arg(long, value_name = "NAME|DIR,...")]
        probe: Vec<String>,
    },
    /// Show what is there in a browser: grids of any subset, filters, a map
    Serve {
        /// Another address than 127.0.0.1; whoever reads from elsewhere needs the token that is printed
        #[arg(long, value_name = "ADDRESS")]
        listen: Option<std::net::IpAddr>,
        /// The port; 0 takes a free one
        #[arg(long, default_value_t = DEFAULT_PORT)]
        port: u16,
    },
    /// Write the card of a subset beside its exports, with Croissant metadata, or the card of a run
    Card {
        /// The subset [default: the one last cut]
        #[arg(long, conflicts_with = "run")]
        subset: Option<String>,
        /// The run, instead
        #[arg(long)]
        run: Option<String>,
        /// The folder for a run's card [default: OUT/SOURCE/cards/RUN]
        #[arg(long, value_name = "DIR", requires = "run")]
        into: Option<std::path::PathBuf>,
    },
}

fn main() -> ExitCode {
    lapidary_pipeline::keep_pages();
    run_main("Measure what was learned", run)
}

fn run(common: &CommonArgs, verb: Verb) -> Result<(), Failure> {
    let layout = common.layout();
    // Runs may be named with their source, or come from a file.
    let source = if matches!(verb, Verb::Compare(_)) { String::new() } else { common.source()? };
    let current = layout.current();
    let default_probe = || if current.probe.is_empty() { source.clone() } else { current.probe.clone() };
    match verb {
        Verb::Eval { run, probe, device } => {
            let run = run.unwrap_or_else(|| current.run.clone());
            if run.is_empty() {
                let hint = "run `lapidary pretrain` first, or name one with --run".to_owned();
                return Err(PipelineError::Missing { what: "run", path: common.out.clone(), hint }.into());
            }
            let config = common.resolve()?;
            // All names are looked up before the first is measured.
            let mut probes = probes_named(&layout, &probe)?;
            if probes.is_empty() {
                probes.push(default_probe());
            }
            let mut measured = Vec::new();
            for probe in probes {
                let (outcome, folder, manifest) =
                    eval(&layout, &source, &run, &probe, &config, device, common.dry_run)?;
                announce(common, "eval", &folder, outcome, manifest.as_ref());
                // An evaluation of another version is never up to date, so that these facts are of this one.
                let scores = manifest.and_then(|manifest| serde_json::from_value::<Scores>(manifest.facts).ok());
                if let Some(scores) = scores.filter(|_| !common.json) {
                    said_of_scores(&scores).iter().for_each(|line| println!("{:>8}  {line}", ""));
                    measured.push(scores);
                }
            }
            if measured.len() > 1 {
                said_of_all(&measured).iter().for_each(|line| println!("{:>8}  {line}", ""));
            }
        }
        Verb::Adapt(arguments) => verbs::run_adapt(common, arguments)?,
        Verb::Compare(arguments) => verbs::run_compare(common, arguments)?,
        Verb::Report { subset, run, probe } => {
            let subject = Subject {
                source: source.clone(),
                subset: subset.unwrap_or_else(|| current.subset.clone()),
                runs_are_named: !run.is_empty(),
                runs: if run.is_empty() {
                    Vec::from_iter((!current.run.is_empty()).then(|| current.run.clone()))
                } else {
                    run
                },
                probes: probes_named(&layout, &probe)?,
                first_probe: default_probe(),
            };
            let (outcome, path) = report(&layout, &subject, common.dry_run)?;
            let facts = json!({"stage": "report", "file": path, "outcome": outcome});
            say(common, &facts, || {
                let state = match outcome {
                    Outcome::UpToDate => "up to date",
                    Outcome::Ran => "written",
                    Outcome::WouldRun | Outcome::Shared => "would be written",
                };
                vec![format!("{:>8}  {state}: {}", "report", path.display())]
            });
        }
        Verb::Card { subset, run, into } => {
            let written = match run {
                Some(run) => vec![model_card(&layout, &source, &run, into.as_deref())?],
                None => dataset_cards(&layout, &source, &subset.unwrap_or_else(|| current.subset.clone()))?,
            };
            let facts = json!({"stage": "card", "files": written});
            say(common, &facts, || written.iter().map(|file| format!("{:>8}  {}", "card", file.display())).collect());
        }
        Verb::Serve { listen, port } => {
            serve(&layout, &source, ListenOn { address: listen, port }, |address| {
                let facts = json!({"stage": "serve", "address": address});
                say(common, &facts, || vec![format!("{:>8}  {address} (Ctrl-C ends it)", "serve")]);
            })?;
        }
    }
    Ok(())
}

/// The sources that are named, each once, in order. What names a source is one, commas and all; what does not is a list.
fn probes_named(layout: &Layout, named: &[String]) -> Result<Vec<String>, PipelineError> {
    let mut probes: Vec<String> = Vec::new();
    for named in named {
        let whole = layout.source_named(Path::new(named));
        let names = match whole {
            Err(_) if named.contains(',') => {
                let parts = named.split(',').filter(|part| !part.is_empty());
                parts.map(|part| layout.source_named(Path::new(part))).collect::<Result<Vec<_>, _>>()?
            }
            whole => vec![whole?],
        };
        for name in names {
            if !probes.contains(&name) {
                probes.push(name);
            }
        }
    }
    Ok(probes)
}
