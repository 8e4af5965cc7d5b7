//! Reading a plan step by step, whether its rows are stored or drawn again.
//!
//! Rows are checked against the images before anything is trained on them: an image that is gone, a box outside it, rows in
//! another order than the plan's are refused with the row and the reason.

use super::table::views_of_batch;
use super::{View, epoch_order, subset_ids, views_of_image};
use crate::images::{ImageInfo, ImageStore};
use crate::stage::Table;
use crate::{PipelineError, Result};
use lapidary_schemas::config::ViewSpec;
use lapidary_schemas::{ImageId, Manifest};
use std::path::{Path, PathBuf};

/// Reads the views of `batch` images at a time; an incomplete last batch of an epoch is left out. Holds one step of a stored
/// plan, or 24 bytes an image of one that is drawn.
pub struct PlanReader {
    rows: Rows,
    folder: PathBuf,
    epochs: u32,
    images: usize,
    views_per_image: usize,
    batch: usize,
    views: Vec<View>,
}

enum Rows {
    /// In `epoch-*.parquet`: the table that is open, its epoch, and the step in it that comes next.
    Stored(Option<(u32, usize, Table)>),
    /// Drawn as they are asked for: the images of the subset, and those of the epoch at hand in its order.
    Drawn { infos: Vec<ImageInfo>, seed: u64, specs: Vec<ViewSpec>, epoch: Option<(u32, Vec<ImageInfo>)> },
}

impl PlanReader {
    /// Opens the plan in `folder`, whose manifest is given, for batches of `batch` images of `store`.
    ///
    /// # Errors
    /// When the plan was written by another version, or has fewer images than a batch.
    pub fn open(folder: &Path, manifest: &Manifest, store: &ImageStore, batch: usize) -> Result<Self> {
        if manifest.stage != "plan" || manifest.version != super::VERSION {
            let found = format!("its manifest is of stage {} {}", manifest.stage, manifest.version);
            return Err(PipelineError::format(folder, format!("{found}, not of plan {}; plan again", super::VERSION)));
        }
        let count = |name: &str| {
            let value = manifest.facts[name].as_u64();
            value.ok_or_else(|| PipelineError::format(folder, format!("its manifest does not state `{name}`")))
        };
        let (epochs, images) = (count("epochs")? as u32, count("images")? as usize);
        let views_per_image = count("views_per_image")? as usize;
        if images < batch || batch == 0 {
            let text = format!("the plan has {images} images, fewer than pretrain.batch = {batch}");
            return Err(PipelineError::Empty(text));
        }
        let rows = if manifest.config["store"].as_bool() == Some(false) {
            let specs = serde_json::from_value(manifest.config["view"].clone());
            let seed = manifest.config["seed"].as_u64();
            Rows::Drawn {
                infos: known_images(&subset_ids(folder)?, store, folder)?,
                seed: seed.ok_or_else(|| PipelineError::format(folder, "its manifest does not state `seed`"))?,
                specs: specs.map_err(|e| PipelineError::format(folder, e))?,
                epoch: None,
            }
        } else {
            Rows::Stored(None)
        };
        Ok(Self { rows, folder: folder.to_owned(), epochs, images, views_per_image, batch, views: Vec::new() })
    }

    /// Whole batches an epoch.
    pub fn steps_per_epoch(&self) -> usize {
        self.images / self.batch
    }

    /// Whole batches of all epochs.
    pub fn steps(&self) -> usize {
        self.steps_per_epoch() * self.epochs as usize
    }

