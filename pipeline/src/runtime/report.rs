//! The report kit: one self-contained HTML page, with pictures and charts inside it.
//!
//! maud escapes what is text; styles and a line of script are the only text that is not.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};

const STYLE: &str = "
:root{--ink:#1c2430;--dim:#667085;--line:#e4e7ec;--accent:#3056d3;--bg:#fff}
*{box-sizing:border-box}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--bg);margin:0 auto;max-width:1100px;padding:24px}
h1{font-size:28px;margin:0 0 4px}h2{font-size:20px;margin:40px 0 8px;border-top:1px solid var(--line);padding-top:20px}
p.lead,figcaption,.dim{color:var(--dim)}
table{border-collapse:collapse;margin:8px 0 16px}th,td{text-align:left;padding:4px 14px 4px 0;border-bottom:1px solid var(--line)}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
nav a{margin-right:14px;color:var(--accent);text-decoration:none}
.cards{display:flex;flex-wrap:wrap;gap:12px;margin:16px 0}.card{border:1px solid var(--line);border-radius:8px;padding:10px 16px}
.card b{display:block;font-size:22px}
.row{display:flex;flex-wrap:wrap;gap:8px;align-items:flex-end;margin:6px 0 14px}
figure{margin:0;max-width:150px;font-size:12px}figure img{display:block;border-radius:4px;max-width:100%}
svg{max-width:100%;height:auto}
";

/// A page with a title, a lead, and sections as (anchor, heading, body).
pub fn page(title: &str, lead: &str, sections: &[(String, String, Markup)]) -> String {
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (PreEscaped(STYLE)) }
                script { (PreEscaped("addEventListener('error',e=>document.documentElement.dataset.error=e.message);addEventListener('load',()=>document.documentElement.dataset.ready='1')")) }
            }
            body {
                h1 { (title) }
                p.lead { (lead) }
                nav { @for (anchor, heading, _) in sections { a href={ "#" (anchor) } { (heading) } } }
                @for (anchor, heading, body) in sections {
                    section id=(anchor) { h2 { (heading) } (body) }
                }
            }
        }
    };
    markup.into_string()
}

/// A picture in the page.
pub fn picture(bytes: &[u8], mime: &str, alt: &str, width_px: u32, caption: &str) -> Markup {
    let source = format!("data:{mime};base64,{}", STANDARD.encode(bytes));
    html! {
        figure {
            img src=(source) alt=(alt) width=(width_px) loading="lazy";
            @if !caption.is_empty() { figcaption { (caption) } }
        }
    }
}

/// A table; cells that are numbers stand to the right.
pub fn table(headings: &[&str], rows: &[Vec<String>]) -> Markup {
    let numeric = |cell: &str| cell.trim_end_matches(['%', 's']).trim().parse::<f64>().is_ok();
    html! {
        table {
            thead { tr { @for (i, heading) in headings.iter().enumerate() {
                th.n[rows.first().is_some_and(|row| row.get(i).is_some_and(|c| numeric(c)))] { (heading) }
            } } }
            tbody { @for row in rows { tr { @for cell in row { td.n[numeric(cell)] { (cell) } } } } }
        }
    }
}

/// A figure with a label.
pub fn card(value: &str, label: &str) -> Markup {
    html! { div.card { b { (value) } span.dim { (label) } } }
}

/// A line of a chart.
#[derive(Debug, Clone)]
pub struct Line {
    /// Its name in the legend.
    pub name: String,
    /// Points x, y; those that are not finite are left out.
    pub points: Vec<(f64, f64)>,
}

const COLOURS: [&str; 6] = ["#3056d3", "#d9480f", "#2b8a3e", "#9c36b5", "#c2255c", "#0b7285"];

