//! Plans on disk: views to batches and back.

use super::{Crop, Jitter, View};
use crate::stage::{column, table_properties};
use crate::{PipelineError, Result};
use arrow::array::{
    ArrayRef, BooleanArray, Float32Array, RecordBatch, StringArray, UInt8Array, UInt16Array, UInt32Array, UInt64Array,
};
use lapidary_schemas::ImageId;
use lapidary_schemas::config::{BlurKind, Interpolation, ViewKind};
use lapidary_schemas::tables::{self, NO_JITTER};
use parquet::basic::Encoding;
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;
use std::path::Path;
use std::sync::Arc;

/// Columns of numbers that differ from row to row: their bytes are stored place by place, so that those that are always
/// zero (of crops and of factors on their grid) compress away.
const SPLIT_COLUMNS: &[&str] = &[
    "crop_x_px",
    "crop_y_px",
    "crop_width_px",
    "crop_height_px",
    "brightness",
    "contrast",
    "saturation",
    "hue",
    "blur_radius_px",
];

/// How a plan's columns are encoded: under 24 bytes a view.
pub(super) fn plan_properties() -> WriterProperties {
    let mut properties = table_properties().set_data_page_row_count_limit(16_384);
    for name in SPLIT_COLUMNS {
        let path = ColumnPath::from(*name);
        properties = properties
            .set_column_dictionary_enabled(path.clone(), false)
            .set_column_encoding(path, Encoding::BYTE_STREAM_SPLIT);
    }
    properties.build()
}

pub(super) fn batch_of_views(views: &[View]) -> Result<RecordBatch> {
    let u32s = |f: fn(&View) -> u32| Arc::new(views.iter().map(|v| Some(f(v))).collect::<UInt32Array>()) as ArrayRef;
    let u16s = |f: fn(&View) -> u16| Arc::new(views.iter().map(|v| Some(f(v))).collect::<UInt16Array>()) as ArrayRef;
    let u8s = |f: fn(&View) -> u8| Arc::new(views.iter().map(|v| Some(f(v))).collect::<UInt8Array>()) as ArrayRef;
    let f32s = |f: fn(&View) -> f32| Arc::new(views.iter().map(|v| Some(f(v))).collect::<Float32Array>()) as ArrayRef;
    let bools = |f: fn(&View) -> bool| Arc::new(views.iter().map(|v| Some(f(v))).collect::<BooleanArray>()) as ArrayRef;
    let names =
        |f: fn(&View) -> &'static str| Arc::new(views.iter().map(|v| Some(f(v))).collect::<StringArray>()) as ArrayRef;
    let columns: Vec<ArrayRef> = vec![
        u32s(|v| v.epoch),
        u32s(|v| v.position),
        Arc::new(views.iter().map(|v| Some(v.image_id.0)).collect::<UInt64Array>()),
        u8s(|v| v.view),
        names(|v| v.kind.name()),
        u16s(|v| v.size_px),
        names(|v| v.interpolation.name()),
        u16s(|v| v.crop.x_px),
        u16s(|v| v.crop.y_px),
        u16s(|v| v.crop.width_px),
        u16s(|v| v.crop.height_px),
        bools(|v| v.flip),
        f32s(|v| v.jitter.map_or(1.0, |j| j.brightness)),
        f32s(|v| v.jitter.map_or(1.0, |j| j.contrast)),
        f32s(|v| v.jitter.map_or(1.0, |j| j.saturation)),
        f32s(|v| v.jitter.map_or(0.0, |j| j.hue)),
        u8s(|v| v.jitter.map_or(NO_JITTER, |j| j.order)),
        bools(|v| v.grayscale),
        f32s(|v| v.blur_radius_px),
        names(|v| v.blur.name()),
        bools(|v| v.solarize),
    ];
    RecordBatch::try_new(tables::plan(), columns).map_err(|e| PipelineError::Internal(e.to_string()))
}

/// The views of a batch of rows; `first_row` is the number of its first row in the file `path`, for errors.
pub(super) fn views_of_batch(batch: &RecordBatch, path: &Path, first_row: usize, views: &mut Vec<View>) -> Result<()> {
    let u32s = |name| column::<UInt32Array>(batch, name);
    let u16s = |name| column::<UInt16Array>(batch, name);
    let f32s = |name| column::<Float32Array>(batch, name);
    let bools = |name| column::<BooleanArray>(batch, name);
    let names = |name| column::<StringArray>(batch, name);
    let (epoch, position) = (u32s("epoch")?, u32s("position")?);
    let image_id: &UInt64Array = column(batch, "image_id")?;
    let view: &UInt8Array = column(batch, "view")?;
    let (kind, interpolation, blur) = (names("kind")?, names("interpolation")?, names("blur")?);
    let size_px = u16s("size_px")?;
    let crop = [u16s("crop_x_px")?, u16s("crop_y_px")?, u16s("crop_width_px")?, u16s("crop_height_px")?];
    let (flip, grayscale, solarize) = (bools("flip")?, bools("grayscale")?, bools("solarize")?);
    let factors = [f32s("brightness")?, f32s("contrast")?, f32s("saturation")?, f32s("hue")?];
    let order: &UInt8Array = column(batch, "jitter_order")?;
    let radius = f32s("blur_radius_px")?;
    for row in 0..batch.num_rows() {
        let unknown = |what: &str, name: &str| {
            PipelineError::format(path, format!("row {}: no {what} `{name}`; plan again", first_row + row))
        };
        let [x_px, y_px, width_px, height_px] = crop.map(|c| c.value(row));
        let [brightness, contrast, saturation, hue] = factors.map(|f| f.value(row));
        let order = order.value(row);
        let jitter = (order != NO_JITTER).then_some(Jitter { brightness, contrast, saturation, hue, order });
        views.push(View {
            epoch: epoch.value(row),
            position: position.value(row),
            image_id: ImageId(image_id.value(row)),
            view: view.value(row),
            kind: ViewKind::from_name(kind.value(row)).ok_or_else(|| unknown("view kind", kind.value(row)))?,
            size_px: size_px.value(row),
            interpolation: Interpolation::from_name(interpolation.value(row))
                .ok_or_else(|| unknown("interpolation", interpolation.value(row)))?,
            crop: Crop { x_px, y_px, width_px, height_px },
            flip: flip.value(row),
            jitter,
            grayscale: grayscale.value(row),
            blur_radius_px: radius.value(row),
            blur: BlurKind::from_name(blur.value(row)).ok_or_else(|| unknown("blur", blur.value(row)))?,
            solarize: solarize.value(row),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_read_back_as_written() {
        let view = |position, jitter, blur| View {
            epoch: 2,
            position,
            image_id: ImageId(7),
            view: 1,
            kind: ViewKind::Local,
            size_px: 96,
            interpolation: Interpolation::Bilinear,
            crop: Crop { x_px: 1, y_px: 2, width_px: 3, height_px: 4 },
            flip: true,
            jitter,
            grayscale: false,
            blur_radius_px: 0.7,
            blur,
            solarize: true,
        };
        let jitter = Jitter { brightness: 1.1, contrast: 0.9, saturation: 1.2, hue: -0.05, order: 13 };
        let views = [view(0, Some(jitter), BlurKind::Pillow), view(1, None, BlurKind::Torchvision)];
        let mut read = Vec::new();
        views_of_batch(&batch_of_views(&views).expect("writes"), Path::new(""), 0, &mut read).expect("reads");
        assert_eq!(read, views);
    }
}
