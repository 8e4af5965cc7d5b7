//! The card of a run: what it is, what it was trained on, what was measured, and how to repeat that.

use super::front_matter::{Yaml, front_matter};
use crate::Result;
use crate::report::commands::command;
use crate::report::lineage::commands_to;
use crate::report::made::MadeFolder;
use crate::report::text::{grouped, percent, wilson};
use crate::scores::Scores;
use lapidary_pipeline::stage::{Layout, StageFolder, ancestor, require_manifest};
use lapidary_schemas::Manifest;
use serde_json::Value;
use std::fmt::Write;
use std::path::PathBuf;

/// An evaluation of the run.
struct Measured {
    folder: PathBuf,
    manifest: Manifest,
    scores: Scores,
}

/// README.md of a run of a source.
///
/// # Errors
/// When the run is not there.
pub(super) fn card(layout: &Layout, source: &str, run: &str) -> Result<String> {
    let folder = layout.run(source, run);
    let manifest = require_manifest(&folder, "finished run", "`lapidary runs` lists them")?;
    let measured = measured(layout, source, run, &manifest);
    let mut text = head(run, &measured);
    describe(&mut text, run, &manifest);
    trained_on(&mut text, layout, &manifest);
    scores(&mut text, &measured);
    repeat(&mut text, (layout, source), &folder, &manifest, &measured);
    let _ = write!(
        text,
        "## Limits\n\nFeatures of images; there is no classifier. What was measured is what the tables say, on those probes and no \
         others. The licence is for whoever publishes the weights to choose; it depends on the images they were trained on.\n"
    );
    Ok(text)
}

/// The evaluations of this very run, by probe.
fn measured(layout: &Layout, source: &str, run: &str, manifest: &Manifest) -> Vec<Measured> {
    let name = layout.name_of(&layout.run(source, run));
    let of_run = |stage: StageFolder| {
        let found = stage
            .manifest()
            .filter(|found| found.stage == "eval" && found.inputs.get(&name) == Some(&manifest.digest))?
            .clone();
        let scores = serde_json::from_value(found.facts.clone()).ok()?;
        Some(Measured { folder: stage.folder, manifest: found, scores })
    };
    layout.stages().into_iter().filter(|stage| !stage.is_aside).filter_map(of_run).collect()
}

fn head(run: &str, measured: &[Measured]) -> String {
    let metric = |name: &str, value: f64| {
        Yaml::Map(vec![
            ("type", Yaml::text("accuracy")),
            ("name", Yaml::text(format!("{name} top-1, %"))),
            ("value", Yaml::Number(value * 100.0)),
        ])
    };
    let result = |one: &Measured| {
        let dataset = Yaml::Map(vec![("name", Yaml::text(&one.scores.probe)), ("type", Yaml::text(&one.scores.probe))]);
        let task = Yaml::Map(vec![
            ("type", Yaml::text("image-classification")),
            ("name", Yaml::text("probes of frozen features")),
        ]);
        let metrics = one.scores.trained.probes.iter().map(|probe| metric(&probe.name, probe.top1)).collect();
        Yaml::Map(vec![("task", task), ("dataset", dataset), ("metrics", Yaml::List(metrics))])
    };
    let mut fields = vec![("tags", Yaml::texts(["image-feature-extraction", "self-supervised", "lapidary"]))];
    if !measured.is_empty() {
        let index =
            Yaml::Map(vec![("name", Yaml::text(run)), ("results", Yaml::List(measured.iter().map(result).collect()))]);
        fields.push(("model-index", Yaml::List(vec![index])));
    }
    front_matter(&fields) + "\n"
}

