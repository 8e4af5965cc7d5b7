//! Opening a folder in the layout that it has, or that the caller names.
//!
//! The layout is decided by what is there: COCO when a JSON names images that lie in the folder; Parquet when tables hold at
//! least as many pictures as lie about in files; plain files otherwise. What was chosen and why is said in the log, and what
//! the choice leaves out becomes rejects or is counted there.

use super::coco::{Coco, CocoJson, find_jsons};
use super::folder::{ImageFolder, image_paths};
use super::parquet::{Found, ParquetFiles, Tables, find_tables};
use super::tree::by_extension;
use super::{Reject, Source, Tree, path_of_text};
use crate::remote::{is_url, local_path};
use crate::{PipelineError, Result};
use lapidary_schemas::{Digest, RejectReason};
use std::path::{Path, PathBuf};

/// The layout to read a folder in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LayoutChoice {
    /// What is there decides
    #[default]
    Auto,
    /// COCO's JSON and the images that it names
    Coco,
    /// Parquet tables with a column of pictures
    Parquet,
    /// Image files
    Folder,
}

/// How a folder is opened.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The layout.
    pub layout: LayoutChoice,
    /// Folders that are never input: `OUT`, which also holds what stands for a source in a store. They need not be there yet.
    pub leave_out: Vec<PathBuf>,
}

impl Options {
    /// The layout that is there, without what lies under `out`.
    pub fn without(out: &Path) -> Self {
        Self { layout: LayoutChoice::Auto, leave_out: vec![out.to_owned()] }
    }
}

/// Opens a folder.
///
/// # Errors
/// When the path is no folder, or holds nothing of the layout that was asked for.
pub fn open_source(root: &Path, options: &Options) -> Result<Box<dyn Source>> {
    let url = root.to_str().filter(|text| is_url(text));
    let tree = match (url, options.leave_out.first()) {
        (Some(url), Some(out)) => Tree::in_store(url, out)?,
        _ => Tree::walk(&local_path(root)?, &options.leave_out)?,
    };
    tree.say_left_out();
    match options.layout {
        LayoutChoice::Auto => open_as_found(tree),
        LayoutChoice::Coco => {
            let jsons = find_jsons(&tree)?;
            if jsons.is_empty() {
                let text = format!("no JSON below `{}` has a list of images, as COCO's do", tree.root().display());
                return Err(PipelineError::Usage(format!("{text}\nhint: leave `--layout` away to read what is there")));
            }
            let others = tables_left_out(&find_tables(&tree));
            Ok(Box::new(Coco::new(tree, jsons, others)))
        }
        LayoutChoice::Parquet => {
            let tables = find_tables(&tree);
            if tables.pictures().next().is_none() {
                return Err(tables.no_pictures(tree.root()));
            }
            Ok(Box::new(ParquetFiles::new(tree, tables)))
        }
        LayoutChoice::Folder => {
            let others = tables_left_out(&find_tables(&tree));
            Ok(Box::new(ImageFolder::new(tree, others)))
        }
    }
}

fn open_as_found(tree: Tree) -> Result<Box<dyn Source>> {
    let jsons = find_jsons(&tree)?;
    let images = image_paths(&tree);
    let tables = find_tables(&tree);
    let pictures: u64 = tables.pictures().map(|(_, rows)| rows).sum();
    if let Some(json) = jsons.iter().find(|json| json.names_what_is_there) {
        tracing::info!("layout COCO: `{}` names images that are here (`--layout` decides otherwise)", json.path);
        return Ok(Box::new(Coco::new(tree, jsons, tables_left_out(&tables))));
    }
    if pictures > 0 && pictures >= images.len() as u64 {
        say_unused(&jsons);
        let (files, loose) = (tables.pictures().count(), images.len());
        let why = format!("{pictures} pictures in {files} tables, {loose} image files");
        tracing::info!("layout Parquet: {why} (`--layout` decides otherwise)");
        return Ok(Box::new(ParquetFiles::new(tree, tables)));
    }
    if images.is_empty() && !jsons.is_empty() {
        tracing::info!("layout COCO: `{}` names images, though none is here", jsons[0].path);
        return Ok(Box::new(Coco::new(tree, jsons, Vec::new())));
    }
    if images.is_empty() && !tables.is_empty() {
        return Err(tables.no_pictures(tree.root()));
    }
    say_unused(&jsons);
    let in_tables = if pictures > 0 { format!(", {pictures} pictures in tables") } else { String::new() };
    tracing::info!("layout image folder: {} image files{in_tables} (`--layout` decides otherwise)", images.len());
    let others = tables_left_out(&tables);
    Ok(Box::new(ImageFolder::new(tree, others)))
}

/// Labels that are there and are not used.
fn say_unused(jsons: &[CocoJson]) {
    for json in jsons {
        tracing::warn!("`{}` is COCO's JSON, but none of the images that it names is here: not used", json.path);
    }
}

/// Tables of pictures that another layout leaves out; tables of other things are no inputs.
fn tables_left_out(tables: &Tables) -> Vec<Reject> {
    let others: Vec<&str> = tables.others().collect();
    if !others.is_empty() {
        tracing::info!("not read, as no column holds pictures: {}", others.join(", "));
    }
    let reject = |(path, found): (&str, &Found)| match found {
        Found::Pictures { rows, .. } => {
            let detail = format!("a table of {rows} pictures: `--layout parquet` reads it");
            Some(Reject::new(path, RejectReason::OtherLayout, detail))
        }
        Found::Broken(detail) => Some(Reject::new(path, RejectReason::Broken, detail)),
        Found::Lists(_) | Found::Nothing(_) => None,
    };
    tables.all().filter_map(reject).collect()
}

/// Says how many files are no inputs of a layout.
pub(super) fn say_not_read<'a>(paths: impl Iterator<Item = &'a str>) {
    let paths: Vec<&str> = paths.collect();
    if !paths.is_empty() {
        tracing::info!("{} files are no inputs: {}", paths.len(), by_extension(paths.into_iter()));
    }
}

/// The digest of the listing of a source's folder, by its address in a manifest, if it is still there. `out` is the tree that
/// the manifest lies in.
pub fn listing_digest_of_address(address: &str, out: &Path) -> Option<Digest> {
    let path = path_of_text(address);
    let tree = path.is_absolute().then(|| Tree::walk(&path, &[out.to_owned()]).ok()).flatten();
    tree.map(|tree| tree.digest())
}
