//! Pairs around the threshold, where judgement is hardest, and histograms of scores and of nearest neighbours.

use super::chart::Histogram;
use super::pair_table::PairTable;
use super::text::grouped;
use super::viewer::{Shown, image, opener};
use crate::Result;
use lapidary_pipeline::{Pictures, Thumbnail};
use lapidary_schemas::{CopyKind, ImageId};
use maud::{Markup, html};
use serde_json::Value;
use std::collections::HashMap;

const PAIRS_SHOWN: usize = 24;
const SCORE_BINS: usize = 20;
const PICTURE_PX: u32 = 240;

/// The section's histograms and pairs.
pub(super) fn pairs(table: &PairTable, facts: &Value, pictures: &Pictures) -> Result<Markup> {
    let threshold = facts["score_min"].as_f64().unwrap_or(0.5);
    let (scores, kinds, ids) = (table.scores()?, table.kinds()?, table.ids()?);
    let judged: Vec<usize> = (0..scores.len()).filter(|row| kinds[*row] != CopyKind::Exact.code()).collect();
    let mut by_score = [0u64; SCORE_BINS];
    judged.iter().for_each(|row| by_score[((scores[*row] * SCORE_BINS as f64) as usize).min(SCORE_BINS - 1)] += 1);
    let shown = nearest(&judged, &scores, threshold, |row| pictures.has(ids[row].0) && pictures.has(ids[row].1));
    let linked = judged.iter().filter(|row| scores[**row] >= threshold).count();
    Ok(html! {
        p.dim {
            (grouped(judged.len() as u64)) " pairs have evidence other than the same bytes; " (grouped(linked as u64))
            " of them score " (threshold) " or more, from where on two images are linked. "
            code { "lapidary duplicates --at 0.4,0.6" } " says what another threshold would do."
        }
        div.charts {
            (Histogram {
                title: "Pairs by score", x: "score of the pair", y: "pairs", counts: &by_score, range: (0.0, 1.0),
                marker: Some((threshold, "linked from here on")),
            }.figure())
            (neighbours(facts))
        }
        h3 { "Nearest to the threshold, on either side" }
        @if shown.is_empty() { p { "No such pairs." } }
        div.groups { @for figure in figures(table, &shown, threshold, pictures)? { (figure) } }
    })
}

/// The pairs nearest to the threshold, as many on either side as there are, the strongest first. `is_shown` says which have
/// pictures here: one with an image of another source has none.
fn nearest(judged: &[usize], scores: &[f64], threshold: f64, is_shown: impl Fn(usize) -> bool) -> Vec<usize> {
    let (mut linked, mut apart): (Vec<usize>, Vec<usize>) =
        judged.iter().copied().filter(|row| is_shown(*row)).partition(|row| scores[*row] >= threshold);
    for side in [&mut linked, &mut apart] {
        side.sort_by(|x, y| (scores[*x] - threshold).abs().total_cmp(&(scores[*y] - threshold).abs()));
    }
    let of_linked = linked.len().min((PAIRS_SHOWN / 2).max(PAIRS_SHOWN.saturating_sub(apart.len())));
    linked.truncate(of_linked);
    apart.truncate(PAIRS_SHOWN - of_linked);
    let mut shown = [linked, apart].concat();
    shown.sort_by(|x, y| scores[*y].total_cmp(&scores[*x]));
    shown
}

fn figures(table: &PairTable, rows: &[usize], threshold: f64, pictures: &Pictures) -> Result<Vec<Markup>> {
    let pairs = rows.iter().map(|row| table.row(*row)).collect::<Result<Vec<_>>>()?;
    let mut ids: Vec<ImageId> = pairs.iter().flat_map(|pair| [pair.a, pair.b]).collect();
    ids.sort_unstable();
    ids.dedup();
    let small: HashMap<ImageId, Thumbnail> = ids.iter().copied().zip(pictures.thumbnails(&ids, PICTURE_PX)?).collect();
    let figure = |pair: &super::pair_table::PairRow| {
        let (is_linked, evidence) = (pair.score >= threshold, pair.evidence());
        let title = format!("{} and {}", pair.a, pair.b);
        let labels = ("first image", "second image");
        let shown =
            Shown { a: pair.a, b: Some(pair.b), labels, title: &title, facts: &evidence, map: pair.map.as_ref() };
        let frame = |id: ImageId| html! { span.frame { (image(id, &small[&id], &format!("image {id}"))) } };
        html! {
            figure.pair {
                (opener("two", &shown, html! { (frame(pair.a)) (frame(pair.b)) }))
                figcaption {
                    b { (format!("{:.2}", pair.score)) }
                    @if is_linked { span.linked { "linked" } } @else { span.apart { "not linked" } }
                    span { (pair.kind) }
                    @for fact in &pair.facts { span { (fact) } }
                }
            }
        }
    };
    Ok(pairs.iter().map(figure).collect())
}

fn neighbours(facts: &Value) -> Markup {
    let counts: Vec<u64> =
        facts["neighbours"]["nearest"].as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
    if counts.is_empty() {
        return html! {};
    }
    let least = facts["copy_similarity_min"].as_f64().unwrap_or(0.0);
    html! {
        div {
            (Histogram {
                title: "Images by the cosine of their nearest neighbour", x: "cosine of the embeddings", y: "images", counts: &counts,
                range: (0.0, 1.0), marker: Some((least, "candidates from here on")),
            }.figure())
            p.dim {
                "Index: " (facts["neighbours"]["index"].as_str().unwrap_or_default()) ", recall "
                (format!("{:.3}", facts["neighbours"]["recall"].as_f64().unwrap_or(0.0))) "."
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_of_the_threshold_are_shown() {
        let scores: Vec<f64> = (0..100).map(|i| f64::from(i) / 100.0).collect();
        let judged: Vec<usize> = (0..100).collect();
        let shown = nearest(&judged, &scores, 0.5, |row| row != 50);
        assert_eq!((shown.len(), shown[0], shown[PAIRS_SHOWN - 1]), (PAIRS_SHOWN, 62, 38));
        assert_eq!(nearest(&judged, &scores, 0.03, |_| true).len(), PAIRS_SHOWN, "what one side lacks the other has");
        assert_eq!(nearest(&judged[..5], &scores, 0.5, |_| true), [4, 3, 2, 1, 0]);
    }
}