fn describe(text: &mut String, run: &str, manifest: &Manifest) {
    let (model, facts) = (&manifest.config["model"], &manifest.facts);
    let of = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let _ = write!(
        text,
        "# {run}\n\nA Vision Transformer with patches of {} px for images of {} px: width {}, {} blocks, {} heads. Trained without \
         labels by `{}` for {} steps of {} images on `{}`. Digest `{}`.\n\n`lapidary export {run} --to timm` writes it for timm, \
         transformers, DINOv2's code or an ONNX runtime.\n\n",
        of(&model["patch_px"]),
        of(&model["image_px"]),
        of(&model["dim"]),
        of(&model["depth"]),
        of(&model["heads"]),
        of(&manifest.config["objective"]["kind"]),
        grouped(facts["steps"].as_u64().unwrap_or(0)),
        of(&manifest.config["pretrain"]["batch"]),
        of(&facts["device"]),
        manifest.digest.short(),
    );
}

fn trained_on(text: &mut String, layout: &Layout, manifest: &Manifest) {
    text.push_str("## Trained on\n\n");
    let (data, cut) = (ancestor(layout, manifest, "ingest"), ancestor(layout, manifest, "cut"));
    let plan = ancestor(layout, manifest, "plan");
    let images = |manifest: &Option<Manifest>| {
        manifest.as_ref().map_or_else(|| "an unknown number of".to_owned(), |found| grouped(found.rows.output))
    };
    let name = data.as_ref().and_then(|data| data.facts["name"].as_str().map(str::to_owned)).unwrap_or_default();
    let digest = cut.as_ref().map_or("-", |cut| cut.digest.short());
    let recipe = plan.as_ref().and_then(|plan| plan.config["recipe"].as_str().map(str::to_owned)).unwrap_or_default();
    let _ = write!(
        text,
        "{} of {} images of `{name}`, chosen by Lapidary (subset `{digest}`); views by the recipe `{recipe}`, written down before \
         training. `lapidary card --subset NAME` writes the data set's card, with its licences.\n\n",
        images(&cut),
        images(&data),
    );
}

fn scores(text: &mut String, measured: &[Measured]) {
    text.push_str("## Measured\n\n");
    if measured.is_empty() {
        text.push_str("Nothing yet: `lapidary eval` measures it.\n\n");
    }
    for one in measured {
        let scores = &one.scores;
        let _ = write!(
            text,
            "On `{}`: {} train and {} test images of {} classes; guessing the most frequent class is right for {}. The same network \
             before its first step stands beside it; intervals are Wilson's at 95 %.\n\n| probe | labels | top-1 | interval | top-5 | \
             untrained top-1 | protocol |\n|---|---:|---:|---|---:|---:|---|\n",
            scores.probe,
            grouped(scores.train_images as u64),
            grouped(scores.test_images as u64),
            scores.classes,
            percent(scores.chance_top1),
        );
        for probe in &scores.trained.probes {
            let beside = scores.untrained.probes.iter().find(|other| other.name == probe.name);
            let (low, high) = wilson(probe.top1, scores.test_images as u64);
            let _ = writeln!(
                text,
                "| {} | {} | {} | {:.1} to {:.1} | {} | {} | {} |",
                probe.name,
                grouped(probe.labels as u64),
                percent(probe.top1),
                low * 100.0,
                high * 100.0,
                percent(probe.top5),
                beside.map_or_else(|| "-".to_owned(), |other| percent(other.top1)),
                probe.protocol,
            );
        }
        for measure in &scores.trained.measures {
            let beside =
                scores.untrained.measures.iter().find(|other| other.name == measure.name).and_then(|other| other.value);
            let said = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), percent);
            let _ = writeln!(
                text,
                "| {} | - | {} |  | - | {} | {} |",
                measure.name,
                said(measure.value),
                said(beside),
                measure.protocol,
            );
        }
        text.push('\n');
    }
}

fn repeat(
    text: &mut String,
    (layout, source): (&Layout, &str),
    folder: &std::path::Path,
    manifest: &Manifest,
    measured: &[Measured],
) {
    let mut commands =
        commands_to(layout, source, MadeFolder { folder: folder.to_owned(), manifest: manifest.clone() });
    commands.extend(measured.iter().map(|one| command(layout, &one.folder, &one.manifest)));
    let _ = write!(
        text,
        "## Repeat it\n\n```sh\n{}\n```\n\n`lapidary report` has every step with its digest.\n\n",
        commands.join("\n")
    );
}
