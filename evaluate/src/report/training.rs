//! The curves of training, those of several runs in one chart.

use super::chart::{Line, Lines, number};
use super::made::MadeRun;
use super::text::grouped;
use crate::Result;
use lapidary_pipeline::PipelineError;
use lapidary_pipeline::report::table;
use lapidary_train::METRICS_FILE;
use lapidary_train::health::Verdict;
use maud::{Markup, html};
use serde_json::Value;
use std::collections::BTreeSet;

/// A measure that is drawn: title, unit, and the names under which runs have it.
type Chart = (String, &'static str, Vec<String>);

/// The measures that stand together in a chart; every other loss gets one of its own.
const CHARTS: [(&str, &str, &[&str]); 7] = [
    ("Loss", "loss", &["loss"]),
    ("DINO loss and the teacher's entropy", "nats", &["loss_dino", "teacher_entropy"]),
    ("Barlow Twins loss", "loss", &["loss_barlow"]),
    ("k-NN top-1 during training", "share of test images", &["knn_top1"]),
    ("Effective rank of the features", "RankMe", &["rankme"]),
    ("Gradient norm", "L2 norm", &["gradient_norm"]),
    ("Learning rate", "learning rate", &["learning_rate"]),
];

/// The charts for what these runs have measured.
fn charts(steps: &[Vec<Value>]) -> Vec<Chart> {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<String>>();
    let mut all: Vec<Chart> =
        CHARTS.iter().map(|(title, unit, names)| ((*title).to_owned(), *unit, owned(names))).collect();
    // A run measures the same losses at every step that is not skipped.
    let lines = steps.iter().flat_map(|steps| steps.iter().take(2)).filter_map(Value::as_object);
    let losses: BTreeSet<&String> = lines.flat_map(|line| line.keys()).filter(|key| key.starts_with("loss_")).collect();
    let drawn = |loss: &str| loss == "loss_over_ln_k" || CHARTS.iter().any(|(_, _, names)| names.contains(&loss));
    let others = losses.into_iter().filter(|loss| !drawn(loss));
    let others: Vec<Chart> = others
        .map(|loss| {
            (format!("Loss of {}", loss.trim_start_matches("loss_").replace('_', " ")), "loss", vec![loss.clone()])
        })
        .collect();
    all.splice(3..3, others);
    all
}

/// A run's metrics, line by line.
pub(super) fn metrics(run: &MadeRun) -> Result<Vec<Value>> {
    let path = run.run.folder.join(METRICS_FILE);
    let text = std::fs::read_to_string(&path).map_err(PipelineError::io("read", &path))?;
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// The section's curves and table.
pub(super) fn training(runs: &[MadeRun]) -> Result<Markup> {
    let steps = runs.iter().map(metrics).collect::<Result<Vec<_>>>()?;
    let charts = charts(&steps);
    let drawn = charts.iter().filter_map(|(title, unit, names)| {
        let of_run = |(run, steps): (&MadeRun, &Vec<Value>)| -> Vec<Line> {
            let line = |name: &String| {
                let word = name.replace('_', " ");
                let label = match (runs.len() > 1, names.len() > 1) {
                    (true, true) => format!("{}: {word}", run.name),
                    (true, false) => run.name.clone(),
                    _ => word,
                };
                Line::new(&label, steps.iter().filter_map(|s| Some((s["step"].as_f64()?, s[name].as_f64()?))))
            };
            names.iter().map(line).collect()
        };
        let lines: Vec<Line> = runs.iter().zip(&steps).flat_map(of_run).filter(|line| !line.is_empty()).collect();
        // One curve alone has no legend that would say whose it is.
        let title = match &lines[..] {
            [line] if runs.len() > 1 => format!("{title}: {}", line.name()),
            _ => title.clone(),
        };
        (!lines.is_empty()).then(|| Lines { title: &title, x: "step", y: unit, lines: &lines }.figure())
    });
    let drawn: Vec<Markup> = drawn.collect();
    let headings = [
        "run",
        "objective",
        "width",
        "blocks",
        "batch",
        "steps",
        "epochs",
        "images/s",
        "waiting for data",
        "last loss",
        "device",
    ];
    let rows: Vec<Vec<String>> = runs.iter().map(row).collect();
    Ok(html! {
        (table(&headings, &rows))
        p.dim { "At collapse to uniform the DINO loss stays at ln K; K is the number of prototypes. Each point is a step." }
        div.charts { @for chart in drawn { (chart) } }
        (verdicts(runs))
    })
}

fn row(run: &MadeRun) -> Vec<String> {
    let (config, facts) = (&run.run.manifest.config, &run.run.manifest.facts);
    let figure = |value: &Value| value.as_f64().map_or_else(|| "-".to_owned(), number);
    vec![
        run.name.clone(),
        config["objective"]["kind"].as_str().unwrap_or("-").to_owned(),
        figure(&config["model"]["dim"]),
        figure(&config["model"]["depth"]),
        figure(&config["pretrain"]["batch"]),
        grouped(facts["steps"].as_u64().unwrap_or(0)),
        figure(&facts["epochs"]),
        figure(&facts["images_per_sec"]),
        format!("{:.1} %", facts["data_wait_share"].as_f64().unwrap_or(0.0) * 100.0),
        figure(&facts["last"]["loss"]),
        facts["device"].as_str().unwrap_or("-").to_owned(),
    ]
}

/// What the monitor of training said, of each run.
pub(super) fn verdicts_of(run: &MadeRun) -> Vec<Verdict> {
    let said = run.run.manifest.facts["verdicts"].as_array().cloned().unwrap_or_default();
    said.into_iter().filter_map(|verdict| serde_json::from_value(verdict).ok()).collect()
}

fn verdicts(runs: &[MadeRun]) -> Markup {
    let of_run = |run: &MadeRun| -> Vec<String> {
        let name = if runs.len() > 1 { format!("{}: ", run.name) } else { String::new() };
        verdicts_of(run).iter().map(|verdict| format!("{name}{verdict}")).collect()
    };
    let said: Vec<String> = runs.iter().flat_map(of_run).collect();
    html! { @if !said.is_empty() {
        h3 { "What the monitor said" }
        ul { @for line in said { li { (line) } } }
    } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_loss_that_a_run_has_gets_a_chart() {
        let steps = vec![vec![json!({"step": 0, "loss": 1, "loss_dino": 1, "loss_ibot": 2, "loss_over_ln_k": 1})]];
        let titles: Vec<String> = charts(&steps).into_iter().map(|(title, _, _)| title).collect();
        assert_eq!(titles.iter().filter(|title| title.contains("ibot")).count(), 1);
        assert_eq!(titles.len(), CHARTS.len() + 1);
    }
}
