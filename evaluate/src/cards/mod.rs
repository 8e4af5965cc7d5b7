//! Cards: what a reader of a data set or a model must know before using it, in the places where tools look.
//!
//! A subset's export gets `README.md` (front matter that the Hugging Face hub reads), `attribution.csv` (where each image comes
//! from and under which licence) and `croissant.json`. A run gets a model card with its measured numbers and
//! the commands that repeat them. Nothing is claimed that no manifest says; the licence is for whoever publishes to choose.

mod attribution;
mod croissant;
mod dataset;
mod front_matter;
mod licence_ids;
mod model;
mod subset;

use crate::{EvaluateError, Result};
use lapidary_pipeline::PipelineError;
use lapidary_pipeline::stage::{Layout, write_synced};
use std::path::{Path, PathBuf};
use subset::Exported;

/// The card's file, where the hub looks for it.
const CARD_FILE: &str = "README.md";
/// The metadata's file.
const CROISSANT_FILE: &str = "croissant.json";
/// Where each image comes from.
const ATTRIBUTION_FILE: &str = "attribution.csv";

/// Writes the cards of every export of a subset; the files that were written.
///
/// # Errors
/// When the subset was not cut or not exported, or a table cannot be read.
pub fn dataset_cards(layout: &Layout, source: &str, subset: &str) -> Result<Vec<PathBuf>> {
    let exports = Exported::all(layout, source, subset)?;
    if exports.is_empty() {
        let path = layout.subset(source, subset);
        let hint = format!("run `lapidary cut --source {source} --size {subset} --export parquet` first");
        return Err(PipelineError::Missing { what: "export", path, hint }.into());
    }
    let mut written = Vec::new();
    for export in &exports {
        let attributed = attribution::write(export, &export.folder.join(ATTRIBUTION_FILE))?;
        written.push(export.folder.join(ATTRIBUTION_FILE));
        written.push(write(&export.folder, CARD_FILE, dataset::card(layout, export, attributed.images))?);
        let text = serde_json::to_string_pretty(&croissant::croissant(layout, export, &attributed)?);
        let text = text.map_err(|e| EvaluateError::from(PipelineError::format(&export.folder, e)))?;
        written.push(write(&export.folder, CROISSANT_FILE, text)?);
    }
    Ok(written)
}

/// Writes the card of a run into a folder, by default `OUT/SOURCE/cards/RUN`; the file that was written.
///
/// # Errors
/// When the run is not there, or the folder cannot be written.
pub fn model_card(layout: &Layout, source: &str, run: &str, into: Option<&Path>) -> Result<PathBuf> {
    let card = model::card(layout, source, run)?;
    let default = || layout.out.join(source).join("cards").join(run);
    let folder = into.map_or_else(default, Path::to_owned);
    std::fs::create_dir_all(&folder).map_err(PipelineError::io("create folder", &folder))?;
    write(&folder, CARD_FILE, card)
}

fn write(folder: &Path, name: &str, text: String) -> Result<PathBuf> {
    let path = folder.join(name);
    write_synced(&path, text.as_bytes())?;
    Ok(path)
}
