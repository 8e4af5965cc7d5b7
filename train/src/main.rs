//! `lapidary-train`: the verbs `pretrain`, `export` and, with a run's checkpoint or other weights, `embed`.

use clap::Subcommand;
use lapidary_pipeline::cli::{CommonArgs, Failure, announce, announce_shared, run_main, say};
use lapidary_pipeline::stage::{Outcome, Share, SharedStage};
use lapidary_pipeline::upkeep::machine;
use lapidary_pipeline::{PipelineError, embed};
use lapidary_schemas::{Config, Manifest};
use lapidary_train::backend::{DeviceChoice, Program, device_name, run_on, run_on_all};
use lapidary_train::export::{ExportTo, default_folder, export_backbone};
use lapidary_train::health::OnCollapse;
use lapidary_train::operators::TrainBackend;
use lapidary_train::{
    Backbone, Result, RunOptions, VitEncoder, extend, extended_config, gpu_check, gpu_facts, parameter_groups,
    pretrain, refuse_devices, replay, said_of_groups, said_of_replay, with_teacher,
};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
enum Verb {
    /// Pretrain a Vision Transformer on a plan
    Pretrain {
        /// The plan [default: the one last written]
        #[arg(long)]
        plan: Option<String>,
        /// The run's name [default: objective, plan and the key of all settings, so that each has its own]
        #[arg(long)]
        run: Option<String>,
        /// Train a finished run for so many steps more, under the schedules of a run of all its steps
        #[arg(long, value_name = "STEPS", requires = "run", conflicts_with = "replay")]
        extend_steps: Option<usize>,
        /// Compute the step of a dump again, which a run leaves that stops at numbers that are not finite, and train nothing
        #[arg(long, value_name = "DUMP")]
        replay: Option<PathBuf>,
        /// What to do when the run collapses: warn, or stop after a checkpoint
        #[arg(long, default_value = "warn", value_name = "warn|stop")]
        on_collapse: OnCollapse,
        /// cpu, cuda, cuda:N, wgpu, wgpu:N or auto
        #[arg(long, default_value = "auto")]
        device: DeviceChoice,
        /// Several devices of one kind (cuda:0,cuda:1): each trains a copy of the run on its share of every batch
        #[arg(long, value_name = "DEVICE,...", value_delimiter = ',', conflicts_with_all = ["device", "replay"])]
        devices: Vec<DeviceChoice>,
    },
    /// Say what this machine gives, and what `--device auto` takes
    Doctor,
    /// Hold a GPU's kernels and twenty steps to the CPU's, or time steps of a preset on pixels of waves; a JSON object a line
    GpuCheck {
        /// cuda, cuda:N, wgpu, wgpu:N or auto
        #[arg(long, default_value = "auto")]
        device: DeviceChoice,
        /// Time so many steps of the configuration instead (--preset, --set pretrain.batch=64)
        #[arg(long, value_name = "STEPS")]
        time_steps: Option<usize>,
        /// With --time-steps: show a network the views of all sizes at once, or those of each size by themselves [default: at
        /// once on a GPU]
        #[arg(long, value_name = "true|false", requires = "time_steps")]
        packed: Option<bool>,
        /// With --time-steps: several devices of one kind, which share each batch
        #[arg(
            long,
            value_name = "DEVICE,...",
            value_delimiter = ',',
            requires = "time_steps",
            conflicts_with = "device"
        )]
        devices: Vec<DeviceChoice>,
    },
    /// Embed all images of the source with a run's checkpoint or a file of weights
    Embed {
        /// The run's name (of another source: SOURCE/RUN), or a file or folder of weights
        #[arg(long)]
        encoder: String,
        /// cpu, cuda, cuda:N, wgpu, wgpu:N or auto
        #[arg(long, default_value = "auto")]
        device: DeviceChoice,
        /// Make every n-th shard from the i-th, of 1 to n, beside other processes; `lapidary finish embed` when all are made
        #[arg(long, value_name = "i/n", default_value = "all", hide_default_value = true)]
        shard: Share,
    },
    /// Write a run's backbone for timm, transformers, DINOv2 or ONNX
    Export {
        /// The run's name, or a file or folder of weights [default: the run last trained]
        run: Option<String>,
        /// timm, transformers, dinov2, safetensors or onnx
        #[arg(long, value_name = "TARGET")]
        to: ExportTo,
        /// The folder to write into [default: OUT/SOURCE/exports/RUN/TARGET]
        #[arg(long, value_name = "DIR")]
        out_dir: Option<PathBuf>,
        /// Also write what the network makes of drawn images, to hold other programs against
        #[arg(long)]
        example: bool,
    },
}

