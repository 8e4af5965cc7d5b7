//! Horizontal bars, side by side for each name: names of any length stand beside them, values at their ends.

use super::svg::{self, Area, DIM, Failed, INK, WIDTH, letters, mesh, px, series, stroke, width_of};
use super::{Drawn, nothing, number};
use maud::Markup;
use plotters::chart::ChartBuilder;
use plotters::element::{PathElement, Rectangle};
use plotters::prelude::Text;
use plotters::style::Color;
use plotters::style::text_anchor::HPos;
use serde_json::Value;

/// Height of a bar and of the gap between names, in pixels of the view box.
const BAR_PX: f64 = 14.0;
const GAP_PX: f64 = 10.0;
/// Letters of a name at most; the table has all.
const NAME_CHARS: usize = 26;

/// What values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::report) enum Unit {
    /// Counts.
    Count,
    /// Shares, 0 to 1, written in percent.
    Percent,
}

impl Unit {
    fn text(self, value: f64) -> String {
        match self {
            _ if !value.is_finite() => "-".to_owned(),
            Self::Count => number(value),
            Self::Percent => format!("{:.1} %", value * 100.0),
        }
    }

    fn tick(self, value: f64) -> String {
        match self {
            Self::Count => number(value),
            Self::Percent => format!("{} %", number(value * 100.0)),
        }
    }
}

/// A chart of bars.
pub(in crate::report) struct Bars<'a> {
    /// What it shows.
    pub(in crate::report) title: &'a str,
    /// The axis of values.
    pub(in crate::report) x: &'a str,
    /// What the bars are of, from the top.
    pub(in crate::report) names: &'a [String],
    /// Each series' name and its value for each name; not finite where it has none.
    pub(in crate::report) series: &'a [(String, Vec<f64>)],
    /// For each series how far each value spreads to both sides, drawn as whiskers; not finite where that is not known, and empty
    /// where no series has any.
    pub(in crate::report) spreads: &'a [Vec<f64>],
    /// What the values are.
    pub(in crate::report) unit: Unit,
    /// A value that all are held against, and its name.
    pub(in crate::report) marker: Option<(f64, &'a str)>,
}

