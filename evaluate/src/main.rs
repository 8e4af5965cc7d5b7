//! `lapidary-evaluate`: the verbs `eval`, `adapt`, `compare` and `report`.

mod verbs;

use clap::Subcommand;
use lapidary_evaluate::{Scores, Subject, eval, report, said_of_scores};
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
    /// Adapt a run to a probe's classes, and say what each way cost and gained
    Adapt(verbs::AdaptArgs),
    /// Print runs side by side, mean and spread over seeds, and which differences are larger than the spread
    Compare(verbs::CompareArgs),
    /// Write the report
    Report {
        /// The subset [default: the one last cut]
        #[arg(long)]
        subset: Option<String>,
        /// The run [default: the one last trained]
        #[arg(long)]
        run: Option<String>,
        /// The probe's source [default: the one last ingested as a probe, else the source itself]
        #[arg(long)]
        probe: Option<String>,
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
        Verb::Adapt(arguments) => verbs::run_adapt(common, arguments)?,
        Verb::Compare(arguments) => verbs::run_compare(common, arguments)?,
        Verb::Report { subset, run, probe } => {
            let subject = Subject {
                source: source.clone(),
                subset: subset.unwrap_or_else(|| current.subset.clone()),
                run: run.unwrap_or_else(|| current.run.clone()),
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
    }
    Ok(())
}

fn say_scores(manifest: &Manifest) {
    // An evaluation of another version is never up to date, so that these facts are of this one.
    if let Ok(scores) = serde_json::from_value::<Scores>(manifest.facts.clone()) {
        said_of_scores(&scores).iter().for_each(|line| println!("{:>8}  {line}", ""));
    }
}