fn main() -> ExitCode {
    lapidary_pipeline::keep_pages();
    run_main("Pretrain a Vision Transformer", run)
}

fn run(common: &CommonArgs, verb: Verb) -> std::result::Result<(), Failure> {
    if let Verb::Pretrain { replay: Some(dump), device, .. } = &verb {
        let facts = replay(dump, *device)?;
        say(common, &facts, || said_of_replay(&facts));
        return Ok(());
    }
    let layout = common.layout();
    match verb {
        Verb::Pretrain { plan, run, extend_steps, on_collapse, device, devices, replay: _ } => {
            let (source, config) = (common.source()?, common.resolve()?);
            let devices = if devices.is_empty() { vec![device] } else { devices };
            let options = RunOptions { devices, dry_run: common.dry_run, on_collapse };
            let extension = run.as_deref().zip(extend_steps);
            let (outcome, folder, manifest) = if let Some((run, more)) = extension {
                extend(&layout, &source, plan.as_deref(), (run, more), &config, options)?
            } else {
                let plan = plan.unwrap_or_else(|| layout.current().plan);
                if plan.is_empty() {
                    let hint = "run `lapidary plan` first, or name one with --plan".to_owned();
                    return Err(PipelineError::Missing { what: "plan", path: common.out.clone(), hint }.into());
                }
                pretrain(&layout, &source, &plan, run.as_deref(), &config, options)?
            };
            if outcome != Outcome::WouldRun {
                let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                layout.remember(|current| current.run = name)?;
            }
            if common.dry_run {
                let config = match extension {
                    Some(extension) => extended_config(&layout, &source, extension, &config)?,
                    None => config,
                };
                say_groups(common, &folder, outcome, &with_teacher(&layout, &source, config)?);
                return Ok(());
            }
            announce(common, "pretrain", &folder, outcome, manifest.as_ref());
            if let Some(manifest) = manifest.filter(|_| !common.json) {
                say_training(&manifest);
            }
        }
        Verb::Doctor => say_machine(common)?,
        Verb::GpuCheck { device, time_steps: None, .. } => {
            if !gpu_check::check(device, |line| println!("{line}"))? {
                let told = format!("device `{}` does not compute what the CPU does", device_name(device)?);
                return Err(PipelineError::Internal(told).into());
            }
        }
        Verb::GpuCheck { device, time_steps: Some(steps), packed, devices } => {
            let rate = gpu_check::Rate { config: common.resolve()?, steps, warmup: steps.div_ceil(4), packed };
            let devices = if devices.is_empty() { vec![device] } else { devices };
            refuse_devices(devices.len(), &rate.config)?;
            println!("{}", run_on_all(&devices, rate)?);
        }
        Verb::Embed { encoder, device, shard } => {
            let (source, config) = (common.source()?, common.resolve()?);
            let backbone = Backbone::open(&layout, &source, &encoder)?;
            let batch = config.embed.batch;
            let program = EmbedWith { common, source: &source, backbone, batch, shard };
            announce_shared(common, "embed", &run_on(device, program)?);
        }
        Verb::Export { run, to, out_dir, example } => {
            run_export(common, run, to, out_dir, example)?;
        }
    }
    Ok(())
}

struct EmbedWith<'a> {
    common: &'a CommonArgs,
    source: &'a str,
    backbone: Backbone,
    batch: usize,
    shard: Share,
}

impl Program for EmbedWith<'_> {
    type Output = SharedStage;

    fn run<B: TrainBackend>(self, device: B::Device) -> Result<Self::Output> {
        let mut encoder = VitEncoder::<B::InnerBackend>::of_backbone(&self.backbone, &device)?;
        Ok(embed(&self.common.layout(), self.source, &mut encoder, self.batch, (self.shard, self.common.dry_run))?)
    }
}

