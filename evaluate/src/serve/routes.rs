//! What each address shows.

use super::answer::Answer;
use super::catalog::{Catalog, Catalogs};
use super::query::{Query, row_facts};
use super::request::Asked;
use crate::EvaluateError;
use lapidary_pipeline::PipelineError;
use lapidary_schemas::ImageId;
use maud::{DOCTYPE, html};
use serde_json::{Value, json};
use std::sync::Arc;

/// Sides that a thumbnail may have.
const THUMBNAIL_PX: std::ops::RangeInclusive<u32> = 16..=1024;
/// Points of a map that a page draws at most; a lasso looks at all.
const POINTS_MAX: usize = 30_000;

type Answered = Result<Answer, Box<Answer>>;

/// The answer to a request that the guard let pass.
pub(super) fn answer(catalogs: &Catalogs, asked: &Asked) -> Answer {
    let path: Vec<&str> = asked.path.iter().map(String::as_str).collect();
    let answered = match path[..] {
        [] => Ok(page()),
        ["app.css"] => Ok(Answer::new("text/css; charset=utf-8", include_str!("page/app.css"))),
        ["app.js"] => Ok(Answer::new("text/javascript; charset=utf-8", include_str!("page/app.js"))),
        ["api", "sources"] => Ok(Answer::json(&json!(catalogs.layout.sources()))),
        ["api", "source", source] => catalogs.fresh(source).map(|catalog| about(catalogs, &catalog)).map_err(refused),
        ["api", "grid", source] => opened(catalogs, source).and_then(|catalog| grid(&catalog, asked)),
        ["api", "map", source] => opened(catalogs, source).and_then(|catalog| map(&catalog, asked)),
        ["api", "image", source, id] => opened(catalogs, source).and_then(|catalog| image(&catalog, id)),
        ["thumb", source, id] => opened(catalogs, source).and_then(|catalog| thumbnail(&catalog, id, asked)),
        ["report", source] => report(catalogs, source),
        _ => Err(Box::new(Answer::error(404, "there is nothing here"))),
    };
    answered.unwrap_or_else(|answer| *answer)
}

fn opened(catalogs: &Catalogs, source: &str) -> Result<Arc<Catalog>, Box<Answer>> {
    catalogs.get(source).map_err(refused)
}

/// What is not there is not found; anything else is a fault that the log has as well.
fn refused(error: EvaluateError) -> Box<Answer> {
    let status = match &error {
        EvaluateError::Pipeline(PipelineError::Missing { .. } | PipelineError::Usage(_)) => 404,
        other => {
            tracing::error!("{other}");
            500
        }
    };
    Box::new(Answer::error(status, &error.to_string()))
}

fn about(catalogs: &Catalogs, catalog: &Catalog) -> Answer {
    let subsets: Vec<Value> = catalog
        .subsets
        .iter()
        .map(|(name, holds)| json!([name, holds.iter().filter(|holds| **holds).count()]))
        .collect();
    Answer::json(&json!({
        "source": catalog.source,
        "images": catalog.rows.len(),
        "subsets": subsets,
        "reasons": catalog.reasons,
        "classes": catalog.classes,
        "maps": catalog.map_names(),
        "report": catalogs.layout.report(&catalog.source).is_file(),
    }))
}

fn grid(catalog: &Catalog, asked: &Asked) -> Answered {
    Ok(Answer::json(&Query::read(catalog, asked)?.answer(catalog)))
}

fn map(catalog: &Catalog, asked: &Asked) -> Answered {
    let name = asked.get("name").ok_or_else(|| Box::new(Answer::error(400, "name a map")))?;
    let map = catalog.map(name).map_err(refused)?;
    let placed: Vec<usize> = (0..catalog.rows.len()).filter(|row| map.point(*row).is_some()).collect();
    let every = placed.len().div_ceil(POINTS_MAX).max(1);
    let point = |row: &usize| {
        let ((x, y), facts) = (map.point(*row)?, &catalog.rows[*row]);
        let class = i64::from(facts.class as i32);
        Some(json!([(x * 1e4).round() / 1e4, (y * 1e4).round() / 1e4, facts.reason, class]))
    };
    let points: Vec<Value> = placed.iter().step_by(every).filter_map(point).collect();
    Ok(Answer::json(&json!({"name": name, "images": placed.len(), "points": points})))
}

