//! Charts of the report: drawn by plotters as SVG, with a legend, a line to read values off, and a table under each.
//!
//! Colours are the page's, by name ([`svg`]), so that one drawing suits light and dark. A chart's numbers stand in the page
//! once more as JSON, from which `report.js` reads the values under the pointer or the arrow keys.

mod bars;
mod histogram;
mod lines;
mod svg;
mod thin;

pub(super) use bars::{Bars, Unit};
pub(super) use histogram::Histogram;
pub(super) use lines::{Line, Lines, Panel};

use lapidary_pipeline::report::table;
use maud::{Markup, PreEscaped, html};
use serde_json::Value;

/// Colours of the page that a series may have; more series than that begin anew.
const SERIES: usize = 6;

/// A drawn chart, before it is put into the page.
struct Drawn {
    title: String,
    /// The series' names, in the order of their colours; one alone needs no legend.
    legend: Vec<String>,
    svg: String,
    /// What `report.js` reads values from; null where they are written beside the marks.
    points: Value,
    headings: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Drawn {
    fn figure(self) -> Markup {
        let headings: Vec<&str> = self.headings.iter().map(String::as_str).collect();
        let is_read = !self.points.is_null();
        html! {
            figure.chart {
                figcaption { (self.title) }
                @if self.legend.len() > 1 { (legend(&self.legend)) }
                @if is_read {
                    div.plot tabindex="0" role="group" aria-label={ (self.title) ": values by the arrow keys" } data-chart=(self.points) {
                        (PreEscaped(&self.svg))
                    }
                    output.readout aria-live="polite" {}
                } @else {
                    div.plot { (PreEscaped(&self.svg)) }
                }
                details { summary { "Table" } (table(&headings, &self.rows)) }
            }
        }
    }
}

/// The names of series, in the order of their colours.
pub(super) fn legend(names: &[String]) -> Markup {
    html! { ul.legend { @for (i, name) in names.iter().enumerate() { li { span class={ "swatch s" (i % SERIES) } {} (name) } } } }
}

/// A value with four significant digits, in plain notation where that is short.
pub(super) fn number(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        "-".to_owned()
    } else if value == 0.0 {
        "0".to_owned()
    } else if !(1e-3..1e6).contains(&size) {
        let text = format!("{value:.3e}");
        let (digits, power) = text.split_once('e').unwrap_or((&text, "0"));
        format!("{}e{power}", digits.trim_end_matches('0').trim_end_matches('.'))
    } else {
        let digits = (3 - size.log10().floor() as i32).clamp(0, 6) as usize;
        let text = format!("{value:.digits$}");
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
    }
}

/// A chart whose numbers are none: it says so in words.
fn nothing(title: &str) -> Markup {
    html! { p.dim { (title) ": no data." } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_four_digits() {
        for (value, text) in [
            (0.0, "0"),
            (1234.5, "1234"),
            (12.0, "12"),
            (0.123456, "0.1235"),
            (-2.5, "-2.5"),
            (0.00001234, "1.234e-5"),
            (0.0008, "8e-4"),
            (f64::NAN, "-"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn a_chart_has_a_legend_a_table_and_the_pages_colours() {
        let line = |name: &str, by: f64| Line::new(name, (0..50).map(|x| (f64::from(x), by * f64::from(x))));
        let lines = [line("one <a>", 1.0), line("two", -0.5)];
        let text = Lines { title: "Loss", x: "step", y: "nats", lines: &lines }.figure().into_string();
        assert!(text.contains("one &lt;a&gt;") && !text.contains("one <a>"), "{text}");
        assert!(text.contains("stroke=\"var(--s1)\"") && text.contains("var(--grid)"), "{text}");
        assert!(!text.contains("#0"), "a colour of its own is left: {text}");
        assert!(text.contains(">nats<") || text.contains("nats\n"), "the axis has its unit: {text}");
        assert!(text.contains("<table>") && text.contains("data-chart"));
        let empty = Lines { title: "Loss", x: "step", y: "nats", lines: &[line("x", f64::NAN)] }.figure();
        assert!(empty.into_string().contains("no data"));
    }

    #[test]
    fn bars_say_their_values_and_their_names_are_text() {
        let names = ["k-NN <20>".to_owned(), "ridge".to_owned()];
        let series = [("trained".to_owned(), vec![0.417, f64::NAN]), ("untrained".to_owned(), vec![0.206, 0.1])];
        let bars = Bars {
            title: "Top-1",
            x: "share of test images",
            names: &names,
            series: &series,
            spreads: &[],
            unit: Unit::Percent,
            marker: Some((0.125, "chance")),
        };
        let text = bars.figure().into_string();
        for part in ["41.7 %", "20.6 %", "k-NN &lt;20&gt;", "chance", "var(--s0)", "var(--s1)"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("NaN"), "{text}");
    }

    #[test]
    fn a_histogram_counts_everything_once() {
        let text = Histogram {
            title: "Pairs",
            x: "score",
            y: "pairs",
            counts: &[3, 0, 7],
            range: (0.0, 1.0),
            marker: Some((0.5, "linked from here")),
        }
        .figure()
        .into_string();
        assert!(text.contains("linked from here") && text.contains("0 to 0.3333"), "{text}");
    }
}