impl Bars<'_> {
    /// The chart with its legend and table.
    pub(in crate::report) fn figure(&self) -> Markup {
        if self.names.is_empty() || self.series.is_empty() {
            return nothing(self.title);
        }
        let of_name = BAR_PX * self.series.len() as f64 + GAP_PX;
        let head = if self.marker.is_some() { 20.0 } else { 6.0 };
        let height = head + of_name * self.names.len() as f64 + 42.0;
        let svg = svg::drawn(self.title, height as u32, |area| self.draw(area, head, of_name));
        let headings = std::iter::once(String::new()).chain(self.series.iter().map(|(name, _)| name.clone()));
        let row = |(i, name): (usize, &String)| {
            let value = |(bar, (_, values)): (usize, &(String, Vec<f64>))| {
                let value = self.unit.text(values.get(i).copied().unwrap_or(f64::NAN));
                self.spread(bar, i)
                    .map_or_else(|| value.clone(), |spread| format!("{value} ± {}", self.unit.text(spread)))
            };
            std::iter::once(name.clone()).chain(self.series.iter().enumerate().map(value)).collect()
        };
        Drawn {
            title: self.title.to_owned(),
            legend: self.series.iter().map(|(name, _)| name.clone()).collect(),
            svg,
            points: Value::Null,
            headings: headings.collect(),
            rows: self.names.iter().enumerate().map(row).collect(),
        }
        .figure()
    }

    fn spread(&self, bar: usize, name: usize) -> Option<f64> {
        self.spreads.get(bar)?.get(name).copied().filter(|spread| spread.is_finite())
    }

    fn draw(&self, area: &Area<'_>, head: f64, of_name: f64) -> Result<(), Failed> {
        let with_spread = |bar: usize, values: &[f64]| -> Vec<f64> {
            values.iter().enumerate().map(|(name, value)| value + self.spread(bar, name).unwrap_or(0.0)).collect()
        };
        let all: Vec<f64> = (0..).zip(self.series).flat_map(|(bar, (_, values))| with_spread(bar, values)).collect();
        let values = || all.iter().copied().filter(|value| value.is_finite());
        let marker = self.marker.filter(|(value, _)| value.is_finite());
        let most = values().chain(marker.map(|(value, _)| value)).fold(0.0, f64::max).max(1e-9);
        let least = values().fold(0.0, f64::min);
        let longest = self.names.iter().map(|name| width_of(&shortened(name))).fold(0.0, f64::max);
        // Room for the value at the end of the longest bar.
        let end = values().map(|value| width_of(&self.unit.text(value))).fold(0.0, f64::max) + 8.0;
        let plot = f64::from(WIDTH) - longest - 22.0;
        let reach = most + (most - least) * end / (plot - end).max(40.0);
        let mut builder = ChartBuilder::on(area);
        builder.margin_top(px(head)).margin_right(px(10.0)).margin_bottom(px(2.0));
        builder.x_label_area_size(px(38.0)).y_label_area_size(px(longest + 10.0));
        let count = self.names.len() as f64;
        let mut chart = builder.build_cartesian_2d(least..reach, count..0.0)?;
        let tick = |value: &f64| self.unit.tick(*value);
        mesh!(chart, self.x, tick, disable_y_mesh().disable_y_axis().x_labels(5));
        let pitch = BAR_PX / of_name;
        let top_of = |name: usize, bar: usize| name as f64 + GAP_PX / of_name / 2.0 + pitch * bar as f64;
        let middle_of = |name: usize, bar: usize| top_of(name, bar) + pitch * 0.43;
        for (bar, (_, values)) in self.series.iter().enumerate() {
            let finite = values.iter().take(self.names.len()).enumerate().filter(|(_, value)| value.is_finite());
            chart.draw_series(finite.clone().map(|(name, value)| {
                let top = top_of(name, bar);
                Rectangle::new([(0.0, top), (*value, top + pitch * 0.86)], series(bar).filled())
            }))?;
            for (name, value) in finite {
                let spread = self.spread(bar, name).unwrap_or(0.0);
                if spread > 0.0 {
                    let middle = middle_of(name, bar);
                    let (low, high) = ((value - spread).max(least), value + spread);
                    let end = |x: f64| {
                        PathElement::new(vec![(x, middle - pitch * 0.22), (x, middle + pitch * 0.22)], stroke(INK, 1.2))
                    };
                    let reach = PathElement::new(vec![(low, middle), (high, middle)], stroke(INK, 1.2));
                    chart.draw_series([reach, end(low), end(high)])?;
                }
            }
        }
        if let Some((value, text)) = marker {
            chart.draw_series([PathElement::new(vec![(value, 0.0), (value, count)], stroke(DIM, 1.2))])?;
            let (x, y) = chart.backend_coord(&(value, 0.0));
            area.draw(&Text::new(text.to_owned(), (x, y - px(9.0)), letters(DIM, HPos::Center)))?;
        }
        // Over all lines, so that they stay legible.
        for (bar, (_, values)) in self.series.iter().enumerate() {
            for (name, value) in values.iter().take(self.names.len()).enumerate().filter(|(_, value)| value.is_finite())
            {
                let end = (value + self.spread(bar, name).unwrap_or(0.0)).max(0.0);
                let (x, y) = chart.backend_coord(&(end, middle_of(name, bar)));
                area.draw(&Text::new(self.unit.text(*value), (x + px(4.0), y), letters(INK, HPos::Left)))?;
            }
        }
        for (name, text) in self.names.iter().enumerate() {
            let (x, y) = chart.backend_coord(&(least, name as f64 + 0.5));
            area.draw(&Text::new(shortened(text), (x - px(7.0), y), letters(INK, HPos::Right)))?;
        }
        Ok(())
    }
}

fn shortened(name: &str) -> String {
    if name.chars().count() <= NAME_CHARS {
        return name.to_owned();
    }
    name.chars().take(NAME_CHARS - 1).chain(['…']).collect()
}
