//! `lapidary-curate`: the verbs `curate` and `cut`, run by `lapidary` or by themselves.

use clap::Subcommand;
use lapidary_curate::{Format, Size, curate, cut, export};
use lapidary_pipeline::cli::{CommonArgs, Failure, announce, run_main};
use lapidary_pipeline::stage::Outcome;
use lapidary_schemas::Manifest;
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
enum Verb {
    /// Find duplicates, cluster, rank
    Curate,
    /// Take the first N of the ranking as a subset
    Cut {
        /// A number (300), a share (30% or 0.3) or `all`
        #[arg(long, default_value = "all")]
        size: Size,
        /// Also write the subset's images, beside its ids
        #[arg(long, value_enum)]
        export: Option<Format>,
    },
}

fn main() -> ExitCode {
    run_main("Choose which images to keep", run)
}

fn run(common: &CommonArgs, verb: Verb) -> Result<(), Failure> {
    let layout = common.layout();
    let source = common.source()?;
    match verb {
        Verb::Curate => {
            let (outcome, folder, manifest) = curate(&layout, &source, &common.resolve()?, common.dry_run)?;
            announce(common, "curate", &folder, outcome, manifest.as_ref());
            if let Some(manifest) = manifest.filter(|_| !common.json) {
                say_decisions(&manifest);
            }
        }
        Verb::Cut { size, export: format } => {
            let (outcome, folder, manifest) = cut(&layout, &source, size, common.dry_run)?;
            let subset = size.folder_name();
            if outcome != Outcome::WouldRun {
                layout.remember(|current| current.subset = subset.clone())?;
            }
            announce(common, "cut", &folder, outcome, manifest.as_ref());
            if let Some(format) = format {
                let (outcome, folder, manifest) = export(&layout, &source, &subset, format, common.dry_run)?;
                announce(common, "export", &folder, outcome, manifest.as_ref());
            }
        }
    }
    Ok(())
}

/// The decisions in a line, and the score against planted copies where there is one.
fn say_decisions(manifest: &Manifest) {
    let facts = &manifest.facts;
    let reasons: Vec<String> = facts["images_by_reason"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(reason, count)| format!("{count} {}", reason.replace('_', " ")))
        .collect();
    println!("{:>8}  {}; clusters by level {}", "", reasons.join(", "), facts["clusters_by_level"]);
    let Some(by_kind) = facts["truth"]["by_kind"].as_object() else { return };
    let percent = |value: &serde_json::Value| format!("{:.1} %", value.as_f64().unwrap_or(0.0) * 100.0);
    println!(
        "{:>8}  planted copies: recall {} ({} of {}), precision {}",
        "",
        percent(&facts["truth"]["recall"]),
        facts["truth"]["found"],
        facts["truth"]["planted"],
        percent(&facts["truth"]["precision"])
    );
    for (kind, score) in by_kind {
        println!(
            "{:>8}    {kind:<15} recall {:>7} ({} of {})",
            "",
            percent(&score["recall"]),
            score["found"],
            score["planted"]
        );
    }
}
