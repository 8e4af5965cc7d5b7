//! `lapidary-curate`: the verbs from `fingerprint` to `cut`, run by `lapidary` or by themselves.

use clap::Subcommand;
use lapidary_curate::{
    AtThreshold, CurateOptions, CutFilter, Format, Size, Until, assign, check_limits, copies_at, curate, cut, diff,
    duplicates, explain, export, fingerprint, score_csv, sentences,
};
use lapidary_pipeline::cli::{CommonArgs, Failure, announce, announce_shared, run_main, say};
use lapidary_pipeline::plan::subset_ids;
use lapidary_pipeline::sources::{Options, default_name, open_source};
use lapidary_pipeline::stage::{Layout, Outcome, Share};
use lapidary_pipeline::{LicenceCount, PipelineError, encoder_name, licence_counts};
use lapidary_schemas::Config;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

#[derive(Debug, Subcommand)]
enum Verb {
    /// Take hashes, keypoints and measures of quality of all images
    Fingerprint {
        /// Make every n-th shard from the i-th, of 1 to n, beside other processes; `lapidary finish fingerprint` when all are made
        #[arg(long, value_name = "i/n", default_value = "all", hide_default_value = true)]
        shard: Share,
        /// Let the executors of a cluster make the shards (lapidary-cluster)
        #[arg(long, value_name = "df://HOST:PORT", conflicts_with = "shard")]
        cluster: Option<String>,
    },
    /// Find the copies in a folder of images, without the rest of the chain
    Duplicates {
        /// A folder of images: COCO's layout, Hugging Face Parquet, or plain files; with --at, none means the last
        /// source, as it was curated
        #[arg(required_unless_present = "at")]
        data: Option<PathBuf>,
        /// The name it goes by [default: the folder's]
        #[arg(long)]
        name: Option<String>,
        /// Only say how many images would go at these thresholds (curate.score_min), from the pairs that are there
        #[arg(long, value_delimiter = ',', value_name = "SCORE,...")]
        at: Vec<f32>,
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
    Curate {
        /// Curate everything again, where new images were merged into a curation that was there
        #[arg(long)]
        rebuild: bool,
        /// End after this stage; after `tree`, which is there where more than curate.tree_max_images images stay, several
        /// processes can go on with `assign`
        #[arg(long, value_enum, value_name = "STAGE")]
        until: Option<Until>,
        /// Keep what is like these: a source, the folder that it was ingested from, or a file of ids or paths
        /// [default: curate.seeds]
        #[arg(long, value_name = "SOURCE|DIR|FILE", allow_hyphen_values = true)]
        seeds: Option<PathBuf>,
        /// Keep no copies of this source's images, by its name or folder (repeatable) [default: curate.against]
        #[arg(long, value_name = "SOURCE|DIR", allow_hyphen_values = true)]
        against: Vec<PathBuf>,
        /// Let the executors of a cluster take fingerprints and embeddings first, where they are not there (lapidary-cluster)
        #[arg(long, value_name = "df://HOST:PORT")]
        cluster: Option<String>,
    },
    /// Assign every image to its nearest cluster of a tree that was fitted on a sample; `curate` does it too
    Assign {
        /// Make every n-th shard from the i-th, of 1 to n, beside other processes; `lapidary finish assign` when all are made
        #[arg(long, value_name = "i/n", default_value = "all", hide_default_value = true)]
        shard: Share,
    },
    /// Take the first N of the ranking as a subset
    Cut {
        /// A number (300), a share (30% or 0.3) or `all`
        #[arg(long, default_value = "all")]
        size: Size,
        /// Only images of one of these licenses, by name as the source has it
        #[arg(long, value_delimiter = ',', value_name = "NAME,...")]
        allow_licenses: Vec<String>,
        /// Only images that show one of these classes
        #[arg(long, value_delimiter = ',', value_name = "NAME,...")]
        classes: Vec<String>,
        /// Only images whose shorter side has so many pixels
        #[arg(long, default_value_t = 0, value_name = "PIXELS")]
        min_short_side: u32,
        /// Also write the subset's images, beside its ids
        #[arg(long, value_enum)]
        export: Option<Format>,
        /// Export every n-th shard from the i-th, of 1 to n, beside other processes; `lapidary finish cut` when all are made
        #[arg(long, value_name = "i/n", default_value = "all", hide_default_value = true, requires = "export")]
        shard: Share,
    },
    /// Follow an image through the chain: source, quality, copies, neighbours, leaf, rank, reason
    Explain {
        /// A file's name or the end of its path, a path on disk, the id that the source gave it, or the image's id
        image: String,
    },
    /// Say what two subsets share, and how their clusters and classes differ
    Diff {
        /// A subset's name, as its folder has it
        a: String,
        /// Another's
        b: String,
    },
}

/// How long the pages of a freed buffer stay, so that the next image takes them: longer than an image takes, shorter than a step.
const PAGES_STAY: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    lapidary_pipeline::keep_pages_for(PAGES_STAY);
    run_main("Choose which images to keep", run)
}