    /// The views of step `step`, image by image, each known to lie in its image of `store`.
    ///
    /// # Errors
    /// When the plan's file is not what its manifest says, or does not fit the images.
    pub fn step(&mut self, step: usize, store: &ImageStore) -> Result<&[View]> {
        let (epoch, in_epoch) = ((step / self.steps_per_epoch()) as u32, step % self.steps_per_epoch());
        self.views.clear();
        match &mut self.rows {
            Rows::Drawn { infos, seed, specs, epoch: at_hand } => {
                if at_hand.as_ref().is_none_or(|(drawn, _)| *drawn != epoch) {
                    *at_hand = Some((epoch, epoch_order(*seed, epoch, infos)));
                }
                let (_, order) = at_hand.as_ref().expect("drawn above");
                let first = in_epoch * self.batch;
                for (i, info) in order[first..first + self.batch].iter().enumerate() {
                    self.views.extend(views_of_image(*seed, epoch, (first + i) as u32, info, specs));
                }
            }
            Rows::Stored(open) => {
                let rows = self.batch * self.views_per_image;
                let path = self.folder.join(super::epoch_file(epoch));
                let follows = open.as_ref().is_some_and(|(open, next, _)| (*open, *next) == (epoch, in_epoch));
                if !follows {
                    let table = Table::open_at(&path, rows, in_epoch * rows)?;
                    let planned = self.images * self.views_per_image;
                    if table.rows() != planned as u64 {
                        let text = format!("{} rows instead of {planned}; plan again", table.rows());
                        return Err(PipelineError::format(&path, text));
                    }
                    *open = Some((epoch, in_epoch, table));
                }
                let (_, next, table) = open.as_mut().expect("opened above");
                let first_row = in_epoch * rows;
                let ended = || PipelineError::format(&path, format!("it ends before row {}", first_row + rows));
                views_of_batch(&table.next().ok_or_else(ended)??, &path, first_row, &mut self.views)?;
                *next += 1;
                if self.views.len() != rows {
                    return Err(ended());
                }
                check_rows(&self.views, first_row, self.views_per_image, store)
                    .map_err(|(row, why)| PipelineError::format(&path, format!("row {row}: {why}; plan again")))?;
            }
        }
        Ok(&self.views)
    }
}

impl PlanReader {
    /// The views of one image in an epoch. For a plan that was opened with batches of one image.
    ///
    /// # Errors
    /// When the plan has no such epoch or image, or does not fit the images.
    pub fn views_of(&mut self, image: ImageId, epoch: u32, store: &ImageStore) -> Result<Vec<View>> {
        if epoch >= self.epochs {
            return Err(PipelineError::Usage(format!("the plan has {} epochs, no epoch {epoch}", self.epochs)));
        }
        let per_epoch = self.steps_per_epoch();
        for step in epoch as usize * per_epoch..(epoch as usize + 1) * per_epoch {
            let views = self.step(step, store)?;
            if views[0].image_id == image {
                return Ok(views.to_vec());
            }
        }
        Err(PipelineError::Usage(format!("image {image} is not in the plan `{}`", self.folder.display())))
    }
}

fn known_images(ids: &[ImageId], store: &ImageStore, folder: &Path) -> Result<Vec<ImageInfo>> {
    ids.iter()
        .enumerate()
        .map(|(row, id)| {
            store.info(*id).copied().ok_or_else(|| {
                PipelineError::format(folder, format!("row {row}: image {id} is not among the ingested ones"))
            })
        })
        .collect()
}

/// Holds rows against the images; the first that does not fit, and why.
fn check_rows(views: &[View], first_row: usize, per_image: usize, store: &ImageStore) -> Result<(), (usize, String)> {
    for (i, view) in views.iter().enumerate() {
        let row = first_row + i;
        if (view.position as usize, usize::from(view.view)) != (row / per_image, row % per_image) {
            return Err((row, format!("it is view {} at place {}", view.view, view.position)));
        }
        if view.image_id != views[i - i % per_image].image_id {
            return Err((row, format!("image {} stands among the views of another", view.image_id)));
        }
        let Some(info) = store.info(view.image_id) else {
            return Err((row, format!("image {} is not among the ingested ones", view.image_id)));
        };
        if !view.crop.fits(info.width, info.height) {
            let (crop, width, height) = (view.crop, info.width, info.height);
            return Err((row, format!("the {crop} lies outside image {} ({width} x {height})", view.image_id)));
        }
        if view.size_px == 0 {
            return Err((row, "the view has no pixels".to_owned()));
        }
    }
    Ok(())
}