/// Writes a backbone for another program.
fn run_export(
    common: &CommonArgs,
    run: Option<String>,
    to: ExportTo,
    out_dir: Option<PathBuf>,
    example: bool,
) -> std::result::Result<(), Failure> {
    let layout = common.layout();
    let named = run.unwrap_or_else(|| layout.current().run);
    if named.is_empty() {
        let hint = "run `lapidary pretrain` first, or name a run or a file of weights".to_owned();
        return Err(PipelineError::Missing { what: "run", path: common.out.clone(), hint }.into());
    }
    // A file needs no source, unless the export is to lie in its folder.
    let source = match (Path::new(&named).exists(), &out_dir) {
        (true, Some(_)) => common.source().unwrap_or_default(),
        _ => common.source()?,
    };
    let backbone = Backbone::open(&layout, &source, &named)?;
    let folder = out_dir.unwrap_or_else(|| default_folder(&layout, &source, &backbone, to));
    let written = if common.dry_run { Vec::new() } else { export_backbone(&backbone, to, &folder, example)? };
    let facts = serde_json::json!({"stage": "export", "to": to.name(), "of": backbone.name, "folder": folder, "files": written});
    say(common, &facts, || {
        let state = if common.dry_run { "would be written" } else { "written" };
        vec![format!("{:>8}  `{}` for {} {state}: {}", "export", backbone.name, to.name(), folder.display())]
    });
    Ok(())
}

/// What the machine gives, in lines or as JSON.
fn say_machine(common: &CommonArgs) -> std::result::Result<(), Failure> {
    let mut facts = machine(&common.layout())?;
    if let (Some(facts), Some(gpu)) = (facts.as_object_mut(), gpu_facts().as_object()) {
        facts.extend(gpu.clone());
    }
    say(common, &facts, || {
        let text = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let list = |value: &serde_json::Value| value.as_array().into_iter().flatten().map(text).collect::<Vec<_>>();
        let gpu = &facts["gpu"];
        let mut lines = vec![
            format!("processor  {}: {}", text(&facts["processor"]), list(&facts["features"]).join(" ")),
            format!("cores      {} ({} threads in use)", facts["cores"], facts["threads"]),
            format!("memory     {} MiB, {} available", facts["memory_mib"], facts["memory_available_mib"]),
            format!("FAISS      built for {}", text(&facts["faiss_built_for"])),
            format!(
                "disk       {} of {} MiB free under `{}`, written at {:.0} MiB/s",
                facts["disk_free_mib"],
                facts["disk_mib"],
                common.out.display(),
                facts["disk_write_mib_per_sec"].as_f64().unwrap_or(0.0)
            ),
            format!("GPU        driver: {}", text(&gpu["driver"])),
            format!("           NVRTC: {}; headers: {}", text(&gpu["nvrtc"]), text(&gpu["headers"])),
        ];
        if let Some(store) = facts["store"].as_object() {
            let (url, cache) = (text(&store["url"]), text(&store["cache"]));
            let objects = &store["found"]["objects"];
            lines.push(format!("store      `{url}`, {objects} objects, mirrored in `{cache}`"));
        }
        lines.extend(match facts["adapters"].as_array() {
            Some(adapters) if !adapters.is_empty() => {
                let of = |adapter: &serde_json::Value, key: &str| text(&adapter[key]);
                let said = adapters.iter().map(|adapter| {
                    let (device, name) = (of(adapter, "device"), of(adapter, "name"));
                    format!("           {device}: {name} ({}, {})", of(adapter, "kind"), of(adapter, "driver"))
                });
                said.collect()
            }
            Some(_) => vec!["           wgpu: Vulkan knows no adapter".to_owned()],
            None => vec![format!("           wgpu: {}", text(&facts["adapters"]))],
        });
        lines.push(format!(
            "           --device auto takes {}: {}",
            text(&facts["auto_takes"]),
            text(&facts["because"])
        ));
        lines.extend(list(&facts["warnings"]).into_iter().map(|warning| format!("warning    {warning}")));
        lines
    });
    Ok(())
}

/// What would become of a run, and how its parameters would be grouped.
fn say_groups(common: &CommonArgs, folder: &Path, outcome: Outcome, config: &Config) {
    let groups = parameter_groups(config);
    let name = common.layout().name_of(folder);
    say(common, &json!({ "stage": "pretrain", "folder": name, "outcome": outcome, "groups": groups }), || {
        let would = if outcome == Outcome::UpToDate { "up to date:" } else { "would run, into" };
        let mut lines = vec![format!("pretrain  {would} {}", folder.display())];
        lines.extend(said_of_groups(&groups));
        lines
    });
}

fn say_training(manifest: &Manifest) {
    let facts = &manifest.facts;
    let number = |value: &serde_json::Value| value.as_f64().unwrap_or(f64::NAN);
    println!(
        "{:>8}  {} steps on {}, {:.2} steps/s, {:.0} images/s, {:.1} % of the time waiting for data; loss {:.4}",
        "",
        facts["steps"],
        facts["device"].as_str().unwrap_or("?"),
        number(&facts["steps_per_sec"]),
        number(&facts["images_per_sec"]),
        number(&facts["data_wait_share"]) * 100.0,
        number(&facts["last"]["loss"]),
    );
}
