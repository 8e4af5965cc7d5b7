//! `lapidary`: the one command users learn. It runs a stage itself or becomes the stage's binary beside it, as git does.

use clap::Subcommand;
use lapidary_pipeline::cli::dispatch::{
    CLUSTER_BINARY, asks_for_cluster, become_sibling, binary_of, finish, finish_after_options,
};
use lapidary_pipeline::cli::{self, CommonArgs, Failure, announce, announce_shared, run_main, say, to_toml};
use lapidary_pipeline::pixels::Raster;
use lapidary_pipeline::plan::PlanReader;
use lapidary_pipeline::sources::LayoutChoice;
use lapidary_pipeline::stage::{Current, Outcome, Share, StageState, StageStatus, require_manifest, status};
use lapidary_pipeline::{
    Descriptor, ImageStore, IngestOptions, PipelineError, VectorFile, decode_into, draw, embed, embed_from, ingest,
    plan, said_of_vectors, sources,
};
use lapidary_schemas::ImageId;
use serde_json::json;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
enum Verb {
    /// Draw the built-in data set: a pile of scenes in COCO's layout, or a labelled probe
    Draw {
        /// The folder to draw into
        folder: PathBuf,
        /// Draw the labelled probe instead of the pile
        #[arg(long)]
        probe: bool,
    },
    /// Read a folder of images (COCO, Hugging Face Parquet or plain) into shards
    Ingest {
        /// The folder, or a place in a store (s3://, gs://, az://), or a file, or a list of files (.txt), on the web
        #[arg(long, value_name = "DIR|URL", allow_hyphen_values = true)]
        data: PathBuf,
        /// The source's name [default: the folder's]
        #[arg(long)]
        name: Option<String>,
        /// The layout to read it in: by default, what is there decides
        #[arg(long = "layout", value_enum, default_value_t)]
        read_as: LayoutChoice,
        /// Remember it as the probe, not as the source to curate
        #[arg(long)]
        as_probe: bool,
        /// Do not remember it at all: seeds, say
        #[arg(long, conflicts_with = "as_probe")]
        aside: bool,
        /// Read everything again, where new images were added to shards that were there
        #[arg(long)]
        rebuild: bool,
        /// Read every n-th shard from the i-th, as `i/n`; `lapidary finish ingest` then makes the stage of them
        #[arg(long, value_name = "i/n", default_value = "all", hide_default_value = true, conflicts_with = "rebuild")]
        shard: Share,
    },
    /// Turn images into embeddings, with the built-in descriptor or a run's checkpoint, or take those made elsewhere
    Embed {
        /// `descriptor`, a run's name, or a file or folder of weights [default: embed.encoder]
        #[arg(long)]
        encoder: Option<String>,
        /// cpu, cuda, cuda:N, wgpu, wgpu:N or auto, for a checkpoint
        #[arg(long, default_value = "auto")]
        device: String,
        /// Take vectors made elsewhere: a Parquet table with `image_id` or `path` and `embedding`, or an .npy matrix
        #[arg(long, value_name = "FILE", conflicts_with = "encoder")]
        from: Option<PathBuf>,
        /// Which image each row of an .npy matrix is of: a Parquet table with `image_id` or `path`
        #[arg(long, value_name = "FILE", requires = "from")]
        ids: Option<PathBuf>,
        /// What the encoder of these vectors is called [default: the file's stem and digits of its digest]
        #[arg(long, value_name = "NAME", requires = "from")]
        encoder_name: Option<String>,
        /// Make every n-th shard from the i-th, of 1 to n, beside other processes; `lapidary finish embed` when all are made
        #[arg(long, value_name = "i/n", default_value = "all", hide_default_value = true, conflicts_with = "from")]
        shard: Share,
        /// Let the executors of a cluster make the shards (lapidary-cluster)
        #[arg(long, value_name = "df://HOST:PORT", conflicts_with_all = ["from", "shard"])]
        cluster: Option<String>,
    },
    /// Write every augmentation of every epoch down
    Plan {
        /// The subset [default: the one last cut]
        #[arg(long)]
        subset: Option<String>,
        /// The plan's name [default: recipe and subset]
        #[arg(long)]
        name: Option<String>,
        /// Instead, draw the views of this image (16 hexadecimal digits) in the last plan on a contact sheet
        #[arg(long, value_name = "IMAGE_ID")]
        show: Option<ImageId>,
        /// The epoch to show
        #[arg(long, default_value_t = 0, requires = "show")]
        epoch: u32,
    },
    /// Take hashes, keypoints and measures of quality of all images (lapidary-curate)
    #[command(disable_help_flag = true)]
    Fingerprint(Rest),
    /// Find the copies in a folder of images, without the rest of the chain (lapidary-curate)
    #[command(disable_help_flag = true)]
    Duplicates(Rest),
    /// Score a table of pairs, of whatever tool, against planted copies (lapidary-curate)
    #[command(disable_help_flag = true)]
    Score(Rest),
    /// Find duplicates, cluster, rank (lapidary-curate)
    #[command(disable_help_flag = true)]
    Curate(Rest),
    /// Assign every image to its nearest cluster of a tree that was fitted on a sample (lapidary-curate)
    #[command(disable_help_flag = true)]
    Assign(Rest),
    /// Take the first N of the ranking as a subset (lapidary-curate)
    #[command(disable_help_flag = true)]
    Cut(Rest),
    /// Say what two subsets share, and how their clusters and classes differ (lapidary-curate)
    #[command(disable_help_flag = true)]
    Diff(Rest),
    /// Pretrain a Vision Transformer on a plan (lapidary-train)
    #[command(disable_help_flag = true)]
    Pretrain(Rest),
    /// Write a run's backbone for timm, transformers, DINOv2 or ONNX (lapidary-train)
    #[command(disable_help_flag = true)]
    Export(Rest),
    /// Measure a run on a probe (lapidary-evaluate)
    #[command(disable_help_flag = true)]
    Eval(Rest),
    /// Adapt a run to a probe's classes: probes, LoRA, fine-tuning (lapidary-evaluate)
    #[command(disable_help_flag = true)]
    Adapt(Rest),
    /// Tables of runs and of which differences exceed their spread (lapidary-evaluate)
    #[command(disable_help_flag = true)]
    Compare(Rest),
    /// Write the report (lapidary-evaluate)
    #[command(disable_help_flag = true)]
    Report(Rest),
    /// Show what is there in a browser, on 127.0.0.1: grids of any subset, filters, a map (lapidary-evaluate)
    #[command(disable_help_flag = true)]
    Serve(Rest),
    /// Write the card of a subset, with Croissant metadata, or of a run (lapidary-evaluate)
    #[command(disable_help_flag = true)]
    Card(Rest),
    /// Say what is there and what is stale
    Status {
        /// Also what was made with other settings and is kept
        #[arg(long)]
        all: bool,
    },
    /// List the runs: how far each has come, what sets it apart, its loss and its best probe
    Runs,
    /// Remove what a stage made, by its name: a run, or a path under OUT
    Rm {
        /// E.g. `hybrid-400-1a2b3c4d`, `subsets/300`, `birds/curation`
        #[arg(required = true)]
        names: Vec<String>,
        /// Also when something was made of it
        #[arg(long)]
        force: bool,
    },
    /// Remove what nothing refers to: folders of other settings, unfinished work that cannot be resumed
    Gc,
    /// Read everything again and hold it against its digests
    Verify {
        /// Paths under OUT, or stages [default: all]
        names: Vec<String>,
    },
    /// Say what this machine gives, and what `--device auto` takes (lapidary-train)
    #[command(disable_help_flag = true)]
    Doctor(Rest),
    /// End a stage whose shards several processes have made: `finish ingest`, `finish fingerprint`, `finish embed`,
    /// `finish assign`, `finish cut`, with the stage's own arguments
    #[command(disable_help_flag = true)]
    Finish(Rest),
    /// Hold a GPU to the CPU, or time it (lapidary-train)
    #[command(disable_help_flag = true)]
    GpuCheck(Rest),
    /// Follow an image through the chain (lapidary-curate)
    #[command(disable_help_flag = true)]
    Explain(Rest),
    /// Print the resolved configuration as TOML
    Config,
}

