//! Where the class token looks: the strips that `eval` drew, as smaller files.

use super::made::Measured;
use crate::Result;
use crate::seeing::ATTENTION;
use image::codecs::jpeg::JpegEncoder;
use lapidary_pipeline::PipelineError;
use lapidary_pipeline::report::data_address;
use maud::{Markup, html};
use std::path::{Path, PathBuf};

/// Strips that are shown, of all probe sets and runs together.
const STRIPS_SHOWN: usize = 8;

/// The strips of a probe set, one of so many, or none when no evaluation drew any.
pub(super) fn attention(set: &Measured<'_>, sets: usize) -> Result<Option<Markup>> {
    let mut shown = Vec::new();
    let of_run = (STRIPS_SHOWN / (set.runs.len() * sets).max(1)).max(1);
    for (run, eval) in &set.runs {
        let folder = eval.eval.folder.join(ATTENTION);
        let entries = std::fs::read_dir(&folder).into_iter().flatten();
        let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        files.sort();
        let strips = files.iter().take(of_run).map(|file| strip(file)).collect::<Result<Vec<_>>>()?;
        if !strips.is_empty() {
            shown.push((*run, strips));
        }
    }
    Ok((!shown.is_empty()).then(|| {
        html! {
            p.dim { "Each picture above: the image, the mean of the last block's heads laid over it, then each head; below: what holds the most attention, as much as eval.attention_mass." }
            @for (name, strips) in &shown {
                @if shown.len() > 1 { (set.heading(name)) }
                div.strips { @for strip in strips { (strip) } }
            }
        }
    }))
}

fn strip(file: &Path) -> Result<Markup> {
    let image = image::open(file).map_err(|e| PipelineError::format(file, e))?.to_rgb8();
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, 88).encode_image(&image).map_err(|e| PipelineError::format(file, e))?;
    let name = file.file_stem().unwrap_or_default().to_string_lossy();
    Ok(html! {
        figure { img src=(data_address(&jpeg, "image/jpeg")) width=(image.width()) height=(image.height()) loading="lazy"
            alt={ "Image " (name) ", the attention of the class token laid over it, and that of each head" }; }
    })
}
