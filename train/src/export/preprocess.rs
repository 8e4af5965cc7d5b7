//! What becomes of an image before a network sees it, as `embed` and `eval` do it: the short side resized to 256 / 224 of the
//! network's, then the middle; images of at most 96 px lose no border.

use lapidary_pipeline::pixels::{MEAN, STD};
use serde_json::{Value, json};

/// Sides of images up to this many pixels lose no border.
const WHOLE_MAX_PX: usize = 96;

/// The short side that an image is resized to, in pixels.
pub(super) fn short_side_px(image_px: usize) -> usize {
    if image_px > WHOLE_MAX_PX { image_px * 256 / 224 } else { image_px }
}

/// The share of the resized image's side that is kept.
pub(super) fn crop_share(image_px: usize) -> f64 {
    if image_px > WHOLE_MAX_PX { 224.0 / 256.0 } else { 1.0 }
}

/// Mean and deviation as they are written by people, not as f32 rounds them.
pub(super) fn normalisation() -> [Vec<f64>; 2] {
    [MEAN, STD].map(|values| values.iter().map(|value| (f64::from(*value) * 1000.0).round() / 1000.0).collect())
}

/// transformers' `preprocessor_config.json`.
pub(super) fn preprocessor(image_px: usize) -> Value {
    let [mean, std] = normalisation();
    json!({
        "image_processor_type": "BitImageProcessor",
        "do_convert_rgb": true,
        "do_resize": true,
        "size": {"shortest_edge": short_side_px(image_px)},
        "resample": 3,
        "do_center_crop": true,
        "crop_size": {"height": image_px, "width": image_px},
        "do_rescale": true,
        "rescale_factor": 1.0 / 255.0,
        "do_normalize": true,
        "image_mean": mean,
        "image_std": std,
    })
}