/// Arguments for another binary, passed on as they are.
#[derive(Debug, clap::Args)]
struct Rest {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    rest: Vec<OsString>,
}

fn main() -> ExitCode {
    // A stage's binary takes the arguments as they came, its own help included.
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let verb = arguments.first().and_then(|first| first.to_str()).unwrap_or_default();
    if verb == "finish" {
        return finish(&arguments[1..]);
    }
    if asks_for_cluster(&arguments) {
        return become_sibling(CLUSTER_BINARY, &arguments);
    }
    if let Some(binary) = binary_of(verb) {
        return become_sibling(binary, &arguments);
    }
    let mut passed_on = None;
    let about = "Curate images, pretrain a Vision Transformer on them, measure what it learned";
    let code = run_main(about, |common, verb| {
        passed_on = run_verb(common, verb)?;
        Ok(())
    });
    match passed_on {
        Some((binary, arguments)) => become_sibling(binary, &arguments),
        None => code,
    }
}

/// A binary to go on with, and its arguments.
type PassedOn = Option<(&'static str, Vec<OsString>)>;

fn run_verb(common: &CommonArgs, verb: Verb) -> Result<PassedOn, Failure> {
    match verb {
        Verb::Draw { folder, probe } => run_draw(common, &folder, probe)?,
        Verb::Ingest { data, name, read_as, as_probe, aside, rebuild, shard } => {
            let config = common.resolve()?;
            let layout = common.layout();
            let leave_out = vec![layout.out.clone()];
            let source = sources::open_source(&data, &sources::Options { layout: read_as, leave_out })?;
            let default = sources::default_name(&data);
            let name = layout.name_for(&source.address(), name.as_deref(), &default, aside || as_probe)?;
            let options = IngestOptions { dry_run: common.dry_run, rebuild, share: shard };
            let ingested = ingest(&layout, source.as_ref(), &name, &config.ingest, options)?;
            if ingested.outcome != Outcome::WouldRun && !aside {
                layout.remember(|current| {
                    if as_probe {
                        current.probe = name;
                    } else if current.source != name {
                        // What was made of another source is not this one's.
                        *current =
                            Current { source: name, probe: std::mem::take(&mut current.probe), ..Current::default() };
                    }
                })?;
            }
            announce_shared(common, "ingest", &ingested);
        }
        Verb::Embed { from: Some(from), ids, encoder_name, .. } => {
            run_embed_from(common, &VectorFile { from, ids, encoder_name })?;
        }
        Verb::Embed { encoder, shard, .. } => {
            let mut config = common.resolve()?;
            if let Some(encoder) = encoder {
                config.embed.encoder = encoder;
            }
            if config.embed.encoder != "descriptor" {
                return Ok(Some(("lapidary-train", embed_arguments(&config.embed.encoder))));
            }
            let source = common.source()?;
            let made = embed(&common.layout(), &source, &mut Descriptor, config.embed.batch, (shard, common.dry_run))?;
            announce_shared(common, "embed", &made);
        }
        Verb::Plan { name, show: Some(image), epoch, .. } => show_plan(common, name, image, epoch)?,
        Verb::Plan { subset, name, .. } => run_plan(common, subset, name)?,
        Verb::Status { all } => run_status(common, all),
        Verb::Runs => cli::upkeep::run_runs(common),
        Verb::Rm { names, force } => cli::upkeep::run_rm(common, &names, force)?,
        Verb::Gc => cli::upkeep::run_gc(common)?,
        Verb::Verify { names } => cli::upkeep::run_verify(common, &names)?,
        Verb::Config => print!("{}", to_toml(&common.resolve()?)),
        // Reached only when common arguments come before the verb.
        Verb::Finish(_) => return Ok(Some(("lapidary", finish_after_options(std::env::args_os().skip(1).collect())?))),
        Verb::Fingerprint(_)
        | Verb::Duplicates(_)
        | Verb::Score(_)
        | Verb::Curate(_)
        | Verb::Assign(_)
        | Verb::Cut(_)
        | Verb::Diff(_)
        | Verb::Explain(_)
        | Verb::Pretrain(_)
        | Verb::Export(_)
        | Verb::Doctor(_)
        | Verb::GpuCheck(_)
        | Verb::Eval(_)
        | Verb::Adapt(_)
        | Verb::Compare(_)
        | Verb::Report(_)
        | Verb::Serve(_)
        | Verb::Card(_) => {
            // Reached only when common arguments come before the verb.
            let verb = std::env::args().skip(1).find(|a| binary_of(a).is_some()).unwrap_or_default();
            let binary = binary_of(&verb).unwrap_or("lapidary-curate");
            return Ok(Some((binary, std::env::args_os().skip(1).collect())));
        }
    }
    Ok(None)
}

/// This command's arguments, with the encoder named even when it was the configuration that named it.
fn embed_arguments(encoder: &str) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if !arguments.iter().any(|a| a == "--encoder" || a.to_string_lossy().starts_with("--encoder=")) {
        arguments.extend(["--encoder".into(), encoder.into()]);
    }
    arguments
}

