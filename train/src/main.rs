//! `lapidary-train`: the verbs `pretrain` and, with a run's checkpoint, `embed`.

use burn::tensor::backend::AutodiffBackend;
use clap::Subcommand;
use lapidary_pipeline::cli::{CommonArgs, Failure, announce, run_main, say};
use lapidary_pipeline::stage::Outcome;
use lapidary_pipeline::{PipelineError, embed};
use lapidary_schemas::Manifest;
use lapidary_schemas::config::ObjectiveKind;
use lapidary_train::backend::{DeviceChoice, Program, run_on};
use lapidary_train::{FinishedRun, Result, VitEncoder, pretrain, replay, said_of_replay};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
enum Verb {
    /// Pretrain a Vision Transformer on a plan
    Pretrain {
        /// The plan [default: the one last written]
        #[arg(long)]
        plan: Option<String>,
        /// The run's name [default: objective and plan]
        #[arg(long)]
        run: Option<String>,
        /// Compute the step of a dump again, which a run leaves that stops at numbers that are not finite, and train nothing
        #[arg(long, value_name = "DUMP")]
        replay: Option<PathBuf>,
        /// cpu, cuda, cuda:N or auto
        #[arg(long, default_value = "auto")]
        device: DeviceChoice,
    },
    /// Embed all images of the source with a run's checkpoint
    Embed {
        /// The run's name
        #[arg(long)]
        encoder: String,
        /// cpu, cuda, cuda:N or auto
        #[arg(long, default_value = "auto")]
        device: DeviceChoice,
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
    let source = common.source()?;
    let config = common.resolve()?;
    match verb {
        Verb::Pretrain { plan, run, device, replay: _ } => {
            let plan = plan.unwrap_or_else(|| layout.current().plan);
            if plan.is_empty() {
                let hint = "run `lapidary plan` first, or name one with --plan".to_owned();
                return Err(PipelineError::Missing { what: "plan", path: common.out.clone(), hint }.into());
            }
            let kind = match config.objective.kind {
                ObjectiveKind::Dino => "dino",
                ObjectiveKind::BarlowTwins => "barlow-twins",
                ObjectiveKind::Hybrid => "hybrid",
            };
            let name = run.unwrap_or_else(|| format!("{kind}-{plan}"));
            let (outcome, folder, manifest) =
                pretrain(&layout, &source, &plan, &name, &config, device, common.dry_run)?;
            if outcome != Outcome::WouldRun {
                layout.remember(|current| current.run = name)?;
            }
            announce(common, "pretrain", &folder, outcome, manifest.as_ref());
            if let Some(manifest) = manifest.filter(|_| !common.json) {
                say_training(&manifest);
            }
        }
        Verb::Embed { encoder, device } => {
            let run = FinishedRun::open(&layout, &source, &encoder)?;
            let batch = config.embed.batch;
            let program = EmbedWith { common, source: &source, run, batch };
            let (outcome, folder, manifest) = run_on(device, program)?;
            announce(common, "embed", &folder, outcome, manifest.as_ref());
        }
    }
    Ok(())
}

struct EmbedWith<'a> {
    common: &'a CommonArgs,
    source: &'a str,
    run: FinishedRun,
    batch: usize,
}

impl Program for EmbedWith<'_> {
    type Output = (Outcome, PathBuf, Option<Manifest>);

    fn run<B: AutodiffBackend>(self, device: B::Device) -> Result<Self::Output> {
        let vit = self.run.trained::<B::InnerBackend>(&device)?;
        let mut encoder = VitEncoder::new(vit, &self.run, &device);
        Ok(embed(&self.common.layout(), self.source, &mut encoder, self.batch, self.common.dry_run)?)
    }
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
