//! `lapidary-evaluate`: the verbs `eval`, `report`, `serve` and `card`.

use clap::Subcommand;
use lapidary_evaluate::{
    DEFAULT_PORT, ListenOn, Scores, Subject, dataset_cards, eval, model_card, report, said_of_scores, serve,
};
use lapidary_pipeline::PipelineError;
use lapidary_pipeline::cli::{CommonArgs, Failure, announce, run_main, say};
use lapidary_pipeline::stage::Outcome;
use lapidary_schemas::Manifest;
use lapidary_train::backend::DeviceChoice;
use serde_json::json;
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
enum Verb {
    /// Measure a run on a probe, beside its untrained twin
    Eval {
        /// The run [default: the one last trained]
        #[arg(long)]
        run: Option<String>,
        /// The probe's source [default: the one last ingested as a probe, else the source itself]
        #[arg(long)]
        probe: Option<String>,
        /// cpu, cuda, cuda:N or auto
        #[arg(long, default_value = "auto")]
        device: DeviceChoice,
    },
    /// Write the report
    Report {
        /// The subset [default: the one last cut]
        #[arg(long)]
        subset: Option<String>,
        /// A run; several are drawn in one chart (repeatable) [default: the one last trained]
        #[arg(long)]
        run: Vec<String>,
        /// The probe's source [default: the one last ingested as a probe, else the source itself]
        #[arg(long)]
        probe: Option<String>,
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
    let source = common.source()?;
    let current = layout.current();
    let probe_or_default = |probe: Option<String>| {
        probe.unwrap_or_else(|| if current.probe.is_empty() { source.clone() } else { current.probe.clone() })
    };
    match verb {
        Verb::Eval { run, probe, device } => {
            let run = run.unwrap_or_else(|| current.run.clone());
            if run.is_empty() {
                let hint = "run `lapidary pretrain` first, or name one with --run".to_owned();
                return Err(PipelineError::Missing { what: "run", path: common.out.clone(), hint }.into());
            }
            let probe = probe_or_default(probe);
            let config = common.resolve()?;
            let (outcome, folder, manifest) = eval(&layout, &source, &run, &probe, &config, device, common.dry_run)?;
            announce(common, "eval", &folder, outcome, manifest.as_ref());
            if let Some(manifest) = manifest.filter(|_| !common.json) {
                say_scores(&manifest);
            }
        }
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
                probe: probe_or_default(probe),
            };
            let (outcome, path) = report(&layout, &subject, common.dry_run)?;
            let facts = json!({"stage": "report", "file": path, "outcome": outcome});
            say(common, &facts, || {
                let state = match outcome {
                    Outcome::UpToDate => "up to date",
                    Outcome::Ran => "written",
                    Outcome::WouldRun => "would be written",
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

fn say_scores(manifest: &Manifest) {
    // An evaluation of another version is never up to date, so that these facts are of this one.
    if let Ok(scores) = serde_json::from_value::<Scores>(manifest.facts.clone()) {
        said_of_scores(&scores).iter().for_each(|line| println!("{:>8}  {line}", ""));
    }
}
