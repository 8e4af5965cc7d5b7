//! What features look like: patches in colour, matches of patches, test images on a map, nearest train images of queries. From the
//! files that `eval` left (evaluate/seeing.md).

use super::made::{MadeFolder, Measured};
use crate::Result;
use crate::seeing::{MAP_FILE, MATCHES, NEIGHBOURS_FILE, PATCH_COLOURS_FILE};
use image::codecs::jpeg::JpegEncoder;
use lapidary_pipeline::report::data_address;
use lapidary_pipeline::{ImageStore, Layout, Pictures, PipelineError};
use lapidary_schemas::ImageId;
use maud::{Markup, html};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Pictures of matches that are shown, of all probe sets together.
const MATCHES_SHOWN: usize = 6;
/// Queries, of all probe sets together, and neighbours of each.
const QUERIES_SHOWN: usize = 8;
const NEIGHBOURS_SHOWN: usize = 6;
const THUMBNAIL_PX: u32 = 64;
/// Dots of the maps of all probe sets that have a picture: about 2 KiB each.
const MAP_PICTURES_MAX: usize = 300;
/// Maps of the table, by the names of their columns, best first.
const MAPS: [(&str, &str); 3] =
    [("tsne", "t-SNE"), ("pca", "Principal components"), ("random", "A random projection, as DinoTwins has")];
/// Side of a map's view box.
const MAP_UNITS: f32 = 100.0;

/// What the first run that left such files made of a probe set, one of so many, whose images are pictured; none when none did.
pub(super) fn features(layout: &Layout, set: &Measured<'_>, sets: usize) -> Result<Option<Markup>> {
    let mut evals = set.runs.iter().map(|(run, eval)| (run, &eval.eval));
    let Some((run, eval)) = evals.find(|(_, eval)| eval.folder.join(MAP_FILE).is_file()) else {
        return Ok(None);
    };
    let images = layout.images(set.probe);
    // A probe that was removed meanwhile has no pictures.
    let pictures = ImageStore::open(&images).ok().map(Pictures::new);
    let colours = eval.folder.join(PATCH_COLOURS_FILE);
    Ok(Some(html! {
        @if set.runs.len() > 1 { p.dim { "Of run " code { (run) } "; " code { "lapidary report --run NAME" } " shows another's." } }
        @if colours.is_file() {
            (set.heading("Patches in colour"))
            p.dim { "Above the images, below the first three principal components of their patch tokens as red, green and blue; one basis for all." }
            (picture(&colours, "Images, and their patch tokens in colour")?)
        }
        (matches(set, eval, MATCHES_SHOWN.div_ceil(sets))?)
        @if let Some(pictures) = &pictures {
            (map(set, &eval.folder.join(MAP_FILE), pictures, MAP_PICTURES_MAX.div_ceil(sets))?)
            (neighbours(set, &eval.folder.join(NEIGHBOURS_FILE), pictures, QUERIES_SHOWN.div_ceil(sets))?)
        }
    }))
}

fn picture(file: &Path, alt: &str) -> Result<Markup> {
    let image = image::open(file).map_err(|e| PipelineError::format(file, e))?.to_rgb8();
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, 88).encode_image(&image).map_err(|e| PipelineError::format(file, e))?;
    Ok(html! {
        figure.wide { img src=(data_address(&jpeg, "image/jpeg")) width=(image.width()) height=(image.height()) alt=(alt) loading="lazy"; }
    })
}

fn matches(set: &Measured<'_>, eval: &MadeFolder, shown: usize) -> Result<Markup> {
    let entries = std::fs::read_dir(eval.folder.join(MATCHES)).into_iter().flatten();
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    files.truncate(shown);
    if files.is_empty() {
        return Ok(html! {});
    }
    let shown = files
        .iter()
        .map(|file| picture(file, "Two views, with lines between patches that match"))
        .collect::<Result<Vec<_>>>()?;
    Ok(html! {
        (set.heading("Matches of patches"))
        p.dim { "Patches that are each other's nearest by cosine: of an image and its upper left part, and of an image and its nearest train image." }
        div.strips { @for picture in shown { (picture) } }
    })
}

/// A row of a CSV file, by column.
type Record = BTreeMap<String, String>;

fn records(file: &Path) -> Result<Vec<Record>> {
    if !file.is_file() {
        return Ok(Vec::new());
    }
    let fault = |e: csv::Error| PipelineError::format(file, e);
    let rows = csv::Reader::from_path(file).map_err(fault)?.into_deserialize().collect::<Result<_, _>>();
    Ok(rows.map_err(fault)?)
}

fn id(record: &Record, column: &str) -> Option<ImageId> {
    record.get(column)?.parse().ok()
}

/// Thumbnails of images, those that are there.
fn thumbnails(pictures: &Pictures, ids: &[ImageId]) -> Result<BTreeMap<ImageId, String>> {
    let found = pictures.thumbnails(ids, THUMBNAIL_PX)?;
    Ok(ids.iter().zip(found).map(|(id, small)| (*id, data_address(&small.jpeg, "image/jpeg"))).collect())
}

