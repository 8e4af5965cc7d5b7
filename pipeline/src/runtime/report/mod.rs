//! The report kit: one self-contained HTML page for light and dark screens, narrow ones, the keyboard and paper.
//!
//! maud escapes what is text; styles and scripts, which are files of this repository, are the only text that is not. The page
//! asks no network for anything, and its content security policy makes browsers refuse where it would.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
/// What the page may load: pictures that it holds, and its own styles and scripts.
const POLICY: &str = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'";

/// What a page has beyond the kit's own style and script.
#[derive(Debug, Clone, Copy, Default)]
pub struct Extras {
    /// CSS, after the kit's.
    pub style: &'static str,
    /// JavaScript, after the kit's.
    pub script: &'static str,
}

/// A page with a title, a lead, and sections as (anchor, heading, body).
pub fn page(title: &str, lead: &str, sections: &[(String, String, Markup)]) -> String {
    page_with(title, lead, sections, Extras::default())
}

/// The same with more style and script.
pub fn page_with(title: &str, lead: &str, sections: &[(String, String, Markup)], extras: Extras) -> String {
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (PreEscaped(STYLE)) (PreEscaped(extras.style)) }
                script { (PreEscaped(SCRIPT)) }
            }
            body {
                a.skip href="#content" { "To the content" }
                div.bar {
                    nav aria-label="Sections" { @for (anchor, heading, _) in sections { a href={ "#" (anchor) } { (heading) } } }
                    button id="theme" type="button" hidden aria-label="Change between light and dark" {}
                }
                main id="content" {
                    h1 { (title) }
                    p.lead { (lead) }
                    @for (anchor, heading, body) in sections {
                        section id=(anchor) aria-labelledby={ (anchor) "-heading" } {
                            h2 id={ (anchor) "-heading" } { (heading) }
                            (body)
                        }
                    }
                }
                @if !extras.script.is_empty() { script { (PreEscaped(extras.script)) } }
            }
        }
    };
    markup.into_string()
}

/// Bytes as an address that a page holds itself.
pub fn data_address(bytes: &[u8], mime: &str) -> String {
    format!("data:{mime};base64,{}", STANDARD.encode(bytes))
}

/// A picture in the page.
pub fn picture(bytes: &[u8], mime: &str, alt: &str, width_px: u32, caption: &str) -> Markup {
    html! {
        figure {
            img src=(data_address(bytes, mime)) alt=(alt) width=(width_px) loading="lazy";
            @if !caption.is_empty() { figcaption { (caption) } }
        }
    }
}

/// A table; columns of numbers stand to the right.
pub fn table(headings: &[&str], rows: &[Vec<String>]) -> Markup {
    let is_numeric = |cell: &String| is_number(cell) || matches!(cell.as_str(), "-" | "");
    let of_column = |column: usize| rows.iter().filter_map(move |row| row.get(column));
    let numeric: Vec<bool> = (0..headings.len())
        .map(|column| of_column(column).all(is_numeric) && of_column(column).any(|cell| is_number(cell)))
        .collect();
    let stands_right = |column: usize| numeric.get(column).copied().unwrap_or(false);
    html! {
        div.scroll { table {
            thead { tr { @for (i, heading) in headings.iter().enumerate() {
                th scope="col" .n[stands_right(i)] { (heading) }
            } } }
            tbody { @for row in rows { tr { @for (i, cell) in row.iter().enumerate() { td.n[stands_right(i)] { (cell) } } } } }
        } }
    }
}

/// Whether a cell is a number, with or without a unit that this page writes.
fn is_number(cell: &str) -> bool {
    let number = ["%", " s", " MiB"].iter().find_map(|unit| cell.strip_suffix(unit)).unwrap_or(cell);
    let digits: String = number.trim().chars().filter(|c| *c != ',').collect();
    digits.parse::<f64>().is_ok()
}

/// A figure with a label.
pub fn card(value: &str, label: &str) -> Markup {
    html! { div.card { b { (value) } span.dim { (label) } } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped() {
        let page = page("<a>", "", &[("x".to_owned(), "<b>".to_owned(), table(&["h"], &[vec!["<i>".to_owned()]]))]);
        assert!(!page.contains("<b>") && page.contains("&lt;i&gt;"));
    }

    #[test]
    fn columns_of_numbers_stand_right_and_others_do_not() {
        let row = |a: &str, b: &str| vec![a.to_owned(), b.to_owned()];
        let text = table(&["images", "name"], &[row("1,204", "7"), row("-", "seven")]).into_string();
        assert!(text.contains("<td class=\"n\">1,204</td>") && text.contains("<td class=\"\">7</td>"), "{text}");
    }
}
