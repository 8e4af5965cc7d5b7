//! Plans on disk: views to batches and back.

use super::{Crop, Jitter, View};
use crate::stage::{Table, column};
use crate::{PipelineError, Result};
use arrow::array::{
    ArrayRef, BooleanArray, Float32Array, RecordBatch, StringArray, UInt8Array, UInt16Array, UInt32Array, UInt64Array,
};
use lapidary_schemas::ImageId;
use lapidary_schemas::config::ViewKind;
use lapidary_schemas::tables::{self, NO_JITTER};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(super) fn batch_of_views(views: &[View]) -> Result<RecordBatch> {
    let u32s = |f: fn(&View) -> u32| Arc::new(views.iter().map(|v| Some(f(v))).collect::<UInt32Array>()) as ArrayRef;
    let u8s = |f: fn(&View) -> u8| Arc::new(views.iter().map(|v| Some(f(v))).collect::<UInt8Array>()) as ArrayRef;
    let f32s = |f: fn(&View) -> f32| Arc::new(views.iter().map(|v| Some(f(v))).collect::<Float32Array>()) as ArrayRef;
    let bools = |f: fn(&View) -> bool| Arc::new(views.iter().map(|v| Some(f(v))).collect::<BooleanArray>()) as ArrayRef;
    let columns: Vec<ArrayRef> = vec![
        u32s(|v| v.epoch),
        u32s(|v| v.position),
        Arc::new(views.iter().map(|v| Some(v.image_id.0)).collect::<UInt64Array>()),
        u8s(|v| v.view),
        Arc::new(views.iter().map(|v| Some(v.kind.name())).collect::<StringArray>()),
        Arc::new(views.iter().map(|v| Some(v.size_px)).collect::<UInt16Array>()),
        u32s(|v| v.crop.x_px),
        u32s(|v| v.crop.y_px),
        u32s(|v| v.crop.width_px),
        u32s(|v| v.crop.height_px),
        bools(|v| v.flip),
        f32s(|v| v.jitter.map_or(1.0, |j| j.brightness)),
        f32s(|v| v.jitter.map_or(1.0, |j| j.contrast)),
        f32s(|v| v.jitter.map_or(1.0, |j| j.saturation)),
        f32s(|v| v.jitter.map_or(0.0, |j| j.hue)),
        u8s(|v| v.jitter.map_or(NO_JITTER, |j| j.order)),
        bools(|v| v.grayscale),
        f32s(|v| v.blur_radius_px),
        bools(|v| v.solarize),
    ];
    RecordBatch::try_new(tables::plan(), columns).map_err(|e| PipelineError::Internal(e.to_string()))
}

fn views_of_batch(batch: &RecordBatch, path: &Path, views: &mut Vec<View>) -> Result<()> {
    let u32s = |name| column::<UInt32Array>(batch, name);
    let f32s = |name| column::<Float32Array>(batch, name);
    let bools = |name| column::<BooleanArray>(batch, name);
    let (epoch, position) = (u32s("epoch")?, u32s("position")?);
    let image_id: &UInt64Array = column(batch, "image_id")?;
    let view: &UInt8Array = column(batch, "view")?;
    let kind: &StringArray = column(batch, "kind")?;
    let size_px: &UInt16Array = column(batch, "size_px")?;
    let crop = [u32s("crop_x_px")?, u32s("crop_y_px")?, u32s("crop_width_px")?, u32s("crop_height_px")?];
    let (flip, grayscale, solarize) = (bools("flip")?, bools("grayscale")?, bools("solarize")?);
    let factors = [f32s("brightness")?, f32s("contrast")?, f32s("saturation")?, f32s("hue")?];
    let order: &UInt8Array = column(batch, "jitter_order")?;
    let blur = f32s("blur_radius_px")?;
    for row in 0..batch.num_rows() {
        let kind = ViewKind::from_name(kind.value(row))
            .ok_or_else(|| PipelineError::format(path, format!("row {row}: no view kind `{}`", kind.value(row))))?;
        let [x_px, y_px, width_px, height_px] = crop.map(|c| c.value(row));
        let [brightness, contrast, saturation, hue] = factors.map(|f| f.value(row));
        let order = order.value(row);
        let jitter = (order != NO_JITTER).then_some(Jitter { brightness, contrast, saturation, hue, order });
        views.push(View {
            epoch: epoch.value(row),
            position: position.value(row),
            image_id: ImageId(image_id.value(row)),
            view: view.value(row),
            kind,
            size_px: size_px.value(row),
            crop: Crop { x_px, y_px, width_px, height_px },
            flip: flip.value(row),
            jitter,
            grayscale: grayscale.value(row),
            blur_radius_px: blur.value(row),
            solarize: solarize.value(row),
        });
    }
    Ok(())
}

/// Reads a plan step by step: the views of `batch` images at a time, an incomplete last batch of an epoch left out.
#[derive(Debug)]
pub struct PlanReader {
    folder: PathBuf,
    epochs: u32,
    images: usize,
    views_per_image: usize,
    batch: usize,
    /// The epoch in memory and its views.
    loaded: Option<(u32, Vec<View>)>,
}

impl PlanReader {
    /// Opens a plan whose manifest states these counts.
    pub fn new(folder: &Path, epochs: u32, images: usize, views_per_image: usize, batch: usize) -> Self {
        Self { folder: folder.to_owned(), epochs, images, views_per_image, batch, loaded: None }
    }

    /// Whole batches an epoch.
    pub fn steps_per_epoch(&self) -> usize {
        self.images / self.batch
    }

    /// Whole batches of all epochs.
    pub fn steps(&self) -> usize {
        self.steps_per_epoch() * self.epochs as usize
    }

    /// The views of step `step`, image by image.
    ///
    /// # Errors
    /// When the plan's file is not what its manifest says.
    pub fn step(&mut self, step: usize) -> Result<&[View]> {
        let epoch = (step / self.steps_per_epoch()) as u32;
        if self.loaded.as_ref().is_none_or(|(loaded, _)| *loaded != epoch) {
            let path = self.folder.join(format!("epoch-{epoch:05}.parquet"));
            let mut views = Vec::with_capacity(self.images * self.views_per_image);
            for batch in Table::open(&path, &[], 65_536)? {
                views_of_batch(&batch?, &path, &mut views)?;
            }
            if views.len() != self.images * self.views_per_image {
                return Err(PipelineError::format(
                    &path,
                    format!("{} rows instead of {}", views.len(), self.images * self.views_per_image),
                ));
            }
            self.loaded = Some((epoch, views));
        }
        let rows = self.batch * self.views_per_image;
        let first = step % self.steps_per_epoch() * rows;
        let (_, views) = self.loaded.as_ref().expect("loaded above");
        Ok(&views[first..first + rows])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_read_back_as_written() {
        let view = |position, jitter| View {
            epoch: 2,
            position,
            image_id: ImageId(7),
            view: 1,
            kind: ViewKind::Local,
            size_px: 96,
            crop: Crop { x_px: 1, y_px: 2, width_px: 3, height_px: 4 },
            flip: true,
            jitter,
            grayscale: false,
            blur_radius_px: 0.7,
            solarize: true,
        };
        let jitter = Jitter { brightness: 1.1, contrast: 0.9, saturation: 1.2, hue: -0.05, order: 13 };
        let views = [view(0, Some(jitter)), view(1, None)];
        let mut read = Vec::new();
        views_of_batch(&batch_of_views(&views).expect("writes"), Path::new(""), &mut read).expect("reads");
        assert_eq!(read, views);
    }
}
