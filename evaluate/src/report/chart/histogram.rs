//! Counts over a range of numbers.

use super::lines::frame;
use super::svg::{self, Area, DIM, Failed, letters, mesh, px, series, stroke};
use super::{Drawn, nothing, number};
use maud::Markup;
use plotters::chart::ChartBuilder;
use plotters::element::{PathElement, Rectangle};
use plotters::prelude::Text;
use plotters::style::Color;
use plotters::style::text_anchor::HPos;
use serde_json::{Value, json};

const HEIGHT: u32 = 250;

/// A histogram of bins of equal width.
pub(in crate::report) struct Histogram<'a> {
    /// What it shows.
    pub(in crate::report) title: &'a str,
    /// What is binned.
    pub(in crate::report) x: &'a str,
    /// What is counted.
    pub(in crate::report) y: &'a str,
    /// The count of each bin.
    pub(in crate::report) counts: &'a [u64],
    /// Where the first bin begins and the last ends.
    pub(in crate::report) range: (f64, f64),
    /// A value that something depends on, and what.
    pub(in crate::report) marker: Option<(f64, &'a str)>,
}

impl Histogram<'_> {
    /// The chart with its table.
    pub(in crate::report) fn figure(&self) -> Markup {
        if self.counts.iter().all(|count| *count == 0) {
            return nothing(self.title);
        }
        let mut place = Value::Null;
        let svg = svg::drawn(self.title, HEIGHT, |area| {
            place = self.draw(area)?;
            Ok(())
        });
        let bins = self.counts.len();
        let middle = |bin: usize| (self.edge(bin) + self.edge(bin + 1)) / 2.0;
        let points: Vec<Value> =
            self.counts.iter().enumerate().map(|(bin, count)| json!([middle(bin), count])).collect();
        let label = |bin: usize| format!("{} to {}", number(self.edge(bin)), number(self.edge(bin + 1)));
        Drawn {
            title: self.title.to_owned(),
            legend: Vec::new(),
            svg,
            points: json!({
                "x": self.x, "frame": place, "bins": (0..bins).map(label).collect::<Vec<_>>(),
                "lines": [{"name": self.y, "points": points}],
            }),
            headings: vec![self.x.to_owned(), self.y.to_owned()],
            rows: (0..bins).map(|bin| vec![label(bin), self.counts[bin].to_string()]).collect(),
        }
        .figure()
    }

    fn edge(&self, bin: usize) -> f64 {
        self.range.0 + (self.range.1 - self.range.0) * bin as f64 / self.counts.len() as f64
    }

    fn draw(&self, area: &Area<'_>) -> Result<Value, Failed> {
        let most = self.counts.iter().copied().max().unwrap_or(1) as f64;
        area.draw(&Text::new(self.y.to_owned(), (px(2.0), px(9.0)), letters(DIM, HPos::Left)))?;
        let mut builder = ChartBuilder::on(area);
        builder.margin_top(px(24.0)).margin_right(px(14.0)).margin_bottom(px(2.0));
        builder.x_label_area_size(px(38.0)).y_label_area_size(px(50.0));
        let range = self.range.0..self.range.1;
        let mut chart = builder.build_cartesian_2d(range.clone(), 0.0..most * 1.05)?;
        let tick = |value: &f64| number(*value);
        mesh!(chart, self.x, tick, disable_x_mesh().y_labels(5).x_labels(6).y_label_formatter(&tick));
        let filled = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        let inset = (range.end - range.start) / self.counts.len() as f64 * 0.06;
        chart.draw_series(filled.map(|(bin, count)| {
            let corners = [(self.edge(bin) + inset, *count as f64), (self.edge(bin + 1) - inset, 0.0)];
            Rectangle::new(corners, series(0).filled())
        }))?;
        if let Some((value, text)) = self.marker.filter(|(value, _)| range.contains(value)) {
            let path = vec![(value, 0.0), (value, most * 1.05)];
            chart.draw_series([PathElement::new(path, stroke(DIM, 1.4))])?;
            let (x, y) = chart.backend_coord(&(value, most * 1.05));
            // On the side that has room.
            let right = value > (range.start + range.end) / 2.0;
            let (anchor, by) = if right { (HPos::Right, -px(4.0)) } else { (HPos::Left, px(4.0)) };
            area.draw(&Text::new(text.to_owned(), (x + by, y - px(8.0)), letters(DIM, anchor)))?;
        }
        Ok(frame(chart.plotting_area().get_pixel_range().0, &range))
    }
}
