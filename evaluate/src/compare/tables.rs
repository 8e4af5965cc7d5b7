//! A comparison as tables: the paper's two (training; the headline probes), then every probe, then the differences.

use super::Comparison;
use super::difference::{Difference, Verdict};
use super::figures::{Quantity, TRAINING};
use super::group::Group;
use super::statistics::Sample;

/// A table.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Table {
    pub(crate) title: String,
    pub(crate) headings: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

/// Mean and spread as people write them.
fn said(sample: Option<&Sample>, quantity: Quantity) -> String {
    let Some(sample) = sample else { return "-".to_owned() };
    let (factor, digits) = (quantity.factor(), quantity.digits());
    match sample.deviation {
        Some(deviation) => format!("{:.digits$} ± {:.digits$}", sample.mean * factor, deviation * factor),
        None => format!("{:.digits$}", sample.mean * factor),
    }
}

/// The figures of all groups, in the order in which they come.
fn figures(comparison: &Comparison) -> Vec<&str> {
    let mut all: Vec<&str> = Vec::new();
    for figure in comparison.groups.iter().flat_map(|group| &group.figures) {
        if figure.figure != TRAINING && !all.contains(&figure.figure.as_str()) {
            all.push(&figure.figure);
        }
    }
    all
}

/// The probes that head a table: the first k-NN and the linear probe.
fn headline<'a>(figures: &[&'a str]) -> Vec<&'a str> {
    let first = |start: &str| figures.iter().find(|figure| figure.starts_with(start)).copied();
    first("knn").into_iter().chain(first("quick")).collect()
}

/// All tables of a comparison.
pub(crate) fn tables(comparison: &Comparison) -> Vec<Table> {
    let figures = figures(comparison);
    let headline = headline(&figures);
    let mut all = vec![training(comparison), probes(comparison, &headline)];
    for quantity in [Quantity::Top1, Quantity::Top5] {
        all.push(every_probe(comparison, &figures, quantity));
    }
    all.push(differences(comparison, &headline));
    all.retain(|table| !table.rows.is_empty() && table.headings.len() > 1);
    all
}

fn runs_of(group: &Group) -> [String; 2] {
    [group.name.clone(), group.runs.len().to_string()]
}

/// The paper's table 1.
fn training(comparison: &Comparison) -> Table {
    let rows = comparison.groups.iter().filter(|group| group.steps.is_some()).map(|group| {
        let cell = |quantity| said(group.sample(TRAINING, quantity), quantity);
        let steps = group.steps.map_or_else(|| "-".to_owned(), |steps| steps.to_string());
        runs_of(group).into_iter().chain([steps, cell(Quantity::Loss), cell(Quantity::Secs)]).collect()
    });
    Table {
        title: "Training".to_owned(),
        headings: ["group", "runs", "steps", "loss", "seconds"].map(str::to_owned).to_vec(),
        rows: rows.collect(),
    }
}

/// The paper's table 2.
fn probes(comparison: &Comparison, headline: &[&str]) -> Table {
    let columns: Vec<(&str, Quantity)> =
        headline.iter().flat_map(|figure| [(*figure, Quantity::Top1), (*figure, Quantity::Top5)]).collect();
    let headings = columns.iter().map(|(figure, quantity)| format!("{figure} {} [%]", quantity.name()));
    let rows = comparison.groups.iter().map(|group| {
        let cells = columns.iter().map(|(figure, quantity)| said(group.sample(figure, *quantity), *quantity));
        runs_of(group).into_iter().chain(cells).collect()
    });
    Table {
        title: "Probes".to_owned(),
        headings: ["group", "runs"].map(str::to_owned).into_iter().chain(headings).collect(),
        rows: if columns.is_empty() { Vec::new() } else { rows.collect() },
    }
}

fn every_probe(comparison: &Comparison, figures: &[&str], quantity: Quantity) -> Table {
    let row = |figure: &&str| -> Vec<String> {
        let cells = comparison.groups.iter().map(|group| said(group.sample(figure, quantity), quantity));
        std::iter::once((*figure).to_owned()).chain(cells).collect()
    };
    let names = comparison.groups.iter().map(|group| group.name.clone());
    let rows = figures.iter().map(row).filter(|row| row[1..].iter().any(|cell| cell != "-"));
    Table {
        title: match quantity {
            Quantity::Top1 => "Every probe's top-1, every other measure [%]".to_owned(),
            _ => format!("Every probe's {} [%]", quantity.name()),
        },
        headings: std::iter::once("probe".to_owned()).chain(names).collect(),
        rows: rows.collect(),
    }
}

/// The differences on the headline probes, and those larger than the spread on others.
fn differences(comparison: &Comparison, headline: &[&str]) -> Table {
    let is_shown = |difference: &&Difference| {
        difference.quantity == Quantity::Top1
            && (headline.contains(&difference.figure.as_str()) || difference.verdict == Verdict::Larger)
    };
    let rows = comparison.differences.iter().filter(is_shown).map(|difference| {
        let number = |value: f64| {
            let (factor, digits) = (difference.quantity.factor(), difference.quantity.digits());
            format!("{:+.digits$}", value * factor)
        };
        let interval = difference
            .interval
            .map_or_else(|| "-".to_owned(), |[low, high]| format!("{} to {}", number(low), number(high)));
        vec![
            difference.figure.clone(),
            difference.group.clone(),
            difference.other.clone(),
            number(difference.difference),
            interval,
            difference.verdict.text().to_owned(),
        ]
    });
    Table {
        title: "Differences of top-1, the first group less the second [points]".to_owned(),
        headings: ["probe", "group", "less", "difference", "95 % interval", "verdict"].map(str::to_owned).to_vec(),
        rows: rows.collect(),
    }
}

/// How many differences are larger than the spread, and by which rule; then the notes.
pub(crate) fn sentences(comparison: &Comparison) -> Vec<String> {
    let judged: Vec<&Difference> =
        comparison.differences.iter().filter(|difference| difference.verdict != Verdict::Unknown).collect();
    let larger = judged.iter().filter(|difference| difference.verdict == Verdict::Larger).count();
    let counted = match (comparison.differences.len(), judged.len()) {
        (0, _) => None,
        (all, 0) => Some(format!("of {all} comparisons none is judged: of one run no spread is known")),
        (_, judged) => {
            Some(format!("of {judged} comparisons {larger} are larger than the spread; {}", comparison.rule))
        }
    };
    counted.into_iter().chain(comparison.notes.iter().cloned()).collect()
}