/// A line chart.
pub fn line_chart(title: &str, x_label: &str, lines: &[Line]) -> Markup {
    let finite = |line: &Line| -> Vec<(f64, f64)> {
        line.points.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite()).collect()
    };
    let all: Vec<(f64, f64)> = lines.iter().flat_map(finite).collect();
    let Some(first) = all.first() else { return html! { p.dim { (title) ": no data" } } };
    let bounds = |pick: fn(&(f64, f64)) -> f64| {
        all.iter().map(pick).fold((pick(first), pick(first)), |(low, high), v| (low.min(v), high.max(v)))
    };
    let ((x0, x1), (mut y0, mut y1)) = (bounds(|p| p.0), bounds(|p| p.1));
    if y1 - y0 < 1e-12 {
        (y0, y1) = (y0 - 0.5, y1 + 0.5);
    }
    let (width, height, left, bottom) = (520.0, 240.0, 56.0, 30.0);
    let place = |(x, y): (f64, f64)| {
        let across = if x1 > x0 { (x - x0) / (x1 - x0) } else { 0.5 };
        (left + across * (width - left - 10.0), 24.0 + (1.0 - (y - y0) / (y1 - y0)) * (height - 24.0 - bottom))
    };
    let ticks: Vec<f64> = (0..=4).map(|i| y0 + (y1 - y0) * f64::from(i) / 4.0).collect();
    html! {
        svg viewBox={ "0 0 " (width) " " (height) } width=(width) role="img" aria-label=(title) font-size="11" {
            text x=(left) y="14" font-size="13" font-weight="600" { (title) }
            @for tick in &ticks {
                @let y = place((x0, *tick)).1;
                line x1=(left) x2=(width - 10.0) y1=(y) y2=(y) stroke="#e4e7ec" {}
                text x=(left - 6.0) y=(y + 4.0) text-anchor="end" fill="#667085" { (short(*tick)) }
            }
            text x=(left) y=(height - 8.0) fill="#667085" { (short(x0)) }
            text x=(width - 10.0) y=(height - 8.0) text-anchor="end" fill="#667085" { (short(x1)) " " (x_label) }
            @for (i, line) in lines.iter().enumerate() {
                @let points: Vec<String> = finite(line).into_iter().map(|p| { let (x, y) = place(p); format!("{x:.1},{y:.1}") }).collect();
                polyline points=(points.join(" ")) fill="none" stroke=(COLOURS[i % COLOURS.len()]) stroke-width="1.6" {}
                text x=(width - 14.0) y=(38.0 + 14.0 * i as f64) text-anchor="end" fill=(COLOURS[i % COLOURS.len()]) { (line.name) }
            }
        }
    }
}

/// Bars side by side for each label: one bar a series, heights as shares (0 to 1).
pub fn bar_chart(title: &str, labels: &[String], series: &[(String, Vec<f64>)]) -> Markup {
    let most = series.iter().flat_map(|(_, values)| values).copied().fold(1e-9, f64::max);
    let slot = 24.0 + 16.0 * series.len() as f64;
    let (left, height, bottom) = (46.0, 240.0, 54.0);
    let width = left + slot * labels.len() as f64 + 10.0;
    let top = |value: f64| 30.0 + (1.0 - value / most) * (height - 30.0 - bottom);
    html! {
        svg viewBox={ "0 0 " (width) " " (height) } width=(width) role="img" aria-label=(title) font-size="11" {
            text x="4" y="14" font-size="13" font-weight="600" { (title) }
            @for (s, (name, _)) in series.iter().enumerate() {
                text x=(left + 110.0 * s as f64) y="28" fill=(COLOURS[s % COLOURS.len()]) { (name) }
            }
            @for tick in [0.0, most / 2.0, most] {
                line x1=(left) x2=(width) y1=(top(tick)) y2=(top(tick)) stroke="#e4e7ec" {}
                text x=(left - 6.0) y=(top(tick) + 4.0) text-anchor="end" fill="#667085" { (format!("{:.0} %", tick * 100.0)) }
            }
            @for (i, label) in labels.iter().enumerate() {
                @let x = left + slot * i as f64 + 8.0;
                @for (s, (_, values)) in series.iter().enumerate() {
                    @let value = values.get(i).copied().unwrap_or(0.0);
                    rect x=(x + 16.0 * s as f64) y=(top(value)) width="14" height=(top(0.0) - top(value)) fill=(COLOURS[s % COLOURS.len()]) {}
                }
                text x=(x) y=(height - bottom + 14.0) fill="#667085" transform={ "rotate(28 " (x) " " (height - bottom + 14.0) ")" } { (label) }
            }
        }
    }
}

fn short(value: f64) -> String {
    if value.abs() >= 100.0 || value.fract() == 0.0 {
        format!("{value:.0}")
    } else if value.abs() >= 0.1 {
        format!("{value:.2}")
    } else {
        format!("{value:.1e}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_and_empty_charts_say_so() {
        let page = page("<a>", "", &[("x".to_owned(), "<b>".to_owned(), table(&["h"], &[vec!["<i>".to_owned()]]))]);
        assert!(!page.contains("<b>") && page.contains("&lt;i&gt;"));
        let chart = line_chart("loss", "step", &[Line { name: "a".to_owned(), points: vec![(0.0, f64::NAN)] }]);
        assert!(chart.into_string().contains("no data"));
    }
}
