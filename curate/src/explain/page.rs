//! The page of an image, with thumbnails of its group, pairs and neighbours.

use crate::Result;
use lapidary_pipeline::Pictures;
use lapidary_pipeline::report::{page, table};
use lapidary_schemas::ImageId;
use maud::{Markup, html};
use serde_json::Value;

/// Members of a group that the page shows.
const SHOWN: usize = 32;
const THUMBNAIL_PX: u32 = 120;
pub(super) fn page_of(facts: &Value, id: ImageId, pictures: &Pictures) -> Result<String> {
    let flat = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let rows_of = |value: &Value| -> Vec<Vec<String>> {
        let object = value.as_object().into_iter().flatten();
        object.filter(|(_, value)| !value.is_null()).map(|(key, value)| vec![key.clone(), flat(value)]).collect()
    };
    let plain: Value = facts
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(_, value)| !value.is_object() && !value.is_array())
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect::<serde_json::Map<String, Value>>()
        .into();
    let others = |key: &str, caption: &dyn Fn(&Value) -> String| -> Result<Markup> {
        let list = facts[key].as_array().map(Vec::as_slice).unwrap_or_default();
        let known = |other: &Value| {
            let id = other["image_id"].as_str().and_then(|id| id.parse::<ImageId>().ok());
            // An image of another source has no picture here.
            id.filter(|id| pictures.has(*id)).map(|id| (id, caption(other)))
        };
        let shown: Vec<(ImageId, String)> = list.iter().take(SHOWN).filter_map(known).collect();
        Ok(html! { @if shown.is_empty() { p { "None." } } (pictures.row(&shown, THUMBNAIL_PX)?) })
    };
    let sections = [
        (
            "image",
            "The image",
            html! { (pictures.row(&[(id, String::new())], 2 * THUMBNAIL_PX)?) (table(&["what", "value"], &rows_of(&plain))) },
        ),
        ("decision", "Decision", table(&["what", "value"], &rows_of(&facts["decision"]))),
        ("quality", "Quality", table(&["measure", "value"], &rows_of(&facts["quality"]))),
        (
            "group",
            "Its group",
            others("group", &|other| format!("{}: {}", flat(&other["kind"]), flat(&other["path"])))?,
        ),
        (
            "pairs",
            "Its pairs",
            others("pairs", &|other| {
                format!("{:.2} {}", other["score"].as_f64().unwrap_or(0.0), flat(&other["kind"]))
            })?,
        ),
        (
            "nearest",
            "Nearest neighbours",
            others("nearest", &|other| format!("cosine {:.3}", other["cosine"].as_f64().unwrap_or(0.0)))?,
        ),
    ];
    let sections = sections.map(|(anchor, heading, body)| (anchor.to_owned(), heading.to_owned(), body));
    Ok(page(&format!("Lapidary: image {id}"), facts["path"].as_str().unwrap_or_default(), &sections))
}