fn run(common: &CommonArgs, verb: Verb) -> Result<(), Failure> {
    let layout = common.layout();
    match verb {
        Verb::Fingerprint { cluster: Some(_), .. } | Verb::Curate { cluster: Some(_), .. } => {
            // `lapidary` becomes lapidary-cluster when it is given the flag, and never comes here.
            let hint = "hint: `lapidary VERB --cluster ...` starts lapidary-cluster, which `make cluster` builds";
            return Err(PipelineError::Usage(format!("lapidary-curate itself knows no cluster\n{hint}")).into());
        }
        Verb::Fingerprint { shard, .. } => {
            let config = resolved(common)?;
            let made = fingerprint(&layout, &common.source()?, &config, (shard, common.dry_run))?;
            announce_shared(common, "fingerprint", &made);
        }
        Verb::Duplicates { data, name, at } => {
            let config = resolved(common)?;
            let source = data.as_deref().map(|data| open_source(data, &Options::without(&layout.out))).transpose()?;
            let named = match (&data, &source) {
                (Some(data), Some(source)) => {
                    Some(layout.name_for(&source.address(), name.as_deref(), &default_name(data), false)?)
                }
                _ => None,
            };
            match (source, named) {
                (Some(source), Some(name)) if at.is_empty() => {
                    let (outcome, folder, manifest) =
                        duplicates(&layout, source.as_ref(), &name, &config, common.dry_run)?;
                    announce(common, "duplicates", &folder, outcome, manifest.as_ref());
                    if let Some(manifest) = manifest.filter(|_| !common.json) {
                        let facts = &manifest.facts;
                        println!("{:>8}  {} groups, {} copies", "", facts["groups"], facts["copies"]);
                        say_truth(facts);
                    }
                }
                (_, named) => {
                    let folder = match named {
                        Some(name) => layout.duplicates(&name),
                        None => layout.pairs(&common.source()?),
                    };
                    let found = copies_at(&folder, &at, &config)?;
                    let facts = json!({"stage": "duplicates", "pairs": layout.name_of(&folder), "at": found});
                    say(common, &facts, || found.iter().map(said_of_threshold).collect());
                }
            }
        }
        Verb::Score { pairs, truth } => {
            let scored = score_csv(&pairs, &truth)?;
            say(common, &scored, || vec![serde_json::to_string_pretty(&scored).unwrap_or_default()]);
        }
        Verb::Curate { rebuild, until, seeds, against, .. } => {
            let mut config = resolved(common)?;
            if let Some(seeds) = seeds {
                let is_list = seeds.is_file();
                config.curate.seeds = if is_list { text_of(&seeds)? } else { layout.source_named(&seeds)? };
            }
            if !against.is_empty() {
                config.curate.against =
                    against.iter().map(|named| layout.source_named(named)).collect::<Result<_, _>>()?;
            }
            let options = CurateOptions { dry_run: common.dry_run, rebuild, until };
            let curated = curate(&layout, &common.source()?, &config, options)?;
            if common.json {
                say(common, &curated.summary(&layout), Vec::new);
            } else {
                for done in &curated.stages {
                    announce(common, done.stage, &done.folder, done.outcome, done.manifest.as_ref());
                }
                say_decisions(&curated.facts());
            }
        }
        Verb::Assign { shard } => {
            let made = assign(&layout, &common.source()?, &resolved(common)?, (shard, common.dry_run))?;
            announce_shared(common, "assign", &made);
        }
        Verb::Cut { size, allow_licenses, classes, min_short_side, export: format, shard } => {
            let filter = CutFilter { licenses: allow_licenses, classes, short_side_min_px: min_short_side };
            let (outcome, folder, manifest) = cut(&layout, &common.source()?, size, &filter, common.dry_run)?;
            let subset = size.folder_name() + &filter.suffix();
            if outcome != Outcome::WouldRun {
                layout.remember(|current| current.subset = subset.clone())?;
            }
            announce(common, "cut", &folder, outcome, manifest.as_ref());
            if let Some(facts) = manifest.map(|m| m.facts).filter(|f| !f["filter"].is_null() && !common.json) {
                println!(
                    "{:>8}  {} of {} ranked images pass; {} were passed over; without the filter it would hold {}",
                    "", facts["passing"], facts["ranked"], facts["passed_over"], facts["without_filter"]
                );
            }
            if let Some(format) = format {
                say_licences(common, &layout, &subset)?;
                let made = export(&layout, &common.source()?, &subset, format, (shard, common.dry_run))?;
                announce_shared(common, "export", &made);
            }
        }
        Verb::Explain { image } => {
            let encoder = encoder_name(&common.resolve()?.embed.encoder)?;
            let (mut facts, page) = explain(&layout, &common.source()?, &encoder, &image)?;
            let mut words = sentences(&facts);
            if let Some(page) = page {
                words.push(format!("Its neighbours and all measures: {}", page.display()));
                facts["page"] = serde_json::json!(page);
            }
            facts["sentences"] = serde_json::json!(words);
            say(common, &facts, || words);
        }
        Verb::Diff { a, b } => {
            let facts = diff(&layout, &common.source()?, &a, &b)?;
            say(common, &facts, || said_of_diff(&facts));
        }
    }
    Ok(())
}

