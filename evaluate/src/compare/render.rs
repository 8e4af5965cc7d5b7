//! A comparison in the format that is asked for. Text, Markdown, LaTeX and HTML are the same tables; CSV and JSON hold every
//! number.

use super::Comparison;
use super::figures::Quantity;
use super::tables::{Table, sentences, tables};
use crate::Result;
use lapidary_pipeline::PipelineError;
use lapidary_pipeline::report::{page, table};
use maud::html;
use std::str::FromStr;

/// A format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Columns of characters.
    Text,
    /// A line a number and a difference.
    Csv,
    /// Everything, in one object.
    Json,
    /// The facts of each run, a line each: what `--from` reads.
    Jsonl,
    /// Markdown's tables.
    Markdown,
    /// LaTeX's `tabular`.
    Latex,
    /// A page like the report's.
    Html,
}

impl Format {
    const ALL: [(&'static str, Self); 7] = [
        ("text", Self::Text),
        ("csv", Self::Csv),
        ("json", Self::Json),
        ("jsonl", Self::Jsonl),
        ("markdown", Self::Markdown),
        ("latex", Self::Latex),
        ("html", Self::Html),
    ];
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|(name, _)| *name == text);
        let names: Vec<&str> = Self::ALL.iter().map(|(name, _)| *name).collect();
        found.map(|(_, format)| *format).ok_or_else(|| format!("`{text}` is none of {}", names.join(", ")))
    }
}

/// A comparison as a text that ends with a newline. [`Format::Jsonl`] is of the runs alone, and not written here.
///
/// # Errors
/// When a text cannot be made.
pub fn render(comparison: &Comparison, format: Format) -> Result<String> {
    let tables = tables(comparison);
    let sentences = sentences(comparison);
    Ok(match format {
        Format::Text => joined(tables.iter().map(text), sentences.iter().map(|line| format!("note: {line}"))),
        Format::Markdown => joined(tables.iter().map(markdown), sentences.iter().map(|line| format!("- {line}"))),
        Format::Latex => joined(tables.iter().map(latex), sentences.iter().map(|line| format!("% {line}"))),
        Format::Csv => csv(comparison)?,
        Format::Json | Format::Jsonl => {
            let failed = |error: serde_json::Error| PipelineError::Internal(error.to_string());
            format!("{}\n", serde_json::to_string_pretty(comparison).map_err(failed)?)
        }
        Format::Html => as_page(&tables, &sentences),
    })
}

fn joined(tables: impl Iterator<Item = String>, sentences: impl Iterator<Item = String>) -> String {
    let tables: Vec<String> = tables.collect();
    let sentences: Vec<String> = sentences.map(|line| format!("{line}\n")).collect();
    let between = if tables.is_empty() || sentences.is_empty() { "" } else { "\n" };
    format!("{}{between}{}", tables.join("\n"), sentences.concat())
}

fn text(table: &Table) -> String {
    let widths: Vec<usize> = (0..table.headings.len())
        .map(|column| {
            let cells = table.rows.iter().map(|row| row[column].chars().count());
            cells.chain([table.headings[column].chars().count()]).max().unwrap_or(0)
        })
        .collect();
    let line = |cells: &[String]| {
        let padded = cells.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        format!("{}\n", padded.collect::<Vec<_>>().join("  ").trim_end())
    };
    let rows: String = table.rows.iter().map(|row| line(row)).collect();
    format!("{}\n{}{rows}", table.title, line(&table.headings))
}

fn markdown(table: &Table) -> String {
    let line = |cells: &[String]| {
        format!("| {} |\n", cells.iter().map(|cell| cell.replace('|', "\\|")).collect::<Vec<_>>().join(" | "))
    };
    let rule = table.headings.iter().enumerate().map(|(column, _)| if column == 0 { "---|" } else { "---:|" });
    let rows: String = table.rows.iter().map(|row| line(row)).collect();
    format!("**{}**\n\n{}|{}\n{rows}", table.title, line(&table.headings), rule.collect::<String>())
}

fn latex(table: &Table) -> String {
    let line =
        |cells: &[String]| format!("{} \\\\\n", cells.iter().map(|cell| escaped(cell)).collect::<Vec<_>>().join(" & "));
    let columns = "r".repeat(table.headings.len() - 1);
    let rows: String = table.rows.iter().map(|row| line(row)).collect();
    format!(
        "% {}\n\\begin{{tabular}}{{l{columns}}}\n\\hline\n{}\\hline\n{rows}\\hline\n\\end{{tabular}}\n",
        table.title,
        line(&table.headings)
    )
}

/// What LaTeX prints as it stands here.
fn escaped(cell: &str) -> String {
    cell.chars().fold(String::new(), |text, c| match c {
        '&' | '%' | '$' | '#' | '_' | '{' | '}' => text + "\\" + &c.to_string(),
        '~' => text + "\\textasciitilde{}",
        '^' => text + "\\textasciicircum{}",
        '\\' => text + "\\textbackslash{}",
        '±' => text + "$\\pm$",
        c => text + &c.to_string(),
    })
}

fn csv(comparison: &Comparison) -> Result<String> {
    let failed = |error: &dyn std::fmt::Display| PipelineError::Internal(format!("writing CSV: {error}"));
    let mut writer = csv::Writer::from_writer(Vec::new());
    let head = ["kind", "probe", "quantity", "group", "less", "runs", "value", "deviation", "low", "high", "verdict"];
    writer.write_record(head).map_err(|e| failed(&e))?;
    let number = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
    let of = |quantity: Quantity| quantity.name().to_owned();
    for group in &comparison.groups {
        for figure in &group.figures {
            let sample = &figure.sample;
            let extremes = sample.values.iter().fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(*v), h.max(*v)));
            writer
                .write_record([
                    "figure".to_owned(),
                    figure.figure.clone(),
                    of(figure.quantity),
                    group.name.clone(),
                    String::new(),
                    sample.values.len().to_string(),
                    sample.mean.to_string(),
                    number(sample.deviation),
                    extremes.0.to_string(),
                    extremes.1.to_string(),
                    String::new(),
                ])
                .map_err(|e| failed(&e))?;
        }
    }
    for difference in &comparison.differences {
        let [low, high] = difference.interval.map_or([None; 2], |interval| interval.map(Some));
        writer
            .write_record([
                "difference".to_owned(),
                difference.figure.clone(),
                of(difference.quantity),
                difference.group.clone(),
                difference.other.clone(),
                difference.runs.map(|runs| runs.to_string()).join(" and "),
                difference.difference.to_string(),
                String::new(),
                number(low),
                number(high),
                difference.verdict.text().to_owned(),
            ])
            .map_err(|e| failed(&e))?;
    }
    let bytes = writer.into_inner().map_err(|e| failed(&e))?;
    Ok(String::from_utf8(bytes).map_err(|e| failed(&e))?)
}

fn as_page(tables: &[Table], sentences: &[String]) -> String {
    let section = |(index, of): (usize, &Table)| {
        let headings: Vec<&str> = of.headings.iter().map(String::as_str).collect();
        (format!("table-{index}"), of.title.clone(), html! { (table(&headings, &of.rows)) })
    };
    let notes = html! { ul { @for line in sentences { li { (line) } } } };
    let mut sections: Vec<_> = tables.iter().enumerate().map(section).collect();
    sections.push(("notes".to_owned(), "What to know".to_owned(), notes));
    page("Lapidary: runs compared", "means and standard deviations over runs that differ in the seed alone", &sections)
}
