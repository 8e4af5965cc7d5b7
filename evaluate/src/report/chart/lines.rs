//! Curves over a common horizontal axis.

use super::svg::{self, Area, DIM, Failed, SCALE, letters, mesh, px, series, stroke};
use super::thin::{THINNED_POINTS, thinned};
use super::{Drawn, nothing, number};
use maud::Markup;
use plotters::chart::ChartBuilder;
use plotters::element::Circle;
use plotters::prelude::{IntoLogRange, LineSeries, Text};
use plotters::style::Color;
use plotters::style::text_anchor::HPos;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::ops::Range;

/// Height of the view box.
const HEIGHT: u32 = 270;
/// Rows of the table at most; of more values every so many stands there.
const ROWS_MAX: usize = 40;
/// From so few points on, each is marked.
const MARKED_MAX: usize = 12;
/// From this ratio of the largest to the smallest value on, an axis of positive values is logarithmic.
const LOG_RATIO: f64 = 1e3;

/// A curve.
#[derive(Debug, Clone)]
pub(in crate::report) struct Line {
    name: String,
    /// Points x, y, all finite, by x.
    points: Vec<(f64, f64)>,
}

impl Line {
    /// A curve through the points that are finite.
    pub(in crate::report) fn new(name: &str, points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        let mut points: Vec<_> = points.into_iter().filter(|(x, y)| x.is_finite() && y.is_finite()).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        Self { name: name.to_owned(), points }
    }

    /// What it is of.
    pub(in crate::report) fn name(&self) -> &str {
        &self.name
    }

    /// Whether it has no point.
    pub(in crate::report) fn is_empty(&self) -> bool {
        self.points.is_empty()
    }
}

/// A chart of curves.
pub(in crate::report) struct Lines<'a> {
    /// What it shows.
    pub(in crate::report) title: &'a str,
    /// The horizontal axis, with its unit.
    pub(in crate::report) x: &'a str,
    /// The vertical axis, with its unit.
    pub(in crate::report) y: &'a str,
    /// The curves.
    pub(in crate::report) lines: &'a [Line],
}

/// What charts that stand side by side have in common.
#[derive(Debug, Clone)]
pub(in crate::report) struct Panel<'a> {
    /// The vertical axis.
    pub(in crate::report) y: Range<f64>,
    /// What stands at 0, 1, 2, ... of the horizontal axis.
    pub(in crate::report) places: &'a [String],
}

