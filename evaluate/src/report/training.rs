//! The report's second half: loss curves, the probe table, attention maps.

use crate::Result;
use crate::seeing::ATTENTION;
use lapidary_pipeline::PipelineError;
use lapidary_pipeline::report::{Line, line_chart, picture, table};
use lapidary_schemas::Manifest;
use lapidary_train::METRICS_FILE;
use maud::{Markup, html};
use serde_json::Value;
use std::path::Path;

/// Losses and what tells a collapse, step by step.
pub(super) fn curves(run: &Path, trained: &Manifest) -> Result<Markup> {
    let path = run.join(METRICS_FILE);
    let text = std::fs::read_to_string(&path).map_err(PipelineError::io("read", &path))?;
    let steps: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let line = |name: &str| Line {
        name: name.replace('_', " "),
        points: steps.iter().filter_map(|s| Some((s["step"].as_f64()?, s[name].as_f64()?))).collect(),
    };
    let charts: [(&str, &[&str]); 5] = [
        ("Loss", &["loss"]),
        ("DINO loss and the teacher's entropy", &["loss_dino", "teacher_entropy"]),
        ("Barlow Twins loss", &["loss_barlow"]),
        ("Gradient norm", &["gradient_norm"]),
        ("Learning rate", &["learning_rate"]),
    ];
    let drawn: Vec<Markup> = charts
        .iter()
        .map(|(title, names)| {
            (title, names.iter().map(|name| line(name)).filter(|l| !l.points.is_empty()).collect::<Vec<_>>())
        })
        .filter(|(_, lines)| !lines.is_empty())
        .map(|(title, lines)| line_chart(title, "steps", &lines))
        .collect();
    let facts = &trained.facts;
    let number = |key: &str| facts[key].as_f64().unwrap_or(0.0);
    Ok(html! {
        p.dim {
            (facts["steps"]) " steps on " (facts["device"].as_str().unwrap_or("?")) ", "
            (format!("{:.2}", number("steps_per_sec"))) " steps/s, " (format!("{:.1}", number("data_wait_share") * 100.0))
            " % of the time waiting for data. At collapse to uniform the DINO loss stays at ln K."
        }
        div.row { @for chart in drawn { (chart) } }
    })
}

/// The probe table: trained, untrained, chance.
pub(super) fn probes(measured: &Manifest) -> Markup {
    let scores = &measured.facts;
    let percent = |value: &Value| value.as_f64().map_or_else(String::new, |v| format!("{:.1} %", v * 100.0));
    let row = |name: &str, network: &Value| {
        let mut cells = vec![name.to_owned()];
        cells.extend(["knn_top1", "knn_top5", "linear_top1", "linear_top5"].map(|key| percent(&network[key])));
        cells
    };
    let chance = percent(&scores["chance_top1"]);
    let top5 = (5.0 / scores["classes"].as_f64().unwrap_or(5.0)).min(1.0) * 100.0;
    let top5 = format!("{top5:.1} %");
    let rows = vec![
        row("trained", &scores["trained"]),
        row("untrained twin", &scores["untrained"]),
        vec!["chance".to_owned(), chance.clone(), top5.clone(), chance, top5],
    ];
    html! {
        p.dim {
            "Probe " (scores["probe"].as_str().unwrap_or("?")) ": k-NN over " (scores["train_images"])
            " train images, the linear probe `quick` on " (scores["linear_labels"]) " of their labels, tested on "
            (scores["test_images"]) " images of " (scores["classes"]) " classes."
        }
        (table(&["network", "k-NN top-1", "k-NN top-5", "quick top-1", "quick top-5"], &rows))
    }
}

/// The strips of attention maps.
pub(super) fn attention(eval: &Path) -> Result<Markup> {
    let folder = eval.join(ATTENTION);
    let mut files: Vec<_> =
        std::fs::read_dir(&folder).into_iter().flatten().filter_map(|e| e.ok().map(|e| e.path())).collect();
    files.sort();
    let mut strips = Vec::new();
    for file in files {
        let bytes = std::fs::read(&file).map_err(PipelineError::io("read", &file))?;
        let name = file.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        strips.push(html! { div { (picture(&bytes, "image/png", &name, 620, "")) } });
    }
    Ok(html! {
        style { ".strips figure{max-width:none;margin-bottom:6px}" }
        p.dim { "Each row: the image, the mean of the last block's heads laid over it, then each head." }
        div.strips { @for strip in strips { (strip) } }
    })
}
