//! Drawing with plotters into SVG that takes its colours from the page.
//!
//! plotters knows colours as numbers and places as whole pixels. So each of the page's colours is drawn as a number that stands for
//! it and renamed in the text, and charts are drawn [`SCALE`] times as large as their view box says.

use plotters::coord::Shift;
use plotters::prelude::{DrawingArea, IntoDrawingArea, RGBColor, SVGBackend, TextStyle};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, IntoFont, ShapeStyle};

/// Drawn pixels a pixel of the view box.
pub(super) const SCALE: u32 = 4;
/// Width of a chart's view box: what a narrow screen has, so that letters stay legible there.
pub(super) const WIDTH: u32 = 420;
/// Size of letters in the view box.
pub(super) const LETTERS: f64 = 12.0;
/// Text on axes and beside marks.
pub(super) const INK: RGBColor = RGBColor(1, 0, 0);
/// Quieter text.
pub(super) const DIM: RGBColor = RGBColor(2, 0, 0);
/// Lines of a grid.
pub(super) const GRID: RGBColor = RGBColor(3, 0, 0);
/// The number that stands for a series' colour.
pub(super) fn series(index: usize) -> RGBColor {
    RGBColor(0, 0, 1 + (index % super::SERIES) as u8)
}

/// What drawing says when it fails. A string takes every drawing, so only a chart without room can.
pub(super) type Failed = Box<dyn std::error::Error>;
/// What is drawn on.
pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// So many pixels of the view box, as drawn.
pub(super) fn px(pixels: f64) -> i32 {
    (pixels * f64::from(SCALE)) as i32
}

/// A stroke of so many pixels of the view box.
pub(super) fn stroke(colour: RGBColor, pixels: f64) -> ShapeStyle {
    colour.stroke_width(px(pixels) as u32)
}

/// Grid, ticks and the name of the horizontal axis, the same for charts of every axis's type, with what else one sets.
macro_rules! mesh {
    ($chart:expr, $x:expr, $tick:expr, $($call:ident($($argument:expr)?)).+) => {{
        use crate::report::chart::svg::{DIM, GRID, letters, px, stroke};
        use plotters::style::text_anchor::HPos;
        $chart
            .configure_mesh()
            $(.$call($($argument)?))+
            .max_light_lines(0)
            .bold_line_style(stroke(GRID, 1.0))
            .axis_style(stroke(GRID, 1.0))
            .label_style(letters(DIM, HPos::Center))
            .axis_desc_style(letters(DIM, HPos::Center))
            .set_all_tick_mark_size(px(3.0))
            .x_desc($x)
            .x_label_formatter(&$tick)
            .draw()?;
    }};
}
pub(super) use mesh;

/// The estimated width of a text in pixels of the view box. Letters of a sans-serif face are a little over half as wide as high.
pub(super) fn width_of(text: &str) -> f64 {
    text.chars().count() as f64 * LETTERS * 0.56
}

/// Letters of a colour, placed by their anchor.
pub(super) fn letters(colour: RGBColor, horizontal: HPos) -> TextStyle<'static> {
    // plotters writes sizes over 1.24.
    let size = LETTERS * 1.24 * f64::from(SCALE);
    ("sans-serif", size).into_font().color(&colour.to_rgba()).pos(Pos::new(horizontal, VPos::Center))
}

/// An SVG of this height, drawn by `draw`, for a page that has the colours `--ink`, `--dim`, `--grid` and `--s0` to `--s5`. Empty
/// when drawing failed.
pub(super) fn drawn(title: &str, height: u32, draw: impl FnOnce(&Area<'_>) -> Result<(), Failed>) -> String {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, (WIDTH * SCALE, height * SCALE)).into_drawing_area();
        let done = draw(&area).and_then(|()| Ok(area.present()?));
        if let Err(error) = done {
            tracing::warn!("chart `{title}` could not be drawn: {error}");
            return String::new();
        }
    }
    in_page_colours(&text, title)
}

/// The text with the page's colours, without what repeats the defaults, and with a name for those who do not see it.
fn in_page_colours(text: &str, title: &str) -> String {
    let mut text = text.replace(" opacity=\"1\"", "").replace(" font-family=\"sans-serif\"", "");
    // Within a page of HTML an SVG needs no namespace.
    text = text.replace(" xmlns=\"http://www.w3.org/2000/svg\"", "");
    for (colour, name) in [(INK, "ink"), (DIM, "dim"), (GRID, "grid")] {
        text = text.replace(&hexadecimal(colour), &format!("var(--{name})"));
    }
    for index in 0..super::SERIES {
        text = text.replace(&hexadecimal(series(index)), &format!("var(--s{index})"));
    }
    let body = text.split_once("viewBox").map_or(text.as_str(), |(_, body)| body);
    let label = maud::html! { (title) }.into_string().replace('"', "&quot;");
    format!("<svg role=\"img\" aria-label=\"{label}\" viewBox{body}")
}

fn hexadecimal(RGBColor(red, green, blue): RGBColor) -> String {
    format!("#{red:02X}{green:02X}{blue:02X}")
}