fn known(catalog: &Catalog, id: &str) -> Result<ImageId, Box<Answer>> {
    let is_id = id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let parsed = is_id.then(|| id.parse::<ImageId>().ok()).flatten();
    let parsed = parsed.ok_or_else(|| Box::new(Answer::error(400, "an image's id has 16 hexadecimal digits")))?;
    if catalog.pictures.has(parsed) { Ok(parsed) } else { Err(Box::new(Answer::error(404, "there is no such image"))) }
}

fn image(catalog: &Catalog, id: &str) -> Answered {
    let id = known(catalog, id)?;
    let info = catalog.pictures.store().info(id);
    let mut facts = catalog
        .row_of
        .get(&id)
        .map_or_else(|| json!({"id": id.to_string()}), |row| row_facts(catalog, &catalog.rows[*row as usize]));
    facts["width"] = json!(info.map(|info| info.width));
    facts["height"] = json!(info.map(|info| info.height));
    let row = catalog.row_of.get(&id).map(|row| *row as usize);
    let holding = catalog.subsets.iter().filter(|(_, holds)| row.is_some_and(|row| holds[row]));
    facts["subsets"] = json!(holding.map(|(name, _)| name).collect::<Vec<_>>());
    Ok(Answer::json(&facts))
}

fn thumbnail(catalog: &Catalog, id: &str, asked: &Asked) -> Answered {
    let px = asked.number::<u32>("px")?.unwrap_or(160);
    if !THUMBNAIL_PX.contains(&px) {
        return Err(Box::new(Answer::error(400, "`px` is from 16 to 1024")));
    }
    let id = known(catalog, id)?;
    let small = catalog.pictures.thumbnails(&[id], px).map_err(|error| refused(error.into()))?;
    let jpeg = small.into_iter().next().map(|small| small.jpeg).unwrap_or_default();
    Ok(Answer::picture("image/jpeg", jpeg))
}

fn report(catalogs: &Catalogs, source: &str) -> Answered {
    opened(catalogs, source)?;
    let path = catalogs.layout.report(source);
    let missing = |_| Box::new(Answer::error(404, "no report was written yet: `lapidary report` writes it"));
    std::fs::read(path).map(Answer::report).map_err(missing)
}

/// The page, which `app.js` fills.
fn page() -> Answer {
    let filter = |name: &str, label: &str| html! { label { (label) select name=(name) { option value="" { "any" } } } };
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Lapidary" }
                link rel="stylesheet" href="/app.css";
                link rel="icon" href="data:,";
                script src="/app.js" defer {}
            }
            body {
                header {
                    h1 { "Lapidary" }
                    label { span.hidden { "Source" } select id="source" {} }
                    output id="total" aria-live="polite" {}
                    a id="report" hidden { "Report" }
                }
                form id="filter" aria-label="Filter" {
                    (filter("subset", "subset"))
                    (filter("reason", "reason"))
                    (filter("cluster", "cluster"))
                    (filter("class", "class"))
                    label { "score from" input name="score_min" type="number" min="0" max="1" step="0.01"; }
                    label { "score to" input name="score_max" type="number" min="0" max="1" step="0.01"; }
                    label { "order" select name="order" { option value="rank" { "rank" } option value="score" { "score" } } }
                    button type="reset" { "Reset" }
                }
                main {
                    section id="grid" aria-label="Images" {}
                    aside {
                        label { "map" select id="maps" {} }
                        canvas id="map" tabindex="0" width="640" height="640" aria-label="Map of the images: draw around points to filter the grid" {}
                        p id="lasso" { "Draw around points to filter the grid." }
                        button id="clear" type="button" hidden { "Clear the lasso" }
                        ul id="colours" {}
                    }
                }
                p id="end" role="status" {}
                dialog id="viewer" aria-labelledby="title" {
                    h2 id="title" {}
                    div id="shown" {}
                    dl id="facts" {}
                    button id="close" type="button" { "Close" }
                }
            }
        }
    };
    Answer::new("text/html; charset=utf-8", markup.into_string())
}
