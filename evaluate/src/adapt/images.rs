//! Batches of a probe's images as the network learns from them: a crop, resized and perhaps mirrored, drawn anew for each
//! epoch by the generator that plans are drawn by.

use super::fit::Task;
use crate::Result;
use burn::tensor::{Tensor, TensorData};
use lapidary_pipeline::pixels::{Executor, Raster};
use lapidary_pipeline::plan::views_of_image;
use lapidary_pipeline::{ImageInfo, PipelineError, decode};
use lapidary_schemas::config::ViewSpec;
use lapidary_train::operators::Operators;
use lapidary_train::probe::Labelled;
use rayon::prelude::*;

/// How crops are drawn.
fn view_spec(task: &Task<'_>) -> ViewSpec {
    ViewSpec {
        size_px: task.model.image_px as u16,
        area: [task.config.crop_area_min, 1.0],
        flip_p: task.config.flip_p,
        jitter_p: 0.0,
        grayscale_p: 0.0,
        blur_p: 0.0,
        solarize_p: 0.0,
        ..ViewSpec::default()
    }
}

/// The images of a batch in an epoch, normalised, shape `[list.len(), 3, side, side]`.
///
/// # Errors
/// When an image is gone or does not decode.
pub(crate) fn batch<B: Operators>(
    task: &Task<'_>,
    list: &[Labelled],
    epoch: usize,
    device: &B::Device,
) -> Result<Tensor<B, 4>> {
    let (side, spec) = (task.model.image_px, [view_spec(task)]);
    let ids: Vec<_> = list.iter().map(|labelled| labelled.id).collect();
    let fetched = task.store.fetch(&ids)?;
    let mut pixels = vec![0f32; list.len() * 3 * side * side];
    pixels.par_chunks_exact_mut(3 * side * side).enumerate().try_for_each_init(
        Executor::default,
        |executor, (index, pixels)| -> Result<(), PipelineError> {
            let decoded = decode(fetched.get(index), task.store.rule()).map_err(|(reason, detail)| {
                PipelineError::Usage(format!("{} ({detail}); ingest again", reason.text()))
            })?;
            let (width, height) = decoded.rgb.dimensions();
            let info = ImageInfo::new(ids[index], width, height);
            let views = views_of_image(task.seed, epoch as u32, 0, &info, &spec);
            executor.render_into(&Raster::from(&decoded.rgb), &views[0], pixels)
        },
    )?;
    Ok(Tensor::from_data(TensorData::new(pixels, [list.len(), 3, side, side]), device))
}