/// Takes vectors made elsewhere as a source's embeddings.
fn run_embed_from(common: &CommonArgs, file: &VectorFile) -> Result<(), Failure> {
    common.resolve()?;
    let source = common.source()?;
    let (outcome, folder, manifest) = embed_from(&common.layout(), &source, file, common.dry_run)?;
    announce(common, "embed", &folder, outcome, manifest.as_ref());
    if let Some(manifest) = manifest.filter(|_| !common.json && outcome == Outcome::Ran) {
        println!("{:>8}  {}", "", said_of_vectors(&manifest));
    }
    Ok(())
}

fn run_draw(common: &CommonArgs, folder: &std::path::Path, probe: bool) -> Result<(), Failure> {
    let seed = common.resolve()?.seed;
    let what = if probe { "probe" } else { "pile" };
    // Drawn whole or not at all, like every stage.
    let version = format!("drawn by lapidary {}, seed {seed}", env!("CARGO_PKG_VERSION"));
    let mark = folder.join(".drawn");
    let found = std::fs::read_to_string(&mark).is_ok_and(|text| text == version);
    if !found && !common.dry_run {
        if folder.exists() && !mark.exists() && folder.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
            let text = format!("`{}` holds files that were not drawn; name an empty folder", folder.display());
            return Err(PipelineError::Usage(text).into());
        }
        let partial = folder.with_extension("partial");
        let io = |action| PipelineError::io(action, folder);
        for old in [&partial, folder] {
            if old.exists() {
                std::fs::remove_dir_all(old).map_err(io("remove"))?;
            }
        }
        if probe {
            draw::draw_probe(&partial, seed)?
        } else {
            draw::draw_pile(&partial, seed)?
        };
        std::fs::write(partial.join(".drawn"), version).map_err(io("write"))?;
        std::fs::rename(&partial, folder).map_err(io("rename"))?;
    }
    let state = if found {
        "up to date"
    } else if common.dry_run {
        "would be drawn"
    } else {
        "drawn"
    };
    let facts = json!({"stage": "draw", "what": what, "folder": folder, "state": state});
    say(common, &facts, || vec![format!("{:>8}  {what} {state}: {}", "draw", folder.display())]);
    Ok(())
}