impl Lines<'_> {
    /// The chart with its legend and table.
    pub(in crate::report) fn figure(&self) -> Markup {
        self.drawn(None)
    }

    /// The chart as one of several with the same lines, whose legend stands once for all ([`super::legend`]).
    pub(in crate::report) fn panel(&self, panel: &Panel<'_>) -> Markup {
        self.drawn(Some(panel))
    }

    fn drawn(&self, panel: Option<&Panel<'_>>) -> Markup {
        let lines: Vec<&Line> = self.lines.iter().filter(|line| !line.is_empty()).collect();
        if lines.is_empty() {
            return nothing(self.title);
        }
        let thinned: Vec<Vec<(f64, f64)>> = lines.iter().map(|line| thinned(&line.points, THINNED_POINTS)).collect();
        let (x, y) = (bounds(&thinned, |p| p.0), bounds(&thinned, |p| p.1));
        let is_log = panel.is_none() && y.start > 0.0 && y.end / y.start > LOG_RATIO;
        let margin = (y.end - y.start) * 0.06;
        let y_drawn = panel.map_or(y.start - margin..y.end + margin, |panel| panel.y.clone());
        let place = |x: f64| {
            let named = panel.and_then(|panel| panel.places.get(x.round() as usize));
            named.cloned().unwrap_or_else(|| number(x))
        };
        let mut frame = Value::Null;
        let svg = svg::drawn(self.title, HEIGHT, |area| {
            frame = if is_log {
                self.draw_log(area, &thinned, x.clone(), y.clone())?
            } else {
                self.draw(area, &thinned, x.clone(), y_drawn, &place)?
            };
            Ok(())
        });
        let rounded = |(x, y): &(f64, f64)| json!([rounded(*x), rounded(*y)]);
        let points: Vec<Value> = lines
            .iter()
            .zip(&thinned)
            .map(|(line, points)| json!({"name": line.name, "points": points.iter().map(rounded).collect::<Vec<_>>()}))
            .collect();
        let (headings, mut rows) = self.table(&lines);
        let mut facts = json!({"x": self.x, "frame": frame, "lines": points});
        if let Some(panel) = panel {
            rows.iter_mut().zip(panel.places).for_each(|(row, place)| row[0].clone_from(place));
            facts["bins"] = json!(panel.places);
        }
        let names = lines.iter().map(|line| line.name.clone());
        Drawn {
            title: self.title.to_owned(),
            legend: if panel.is_some() { Vec::new() } else { names.collect() },
            svg,
            points: facts,
            headings,
            rows,
        }
        .figure()
    }

    fn draw(
        &self,
        area: &Area<'_>,
        lines: &[Vec<(f64, f64)>],
        x: Range<f64>,
        y: Range<f64>,
        place: &dyn Fn(f64) -> String,
    ) -> Result<Value, Failed> {
        let mut builder = self.builder(area)?;
        let mut chart = builder.build_cartesian_2d(x.clone(), y)?;
        let (tick, tick_of_x) = (|value: &f64| number(*value), |value: &f64| place(*value));
        mesh!(chart, self.x, tick_of_x, x_labels(6).y_labels(6).y_label_formatter(&tick));
        for (index, points) in lines.iter().enumerate() {
            chart.draw_series(LineSeries::new(points.iter().copied(), stroke(series(index), 1.8)))?;
            if points.len() <= MARKED_MAX {
                chart.draw_series(points.iter().map(|point| Circle::new(*point, px(2.6), series(index).filled())))?;
            }
        }
        Ok(frame(chart.plotting_area().get_pixel_range().0, &x))
    }

    fn draw_log(
        &self,
        area: &Area<'_>,
        lines: &[Vec<(f64, f64)>],
        x: Range<f64>,
        y: Range<f64>,
    ) -> Result<Value, Failed> {
        let mut builder = self.builder(area)?;
        let mut chart = builder.build_cartesian_2d(x.clone(), (y.start * 0.8..y.end * 1.25).log_scale())?;
        let tick = |value: &f64| number(*value);
        mesh!(chart, self.x, tick, x_labels(6).y_labels(6).y_label_formatter(&tick));
        for (index, points) in lines.iter().enumerate() {
            chart.draw_series(LineSeries::new(points.iter().copied(), stroke(series(index), 1.8)))?;
        }
        Ok(frame(chart.plotting_area().get_pixel_range().0, &x))
    }

    /// Room for the axes; the name of the vertical one stands over it, where it is read without turning one's head.
    fn builder<'a, 'b>(
        &self,
        area: &'a Area<'b>,
    ) -> Result<ChartBuilder<'a, 'b, plotters::prelude::SVGBackend<'b>>, Failed> {
        area.draw(&Text::new(self.y.to_owned(), (px(2.0), px(9.0)), letters(DIM, HPos::Left)))?;
        let mut builder = ChartBuilder::on(area);
        builder.margin_top(px(20.0)).margin_right(px(14.0)).margin_bottom(px(2.0));
        builder.x_label_area_size(px(38.0)).y_label_area_size(px(50.0));
        Ok(builder)
    }

    fn table(&self, lines: &[&Line]) -> (Vec<String>, Vec<Vec<String>>) {
        let places: BTreeSet<u64> =
            lines.iter().flat_map(|line| line.points.iter().map(|(x, _)| ordered(*x))).collect();
        let every = places.len().div_ceil(ROWS_MAX).max(1);
        let last = places.len().saturating_sub(1);
        let kept = places.iter().enumerate().filter(|(i, _)| i % every == 0 || *i == last).map(|(_, place)| *place);
        let row = |place: u64| {
            let value = |line: &&Line| {
                let found = line.points.binary_search_by_key(&place, |(x, _)| ordered(*x)).ok();
                found.map_or_else(|| "-".to_owned(), |index| number(line.points[index].1))
            };
            std::iter::once(number(unordered(place))).chain(lines.iter().map(value)).collect()
        };
        let headings = std::iter::once(self.x.to_owned()).chain(lines.iter().map(|line| line.name.clone()));
        (headings.collect(), kept.map(row).collect())
    }
}