/// Says under which licences the images of a subset stand, before they leave.
fn say_licences(common: &CommonArgs, layout: &Layout, subset: &str) -> Result<(), Failure> {
    let source = common.source()?;
    let folder = layout.subset(&source, subset);
    // A dry run may have cut nothing yet.
    if !folder.exists() {
        return Ok(());
    }
    let ids = subset_ids(&folder)?.into_iter().collect();
    let counts = licence_counts(&layout.images(&source), &ids)?;
    say(common, &json!({"stage": "licences", "subset": subset, "licences": counts}), || {
        let line = |count: &LicenceCount| {
            let of = format!("{:>8}  {} images: {}", "licences", count.images, count.said());
            if count.with_url == count.images {
                of
            } else {
                format!("{of} ({} of them without an address to attribute)", count.images - count.with_url)
            }
        };
        counts.iter().map(line).collect()
    });
    Ok(())
}

/// A path as configurations have it.
fn text_of(path: &Path) -> Result<String, PipelineError> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| PipelineError::Usage(format!("`{}` is no UTF-8; rename the file", path.display())))
}

/// The configuration, within the ranges of its keys.
fn resolved(common: &CommonArgs) -> Result<Config, Failure> {
    let mut config = common.resolve()?;
    // A file of weights is meant as what its embeddings are called.
    config.embed.encoder = encoder_name(&config.embed.encoder)?;
    check_limits(&config)?;
    Ok(config)
}

/// What a threshold comes to, for a reader.
fn said_of_threshold(at: &AtThreshold) -> String {
    format!("{:>8}  from {:.2} on: {} images would go, of {} groups", "", at.score_min, at.copies, at.groups)
}

/// What two subsets share, for a reader.
fn said_of_diff(facts: &Value) -> Vec<String> {
    let percent = |value: &Value| format!("{:.1} %", value.as_f64().unwrap_or(0.0) * 100.0);
    let mut lines = vec![
        format!(
            "{} images in both, {} only in {}, {} only in {}",
            facts["shared"], facts["only_a"], facts["a"]["subset"], facts["only_b"], facts["b"]["subset"]
        ),
        format!(
            "clusters: {} against {}; the distributions are {} apart",
            facts["clusters"]["in_a"],
            facts["clusters"]["in_b"],
            percent(&facts["clusters"]["distance"])
        ),
        format!("classes: the distributions are {} apart", percent(&facts["classes"]["distance"])),
    ];
    for class in facts["classes"]["most_different"].as_array().into_iter().flatten() {
        lines.push(format!(
            "  {:<20} {:>7} {:>7}",
            class["name"].as_str().unwrap_or_default(),
            percent(&class["a"]),
            percent(&class["b"])
        ));
    }
    lines
}

/// The decisions in a line, and the score against planted copies where there is one.
fn say_decisions(facts: &Value) {
    if facts["images_by_reason"].is_null() {
        return;
    }
    let reasons: Vec<String> = facts["images_by_reason"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(reason, count)| format!("{count} {}", reason.replace('_', " ")))
        .collect();
    println!("{:>8}  {}; clusters by level {}", "", reasons.join(", "), facts["clusters_by_level"]);
    if let Some(why) = facts["rebuild_because"].as_str() {
        println!("{:>8}  the tree should be built anew, with --rebuild (make: REBUILD=1): {why}", "");
    }
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
