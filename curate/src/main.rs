//! `lapidary-curate`: the verbs from `fingerprint` to `cut`, run by `lapidary` or by themselves.

use clap::Subcommand;
use lapidary_curate::{Format, Size, curate, cut, duplicates, export, fingerprint, score_csv};
use lapidary_pipeline::cli::{CommonArgs, Failure, announce, run_main, say};
use lapidary_pipeline::sources::{default_name, open_source};
use lapidary_pipeline::stage::Outcome;
use lapidary_schemas::Manifest;
use serde_json::Value;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
enum Verb {
    /// Take hashes, keypoints and measures of quality of all images
    Fingerprint,
    /// Find the copies in a folder of images, without the rest of the chain
    Duplicates {
        /// A folder of images: COCO's layout, Hugging Face Parquet, or plain files
        data: PathBuf,
        /// The name it goes by [default: the folder's]
        #[arg(long)]
        name: Option<String>,
    },
    /// Score a table of pairs, of whatever tool, against planted copies
    Score {
        /// CSV with two paths and a score a line, higher meaning nearer
        pairs: PathBuf,
        /// CSV with path, copy_of and kind a line
        #[arg(long)]
        truth: PathBuf,
    },
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
    match verb {
        Verb::Fingerprint => {
            let (outcome, folder, manifest) =
                fingerprint(&layout, &common.source()?, &common.resolve()?, common.dry_run)?;
            announce(common, "fingerprint", &folder, outcome, manifest.as_ref());
        }
        Verb::Duplicates { data, name } => {
            let source = open_source(&data)?;
            let name = name.unwrap_or_else(|| default_name(&data));
            let (outcome, folder, manifest) =
                duplicates(&layout, source.as_ref(), &name, &common.resolve()?, common.dry_run)?;
            announce(common, "duplicates", &folder, outcome, manifest.as_ref());
            if let Some(manifest) = manifest.filter(|_| !common.json) {
                let facts = &manifest.facts;
                println!("{:>8}  {} groups, {} copies", "", facts["groups"], facts["copies"]);
                say_truth(facts);
            }
        }
        Verb::Score { pairs, truth } => {
            let scored = score_csv(&pairs, &truth)?;
            say(common, &scored, || vec![serde_json::to_string_pretty(&scored).unwrap_or_default()]);
        }
        Verb::Curate => {
            let (outcome, folder, manifest) = curate(&layout, &common.source()?, &common.resolve()?, common.dry_run)?;
            announce(common, "curate", &folder, outcome, manifest.as_ref());
            if let Some(manifest) = manifest.filter(|_| !common.json) {
                say_decisions(&manifest);
            }
        }
        Verb::Cut { size, export: format } => {
            let (outcome, folder, manifest) = cut(&layout, &common.source()?, size, common.dry_run)?;
            let subset = size.folder_name();
            if outcome != Outcome::WouldRun {
                layout.remember(|current| current.subset = subset.clone())?;
            }
            announce(common, "cut", &folder, outcome, manifest.as_ref());
            if let Some(format) = format {
                let (outcome, folder, manifest) = export(&layout, &common.source()?, &subset, format, common.dry_run)?;
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
    say_truth(facts);
}

/// The score against planted copies, where there is one.
fn say_truth(facts: &Value) {
    let Some(by_kind) = facts["truth"]["by_kind"].as_object() else { return };
    let percent = |value: &Value| format!("{:.1} %", value.as_f64().unwrap_or(0.0) * 100.0);
    println!(
        "{:>8}  planted copies: recall {} ({} of {}), precision {}",
        "",
        percent(&facts["truth"]["recall"]),
        facts["truth"]["found"],
        facts["truth"]["planted"],
        percent(&facts["truth"]["precision"])
    );
    let pairs = &facts["truth"]["pairs"];
    let micro_ap = pairs["micro_ap"].as_f64().unwrap_or(0.0);
    println!("{:>8}  micro-AP {micro_ap:.4}, recall {} at 99 % precision", "", percent(&pairs["recall_at_99"]));
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
