//! Explaining an image: its way through the chain, its quality, its group, its pairs and its nearest neighbours.
//!
//! In come the tables of all rooms above; out go facts ([`facts`]), a page with thumbnails ([`page`]) and
//! [`sentences`].

mod facts;
mod page;
mod sentences;

pub use sentences::sentences;

use crate::Result;
use lapidary_pipeline::stage::{Layout, explain as explain_lineage, write_synced};
use lapidary_pipeline::{ImageStore, Pictures, PipelineError};
use lapidary_schemas::ImageId;
use lapidary_schemas::tables::{DUPLICATES_FILE, PAIRS_FILE};
use serde_json::{Value, json};
use std::path::PathBuf;

/// What is known of an image, named by whatever is at hand (see [`explain_lineage`]), and the page that shows it; a
/// rejected input has no page.
///
/// # Errors
/// When the source does not know it, or a table cannot be read.
pub fn explain(layout: &Layout, source: &str, encoder: &str, name: &str) -> Result<(Value, Option<PathBuf>)> {
    let mut found = explain_lineage(layout, source, name)?;
    if !found["rejected"].is_null() {
        return Ok((found, None));
    }
    let id: ImageId = found["image_id"]
        .as_str()
        .and_then(|id| id.parse().ok())
        .ok_or_else(|| PipelineError::Internal("an image without an id".to_owned()))?;
    found["quality"] = facts::quality(&layout.fingerprints(source), id)?;
    found["group"] = json!(facts::group(&layout.groups(source).join(DUPLICATES_FILE), id)?);
    found["pairs"] = json!(facts::pairs(&layout.pairs(source).join(PAIRS_FILE), id)?);
    found["nearest"] = json!(facts::nearest(&layout.embeddings(source, encoder), id)?);
    let path = layout.out.join(source).join("explained").join(format!("{id}.html"));
    let html = page::page_of(&found, id, &Pictures::new(ImageStore::open(&layout.images(source))?))?;
    let folder = path.parent().expect("it was joined above");
    std::fs::create_dir_all(folder).map_err(PipelineError::io("create folder", folder))?;
    write_synced(&path, html.as_bytes())?;
    Ok((found, Some(path)))
}