/// Where the plot lies in the view box, and what its ends stand for.
pub(super) fn frame(pixels: Range<i32>, x: &Range<f64>) -> Value {
    let share = |pixel: i32| f64::from(pixel) / f64::from(svg::WIDTH * SCALE);
    json!({"from": share(pixels.start), "to": share(pixels.end), "x0": x.start, "x1": x.end})
}

fn bounds(lines: &[Vec<(f64, f64)>], pick: fn(&(f64, f64)) -> f64) -> Range<f64> {
    let values = || lines.iter().flatten().map(pick);
    let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
    // One value alone still has an axis.
    if high - low < 1e-12 * high.abs().max(1e-300) {
        low - low.abs().max(1.0) * 0.5..high + high.abs().max(1.0) * 0.5
    } else {
        low..high
    }
}

/// Six significant digits, which no eye tells from all of them.
fn rounded(value: f64) -> f64 {
    format!("{value:.5e}").parse().unwrap_or(value)
}

/// A finite number as an integer of the same order.
fn ordered(value: f64) -> u64 {
    let bits = value.to_bits();
    if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
}

fn unordered(order: u64) -> f64 {
    f64::from_bits(if order >> 63 == 1 { order & !(1 << 63) } else { !order })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_numbers_is_kept_and_undone() {
        let values = [-1e9, -2.5, -0.0, 0.0, 1e-300, 0.1, 7.0, 1e30];
        let orders: Vec<u64> = values.iter().map(|value| ordered(*value)).collect();
        assert!(orders.is_sorted());
        assert!(values.iter().zip(&orders).all(|(value, order)| unordered(*order) == *value));
    }

    #[test]
    fn a_table_has_the_last_value_and_not_too_many() {
        let line = Line::new("a", (0..1001).map(|x| (f64::from(x), f64::from(x) * 2.0)));
        let lines = Lines { title: "t", x: "step", y: "y", lines: std::slice::from_ref(&line) };
        let (headings, rows) = lines.table(&[&line]);
        assert_eq!(headings, ["step", "a"]);
        assert!(
            rows.len() <= ROWS_MAX + 1 && rows.last() == Some(&vec!["1000".to_owned(), "2000".to_owned()]),
            "{rows:?}"
        );
    }

    #[test]
    fn a_panel_has_its_neighbours_axis_and_places_and_no_legend() {
        let line = |name: &str| Line::new(name, (0..3).map(|x| (f64::from(x), 0.4 + 0.1 * f64::from(x))));
        let lines = [line("one"), line("two")];
        let places = ["as it is", "0.9", "0.6"].map(str::to_owned);
        let panel = Panel { y: 0.0..1.0, places: &places };
        let text = Lines { title: "t", x: "side", y: "share", lines: &lines }.panel(&panel).into_string();
        assert!(
            !text.contains("class=\"legend\"") && text.contains(">0.6</td>") && text.contains("as it is"),
            "{text}"
        );
    }

    #[test]
    fn values_over_decades_get_a_logarithmic_axis_and_one_value_an_axis() {
        for values in [vec![1e-6, 1e-3, 10.0], vec![5.0]] {
            let line = Line::new("a", values.into_iter().enumerate().map(|(x, y)| (x as f64, y)));
            let text = Lines { title: "t", x: "step", y: "y", lines: &[line] }.figure().into_string();
            assert!(text.contains("<polyline"), "{text}");
        }
    }
}