fn run_plan(common: &CommonArgs, subset: Option<String>, name: Option<String>) -> Result<(), Failure> {
    let config = common.resolve()?;
    let layout = common.layout();
    let source = common.source()?;
    let subset = subset.unwrap_or_else(|| layout.current().subset);
    if subset.is_empty() {
        let hint = "run `lapidary cut --size N` first, or name one with --subset".to_owned();
        return Err(PipelineError::Missing { what: "subset", path: common.out.clone(), hint }.into());
    }
    if let Some(name) = &name {
        sources::check_name(name)?;
    }
    let name = name.unwrap_or_else(|| format!("{}-{subset}", config.plan.recipe));
    let (outcome, folder, manifest) = plan::plan(&layout, &source, &subset, &name, &config, common.dry_run)?;
    if outcome != Outcome::WouldRun {
        layout.remember(|current| current.plan = name)?;
    }
    announce(common, "plan", &folder, outcome, manifest.as_ref());
    Ok(())
}

/// Draws the views of an image in an epoch beside its plan.
fn show_plan(common: &CommonArgs, name: Option<String>, image: ImageId, epoch: u32) -> Result<(), Failure> {
    let (layout, source) = (common.layout(), common.source()?);
    let folder = layout.plan(&source, &name.unwrap_or_else(|| layout.current().plan));
    let manifest = require_manifest(&folder, "plan", "run `lapidary plan` first")?;
    let store = ImageStore::open(&layout.images(&source))?;
    let views = PlanReader::open(&folder, &manifest, &store, 1)?.views_of(image, epoch, &store)?;
    let mut raster = Raster::default();
    let fetched = store.fetch(&[image])?;
    decode_into(fetched.get(0), store.rule(), &mut raster)
        .map_err(|(reason, _)| PipelineError::Usage(reason.text().to_owned()))?;
    let path = folder.with_extension(format!("{image}.epoch-{epoch:05}.png"));
    let shown = plan::show(&raster, &views, &path)?;
    say(common, &json!({"stage": "plan", "sheet": path, "views": shown}), || {
        let lines = shown.iter().map(|view| view.parameters.join("; "));
        lines.chain([format!("{:>8}  {} views of {image}: {}", "plan", shown.len(), path.display())]).collect()
    });
    Ok(())
}

fn run_status(common: &CommonArgs, all: bool) {
    let stages = status(&common.layout());
    let aside = stages.iter().filter(|stage| stage.is_aside).count();
    let shown: Vec<_> = stages.iter().filter(|stage| all || !stage.is_aside).collect();
    say(common, &json!(shown), || {
        let line = |stage: &&StageStatus| {
            let state = match stage.state {
                StageState::UpToDate => "up to date",
                StageState::Stale => "stale",
                StageState::Unfinished => "unfinished",
            };
            let digest = stage.digest.as_ref().map(|d| d.short().to_owned()).unwrap_or_default();
            let line = format!("{state:<11} {digest:<12} {:>9} rows  {} {}", stage.rows, stage.folder, stage.because);
            line.trim_end().to_owned()
        };
        let mut lines: Vec<String> = shown.iter().map(line).collect();
        if lines.is_empty() {
            lines.push(format!("nothing under `{}` yet; `lapidary ingest --data DIR` begins", common.out_in_words()));
        }
        if aside > 0 && !all {
            lines.push(format!("{aside} more, made with other settings, are kept: `lapidary status --all`"));
        }
        lines
    });
}