/// Test images on maps, a dot each in its class's colour; under the pointer its picture.
fn map(set: &Measured<'_>, file: &Path, pictures: &Pictures, pictured: usize) -> Result<Markup> {
    let rows = records(file)?;
    let ids: Vec<ImageId> = rows.iter().filter_map(|row| id(row, "image_id")).collect();
    if ids.is_empty() {
        return Ok(html! {});
    }
    let step = ids.len().div_ceil(pictured).max(1);
    let pictured: Vec<ImageId> = ids.iter().copied().step_by(step).collect();
    let small = thumbnails(pictures, &pictured)?;
    let mut classes: Vec<&str> = rows.iter().filter_map(|row| row.get("class")).map(String::as_str).collect();
    classes.sort_unstable();
    classes.dedup();
    // Hues a golden angle apart: neighbours in the list are far apart in colour.
    let hue = |class: &str| classes.iter().position(|known| *known == class).unwrap_or(0) as f32 * 137.508 % 360.0;
    let drawn = MAPS.iter().filter_map(|(columns, name)| {
        let value = |row: &Record, axis: &str| row.get(&format!("{columns}_{axis}"))?.parse::<f32>().ok();
        let points: Vec<(&Record, f32, f32)> =
            rows.iter().filter_map(|row| Some((row, value(row, "x")?, value(row, "y")?))).collect();
        let range = |of: fn(&(&Record, f32, f32)) -> f32| {
            let (low, high) = points.iter().map(of).fold((f32::MAX, f32::MIN), |(l, h), v| (l.min(v), h.max(v)));
            move |value: f32| 2.0 + (value - low) / (high - low).max(1e-12) * (MAP_UNITS - 4.0)
        };
        let (across, down) = (range(|point| point.1), range(|point| point.2));
        let dot = |(row, x, y): &(&Record, f32, f32)| {
            let class = row.get("class").map_or("", String::as_str);
            let id = row.get("image_id").map_or("", String::as_str);
            html! { circle cx=(format!("{:.2}", across(*x))) cy=(format!("{:.2}", down(*y))) r="0.9" data-point=(id)
                fill=(format!("hsl({:.0} 65% 50%)", hue(class))) { title { (class) } } }
        };
        (!points.is_empty()).then(|| html! {
            figure.plane {
                figcaption { (name) }
                svg.map viewBox={ "0 0 " (MAP_UNITS) " " (MAP_UNITS) } role="img"
                    aria-label={ (points.len()) " test images placed by " (name) ", coloured by class" } { @for point in &points { (dot(point)) } }
            }
        })
    });
    let drawn: Vec<Markup> = drawn.collect();
    Ok(html! {
        (set.heading("Test images on a map"))
        p.dim { "Class features, L2-normalised, in two dimensions; point at a dot for its class and, " @if step > 1 { "for one in " (step) ", " } "its picture. Axes have no unit." }
        ul.legend.classes { @for class in &classes { li { span.swatch style=(format!("background:hsl({:.0} 65% 50%)", hue(class))) {} (class) } } }
        div.charts { @for map in drawn { (map) } }
        template.map-pictures { @for (id, address) in &small { img data-picture=(id) src=(address) alt={ "image " (id) }; } }
    })
}

/// The nearest train images of test images, framed where the class is another.
fn neighbours(set: &Measured<'_>, file: &Path, pictures: &Pictures, queries: usize) -> Result<Markup> {
    let mut by_query: Vec<(ImageId, String, Vec<Record>)> = Vec::new();
    for row in records(file)? {
        let (Some(query), Some(class)) = (id(&row, "query"), row.get("query_class").cloned()) else { continue };
        match by_query.last_mut().filter(|(last, ..)| *last == query) {
            Some((.., found)) => found.push(row),
            None => by_query.push((query, class, vec![row])),
        }
    }
    by_query.truncate(queries);
    by_query.iter_mut().for_each(|(.., found)| found.truncate(NEIGHBOURS_SHOWN));
    if by_query.is_empty() {
        return Ok(html! {});
    }
    let found = by_query.iter().flat_map(|(query, _, found)| {
        std::iter::once(*query).chain(found.iter().filter_map(|row| id(row, "image_id")))
    });
    let mut ids: Vec<ImageId> = found.collect();
    ids.sort_unstable();
    ids.dedup();
    let small = thumbnails(pictures, &ids)?;
    let tile = |one: ImageId, class: &str, caption: &str, is_other: bool| {
        html! {
            figure class={ "near" @if is_other { " other" } } {
                img src=[small.get(&one)] width=(THUMBNAIL_PX) alt={ "image " (one) ", " (class) } loading="lazy";
                figcaption { b title=(class) { (class) } (caption) }
            }
        }
    };
    Ok(html! {
        (set.heading("Nearest train images"))
        p.dim { "Of each test image on the left the nearest train images by cosine, framed in red where the class is another." }
        div.queries { @for (query, class, found) in &by_query {
            div.neighbours {
                (tile(*query, class, "test", false))
                @for row in found {
                    @if let Some(one) = id(row, "image_id") {
                        @let of = row.get("class").map_or("", String::as_str);
                        @let similarity = row.get("similarity").and_then(|text| text.parse::<f64>().ok());
                        (tile(one, of, &similarity.map_or("-".to_owned(), |value| format!("{value:.3}")), of != class))
                    }
                }
            }
        } }
    })
}
